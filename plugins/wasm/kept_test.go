package wasm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Key sets outlive the program, and what is kept is judged like what is fetched.
func TestKeySetsOutliveTheProgram(t *testing.T) {
	t.Parallel()
	server, clock, dir := newKeyServer(t), newFake(), t.TempDir()
	kept, err := openKept(filepath.Join(dir, "keysets"), clock.now())
	if err != nil {
		t.Fatal(err)
	}
	of := map[string]jwksSettings{"main": {URL: server.URL}}
	start := func() *keySets {
		return newKeySets(of, nil, kept, secureClient(server.Client()), (&lines{}).logger(), clock.now)
	}
	start().complete(t.Context())
	path := kept.path(server.URL)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}
	server.broken.Store(true)
	next := start()
	next.complete(t.Context())
	if s := mainSet(t, next); !strings.Contains(s, `"1"`) || server.full.Load() != 1 {
		t.Errorf("after a start without the issuer: %s", s)
	}
	server.broken.Store(false)
	next.refresh(t.Context())
	if server.unmodified.Load() != 1 {
		t.Error("a start fetches what it has")
	}
	for _, bad := range []string{
		"", "{", `{"url":"https://other.example","set":{"keys":[{"kid":"9"}]}}`,
		`{"url":"` + server.URL + `","set":{"keys":[{"kty":"oct","k":"x"}]}}`,
		`{"url":"` + server.URL + `","set":{"keys":[]}}`,
		`{"url":"` + server.URL + `","set":{"keys":[{"x":"` + strings.Repeat("x", keptBytes) + `"}]}}`,
	} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if s := mainSet(t, start()); s != `{"main":null}` {
			t.Errorf("%.60s gives %s", bad, s)
		}
	}
}

func TestKeptKeySetsAreTheirOwners(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, age := range map[string]time.Duration{"old" + keptSuffix: keptFor, "new" + keptSuffix: time.Hour, "other": keptFor} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, time.Time{}, time.Now().Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := openKept(dir, time.Now()); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(left) != 2 {
		t.Errorf("%v, %v", left, err)
	}
	if err := os.Chmod(dir, 0o770); err != nil {
		t.Fatal(err)
	}
	if _, err := openKept(dir, time.Now()); err == nil {
		t.Error("keys from a folder that others write to")
	}
}

// A token that names a key of a set that was just changed is verified at once, and
// one that names no key at all does not make every client wait.
func TestTheFirstTokenOfANewKey(t *testing.T) {
	t.Parallel()
	server, log, dir := newKeyServer(t), &lines{}, t.TempDir()
	lay(t, dir, "acme01/it", "token_answers", "jwks: {main: {url: '"+server.URL+"'}}")
	h := open(t, Options{Dir: dir, Limits: patient(), Log: log.logger(), HTTPClient: server.Client()})
	p, v := h.table.Load().plugins[place{"acme01", "it"}], find(t, h, "it", "")
	server.set(`{"keys":[{"kty":"OKP","kid":"2"}]}`)
	// The guest says the same each time, so it was asked twice.
	if _, err := v.Verify(t.Context(), token(`{"unknown_kid":"2"}`)); err == nil {
		t.Error("accepted")
	}
	if n := p.calls(); n != 2 || p.keys.generation() != 2 {
		t.Errorf("asked %d times, generation %d\n%s", n, p.keys.generation(), log)
	}
	if _, err := v.Verify(t.Context(), token(`{"unknown_kid":"3"}`)); err == nil {
		t.Error("accepted")
	}
	if n := p.calls(); n != 3 {
		t.Errorf("asked %d times about a second unknown key", n)
	}
}

func FuzzKeptSet(f *testing.F) {
	const url = "https://a.example"
	f.Add([]byte(`{"url":"https://a.example","etag":"x","set":{"keys":[{"kid":"1"}]}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		set, _ := parseKept(b, url)
		if set == nil {
			return
		}
		if again, err := parseKeySet(set); err != nil || string(again) != string(set) {
			t.Errorf("%q gives %q: %v", b, set, err)
		}
	})
}
