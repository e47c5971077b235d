package remote

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/opa"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// archive is a bundle of one rule.
func archive(t *testing.T, rule string) []byte {
	t.Helper()
	text := "package cordon.publish\n\n" + rule + "\n"
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	err := w.WriteHeader(&tar.Header{Name: "/cordon/publish/publish.rego", Size: int64(len(text)), Typeflag: tar.TypeReg, Mode: 0o644})
	_, writing := io.WriteString(w, text)
	if err := errors.Join(err, writing, w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// server answers each round by the next of its answers.
type server struct {
	*httptest.Server
	mu      sync.Mutex
	answers []http.HandlerFunc
	asked   []http.Header
}

func serve(t *testing.T, answers ...http.HandlerFunc) *server {
	t.Helper()
	s := &server{answers: answers}
	s.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.asked = append(s.asked, r.Header.Clone())
		answer := s.answers[0]
		if len(s.answers) > 1 {
			s.answers = s.answers[1:]
		}
		s.mu.Unlock()
		answer(w, r)
	}))
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	t.Cleanup(s.Close)
	return s
}

func send(body []byte, etag string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if etag != "" {
			w.Header().Set("ETag", etag)
		}
		_, _ = w.Write(body)
	}
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "1800")
		w.WriteHeader(code)
	}
}

// rounds runs n rounds and returns the pauses after them, the bundles that were
// offered, and the log.
func rounds(t *testing.T, s *server, n int, change func(*Options)) (pauses []time.Duration, offered []string, log string, p *Poller) {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	var text bytes.Buffer
	o := Options{
		URL: s.URL + "/bundle?signature=sesame", Unsigned: true, Roots: roots, Interval: 10 * time.Second,
		Log:   slog.New(slog.NewTextHandler(&text, nil)),
		Offer: func(b *opa.Bundle, _ *opa.Archive) error { offered = append(offered, b.Revision()); return nil },
	}
	if change != nil {
		change(&o)
	}
	p, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	p.wait = func(_ context.Context, d time.Duration) bool {
		pauses = append(pauses, d)
		return len(pauses) < n
	}
	p.Run(context.Background())
	if strings.Contains(text.String(), "sesame") {
		t.Errorf("the log tells the secret:\n%s", text.String())
	}
	return pauses, offered, text.String(), p
}

func TestRounds(t *testing.T) {
	t.Parallel()
	first, second := archive(t, `decision := {"allow": true}`), archive(t, `decision := {"allow": false}`)
	s := serve(t, send(first, `"1"`), status(http.StatusNotModified), send(first, `"2"`), send(second, `W/"3"`), status(http.StatusNotModified))
	pauses, offered, log, p := rounds(t, s, 5, func(o *Options) {
		o.Authorize = func(h http.Header) error { h.Set("Authorization", "Bearer sesame"); return nil }
	})
	if len(offered) != 2 || offered[0] == offered[1] {
		t.Errorf("offered %v", offered)
	}
	var etags []string
	for _, h := range s.asked {
		etags = append(etags, h.Get("If-None-Match"))
		if h.Get("Authorization") != "Bearer sesame" || h.Get("Accept-Encoding") != "" {
			t.Errorf("asked with %v", h)
		}
	}
	if got := strings.Join(etags, " "); got != ` "1" "1" "2" W/"3"` {
		t.Errorf("ETags %s", got)
	}
	for _, d := range pauses {
		if d < 9*time.Second || d > 11*time.Second {
			t.Errorf("pause %v of an interval of 10 s", d)
		}
	}
	if st := p.Status(); st.Rounds != 5 || st.Failures != 0 || st.LastGood.IsZero() || st.Revision != offered[1] {
		t.Errorf("%+v\n%s", st, log)
	}
}

