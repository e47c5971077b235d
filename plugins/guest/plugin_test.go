package guest_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/cordon-mq/cordon/plugins/guest"
)

func TestVerifyReadsTheRequest(t *testing.T) {
	t.Parallel()
	var got *guest.Request
	p := guest.New(func(*guest.Config) (guest.Verify, error) {
		return func(r *guest.Request) guest.Answer { got = r; return guest.Answer{} }, nil
	})
	for _, tt := range []struct {
		request string
		want    guest.Request
	}{
		{`{"v":1,"peer":{},"now_ms":5}`, guest.Request{Token: []byte{}, NowMS: 5}},
		{
			`{"v":1,"org":"acme01","username":"u","client_id":"d:acme01:t:d","token":"AP8=","now_ms":1767225600000,
			"peer":{"address":"192.0.2.7","tls":{"version":"1.3","sni":"h","cert":{"subject":"CN=d","san":["a","b"],"sha256":"00ff"}}},
			"auth":{"method":"M","data":"AQ=="},"state":"Ag=="}`,
			guest.Request{
				Org: "acme01", Username: "u", ClientID: "d:acme01:t:d", Token: []byte{0, 255}, NowMS: 1767225600000,
				Peer: guest.Peer{Address: "192.0.2.7", TLS: &guest.TLS{Version: "1.3", SNI: "h", Cert: &guest.Certificate{
					Subject: "CN=d", SAN: []string{"a", "b"}, SHA256: "00ff",
				}}},
				Auth: &guest.Auth{Method: "M", Data: []byte{1}}, State: []byte{2},
			},
		},
		{
			// what a later minor version may say
			`{"v":1,"now_ms":5,"new":[1],"peer":{"new":1,"tls":{"new":1,"cert":{"new":1}}},"auth":{"new":1}}`,
			guest.Request{
				Token: []byte{}, NowMS: 5, Auth: &guest.Auth{Data: []byte{}},
				Peer: guest.Peer{TLS: &guest.TLS{Cert: &guest.Certificate{}}},
			},
		},
	} {
		if answer, err := p.Verify([]byte(tt.request)); err != nil || string(answer) != `{"ok":false}` {
			t.Errorf("%s: %s, %v", tt.request, answer, err)
		} else if !reflect.DeepEqual(*got, tt.want) {
			t.Errorf("%s:\n got %+v\nwant %+v", tt.request, *got, tt.want)
		}
	}
}

