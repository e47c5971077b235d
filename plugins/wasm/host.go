package wasm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tetratelabs/wazero"

	"github.com/cordon-mq/cordon/policy"
)

// Options say where plugins are and what they may use.
type Options struct {
	// Dir is the plugins folder. It need not exist yet; Open makes it.
	Dir string
	// CacheDir keeps machine code, which is trusted like the program itself: nobody
	// else may write there. Empty keeps it in memory.
	CacheDir string
	// KeySetDir keeps key sets for the next start, and is trusted like the issuers
	// themselves: nobody else may write there. Empty keeps none.
	KeySetDir string
	// Orgs lists the organisations there are, for plugins that lie in no folder of
	// one. Nil: there are none.
	Orgs   func(context.Context) ([]policy.OrgID, error)
	Log    *slog.Logger // nil: none
	Limits Limits
	// Lost is told when no plugin of a name has served an organisation for some
	// seconds that was served before: nobody can vouch for its principals any more.
	// [Host.Run] calls it, one call at a time. Nil: nobody is told.
	Lost func(Service)
	// HTTPClient fetches key sets, over HTTPS only. Nil: one with deadlines.
	HTTPClient *http.Client
}

// Host runs the plugins of a folder. It is safe for concurrent use.
type Host struct {
	dir      string
	orgs     func(context.Context) ([]policy.OrgID, error)
	log      *slog.Logger
	limits   Limits
	client   *http.Client
	now      func() time.Time
	onLost   func(Service)
	cache    wazero.CompilationCache
	budget   *budget
	calls    chan struct{}
	long     chan struct{}
	remember rememberKey
	kept     keptSets
	spare    calls
	counted  sync.Map // of *counts by place
	missing  folder   // of log lines about plugins that are not there

	table    atomic.Pointer[table] // replaced whole
	retiring sync.WaitGroup
	scanning struct {
		sync.Mutex
		seen   map[place]*observed
		gone   map[Service]time.Time // since when
		odd    map[string]string
		closed bool
	}
}

// Open reads the plugins folder once and compiles what is there. A plugin that is
// refused is logged and refuses its credentials; it is no error of Open.
func Open(ctx context.Context, o Options) (*Host, error) {
	h, err := newHost(o)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, errors.Join(fmt.Errorf("open plugins folder: %w", err), h.Close())
	}
	if err := h.scan(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open plugins folder: %w", err), h.Close())
	}
	return h, nil
}

// newHost is a Host without plugins.
func newHost(o Options) (*Host, error) {
	h := &Host{
		dir: o.Dir, orgs: o.Orgs, log: o.Log, limits: o.Limits.withDefaults(),
		client: secureClient(o.HTTPClient), now: time.Now, onLost: o.Lost, remember: newRememberKey(),
	}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	if h.orgs == nil {
		h.orgs = func(context.Context) ([]policy.OrgID, error) { return nil, nil }
	}
	h.missing.now = h.now
	h.budget = &budget{most: int64(h.limits.TotalMemoryBytes), reclaim: h.reclaim}
	h.calls = make(chan struct{}, h.limits.TotalCalls)
	h.long = make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))
	h.table.Store(&table{})
	h.scanning.seen, h.scanning.gone = map[place]*observed{}, map[Service]time.Time{}
	var err error
	if h.kept, err = openKept(o.KeySetDir, h.now()); err != nil {
		return nil, err
	}
	if h.cache, err = openCache(o.CacheDir); err != nil {
		return nil, err
	}
	return h, nil
}

// openCache makes the folder for its owner alone, and refuses one that somebody
// else could have written machine code into.
func openCache(dir string) (wazero.CompilationCache, error) {
	if dir == "" {
		return wazero.NewCompilationCache(), nil
	}
	if err := ownFolder(dir); err != nil {
		return nil, fmt.Errorf("open compilation cache: %w", err)
	}
	cache, err := wazero.NewCompilationCacheWithDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open compilation cache: %w", err)
	}
	return cache, nil
}

// ownFolder makes a folder for its owner alone, and refuses one that others may
// write to.
func ownFolder(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("others may write to %s: chmod 700", dir)
	}
	return nil
}

// Close ends every plugin after its running calls. Run must have returned.
func (h *Host) Close() error {
	h.scanning.Lock()
	h.scanning.closed = true
	old := h.table.Swap(&table{})
	h.scanning.Unlock()
	for _, p := range old.plugins {
		h.retire(p)
	}
	h.retiring.Wait()
	if h.cache == nil {
		return nil
	}
	return h.cache.Close(context.Background())
}

// retire drains p without waiting for it.
func (h *Host) retire(p *plugin) { h.retiring.Go(p.retire) }

// reclaim closes idle instances of all plugins, for somebody needs their memory.
func (h *Host) reclaim() {
	for _, p := range h.table.Load().plugins {
		p.closeIdle(h.now().Add(1))
	}
}
