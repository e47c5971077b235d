package wasm

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cordon-mq/cordon/plugins"
)

// keyServer serves one key set, with an ETag, and counts.
type keyServer struct {
	*httptest.Server
	body             atomic.Pointer[string]
	full, unmodified atomic.Int32
	broken           atomic.Bool
}

func newKeyServer(t *testing.T) *keyServer {
	t.Helper()
	k := &keyServer{}
	k.set(`{"keys":[{"kty":"OKP","kid":"1"}]}`)
	k.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := *k.body.Load()
		etag := `"` + body[len(body)-5:len(body)-4] + `"`
		switch {
		case k.broken.Load():
			http.Error(w, "no", http.StatusInternalServerError)
		case r.Header.Get("If-None-Match") == etag:
			k.unmodified.Add(1)
			w.WriteHeader(http.StatusNotModified)
		default:
			k.full.Add(1)
			w.Header().Set("ETag", etag)
			_, _ = w.Write([]byte(body))
		}
	}))
	t.Cleanup(k.Close)
	return k
}

func (k *keyServer) set(body string) { k.body.Store(&body) }

func (k *keyServer) keySets(log *lines, clock *fake) *keySets {
	return newKeySets(map[string]jwksSettings{"main": {URL: k.URL}}, nil, "", secureClient(k.Client()), log.logger(), clock.now)
}

func mainSet(t *testing.T, k *keySets) string {
	t.Helper()
	all, _ := k.snapshot()
	b, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestKeySetsAreFetchedAndKept(t *testing.T) {
	t.Parallel()
	server, clock, log := newKeyServer(t), newFake(), &lines{}
	k := server.keySets(log, clock)
	if s := mainSet(t, k); s != `{"main":null}` {
		t.Errorf("before the first fetch: %s", s)
	}
	k.refresh(t.Context())
	if s := mainSet(t, k); s != `{"main":{"keys":[{"kty":"OKP","kid":"1"}]}}` || k.generation() != 1 {
		t.Errorf("fetched %s, generation %d", s, k.generation())
	}
	k.refresh(t.Context())
	if server.full.Load() != 1 || server.unmodified.Load() != 0 {
		t.Error("asked before it was due")
	}
	clock.advance(2 * refreshUsual)
	k.refresh(t.Context())
	if server.full.Load() != 1 || server.unmodified.Load() != 1 || k.generation() != 1 {
		t.Error("the server was not asked for changes alone")
	}
	server.broken.Store(true)
	clock.advance(2 * refreshUsual)
	k.refresh(t.Context())
	if s := mainSet(t, k); !strings.Contains(s, `"1"`) || !strings.Contains(log.String(), "kept=true") {
		t.Errorf("a failure took the keys away: %s\n%s", s, log)
	}
	server.broken.Store(false)
	for _, bad := range []string{
		`{"keys":[]}`, `nonsense, or an error page`, `{"keys":[{"kty":"oct","k":"x"}]}`,
		`{"keys":[{"kty":"EC","d":"x"}]}`, `{"keys":[{"x":"` + strings.Repeat("x", keySetBytes) + `"}]}`,
	} {
		server.set(bad)
		clock.advance(2 * refreshUsual)
		k.refresh(t.Context())
		if s := mainSet(t, k); !strings.Contains(s, `"1"`) {
			t.Errorf("%.40s replaced the keys", bad)
		}
	}
	server.set(`{"keys":[{"kty":"OKP","kid":"2"}]}`)
	clock.advance(2 * refreshUsual)
	k.refresh(t.Context())
	if s := mainSet(t, k); !strings.Contains(s, `"2"`) || k.generation() != 2 {
		t.Errorf("the new key is not there: %s", s)
	}
	// The next version of the plugin knows them at once.
	next := newKeySets(map[string]jwksSettings{"other": {URL: server.URL}}, k, "", nil, log.logger(), clock.now)
	if s := mainSet(t, next); s != `{"other":{"keys":[{"kty":"OKP","kid":"2"}]}}` {
		t.Errorf("after a reload: %s", s)
	}
}

// seldom answers with one key set that never changes, and notes what the request
// says it has.
type seldom struct {
	mu struct {
		sync.Mutex
		has []string
	}
}

func (s *seldom) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.has = append(s.mu.has, r.Header.Get("If-None-Match"))
	w := httptest.NewRecorder()
	w.Header().Set("ETag", `"1"`)
	if r.Header.Get("If-None-Match") == `"1"` {
		w.WriteHeader(http.StatusNotModified)
	} else {
		_, _ = w.WriteString(`{"keys":[{"kty":"OKP","kid":"1"}]}`)
	}
	return w.Result(), nil
}

func (s *seldom) had() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.mu.has)
}

