package wasm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
)

func TestAGoodAnswerMakesAPrincipal(t *testing.T) {
	t.Parallel()
	_, v, _ := one(t, "good", "", patient())
	p := mustVerify(t, v, token("x"))
	if p.Org.String() != "acme01" || p.Kind != policy.KindDevice || p.Type != "sensor" || p.ID != "d1" ||
		p.Verifier != "it" || p.Claims["site"] != "north" || p.Registered || p.Incarnation != 0 ||
		!p.ExpiresAt.Equal(time.UnixMilli(4102444800000)) || p.Credential.ID != "plugin/it/device/sensor/d1" {
		t.Errorf("%+v", p)
	}
}

// The guest token_answers says what the token says.
func TestAnswers(t *testing.T) {
	t.Parallel()
	_, v, log := one(t, "token_answers", "", patient())
	const subject = `"subject":{"kind":"device","type":"sensor","id":"d1"}`
	for _, tt := range []struct {
		name, answer string
		want         policy.Cause
	}{
		{"a device", `{"ok":true,` + subject + `}`, policy.CauseNone},
		{"a gateway", `{"ok":true,"subject":{"kind":"gateway","type":"t","id":"g"}}`, policy.CauseNone},
		{"an application", `{"ok":true,"subject":{"kind":"application","app":"a"}}`, policy.CauseNone},
		{"a user", `{"ok":true,"subject":{"kind":"user","id":"u"}}`, policy.CauseNone},
		{"its own organisation", `{"ok":true,"org":"acme01",` + subject + `}`, policy.CauseNone},
		{"nested claims", `{"ok":true,` + subject + `,"claims":{"a":[{"b":null}]}}`, policy.CauseNone},
		{"half a surrogate pair", `{"ok":true,` + subject + `,"claims":{"a":"\ud800"}}`, policy.CauseUnavailable},
		{"a number beyond all", `{"ok":true,` + subject + `,"claims":{"a":1e999}}`, policy.CauseUnavailable},
		{"no", `{"ok":false,"reason":"because"}`, policy.CauseBad},
		{"nothing", `{}`, policy.CauseBad},
		{"not mine", `{"not_mine":true}`, policy.CauseUnknown},
		{"an unknown key", `{"unknown_kid":"k7"}`, policy.CauseBad},
		{"expired", `{"ok":true,` + subject + `,"expires_at_ms":1000}`, policy.CauseExpired},

		{"another organisation", `{"ok":true,"org":"other1",` + subject + `}`, policy.CauseUnavailable},
		{"no organisation at all", `{"ok":true,"org":"../..",` + subject + `}`, policy.CauseUnavailable},
		{"the broker itself", `{"ok":true,"subject":{"kind":"system"}}`, policy.CauseUnavailable},
		{"no kind", `{"ok":true,"subject":{"type":"sensor","id":"d1"}}`, policy.CauseUnavailable},
		{"no subject", `{"ok":true}`, policy.CauseUnavailable},
		{"an ID with a slash", `{"ok":true,"subject":{"kind":"device","type":"sensor","id":"a/b"}}`, policy.CauseUnavailable},
		{"a wildcard", `{"ok":true,"subject":{"kind":"device","type":"+","id":"a"}}`, policy.CauseUnavailable},
		{"a device without type", `{"ok":true,"subject":{"kind":"device","id":"a"}}`, policy.CauseUnavailable},
		{"a user with a type", `{"ok":true,"subject":{"kind":"user","id":"a","type":"b"}}`, policy.CauseUnavailable},
		{"ok and not mine", `{"ok":true,"not_mine":true,` + subject + `}`, policy.CauseUnavailable},
		{"ok and continue", `{"ok":true,"continue":"",` + subject + `}`, policy.CauseUnavailable},
		{"continue without an exchange", `{"continue":"eA=="}`, policy.CauseUnavailable},
		{"a member twice", `{"ok":false,"ok":true,` + subject + `}`, policy.CauseUnavailable},
		{"a member twice, below", `{"ok":true,"subject":{"kind":"user","kind":"device","type":"t","id":"d1"}}`, policy.CauseUnavailable},
		{"another case", `{"OK":true,` + subject + `}`, policy.CauseUnavailable},
		{"an unknown member", `{"ok":true,"admin":true,` + subject + `}`, policy.CauseUnavailable},
		{"an unknown member below", `{"ok":true,"subject":{"kind":"user","id":"u1","role":"x"}}`, policy.CauseUnavailable},
		{"text for a truth", `{"ok":"true",` + subject + `}`, policy.CauseUnavailable},
		{"null for a truth", `{"ok":null,` + subject + `}`, policy.CauseUnavailable},
		{"two values", `{"ok":true,` + subject + `}{}`, policy.CauseUnavailable},
		{"a list", `[]`, policy.CauseUnavailable},
		{"no JSON", `{"ok":true,`, policy.CauseUnavailable},
		{"not UTF-8", "{\"ok\":true,\"reason\":\"\xff\"," + subject + `}`, policy.CauseUnavailable},
		{"a negative time", `{"ok":true,` + subject + `,"cache_ttl_ms":-1}`, policy.CauseUnavailable},
		{"a time that is no integer", `{"ok":true,` + subject + `,"expires_at_ms":1e30}`, policy.CauseUnavailable},
		{"too deep", `{"ok":true,` + subject + `,"claims":{"a":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}}`, policy.CauseUnavailable},
		{"too long", `{"ok":true,"reason":"` + strings.Repeat("x", 17<<10) + `",` + subject + `}`, policy.CauseUnavailable},
	} {
		p, err := v.Verify(t.Context(), token(tt.answer))
		if plugins.CauseOf(err) != tt.want || (err == nil) != (p.Kind != policy.KindNobody) {
			t.Errorf("%s: %v, %v; want cause %q", tt.name, p.Kind, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), subject) {
			t.Errorf("%s: the error repeats the token", tt.name)
		}
	}
	if s := log.String(); strings.Contains(s, "sensor") {
		t.Errorf("the log repeats a token:\n%s", s)
	}
}

