package registry

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/broker/store/badgerstore"
	"github.com/cordon-mq/cordon/broker/store/memstore"
	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(victimEnv); dir != "" {
		os.Exit(victim(dir))
	}
	goleak.VerifyTestMain(m)
}

// stores are the backends that every test of stored behaviour runs on.
var stores = []struct {
	name string
	open func(t *testing.T) store.Store
}{
	{"memory", func(*testing.T) store.Store { return memstore.New() }},
	{"badger", func(t *testing.T) store.Store {
		s, err := badgerstore.Open(t.TempDir(), badgerstore.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}},
}

// onEachStore runs fn with a fixture on each backend.
func onEachStore(t *testing.T, fn func(t *testing.T, f *fixture)) {
	t.Helper()
	for _, backend := range stores {
		t.Run(backend.name, func(t *testing.T) {
			t.Parallel()
			fn(t, newFixture(t, backend.open(t)))
		})
	}
}

// cheap is a slow hash that is not, for tests that make many.
func cheap() slowCost { return slowCost{memory: 8, passes: 1, threads: 1} }

// fixture is a registry with a clock that stands still, its log, and what its
// watcher was told.
type fixture struct {
	*Registry
	t     *testing.T
	store store.Store
	clock atomic.Int64 // Unix milliseconds
	log   lockedBuffer
	told  []Change
}

type lockedBuffer struct {
	sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.Lock()
	defer b.Unlock()
	return b.Buffer.Write(p)
}

func newFixture(t *testing.T, s store.Store) *fixture {
	t.Helper()
	f := &fixture{t: t, store: s}
	f.clock.Store(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).UnixMilli())
	f.reopen()
	t.Cleanup(func() {
		f.Close()
		if err := s.Close(); err != nil && !errors.Is(err, store.ErrClosed) {
			t.Errorf("close store: %v", err)
		}
	})
	return f
}

func (f *fixture) reopen() {
	f.t.Helper()
	if f.Registry != nil {
		f.Close()
	}
	r, err := open(f.store, Options{
		Now: func() time.Time { return time.UnixMilli(f.clock.Load()) },
		Log: slog.New(slog.NewTextHandler(&f.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}, cheap())
	if err != nil {
		f.t.Fatal(err)
	}
	f.Registry = r
	r.Watch(func(c Change) { f.told = append(f.told, c) })
}

func (f *fixture) advance(d time.Duration) { f.clock.Add(d.Milliseconds()) }

// changes returns what the watcher was told since the last call.
func (f *fixture) changes() []Change {
	told := f.told
	f.told = nil
	return told
}

// must fails the test on an error.
func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func (f *fixture) ok(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// refused checks the kind and the field of an error.
func refused(t *testing.T, err error, want policy.Kind) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %v", want)
	}
	var known *policy.Error
	if !errors.As(err, &known) || known.Kind != want {
		t.Fatalf("error %q (%v), want %v", err, policy.KindOf(err), want)
	}
	if known.Op == "" || known.Public == "" && known.Err == nil {
		t.Errorf("error %#v does not say what was being done, or what is wrong", known)
	}
}

func orgID(s string) policy.OrgID {
	id, err := policy.ParseOrgID(s)
	if err != nil {
		panic(err)
	}
	return id
}

var (
	acme  = orgID("acme01")
	other = orgID("other9")
)

func (f *fixture) organisation(id policy.OrgID) Organisation {
	f.t.Helper()
	return must[Organisation](f.t)(f.CreateOrganisation(f.t.Context(), id, "Test"))
}

func (f *fixture) deviceType(org policy.OrgID, id policy.ID, class string) DeviceType {
	f.t.Helper()
	return must[DeviceType](f.t)(f.CreateType(f.t.Context(), org, DeviceType{ID: id, ClassID: class}))
}

// device creates a device and returns its token; own is self-chosen if not "".
func (f *fixture) device(org policy.OrgID, typ, id policy.ID, own string) string {
	f.t.Helper()
	_, token, err := f.CreateDevice(f.t.Context(), org, Device{Type: typ, ID: id}, plugins.NewSecret([]byte(own)))
	f.ok(err)
	return token
}

func (f *fixture) apiKey(org policy.OrgID, k APIKey) (string, string) {
	f.t.Helper()
	made, token, err := f.CreateAPIKey(f.t.Context(), org, k)
	f.ok(err)
	return made.Key, token
}

// connect verifies an MQTT credential.
func (f *fixture) connect(ctx context.Context, id, username, password string) (policy.Principal, error) {
	return f.TokenVerifier().Verify(ctx, &plugins.Credential{
		Client:   policy.Client{ID: policy.ClientID(id), Username: username, Listener: "mqtts"},
		Password: plugins.NewSecret([]byte(password)), HasPassword: true,
	})
}

func (f *fixture) basic(username, password string) (policy.Principal, error) {
	return f.VerifyBasic(f.t.Context(), username, plugins.NewSecret([]byte(password)))
}

// wantCause checks why a credential was refused.
func wantCause(t *testing.T, err error, want policy.Cause) {
	t.Helper()
	if err == nil || plugins.CauseOf(err) != want {
		t.Errorf("refused with %v (%v), want %s", err, plugins.CauseOf(err), want)
	}
}