// What is refused is refused once, and what was offered before stays.
func TestRefusedBundles(t *testing.T) {
	t.Parallel()
	good := archive(t, `decision := {"allow": true}`)
	for name, c := range map[string]struct {
		body   []byte
		change func(*Options)
		says   string
	}{
		"does not parse": {archive(t, `decision := {`), nil, "rego_parse_error"},
		"no archive":     {[]byte("<html>"), nil, "no .tar.gz"},
		"not signed":     {archive(t, `decision := {"allow": false}`), func(o *Options) { o.Key, o.Unsigned = &opa.Key{Algorithm: "ES256"}, false }, "not signed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, send(good, ""), send(c.body, ""), send(c.body, ""), send(c.body, `"x"`), status(http.StatusNotModified))
			_, offered, log, p := rounds(t, s, 5, c.change)
			want := 1
			if name == "not signed" {
				want = 0
			}
			if len(offered) != want || p.Status().Failures != 0 {
				t.Errorf("offered %v, status %+v", offered, p.Status())
			}
			if n := strings.Count(log, "policy bundle refused"); n != 2-want || !strings.Contains(log, c.says) {
				t.Errorf("refused %d times:\n%s", n, log)
			}
		})
	}
}

// While the server fails the rounds become rarer, and it may ask for peace.
func TestBackOff(t *testing.T) {
	t.Parallel()
	good := archive(t, `decision := {"allow": true}`)
	cut := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		_, _ = w.Write([]byte("half"))
	}
	large := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(opa.MaxArchiveBytes+1))
		w.WriteHeader(http.StatusOK)
	}
	plain := func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
	}
	missing := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }
	s := serve(t, cut, large, plain, missing, status(http.StatusServiceUnavailable), send(good, `"1"`), missing)
	pauses, offered, log, p := rounds(t, s, 7, nil)
	if len(offered) != 1 || p.Status().Failures != 1 {
		t.Errorf("offered %v, %+v\n%s", offered, p.Status(), log)
	}
	for i, longest := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second} {
		if pauses[i] < longest/2 || pauses[i] > longest {
			t.Errorf("pause %d is %v, want %v to %v", i, pauses[i], longest/2, longest)
		}
	}
	if pauses[4] != 1800*time.Second {
		t.Errorf("asked to stay away for half an hour, it waits %v", pauses[4])
	}
	if pauses[6] > time.Second {
		t.Errorf("the first failure after a success waits %v", pauses[6])
	}
	for failures := uint64(1); failures < 200; failures++ {
		if d := p.pause(failures, 48*time.Hour); d > longestAsked || d < firstRetry/2 {
			t.Errorf("after %d failures it waits %v", failures, d)
		}
		if d := p.pause(failures, 0); d > longestRetry {
			t.Errorf("after %d failures it waits %v", failures, d)
		}
	}
}

func TestAnOfferThatFailedIsRepeated(t *testing.T) {
	t.Parallel()
	s := serve(t, send(archive(t, `decision := {"allow": true}`), `"1"`))
	offers := 0
	_, _, log, _ := rounds(t, s, 3, func(o *Options) {
		o.Offer = func(*opa.Bundle, *opa.Archive) error {
			if offers++; offers == 1 {
				return errors.New("no space left")
			}
			return nil
		}
	})
	if offers != 2 || !strings.Contains(log, "no space left") {
		t.Errorf("offered %d times:\n%s", offers, log)
	}
}

func TestUntrustedServer(t *testing.T) {
	t.Parallel()
	s := serve(t, send(archive(t, `decision := {"allow": true}`), ""))
	_, offered, log, _ := rounds(t, s, 1, func(o *Options) { o.Roots = x509.NewCertPool() })
	if len(offered) != 0 || !strings.Contains(log, "not fetched") || len(s.asked) != 0 {
		t.Errorf("offered %v:\n%s", offered, log)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	s := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	p, err := New(Options{URL: s.URL, Unsigned: true, Roots: roots, Offer: func(*opa.Bundle, *opa.Archive) error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	p.Run(ctx)
	if p.Status().Rounds != 0 {
		t.Error("a round that was cut off counts")
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	offer := func(*opa.Bundle, *opa.Archive) error { return nil }
	for name, o := range map[string]Options{
		"no URL":         {Unsigned: true, Offer: offer},
		"no TLS":         {URL: "http://a.example/b", Unsigned: true, Offer: offer},
		"a password":     {URL: "https://u:p@a.example/b", Unsigned: true, Offer: offer},
		"no key":         {URL: "https://a.example/b", Offer: offer},
		"too often":      {URL: "https://a.example/b", Unsigned: true, Offer: offer, Interval: time.Millisecond},
		"nobody to tell": {URL: "https://a.example/b", Unsigned: true},
	} {
		if _, err := New(o); policy.KindOf(err) != policy.KindInvalid || strings.Contains(err.Error(), "u:p") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