// Claims arrive as they were written, integers to the last digit.
func TestClaims(t *testing.T) {
	t.Parallel()
	_, v, _ := one(t, "token_answers", "", patient())
	p := mustVerify(t, v, token(strings.TrimSuffix(okAnswer, "}")+`,"claims":{"n":9007199254740993,"f":-1.50,"e":1e3,"t":"\u00e9\ud83d\ude00/","l":[true,null,{"x":{}}]}}`))
	want := map[string]any{
		"n": json.Number("9007199254740993"), "f": -1.5, "e": 1000.0, "t": "é😀/",
		"l": []any{true, nil, map[string]any{"x": map[string]any{}}},
	}
	if !reflect.DeepEqual(p.Claims, want) {
		t.Errorf("%#v", p.Claims)
	}
}

// What the guest logs is cut, limited, and without the credential.
func TestGuestLog(t *testing.T) {
	t.Parallel()
	p, v, clock, log := clocked(t, "token_answers", "", patient())
	say := func(times int) int {
		before := strings.Count(log.String(), "plugin says")
		for i := range times {
			_, _ = v.Verify(t.Context(), token(fmt.Sprintf(`{"reason":"%d %s"}`, i, strings.Repeat("y", 400))))
		}
		return strings.Count(log.String(), "plugin says") - before
	}
	// The guest says the token, of which this is left: ten bytes.
	most := p.limits.LogBytes / len("[redacted]")
	if n := say(2 * most); n != most {
		t.Errorf("%d lines, want %d", n, most)
	}
	clock.advance(10 * time.Second)
	if n := say(2 * most); n != most {
		t.Errorf("%d lines later, want %d", n, most)
	}
	if s := log.String(); strings.Contains(s, "yyyy") || !strings.Contains(s, "text=[redacted]") {
		t.Errorf("log:\n%s", s)
	}
	c := &call{secret: []byte("correct horse")}
	for _, tt := range []struct{ text, want string }{
		{"two\nlines \x00", "two lines"},
		{strings.Repeat("x", 1000), strings.Repeat("x", lineBytes)},
		{"is correct horse and Y29ycmVjdCBob3JzZQ==", "is [redacted] and [redacted]"},
		{strings.Repeat("x", lineBytes-5) + "correct horse", strings.Repeat("x", lineBytes-5) + "[reda"},
	} {
		if got := c.clean([]byte(tt.text), lineBytes); got != tt.want {
			t.Errorf("%q becomes %q", tt.text, got)
		}
	}
}

