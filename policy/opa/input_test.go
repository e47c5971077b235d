package opa

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/cordon-mq/cordon/policy"
)

func fullFacts(t *testing.T) *policy.Facts {
	f := deviceFacts(t)
	p := *f.Principal
	p.APIKey, p.App = "a-acme01-0123456789", "app1"
	p.Roles, p.Permissions = []string{"r"}, []string{"p"}
	p.Claims = map[string]any{"sub": "x", "n": json.Number("1"), "list": []any{true}}
	p.Metadata = map[string]any{"floor": 3.0}
	p.ExpiresAt = time.UnixMilli(1700000000123)
	o := *f.Org
	o.Data = map[string]any{"k": "v"}
	o.AddressList, o.AddressListed, o.CertificateRegistration = "deny", true, true
	p.And = &policy.Proof{Verifier: "certificate"}
	c := *f.Client
	c.TLS = &policy.TLS{Version: "1.3", SNI: "acme01.messaging.localhost", Cert: &policy.Certificate{Subject: "CN=d1", SAN: []string{"d1"}, SHA256: "ab"}}
	return &policy.Facts{Principal: &p, Org: &o, Client: &c}
}

func inputJSON(t *testing.T, f *policy.Facts, r *policy.Request) map[string]any {
	t.Helper()
	c, err := convertFacts(f)
	if err != nil {
		t.Fatal(err)
	}
	v, err := ast.JSON(c.input(r, readAll))
	if err != nil {
		t.Fatal(err)
	}
	return v.(map[string]any)
}

func fullRequest(t *testing.T, a policy.Action) *policy.Request {
	expiry := uint32(60)
	r := publishTo(t, "iot-2/evt/status/fmt/json")
	r.Action = a
	r.Retain, r.Will = true, true
	r.Properties = &policy.Properties{
		ContentType: "text/plain", ResponseTopic: "iot-2/evt/r/fmt/x", MessageExpiry: &expiry,
		User: []policy.UserProperty{{Key: "a", Value: "1"}, {Key: "b", Value: "2"}, {Key: "a", Value: "3"}},
	}
	r.Device = &policy.Device{Type: "sensor", ID: "d1", Registered: true, Status: "enabled", Groups: []string{"hall"}}
	r.Filter = subscribeTo(t, "iot-2/cmd/+/fmt/+").Filter
	r.Share, r.Method, r.Route = "pool", "GET", "/device/types/{typeId}"
	r.Target = map[string]string{"typeId": "sensor"}
	return r
}

