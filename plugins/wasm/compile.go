package wasm

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
)

var errCompile = errors.New("takes too long to compile")

// machine is a module as machine code, in a runtime of its own: modules of one
// runtime could name one another. Versions of a plugin whose module is the same share
// it.
type machine struct {
	runtime  wazero.Runtime
	compiled wazero.CompiledModule
	users    atomic.Int32
}

// release closes the code, when the last version that uses it has no instance left.
func (m *machine) release() {
	if m.users.Add(-1) > 0 {
		return
	}
	ctx := context.Background()
	if m.compiled != nil {
		_ = m.compiled.Close(ctx)
	}
	if m.runtime != nil {
		_ = m.runtime.Close(ctx)
	}
}

// compile makes machine code of p's module, or takes that of before, whose module is
// the same. Modules are compiled one at a time: whoever calls it holds the lock of
// scanning, or has a Host to itself.
func (h *Host) compile(ctx context.Context, p, before *plugin) error {
	defer func() { p.source.binary = nil }() // it is long
	if before != nil && before.source.module == p.source.module && before.limits.checkPages() == p.limits.checkPages() {
		p.module, p.machine = before.module, before.machine
		p.machine.users.Add(1)
		return nil
	}
	binary, err := p.module.rewrite(p.limits)
	if err != nil {
		return err
	}
	p.module.sections, p.module.bodies = nil, nil // they hold on to the file
	ctx, cancel := context.WithTimeout(ctx, p.limits.CompileDeadline)
	defer cancel()
	// Two workers look at the context before each function, where one would not.
	p.machine, err = h.translate(experimental.WithCompilationWorkers(ctx, 2), p, binary)
	if err != nil && ctx.Err() != nil {
		return errCompile
	}
	return err
}

// translate compiles through the cache, and without it where what the cache has
// is damaged.
func (h *Host) translate(ctx context.Context, p *plugin, binary []byte) (*machine, error) {
	m, err := translate(ctx, p.limits, h.cache, binary)
	if err != nil && strings.Contains(err.Error(), "compilationcache: ") {
		p.log.Warn("machine code in the cache is damaged", "error", err)
		m, err = translate(ctx, p.limits, nil, binary)
	}
	return m, err
}

func translate(ctx context.Context, l Limits, cache wazero.CompilationCache, binary []byte) (_ *machine, err error) {
	config := wazero.NewRuntimeConfig().
		WithCoreFeatures(api.CoreFeaturesV2).
		WithMemoryLimitPages(l.checkPages()).
		WithDebugInfoEnabled(false)
	if cache != nil {
		config = config.WithCompilationCache(cache)
	}
	m := &machine{runtime: wazero.NewRuntimeWithConfig(ctx, config)}
	m.users.Store(1)
	defer func() {
		// A fault of the compiler is the module's misfortune, not the broker's.
		if r := recover(); r != nil {
			err = fmt.Errorf("compile: %v", r)
		}
		if err != nil {
			m.release()
		}
	}()
	if err := offer(ctx, m.runtime, imports()); err != nil {
		return nil, err
	}
	if m.compiled, err = m.runtime.CompileModule(ctx, binary); err != nil {
		return nil, fmt.Errorf("compile: %w", err)
	}
	return m, nil
}
