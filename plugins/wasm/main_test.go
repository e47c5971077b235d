package wasm

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// lines is a log that tests read.
type lines struct {
	mu struct {
		sync.Mutex
		bytes.Buffer
	}
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.String()
}

func (l *lines) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// lay puts a module of testdata/guests, and settings if there are some, into the
// plugins folder dir.
func lay(t testing.TB, dir, at, guest, settings string) {
	t.Helper()
	binary, err := os.ReadFile(filepath.Join("testdata", "guests", guest+".wasm"))
	if err != nil {
		t.Fatal(err)
	}
	layBytes(t, dir, at, binary, settings)
}

func layBytes(t testing.TB, dir, at string, binary []byte, settings string) {
	t.Helper()
	path := filepath.Join(dir, at)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if settings != "" {
		if err := os.WriteFile(path+".yaml", []byte(settings), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// As an editor does it: nobody sees half a file.
	if err := os.WriteFile(path+".tmp", binary, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".tmp", path+".wasm"); err != nil {
		t.Fatal(err)
	}
}

// open opens a host that is closed with the test.
func open(t testing.TB, o Options) *Host {
	t.Helper()
	h, err := Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
		if used := h.budget.used.Load(); used != 0 {
			t.Errorf("%d bytes of memory were not given back", used)
		}
	})
	return h
}

// patient are limits under which a busy machine does not miss a deadline.
func patient() Limits { return Limits{Deadline: 5 * time.Second, StartDeadline: 20 * time.Second} }

// one is a host with one module for organisation acme01, called it.
func one(t testing.TB, guest, settings string, l Limits) (*Host, plugins.Verifier, *lines) {
	t.Helper()
	log := &lines{}
	dir := t.TempDir()
	lay(t, dir, "acme01/it", guest, settings)
	h := open(t, Options{Dir: dir, Limits: l, Log: log.logger()})
	return h, find(t, h, "it", ""), log
}

func find(t testing.TB, h *Host, name, of string) plugins.Verifier {
	t.Helper()
	ref := policy.VerifierRef{Verifier: "plugin", Name: name}
	if of != "" {
		ref.Org = organisation(t, of)
	}
	v, ok := h.Find(ref)
	if !ok {
		t.Fatalf("%s is not a reference to a plugin", name)
	}
	return v
}

func organisation(t testing.TB, name string) policy.OrgID {
	t.Helper()
	org, err := policy.ParseOrgID(name)
	if err != nil {
		t.Fatal(err)
	}
	return org
}

func token(s string) *plugins.Credential {
	return &plugins.Credential{
		Client:   policy.Client{ID: "d:acme01:sensor:d1", Username: "use-token-auth", Listener: "mqtts", Address: netip.MustParseAddr("192.0.2.7")},
		Password: plugins.NewSecret([]byte(s)), HasPassword: true,
	}
}

const okAnswer = `{"ok":true,"subject":{"kind":"device","type":"sensor","id":"d1"}}`

func mustVerify(t testing.TB, v plugins.Verifier, c *plugins.Credential) policy.Principal {
	t.Helper()
	p, err := v.Verify(t.Context(), c)
	if err != nil {
		t.Fatalf("refused: %v", err)
	}
	return p
}

// mustBeUnavailable returns what the refusal says.
func mustBeUnavailable(t testing.TB, v plugins.Verifier, c *plugins.Credential) string {
	t.Helper()
	p, err := v.Verify(t.Context(), c)
	if !errors.Is(err, plugins.ErrUnavailable) || p.Kind != policy.KindNobody {
		t.Fatalf("got %v, %v; want it to be unavailable", p.Kind, err)
	}
	return err.Error()
}
