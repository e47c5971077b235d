package api

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/policy"
)

func TestClaims(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fleet()
	const all = "/provisioning/claims"
	ends := w.clock.now().Add(48 * time.Hour).UTC().Format(time.RFC3339)
	w.call("GET", all, "", http.StatusOK).wantJSON(t, `{"results":[],"meta":{}}`)
	made := w.call("POST", all, `{"typeId":"sensor","count":3,"deviceIdPrefix":"l1-","expires":"`+ends+`","comment":"line 1"}`, http.StatusCreated)
	var claim struct{ ID, Token, CreatedBy string }
	if err := json.Unmarshal([]byte(made.text), &claim); err != nil || len(claim.Token) != 35 || claim.CreatedBy != w.acme.APIKey.Key {
		t.Fatalf("made %+v, %v", claim, err)
	}
	read := w.call("GET", all+"/"+claim.ID, "", http.StatusOK)
	list := w.call("GET", all, "", http.StatusOK)
	for _, got := range []string{read.text, list.text} {
		if strings.Contains(got, claim.Token[11:]) || !strings.Contains(got, `"typeId":"sensor","deviceIdPrefix":"l1-","count":3,"left":3,`) || !strings.Contains(got, `"status":"open","comment":"line 1"`) {
			t.Errorf("read %s", got)
		}
	}
	once := w.call("POST", all, `{"typeId":"sensor","expires":"`+ends+`"}`, http.StatusCreated)
	if !strings.Contains(once.text, `"count":1,"left":1`) {
		t.Errorf("made %s", once.text)
	}
	for body, want := range map[string]int{
		`{}`:                         http.StatusBadRequest,
		`{"typeId":"sensor"}`:        http.StatusBadRequest,
		`{"expires":"` + ends + `"}`: http.StatusBadRequest,
		`{"typeId":"sensor","expires":"tomorrow"}`:                          http.StatusBadRequest,
		`{"typeId":"sensor","expires":"2020-01-01T00:00:00Z"}`:              http.StatusBadRequest,
		`{"typeId":"sensor","count":0,"expires":"` + ends + `"}`:            http.StatusBadRequest,
		`{"typeId":"sensor","count":"1","expires":"` + ends + `"}`:          http.StatusBadRequest,
		`{"typeId":"sensor","deviceIdPrefix":"+","expires":"` + ends + `"}`: http.StatusBadRequest,
		`{"typeId":"ghost","expires":"` + ends + `"}`:                       http.StatusNotFound,
		`{"typeId":"../sensor","expires":"` + ends + `"}`:                   http.StatusBadRequest,
	} {
		w.call("POST", all, body, want)
	}
	w.clock.set(w.clock.now().Add(72 * time.Hour))
	if got := w.call("GET", all+"/"+claim.ID, "", http.StatusOK); !strings.Contains(got.text, `"status":"expired"`) {
		t.Errorf("read %s", got.text)
	}
	w.call("DELETE", all+"/"+claim.ID, "", http.StatusNoContent)
	w.call("DELETE", all+"/"+claim.ID, "", http.StatusNotFound)
	w.call("GET", all+"/"+claim.ID, "", http.StatusNotFound)
	w.call("GET", all+"/nobody", "", http.StatusNotFound)
}

// A device that shows a claim over HTTP is who its username says, and nobody else.
func TestProvision(t *testing.T) {
	t.Parallel()
	w, f := messagingWorld(t)
	const path = "/provisioning/devices"
	got := w.do(message(path, "d/acme01/sensor/d9", "", ""))
	if got.status != http.StatusCreated || got.text != `{"authToken":"its own"}` || got.header.Get("Cache-Control") != "no-store" || got.header.Get("Content-Type") != "application/json" {
		t.Fatalf("%d %s %v", got.status, got.text, got.header)
	}
	c := f.entered[0]
	if c.Client.ID != "d:acme01:sensor:d9" || c.Client.Username != "use-claim-token" || string(c.Password.Reveal()) != "p" || c.Client.Listener != "https" || f.left != 1 {
		t.Errorf("entered %+v, left %d", c.Client, f.left)
	}
	for _, username := range []string{"", "use-claim-token", "use-token-auth", "d:acme01:sensor:d9", "g/acme01/hub/g1", "a-acme01-0123456789", "d/acme01/sensor", "d/acme01/sensor/+", "d/acme01/sensor/d9/x"} {
		if got := w.do(message(path, username, "", "")); got.status != http.StatusUnauthorized {
			t.Errorf("%q: %d %s", username, got.status, got.text)
		}
	}
	twice := message(path, "d/acme01/sensor/d9", "", "")
	twice.Header.Add("Authorization", twice.Header.Get("Authorization"))
	if got := w.do(twice); got.status != http.StatusUnauthorized {
		t.Errorf("two credentials: %d", got.status)
	}
	if len(f.entered) != 1 {
		t.Errorf("%d were let in", len(f.entered))
	}
	f.refuse = &policy.Error{Kind: policy.KindForbidden, Public: "not on a Sunday"}
	if got := w.do(message(path, "d/acme01/sensor/d9", "", "")); got.status != http.StatusForbidden || !strings.Contains(got.text, "not on a Sunday") {
		t.Errorf("%d %s", got.status, got.text)
	}
}

// The document has the route that cordon.admin is not asked about.
func TestProvisionIsDescribed(t *testing.T) {
	t.Parallel()
	w, _ := messagingWorld(t)
	d, _ := readDocument(t, w)
	op := d.Paths["/provisioning/devices"]["post"]
	if op.OperationID != "provisionDevice" || op.Responses["201"].Content["application/json"].Schema.Ref != "#/components/schemas/ProvisionedDevice" || len(op.Parameters) != 0 {
		t.Errorf("described as %+v", op)
	}
}

var _ Claims = (*registry.Registry)(nil)
