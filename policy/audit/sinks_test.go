package audit

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// eventsOf makes sealed events d0, d1, … of about size bytes.
func eventsOf(t testing.TB, n, size int) (all []*Event) {
	t.Helper()
	for i := range n {
		ev := &Event{DecisionID: fmt.Sprint("d", i), Timestamp: time.Unix(1000, int64(i)).UTC(), Input: json.RawMessage(`"` + strings.Repeat("x", size) + `"`)}
		ev.Custom.Count, ev.Custom.Weight = 1, 1
		if err := ev.seal(); err != nil {
			t.Fatal(err)
		}
		all = append(all, ev)
	}
	return all
}

func idsIn(t *testing.T, path string) (ids []string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasSuffix(path, ".gz") {
		z, err := gzip.NewReader(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if text, err = io.ReadAll(z); err != nil {
			t.Fatal(err)
		}
	}
	for line := range strings.Lines(string(text)) {
		ev, err := ParseEvent([]byte(line))
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		ids = append(ids, ev.DecisionID)
	}
	return ids
}

func write(t *testing.T, s Sink, events []*Event) {
	t.Helper()
	if lost, err := s.Write(context.Background(), events); lost != 0 || err != nil {
		t.Fatalf("lost %d: %v", lost, err)
	}
}

func TestFileRotates(t *testing.T) {
	t.Parallel()
	for _, compressed := range []bool{false, true} {
		t.Run(fmt.Sprint("compressed ", compressed), func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "decisions.jsonl")
			f, err := OpenFile(FileOptions{Path: path, Size: 3000, Keep: 2, Compress: compressed})
			if err != nil {
				t.Fatal(err)
			}
			write(t, f, eventsOf(t, 10, 900)) // two to a file
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			ending := map[bool]string{true: ".gz"}[compressed]
			for name, want := range map[string]string{path: "[d8 d9]", path + ".1" + ending: "[d6 d7]", path + ".2" + ending: "[d4 d5]"} {
				if got := fmt.Sprint(idsIn(t, name)); got != want {
					t.Errorf("%s has %s, want %s", filepath.Base(name), got, want)
				}
				if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
					t.Errorf("%s: %v, %v", name, info.Mode(), err)
				}
			}
			if _, err := os.Stat(path + ".3" + ending); err == nil {
				t.Error("a third old file stays")
			}
		})
	}
}