// What is not a request gets no answer, and the plugin does not see it.
func TestVerifyRefusesWhatIsNoRequest(t *testing.T) {
	t.Parallel()
	p := guest.New(func(*guest.Config) (guest.Verify, error) {
		return func(*guest.Request) guest.Answer { return guest.Accept(guest.Subject{}) }, nil
	})
	for _, request := range []string{
		``, `[]`, `{}`, `{"v":1}`, `{"now_ms":5}`, `{"v":2,"now_ms":5}`, `{"v":"1","now_ms":5}`, `{"v":1,"now_ms":0}`,
		`{"v":1,"now_ms":1e3}`, `{"v":1,"now_ms":5,"token":"!"}`, `{"v":1,"now_ms":5,"token":"AP8"}`,
		`{"v":1,"now_ms":5,"token":1}`, `{"v":1,"now_ms":5,"org":null}`, `{"v":1,"now_ms":5,"peer":[]}`,
		`{"v":1,"now_ms":5,"peer":{"tls":{"cert":{"san":[1]}}}}`, `{"v":1,"now_ms":5,"org":"a","org":"b"}`,
	} {
		if answer, err := p.Verify([]byte(request)); err == nil || answer != nil {
			t.Errorf("%s: %s, %v", request, answer, err)
		}
	}
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	signed, err := guest.ReadObject([]byte(`{"n": 9007199254740993, "u":"\u00e9"}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		answer guest.Answer
		want   string
	}{
		{"zero", guest.Answer{}, `{"ok":false}`},
		{"refuse", guest.Refuse(`a "reason"`), `{"ok":false,"reason":"a \"reason\""}`},
		{"pass", guest.Pass(), `{"ok":false,"not_mine":true}`},
		{"unknown key", guest.Answer{UnknownKID: "k"}, `{"ok":false,"unknown_kid":"k"}`},
		{
			"accept", guest.Accept(guest.Subject{Kind: guest.Application, App: "a"}),
			`{"ok":true,"subject":{"kind":"application","app":"a"}}`,
		},
		{"everything", guest.Answer{
			OK: true, Subject: guest.Subject{Kind: guest.Device, Type: "t", ID: "d"}, Org: "acme01",
			Claims: map[string]any{"n": guest.Number("1")}, ExpiresAtMS: 2, CacheTTLMS: 3, Data: []byte{1},
		}, `{"ok":true,"subject":{"kind":"device","type":"t","id":"d"},"org":"acme01",` +
			`"claims":{"n":1},"expires_at_ms":2,"cache_ttl_ms":3,"data":"AQ=="}`},
		{"signed claims", guest.Answer{
			OK: true, Subject: guest.Subject{Kind: guest.User, ID: "u"}, Signed: signed, Claims: map[string]any{"not": "these"},
		}, `{"ok":true,"subject":{"kind":"user","id":"u"},"claims":{"n": 9007199254740993, "u":"\u00e9"}}`},
		{"continue", guest.Continue([]byte{1}, []byte{2}), `{"ok":false,"continue":"AQ==","state":"Ag=="}`},
		{"continue with nothing", guest.Continue(nil, nil), `{"ok":false,"continue":""}`},
		{"accept nobody", guest.Accept(guest.Subject{}), `{"ok":false,"reason":"the token does not name a subject"}`},
		// A challenge means that it is not over.
		{"continue and accept", guest.Answer{OK: true, Challenge: []byte{}}, `{"ok":false,"continue":""}`},
		{"pass with a reason", guest.Answer{NotMine: true, Reason: "r"}, `{"ok":false,"not_mine":true}`},
	} {
		p := guest.New(func(*guest.Config) (guest.Verify, error) {
			return func(*guest.Request) guest.Answer { return tt.answer }, nil
		})
		got, err := p.Verify([]byte(`{"v":1,"now_ms":5}`))
		if err != nil || string(got) != tt.want || !json.Valid(got) {
			t.Errorf("%s: %s, %v; want %s", tt.name, got, err, tt.want)
		}
	}
}

func TestSubjects(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 36)
	for _, tt := range []struct {
		subject guest.Subject
		want    bool
	}{
		{guest.Subject{Kind: guest.Device, Type: "a.b", ID: "-_"}, true},
		{guest.Subject{Kind: guest.Gateway, Type: long, ID: "09azAZ"}, true},
		{guest.Subject{Kind: guest.Application, App: "a"}, true},
		{guest.Subject{Kind: guest.User, ID: "u"}, true},
		{guest.Subject{}, false},
		{guest.Subject{Kind: "system", ID: "x"}, false},
		{guest.Subject{Kind: guest.Device, ID: "d"}, false},
		{guest.Subject{Kind: guest.Device, Type: "t"}, false},
		{guest.Subject{Kind: guest.Device, Type: "t", ID: "d", App: "a"}, false},
		{guest.Subject{Kind: guest.Application, App: "a", ID: "d"}, false},
		{guest.Subject{Kind: guest.User, ID: "u", Type: "t"}, false},
		{guest.Subject{Kind: guest.User, ID: long + "x"}, false},
		{guest.Subject{Kind: guest.User, ID: "a/b"}, false},
		{guest.Subject{Kind: guest.User, ID: "a b"}, false},
		{guest.Subject{Kind: guest.User, ID: "[\\]^"}, false},
		{guest.Subject{Kind: guest.User, ID: "@`{|}~"}, false},
		{guest.Subject{Kind: guest.User, ID: "é"}, false},
		{guest.Subject{Kind: guest.User, ID: "a\x00"}, false},
	} {
		if got := tt.subject.Valid(); got != tt.want {
			t.Errorf("%+v: %v", tt.subject, got)
		}
	}
}

func TestFaultsAreNoAnswer(t *testing.T) {
	t.Parallel()
	const secret = "correct-horse-battery"
	for name, verify := range map[string]guest.Verify{
		"panic": func(*guest.Request) guest.Answer { panic(secret) },
		"claims that are no JSON": func(*guest.Request) guest.Answer {
			return guest.Answer{OK: true, Subject: guest.Subject{Kind: guest.User, ID: "u"}, Claims: map[string]any{"x": struct{ s string }{secret}}}
		},
	} {
		p := guest.New(func(*guest.Config) (guest.Verify, error) { return verify, nil })
		if answer, err := p.Verify([]byte(`{"v":1,"now_ms":5}`)); err == nil || answer != nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %s, %v", name, answer, err)
		}
	}
	for name, p := range map[string]*guest.Plugin{"no plugin": nil, "the zero plugin": {}} {
		if answer, err := p.Verify([]byte(`{"v":1,"now_ms":5}`)); err == nil || answer != nil {
			t.Errorf("%s: %s, %v", name, answer, err)
		}
	}
}