func TestInput(t *testing.T) {
	t.Parallel()
	got := inputJSON(t, fullFacts(t), fullRequest(t, policy.ActionPublish))
	text, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"action":"publish",` +
		`"client":{"address":"192.0.2.7","id":"d:acme01:sensor:d1","listener":"mqtts","protocol":"5",` +
		`"tls":{"cert":{"san":["d1"],"sha256":"ab","subject":"CN=d1"},"sni":"acme01.messaging.localhost","version":"1.3"},"username":"use-token-auth"},` +
		`"device":{"groups":["hall"],"id":"d1","registered":true,"status":"enabled","type":"sensor"},` +
		`"levels":["iot-2","type","sensor","id","d1","evt","status","fmt","json"],` +
		`"org":{"address_list":"deny","address_listed":true,"certificate_registration":true,"connection_level":"tls","data":{"k":"v"},"id":"acme01"},` +
		`"principal":{"also":"certificate","api_key":"a-acme01-0123456789","app":"app1","claims":{"list":[true],"n":1,"sub":"x"},"expires_at":1700000000123,"groups":["hall"],` +
		`"id":"d1","kind":"device","member_of":[],"metadata":{"floor":3},"org":"acme01","permissions":["p"],"registered":true,"restricted":false,"roles":["r"],"type":"sensor","verifier":"token"},` +
		`"properties":{"content_type":"text/plain","message_expiry":60,"response_topic":"iot-2/evt/r/fmt/x","user":{"a":["1","3"],"b":["2"]}},` +
		`"qos":1,"retain":true,"size":64,"topic":"iot-2/evt/status/fmt/json","will":true}`
	if string(text) != want {
		t.Errorf("input is\n%s\nwant\n%s", text, want)
	}
}

// On behalf of whom a device or a gateway asks: only of another one.
func TestInputOnBehalfOf(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		kind    policy.PrincipalKind
		typ, id policy.ID
		want    bool
	}{
		"itself":                      {policy.KindGateway, "sensor", "d1", false},
		"another":                     {policy.KindGateway, "sensor", "d2", true},
		"a namesake of another type":  {policy.KindGateway, "router", "d1", true},
		"a device for another device": {policy.KindDevice, "sensor", "d2", true},
		"an application":              {policy.KindApplication, "sensor", "d2", false},
	} {
		for _, action := range []policy.Action{policy.ActionPublish, policy.ActionSubscribe, policy.ActionReceive} {
			facts := deviceFacts(t)
			p := *facts.Principal
			p.Kind = tt.kind
			r := fullRequest(t, action)
			r.Device = &policy.Device{Type: tt.typ, ID: tt.id}
			input := inputJSON(t, &policy.Facts{Principal: &p}, r)
			of, ok := input["on_behalf_of"].(map[string]any)
			if ok != tt.want || ok && (of["type"] != string(tt.typ) || of["id"] != string(tt.id)) {
				t.Errorf("%s, %v: %v", name, action, input["on_behalf_of"])
			}
		}
	}
}

// What is empty is absent, and nothing is null.
func TestInputLeavesOutWhatIsEmpty(t *testing.T) {
	t.Parallel()
	got := inputJSON(t, &policy.Facts{Principal: &policy.Principal{Org: mustOrg(t, "acme01"), Kind: policy.KindUser, ID: "admin"}, Client: &policy.Client{Listener: "https"}},
		&policy.Request{Action: policy.ActionPublish, Properties: &policy.Properties{}})
	text, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"action":"publish","client":{"id":"","listener":"https","username":""},"levels":[],` +
		`"principal":{"groups":[],"id":"admin","kind":"user","member_of":[],"org":"acme01","permissions":[],"registered":false,"restricted":false,"roles":[]},` +
		`"qos":0,"retain":false,"size":0,"topic":"","will":false}`
	if string(text) != want {
		t.Errorf("input is\n%s\nwant\n%s", text, want)
	}
}

// Each schema has exactly the fields that input can have.
func TestInputFitsItsSchema(t *testing.T) {
	t.Parallel()
	report := &Report{}
	s := readShapes(builtinSchemas(), report)
	if report.Err() != nil {
		t.Fatal(report.Err())
	}
	for action, pkg := range packageOf {
		r := fullRequest(t, action)
		r.Device.ID = "d2" // not the asker itself
		compareFields(t, "input of "+pkg, s.input[pkg], inputJSON(t, fullFacts(t), r))
	}
}

func compareFields(t *testing.T, path string, schema map[string]any, value any) {
	t.Helper()
	properties, typed := schema["properties"].(map[string]any)
	object, ok := value.(map[string]any)
	if !typed || !ok {
		return
	}
	for name := range object {
		sub, ok := properties[name].(map[string]any)
		if !ok {
			t.Errorf("%s: the schema has no %s", path, name)
			continue
		}
		compareFields(t, path+"."+name, sub, object[name])
	}
	for name := range properties {
		if _, ok := object[name]; !ok {
			t.Errorf("%s: there is never a %s", path, name)
		}
	}
}

// Each decision schema has exactly the fields that an answer may have.
func TestDecisionSchemasAgreeWithDecode(t *testing.T) {
	t.Parallel()
	report := &Report{}
	s := readShapes(builtinSchemas(), report)
	for action, pkg := range packageOf {
		properties := s.answer[pkg]["properties"].(map[string]any)
		if got, want := sortedKeys(properties), sortedKeys(answerFields[action]); !slices.Equal(got, want) {
			t.Errorf("%s: the schema has %v, decode reads %v", pkg, got, want)
		}
	}
	limits := s.answer["connect"]["properties"].(map[string]any)["limits"].(map[string]any)["properties"].(map[string]any)
	if got, want := sortedKeys(limits), sortedKeys(limitFields); !slices.Equal(got, want) {
		t.Errorf("limits: the schema has %v, decode reads %v", got, want)
	}
}