// After a crash in the middle of a line, the next one begins a line of its own.
func TestFileGoesOn(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "decisions.jsonl")
	if err := os.WriteFile(path, []byte(`{"decision_id":"old","custom":{}}`+"\n"+`{"decision_id":"cut`), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := OpenFile(FileOptions{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	write(t, f, eventsOf(t, 1, 10))
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	text, _ := os.ReadFile(path)
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if len(lines) != 3 || lines[1] != `{"decision_id":"cut` || !strings.Contains(lines[2], `"d0"`) {
		t.Errorf("lines:\n%s", text)
	}
	if _, err := OpenFile(FileOptions{Path: t.TempDir()}); err == nil {
		t.Error("a folder was opened")
	}
}

// server takes chunks as OPA's services do, and fails as often as it is told.
type server struct {
	*httptest.Server
	state struct {
		sync.Mutex
		ids     []string
		sizes   []int
		tokens  []string
		answers []int // of the next requests; then 200
	}
}

func newServer(t *testing.T) *server {
	s := &server{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.state.Lock()
		defer s.state.Unlock()
		s.state.sizes = append(s.state.sizes, len(body))
		s.state.tokens = append(s.state.tokens, r.Header.Get("Authorization"))
		if len(s.state.answers) > 0 {
			code := s.state.answers[0]
			s.state.answers = s.state.answers[1:]
			if code != http.StatusOK {
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(code)
				return
			}
		}
		z, err := gzip.NewReader(bytes.NewReader(body))
		var events []Event
		if err == nil {
			err = json.NewDecoder(z).Decode(&events)
		}
		if err != nil || r.URL.Path != "/base/logs" || r.Method != http.MethodPost || r.Header.Get("Content-Encoding") != "gzip" {
			t.Errorf("%s %s: %v", r.Method, r.URL.Path, err)
		}
		for _, ev := range events {
			s.state.ids = append(s.state.ids, ev.DecisionID)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *server) sink(t *testing.T, o HTTPOptions) *HTTP {
	t.Helper()
	o.URL, o.RetryLeast = s.URL+"/base", time.Millisecond
	h, err := NewHTTP(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

func TestHTTPChunksAndRetries(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.state.answers = []int{500, 307, 429, 401, 200, 503}
	h := s.sink(t, HTTPOptions{ChunkMax: 2000})
	var events []*Event
	for i := range 50 { // random text, which does not compress
		ev := &Event{DecisionID: fmt.Sprint("d", i), Input: json.RawMessage(fmt.Sprintf("%q", noise(i)))}
		if err := ev.seal(); err != nil {
			t.Fatal(err)
		}
		events = append(events, ev)
	}
	write(t, h, events)
	s.state.Lock()
	defer s.state.Unlock()
	if len(s.state.ids) != 50 || s.state.ids[0] != "d0" || s.state.ids[49] != "d49" {
		t.Errorf("the server has %v", s.state.ids)
	}
	for _, n := range s.state.sizes {
		if n > 2000 {
			t.Errorf("a request has %d bytes", n)
		}
	}
	if len(s.state.sizes) > 5+30 {
		t.Errorf("%d requests", len(s.state.sizes))
	}
}

func noise(seed int) string {
	var b strings.Builder
	n := uint32(seed + 1)
	for range 400 {
		n = n*1664525 + 1013904223
		b.WriteByte('a' + byte(n>>24)%26)
	}
	return b.String()
}

// What the server refuses for good, or no request could carry, is lost, and counted.
func TestHTTPGivesUpWhatIsRefused(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.state.answers = []int{400}
	h := s.sink(t, HTTPOptions{})
	if lost, err := h.Write(context.Background(), eventsOf(t, 3, 10)); lost != 3 || !errors.Is(err, errRefused) {
		t.Errorf("lost %d: %v", lost, err)
	}
	h = s.sink(t, HTTPOptions{ChunkMax: 300})
	large := &Event{DecisionID: "large", Input: json.RawMessage(`"` + noise(1) + noise(2) + `"`)}
	if err := large.seal(); err != nil {
		t.Fatal(err)
	}
	lost, _ := h.Write(context.Background(), append([]*Event{large}, eventsOf(t, 1, 10)...))
	s.state.Lock()
	defer s.state.Unlock()
	if lost != 1 || fmt.Sprint(s.state.ids) != "[d0]" {
		t.Errorf("lost %d; the server has %v", lost, s.state.ids)
	}
}

func TestHTTPEndsWithItsContext(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.state.answers = make([]int, 1000)
	for i := range s.state.answers {
		s.state.answers[i] = 503
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if lost, err := s.sink(t, HTTPOptions{}).Write(ctx, eventsOf(t, 3, 10)); lost != 3 || err == nil {
		t.Errorf("lost %d: %v", lost, err)
	}
}

// The token is read anew for each request, and no error repeats it or the URL.
func TestHTTPToken(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	file := filepath.Join(t.TempDir(), "token")
	put := func(token string) {
		if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("first\n")
	h := s.sink(t, HTTPOptions{TokenFile: file})
	write(t, h, eventsOf(t, 1, 10))
	put("second")
	write(t, h, eventsOf(t, 1, 10))
	if got := fmt.Sprint(s.state.tokens); got != "[Bearer first Bearer second]" {
		t.Errorf("tokens %s", got)
	}
	put("canary two words")
	if _, err := NewHTTP(HTTPOptions{URL: s.URL, TokenFile: file}); err == nil || strings.Contains(err.Error(), "canary") {
		t.Errorf("two words: %v", err)
	}
	h, err := NewHTTP(HTTPOptions{URL: "https://127.0.0.1:1/?key=canary", RetryLeast: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := h.Write(ctx, eventsOf(t, 1, 10)); err == nil || strings.Contains(err.Error(), "canary") {
		t.Errorf("a URL in an error: %v", err)
	}
}

func TestCheckURL(t *testing.T) {
	t.Parallel()
	for u, ok := range map[string]bool{
		"https://logs.example.com": true, "https://logs.example.com/opa": true, "http://127.0.0.1:8181": true, "http://[::1]:8181": true,
		"http://localhost/x": true, "http://logs.example.com": false, "https://user:secret@logs.example.com": false, "ftp://x": false,
		"": false, "https://": false, "http://localhost.example.com": false, "http://192.0.2.1": false,
	} {
		if err := CheckURL(u); (err == nil) != ok {
			t.Errorf("%q: %v", u, err)
		} else if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: the error repeats it", u)
		}
	}
}