func TestConfigure(t *testing.T) {
	t.Parallel()
	var got *guest.Config
	p := guest.New(func(c *guest.Config) (guest.Verify, error) {
		got = c
		answer := guest.Refuse(c.Settings.String("reason"))
		return func(*guest.Request) guest.Answer { return answer }, c.Settings.Err()
	})
	reason := func() string {
		answer, err := p.Verify([]byte(`{"v":1,"now_ms":5}`))
		if err != nil {
			t.Fatal(err)
		}
		return string(answer)
	}
	if answer := reason(); answer != `{"ok":false}` {
		t.Errorf("before any settings: %s", answer)
	}
	full := `{"v":1,"org":"acme01","settings":{"reason":"r1"},"secrets":{"k":"` + base64.StdEncoding.EncodeToString([]byte("s")) +
		`"},"jwks":{"a":{"keys":[]},"b":null},"new":1}`
	if err := p.Configure([]byte(full)); err != nil || reason() != `{"ok":false,"reason":"r1"}` {
		t.Errorf("%v, %s", err, reason())
	}
	if set, ok := got.JWKS["b"]; got.Org != "acme01" || string(got.Secrets["k"]) != "s" || got.JWKS["a"]["keys"] == nil || set != nil || !ok {
		t.Errorf("%+v", got)
	}
	for _, bad := range []string{
		``, `{"v":2,"settings":{}}`, `{"v":1,"settings":[]}`, `{"v":1,"secrets":{"k":"!"}}`, `{"v":1,"secrets":{"k":1}}`,
		`{"v":1,"jwks":{"a":[]}}`, `{"v":1,"settings":{"reason":"r2","other":1}}`, `{"v":1,"settings":{"reason":2}}`,
	} {
		if err := p.Configure([]byte(bad)); err == nil || reason() != `{"ok":false,"reason":"r1"}` {
			t.Errorf("%s: %v, then %s", bad, err, reason())
		}
	}
}

func TestConfigurePanics(t *testing.T) {
	t.Parallel()
	p := guest.New(func(*guest.Config) (guest.Verify, error) { panic(errors.New("secret")) })
	if err := p.Configure([]byte(`{"v":1}`)); err == nil || strings.Contains(err.Error(), "secret") {
		t.Error(err)
	}
}

func TestFields(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		json string
		want string // of the error; empty for none
	}{
		{`{}`, ""},
		{`{"s":"x","b":true,"i":7,"l":["a"],"o":{"s":"y"},"all":[{"s":"z"}]}`, ""},
		{`{"l":"a"}`, ""},
		{`{"other":1}`, "settings.other is not known"},
		{`{"o":{"other":1}}`, "settings.o.other is not known"},
		{`{"all":[{},{"other":1}]}`, "settings.all[1].other is not known"},
		{`{"s":1}`, "settings.s has to be text"},
		{`{"b":"true"}`, "settings.b has to be true or false"},
		{`{"i":"7"}`, "settings.i has to be a number"},
		{`{"i":0}`, "settings.i has to be 1 to 9"},
		{`{"i":10}`, "settings.i has to be 1 to 9"},
		{`{"i":1.5}`, "settings.i has to be 1 to 9"},
		{`{"l":[1]}`, "settings.l has to be a list of text"},
		{`{"l":{}}`, "settings.l has to be a list of text"},
		{`{"o":[]}`, "settings.o has to be an object"},
		{`{"all":[1]}`, "settings.all has to be a list of objects"},
		{`{"s":null}`, "settings.s has to be text"},
		{`{"s":1,"i":"7","other":2}`, "settings.s has to be text"},
	} {
		object, err := guest.ParseObject([]byte(tt.json))
		if err != nil {
			t.Fatal(err)
		}
		f := guest.NewFields("settings", object)
		f.String("s")
		f.Bool("b")
		if i := f.Int("i", 1, 9, 5); i < 1 || i > 9 {
			t.Errorf("%s: %d", tt.json, i)
		}
		f.Strings("l")
		f.Fields("o").String("s")
		for _, one := range f.List("all") {
			one.String("s")
		}
		got := ""
		if err := f.Err(); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%s: %q; want %q", tt.json, got, tt.want)
		}
	}
}

// Any bytes get an answer or an error, and the answer is JSON.
func FuzzVerify(f *testing.F) {
	f.Add([]byte(`{"v":1,"now_ms":5,"token":"AP8=","peer":{"tls":{"cert":{"san":["a"]}}},"auth":{"data":""},"state":""}`))
	f.Fuzz(func(t *testing.T, request []byte) {
		p := guest.New(func(*guest.Config) (guest.Verify, error) {
			return func(r *guest.Request) guest.Answer { return guest.Refuse(r.ClientID + string(r.Token)) }, nil
		})
		if answer, err := p.Verify(request); (err == nil) != json.Valid(answer) {
			t.Errorf("%q: %q, %v", request, answer, err)
		}
		if err := p.Configure(request); err == nil && !json.Valid(request) {
			t.Errorf("%q was taken for a configuration", request)
		}
	})
}
