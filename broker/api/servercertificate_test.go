package api

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/broker/pki"
	"github.com/cordon-mq/cordon/broker/pki/tenant"
	"github.com/cordon-mq/cordon/plugins/certificate/certificatetest"
)

// keepServerCertificates is what organisations of w show.
func (w *world) keepServerCertificates() *tenant.Keeper {
	w.t.Helper()
	seal, err := pki.OpenSeal(w.t.TempDir(), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	k := tenant.New(tenant.Config{Registry: w.registry, Seal: seal, Domain: "example.com", Now: w.clock.now})
	w.t.Cleanup(w.registry.Watch(k.Follow))
	return k
}

func (w *world) serverCertificate(lasting time.Duration, names ...string) *certificatetest.Leaf {
	now := w.clock.now()
	root := certificatetest.New(w.t, "Root", func(c *x509.Certificate) { c.NotBefore, c.NotAfter = now.Add(-time.Hour), now.AddDate(9, 0, 0) })
	return root.Issue("", func(c *x509.Certificate) {
		c.DNSNames, c.ExtKeyUsage = names, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		c.NotBefore, c.NotAfter = now.Add(-time.Hour), now.Add(lasting)
	})
}

func uploadOf(t *testing.T, leaf *certificatetest.Leaf) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(leaf.Key)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[string]string{
		"certificate": certificatetest.PEM(leaf.Certificate),
		"privateKey":  string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestServerCertificate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const one = "/authentication/servercertificate"
	w.call("GET", one, "", http.StatusNotFound)
	w.call("DELETE", one, "", http.StatusNotFound)
	leaf := w.serverCertificate(90*24*time.Hour, "acme01.messaging.example.com")
	made := w.call("PUT", one, uploadOf(t, leaf), http.StatusOK)
	for _, want := range []string{`"names":["acme01.messaging.example.com"]`, `"shownFor":["acme01.messaging.example.com"]`, `"status":"valid","daysLeft":90`, `"requested":false`, "BEGIN CERTIFICATE"} {
		if !strings.Contains(made.text, want) {
			t.Errorf("made %s, want %s", made.text, want)
		}
	}
	if got := w.call("GET", one, "", http.StatusOK); got.text != made.text || strings.Contains(got.text, "PRIVATE") {
		t.Errorf("read %s, made %s", got.text, made.text)
	}
	w.clock.set(w.clock.now().Add(70 * 24 * time.Hour))
	if got := w.call("GET", one, "", http.StatusOK); !strings.Contains(got.text, `"status":"expires_soon","daysLeft":20`) {
		t.Errorf("soon %s", got.text)
	}
	for _, bad := range []string{
		`{}`, `{"certificate":null}`, `{"certificate":""}`, `{"certificate":7}`, `{"certificate":"x","key":"y"}`,
		jsonOf(t, "certificate", certificatetest.PEM(w.serverCertificate(time.Hour, "acme01.example.com").Certificate)), // whose key?
		uploadOf(t, w.serverCertificate(time.Hour, "other1.example.com")),
		uploadOf(t, w.serverCertificate(time.Hour, "other1.messaging.example.com", "acme01.messaging.example.com")),
		uploadOf(t, w.serverCertificate(-time.Minute, "acme01.example.com")),
		strings.Replace(uploadOf(t, leaf), "PRIVATE KEY", "PUBLIC KEY", 1),
	} {
		w.call("PUT", one, bad, http.StatusBadRequest)
	}
	w.call("PUT", one, jsonOf(t, "certificate", strings.Repeat("A", 130<<10)), http.StatusRequestEntityTooLarge)

	csr := w.call("POST", one+"/csr", "", http.StatusOK)
	if !strings.Contains(csr.text, "BEGIN CERTIFICATE REQUEST") || strings.Contains(csr.text, "PRIVATE") {
		t.Errorf("request %s", csr.text)
	}
	w.call("POST", one+"/csr", `{"names":["acme01.example.com"]}`, http.StatusOK)
	w.call("POST", one+"/csr", `{"names":["other1.example.com"]}`, http.StatusBadRequest)
	w.call("POST", one+"/csr", `{"names":["`+strings.Repeat(`a","`, 30)+`"]}`, http.StatusBadRequest)
	if got := w.call("GET", one, "", http.StatusOK); !strings.Contains(got.text, `"requested":true`) {
		t.Errorf("requested %s", got.text)
	}
	w.call("DELETE", one, "", http.StatusNoContent)
	w.call("GET", one, "", http.StatusNotFound)
}

// Nobody reads, replaces or removes what another organisation's names show, whatever
// he writes, and only the operator says which names are whose.
func TestServerCertificateOfAnother(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const one = "/authentication/servercertificate"
	theirs := w.serverCertificate(time.Hour, "other1.messaging.example.com")
	text := uploadOf(t, theirs)
	var body map[string]string
	if err := json.Unmarshal([]byte(text), &body); err != nil {
		t.Fatal(err)
	}
	other := w.other.Organisation.ID
	if _, err := w.keeper.ReplaceServerCertificate(t.Context(), other, []byte(body["certificate"]), []byte(body["privateKey"])); err != nil {
		t.Fatal(err)
	}
	w.call("GET", one, "", http.StatusNotFound)
	w.call("GET", one+"?org=other1", "", http.StatusNotFound)
	w.call("GET", "/other1"+one, "", http.StatusNotFound)
	w.call("DELETE", one, "", http.StatusNotFound)
	w.call("PUT", one, text, http.StatusBadRequest)
	w.call("PUT", one, jsonOf(t, "certificate", body["certificate"]), http.StatusBadRequest)
	w.call("PUT", one, strings.Replace(text, "{", `{"org":"other1",`, 1), http.StatusBadRequest)
	w.call("POST", one+"/csr", `{"names":["other1.messaging.example.com"]}`, http.StatusBadRequest)
	w.call("PUT", "/servernames", `{"names":["x.org"]}`, http.StatusNotFound)
	const names = "/organisations/acme01/servernames"
	w.operator("GET", names, "", http.StatusOK).wantJSON(t, `{"names":[]}`)
	w.operator("PUT", names, `{"names":["mqtt.acme.org"]}`, http.StatusOK).wantJSON(t, `{"names":["mqtt.acme.org"]}`)
	w.operator("PUT", "/organisations/other1/servernames", `{"names":["mqtt.acme.org"]}`, http.StatusConflict)
	for _, bad := range []string{`{}`, `{"names":["other1.example.com"]}`, `{"names":["*.acme.org"]}`, `{"names":"x.org"}`} {
		w.operator("PUT", names, bad, http.StatusBadRequest)
	}
	w.operator("GET", names, "", http.StatusOK).wantJSON(t, `{"names":["mqtt.acme.org"]}`)
	w.call("PUT", one, uploadOf(t, w.serverCertificate(time.Hour, "mqtt.acme.org")), http.StatusOK)
	if got, err := w.keeper.ServerCertificate(t.Context(), other); err != nil || got.PEM != body["certificate"] || len(got.Shown) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
}
