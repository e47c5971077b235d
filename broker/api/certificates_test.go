package api

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/plugins/certificate"
	"github.com/cordon-mq/cordon/plugins/certificate/certificatetest"
)

// jsonOf is an object of one text.
func jsonOf(tb testing.TB, field, text string) string {
	tb.Helper()
	b, err := json.Marshal(map[string]string{field: text})
	if err != nil {
		tb.Fatal(err)
	}
	return string(b)
}

func TestCACertificates(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const all = "/authentication/cacertificates"
	now := w.api.now()
	lasting := func(d time.Duration) *certificatetest.Authority {
		return certificatetest.New(t, "Root", func(c *x509.Certificate) { c.NotBefore, c.NotAfter = now.Add(-time.Hour), now.Add(d) })
	}
	w.call("GET", all, "", http.StatusOK).wantJSON(t, `{"results":[],"meta":{}}`)
	root := lasting(400 * 24 * time.Hour)
	made := w.call("POST", all, jsonOf(t, "certificate", certificatetest.PEM(root.Certificate)), http.StatusCreated)
	for _, want := range []string{`"id":"` + string(certificate.AuthorityID(root.Certificate)), `"subject":"CN=Root"`, `"status":"valid"`, `"daysLeft":400`, `"crls":[]`, `BEGIN CERTIFICATE`} {
		if !strings.Contains(made.text, want) {
			t.Errorf("made %s, want %s", made.text, want)
		}
	}
	w.call("POST", all, jsonOf(t, "certificate", base64.StdEncoding.EncodeToString(root.Certificate.Raw)), http.StatusConflict)
	path := all + "/" + string(certificate.AuthorityID(root.Certificate))
	if got := w.call("GET", path, "", http.StatusOK); got.text != made.text {
		t.Errorf("read %s, made %s", got.text, made.text)
	}
	soon := w.call("POST", all, jsonOf(t, "certificate", base64.StdEncoding.EncodeToString(lasting(5*24*time.Hour).Certificate.Raw)), http.StatusCreated)
	if !strings.Contains(soon.text, `"status":"expires_soon","daysLeft":5`) {
		t.Errorf("expires soon: %s", soon.text)
	}
	for _, bad := range []string{
		`{}`, `{"certificate":""}`, `{"certificate":"!"}`, `{"certificate":1}`, jsonOf(t, "certificate", "-----BEGIN CERTIFICATE-----"),
		jsonOf(t, "certificate", certificatetest.PEM(root.Issue("d:sensor:d1").Certificate)),
		jsonOf(t, "certificate", certificatetest.PEM(lasting(-time.Minute).Certificate)),
		jsonOf(t, "certificate", strings.Repeat("A", 100<<10)),
	} {
		w.call("POST", all, bad, http.StatusBadRequest)
	}
	w.call("POST", all, jsonOf(t, "certificate", strings.Repeat("A", 200<<10)), http.StatusRequestEntityTooLarge)

	list := func(number int64, revoked ...*x509.Certificate) string {
		return jsonOf(t, "crl", base64.StdEncoding.EncodeToString(root.List(number, revoked)))
	}
	shown := w.call("PUT", path+"/crl", list(7, root.Issue("d:sensor:d1").Certificate), http.StatusOK)
	for _, want := range []string{`"source":""`, `"number":"7"`, `"current":true`, `"entries":1`} {
		if !strings.Contains(shown.text, want) {
			t.Errorf("shown %s, want %s", shown.text, want)
		}
	}
	w.call("PUT", path+"/crl", list(6), http.StatusConflict)
	w.call("PUT", path+"/crl", jsonOf(t, "crl", base64.StdEncoding.EncodeToString(lasting(time.Hour).List(9, nil))), http.StatusBadRequest)
	w.call("PUT", path+"/crl", `{}`, http.StatusBadRequest)
	w.call("PUT", all+"/none/crl", list(8), http.StatusNotFound)

	w.call("GET", "/authentication/revocation", "", http.StatusOK).wantJSON(t, `{"mode":"strict"}`)
	w.call("PUT", "/authentication/revocation", `{"mode":"lenient"}`, http.StatusOK).wantJSON(t, `{"mode":"lenient"}`)
	w.call("GET", "/authentication/revocation", "", http.StatusOK).wantJSON(t, `{"mode":"lenient"}`)
	for _, bad := range []string{`{}`, `{"mode":""}`, `{"mode":"never"}`} {
		w.call("PUT", "/authentication/revocation", bad, http.StatusBadRequest)
	}

	w.call("DELETE", path, "", http.StatusNoContent)
	for _, gone := range []string{path, all + "/none", all + "/a%2Fb"} {
		w.call("GET", gone, "", http.StatusNotFound)
		w.call("DELETE", gone, "", http.StatusNotFound)
	}
}