// Nobody has to ask for it: a key set is looked at again as often as the settings
// say, and fetched only if it changed.
func TestKeySetsAreRefreshedInTheBackground(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := &seldom{}
		k := newKeySets(map[string]jwksSettings{"main": {URL: "https://id.example.com/keys", Refresh: time.Minute}},
			nil, "", secureClient(&http.Client{Transport: server}), (&lines{}).logger(), time.Now)
		ctx, cancel := context.WithCancel(t.Context())
		var fetching sync.WaitGroup
		fetching.Go(func() { k.run(ctx) })
		synctest.Wait()
		if had := server.had(); !slices.Equal(had, []string{""}) {
			t.Errorf("at first, requests have %q", had)
		}
		time.Sleep(2 * time.Minute) // each time is a minute, give or take a quarter
		synctest.Wait()
		if had := server.had(); len(had) < 2 || len(had) > 3 || had[1] != `"1"` || k.generation() != 1 {
			t.Errorf("after two minutes, requests have %q, and it is generation %d", had, k.generation())
		}
		cancel()
		fetching.Wait()
	})
}

// Tokens that name keys nobody knows make the host ask now and then, not each time.
func TestUnknownKeysAreRateLimited(t *testing.T) {
	t.Parallel()
	server, clock := newKeyServer(t), newFake()
	k := server.keySets(&lines{}, clock)
	k.refresh(t.Context())
	if k.unknown(1) != nil {
		t.Error("somebody waits for a fetch that nobody makes")
	}
	k.found(false)
	clock.advance(time.Hour)
	hints := func() (n int) {
		for range 100 {
			k.unknown(1)
			select {
			case <-k.hint:
				n++
				k.found(false)
			default:
			}
		}
		return n
	}
	if n := hints(); n != 1 {
		t.Errorf("%d fetches for a hundred tokens", n)
	}
	clock.advance(hintLeast)
	if n := hints(); n != 1 {
		t.Errorf("%d fetches later", n)
	}
}

func TestKeySetsComeOverHTTPSOnly(t *testing.T) {
	t.Parallel()
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"keys":[{"kid":"1"}]}`))
	}))
	defer plain.Close()
	away := httptest.NewTLSServer(http.RedirectHandler(plain.URL, http.StatusFound))
	defer away.Close()
	k := newKeySets(map[string]jwksSettings{"main": {URL: away.URL}}, nil, "", secureClient(away.Client()), (&lines{}).logger(), time.Now)
	k.refresh(t.Context())
	if s := mainSet(t, k); s != `{"main":null}` {
		t.Errorf("keys from a plain connection: %s", s)
	}
}

// After a key set changed, an instance that is there is configured again, not
// replaced. What becomes of tokens then is in plugins/jwt.
func TestAChangedKeySetConfiguresTheSameInstanceAgain(t *testing.T) {
	t.Parallel()
	server, log, dir := newKeyServer(t), &lines{}, t.TempDir()
	lay(t, dir, "acme01/it", "features", "jwks: {main: {url: '"+server.URL+"'}}")
	h := open(t, Options{Dir: dir, Limits: patient(), Log: log.logger(), HTTPClient: server.Client()})
	v := find(t, h, "it", "")
	mustVerify(t, v, token("x"))
	p := h.table.Load().plugins[place{"acme01", "it"}]
	if i := p.idleOnes()[0]; i.generation != 1 {
		t.Fatalf("the instance has generation %d", i.generation)
	}
	first := p.idleOnes()[0]
	server.set(`{"keys":[{"kty":"OKP","kid":"2"}]}`)
	p.keys.unknown(1) // wakes the fetching up
	until(t, log, func() bool { return p.keys.generation() == 2 })
	mustVerify(t, v, token("x"))
	if i := p.idleOnes()[0]; i != first || i.generation != 2 {
		t.Errorf("the instance has generation %d", i.generation)
	}
}

// A key server that does not answer delays the plugin, and it works afterwards.
func TestAnUnreachableKeyServer(t *testing.T) {
	t.Parallel()
	server, log, dir := newKeyServer(t), &lines{}, t.TempDir()
	server.Close()
	lay(t, dir, "acme01/it", "good", "jwks: {main: {url: '"+server.URL+"'}}")
	h := open(t, Options{Dir: dir, Limits: patient(), Log: log.logger(), HTTPClient: server.Client()})
	if _, err := find(t, h, "it", "").Verify(context.Background(), token("x")); plugins.CauseOf(err) != "" {
		t.Errorf("%v\n%s", err, log)
	}
}

func FuzzKeySet(f *testing.F) {
	f.Add([]byte(`{"keys":[{"kty":"OKP","kid":"1"}]}`))
	f.Add([]byte(`{"keys":[{"kty":"oct","k":"x"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		set, err := parseKeySet(b)
		if err != nil {
			return
		}
		if !json.Valid(set) || len(set) > keySetBytes {
			t.Errorf("accepted %q", b)
		}
	})
}