func TestRequestLimits(t *testing.T) {
	t.Parallel()
	_, v, _ := one(t, "good", "", patient())
	for _, n := range []int{30 << 10, 48 << 10, 64 << 10, 1 << 20} {
		_, err := v.Verify(t.Context(), token(strings.Repeat("x", n)))
		if fits := n < 47<<10; (err == nil) != fits || !fits && !errors.Is(err, plugins.ErrBad) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

// The request says what ABI.md promises.
func TestRequestJSON(t *testing.T) {
	t.Parallel()
	c := token("secret")
	c.Client.TLS = &policy.TLS{Version: "1.3", SNI: "a.example", Cert: &policy.Certificate{Subject: "CN=x", SAN: []string{"y"}, SHA256: "00"}}
	r := newRequest(organisation(t, "acme01"), c, &plugins.Turn{Method: "M", Data: []byte("d"), State: []byte("s")})
	r.NowMS = 1
	b := r.appendNow(r.append(nil))
	want := `{"v":1,"org":"acme01","username":"use-token-auth","client_id":"d:acme01:sensor:d1","token":"c2VjcmV0",` +
		`"peer":{"address":"192.0.2.7","tls":{"version":"1.3","sni":"a.example","cert":{"subject":"CN=x","san":["y"],"sha256":"00"}}},` +
		`"auth":{"method":"M","data":"ZA=="},"state":"cw==","now_ms":1}`
	if string(b) != want {
		t.Errorf("got  %s\nwant %s", b, want)
	}
	none := newRequest(policy.OrgID{}, &plugins.Credential{}, nil)
	if b := none.appendNow(none.append(nil)); string(b) != `{"v":1,"peer":{},"now_ms":0}` {
		t.Errorf("%s", b)
	}
}

// FuzzRequest holds what is written by hand against encoding/json.
func FuzzRequest(f *testing.F) {
	f.Add("acme", "us\"er\\", "c\x00\xff\u2028", []byte{0, 255}, true, "h", "CN=d", "a", "", "M", []byte("x"), []byte(nil))
	f.Add("", "", "", []byte(nil), false, "", "", "", "", "", []byte(nil), []byte{1})
	f.Fuzz(func(t *testing.T, address, user, id string, token []byte, tls bool, sni, subject, san1, san2, method string, data, state []byte) {
		secret := octets(token)
		r := &request{V: 1, Username: user, ClientID: id, Token: &secret, Peer: peer{Address: address}, State: state, NowMS: 7}
		if tls {
			r.Peer.TLS = &peerTLS{Version: "1.3", SNI: sni, Cert: &peerCert{Subject: subject, SAN: []string{san1, san2}}}
			r.Auth = &requestAuth{Method: method, Data: data}
		}
		want, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		var got, same any
		b := r.appendNow(r.append(nil))
		if err := errors.Join(json.Unmarshal(b, &got), json.Unmarshal(want, &same)); err != nil || !reflect.DeepEqual(got, same) {
			t.Errorf("wrote %q, encoding/json %q: %v", b, want, err)
		}
	})
}

func TestConversation(t *testing.T) {
	t.Parallel()
	h, v, _ := one(t, "token_answers", "", patient())
	talk := v.(plugins.Conversation)
	reply, err := talk.Converse(t.Context(), token(`{"continue":"aGVsbG8=","state":"c3RhdGU="}`), plugins.Turn{Method: "M", Data: []byte("x")})
	if err != nil || reply.Done || string(reply.Data) != "hello" || string(reply.State) != "state" {
		t.Errorf("%+v, %v", reply, err)
	}
	reply, err = talk.Converse(t.Context(), token(`{"ok":true,"subject":{"kind":"user","id":"u"},"data":"Ynll","cache_ttl_ms":60000}`),
		plugins.Turn{Method: "M", State: reply.State})
	if err != nil || !reply.Done || string(reply.Data) != "bye" || reply.Principal.ID != "u" {
		t.Errorf("%+v, %v", reply, err)
	}
	if n := remembers(h, "acme01/it"); n != 0 {
		t.Errorf("%d turns of an exchange are remembered", n)
	}
	for name, turn := range map[string]struct {
		token string
		turn  plugins.Turn
		want  policy.Cause
	}{
		"too much state from the guest":  {`{"continue":"","state":"` + strings.Repeat("AAAA", 1400) + `"}`, plugins.Turn{}, policy.CauseUnavailable},
		"too much state from the caller": {`{}`, plugins.Turn{State: make([]byte, 5000)}, policy.CauseBad},
		"refused":                        {`{}`, plugins.Turn{}, policy.CauseBad},
		"not mine":                       {`{"not_mine":true}`, plugins.Turn{}, policy.CauseUnknown},
	} {
		if _, err := talk.Converse(t.Context(), token(turn.token), turn.turn); plugins.CauseOf(err) != turn.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func remembers(h *Host, at string) int {
	folder, name, _ := strings.Cut(at, "/")
	a := h.table.Load().plugins[place{folder, name}].answers
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.mu.all)
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte(okAnswer))
	f.Add([]byte(`{"ok":true,"claims":{"a":[1,{"b":null}]},"continue":"eA==","state":""}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := decodeAnswer(string(b))
		if err != nil {
			return
		}
		// encoding/json, which is less strict, reads the same.
		var same struct {
			answer

			Continue, State, Data *[]byte
			Claims                map[string]any
		}
		d := json.NewDecoder(bytes.NewReader(b))
		d.UseNumber()
		d.DisallowUnknownFields()
		if err := d.Decode(&same); err != nil {
			t.Fatalf("accepted %q, which encoding/json refuses: %v", b, err)
		}
		if a.OK != same.OK || a.NotMine != same.NotMine || a.Org != same.Org || a.Subject != same.Subject || a.Reason != same.Reason ||
			a.ExpiresAtMS != same.ExpiresAtMS || a.CacheTTLMS != same.CacheTTLMS || a.UnknownKID != same.UnknownKID ||
			(a.Continue == nil) != (same.Continue == nil) || !sameJSON(t, a.Claims, same.Claims) {
			t.Errorf("%q: %+v, encoding/json reads %+v", b, a, same)
		}
		// What was accepted is JSON that says ok only where it has that very member.
		if a.OK && !strings.Contains(string(b), `"ok"`) && !strings.Contains(string(b), `\u`) {
			t.Errorf("ok from %q", b)
		}
		if len(a.State) > stateBytes || a.ExpiresAtMS < 0 || a.CacheTTLMS < 0 {
			t.Errorf("accepted %q", b)
		}
	})
}

// sameJSON compares values whose numbers may be of different types.
func sameJSON(t *testing.T, a, b map[string]any) bool {
	t.Helper()
	plain := func(v any) (out any) {
		text, err := json.Marshal(v)
		if err = errors.Join(err, json.Unmarshal(text, &out)); err != nil {
			t.Fatal(err)
		}
		return out
	}
	return reflect.DeepEqual(plain(a), plain(b))
}

func FuzzSettings(f *testing.F) {
	f.Add([]byte("settings: {a: 1}\nsecrets: {k: key}\nvectors:\n  - {token: x, want: ok}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := parseSettings(b); err == nil && s.apply(Limits{}.withDefaults()).MemoryBytes > memoryMost {
			t.Errorf("accepted %q", b)
		}
	})
}
