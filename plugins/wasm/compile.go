package wasm

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

var errCompile = errors.New("takes too long to compile")

// machine is a module as machine code, in a runtime of its own: modules of one
// runtime could name one another.
type machine struct {
	runtime  wazero.Runtime
	compiled wazero.CompiledModule
}

// release closes the code, when no instance is left.
func (m *machine) release() {
	ctx := context.Background()
	if m.compiled != nil {
		_ = m.compiled.Close(ctx)
	}
	if m.runtime != nil {
		_ = m.runtime.Close(ctx)
	}
}

// compile makes machine code of p's module. A compilation cannot be stopped: one
// that takes too long goes on by itself, and what it makes is thrown away. The
// bounds of module.go see to it that it ends.
func (h *Host) compile(ctx context.Context, p *plugin) error {
	binary, err := p.module.rewrite(p.limits)
	if err != nil {
		return err
	}
	p.module.sections, p.source.binary = nil, nil // they hold on to the file
	type outcome struct {
		machine
		err error
	}
	done, gone := make(chan outcome), make(chan struct{})
	go func() {
		m, err := h.translate(ctx, p, binary)
		select {
		case done <- outcome{m, err}:
		case <-gone:
			m.release()
			h.abandoned.Add(-1)
		}
	}()
	limit := time.NewTimer(p.limits.CompileDeadline)
	defer limit.Stop()
	select {
	case o := <-done:
		p.machine = o.machine
		return o.err
	case <-limit.C:
		h.abandoned.Add(1)
		close(gone)
		return errCompile
	}
}

// translate compiles through the cache, and without it where what the cache has
// is damaged.
func (h *Host) translate(ctx context.Context, p *plugin, binary []byte) (machine, error) {
	m, err := translate(ctx, p.limits, h.cache, binary)
	if err != nil && strings.Contains(err.Error(), "compilationcache: ") {
		p.log.Warn("machine code in the cache is damaged", "error", err)
		m, err = translate(ctx, p.limits, nil, binary)
	}
	return m, err
}

func translate(ctx context.Context, l Limits, cache wazero.CompilationCache, binary []byte) (m machine, err error) {
	config := wazero.NewRuntimeConfig().
		WithCoreFeatures(api.CoreFeaturesV2).
		WithMemoryLimitPages(l.checkPages()).
		WithDebugInfoEnabled(false)
	if cache != nil {
		config = config.WithCompilationCache(cache)
	}
	m.runtime = wazero.NewRuntimeWithConfig(ctx, config)
	defer func() {
		// A fault of the compiler is the module's misfortune, not the broker's.
		if r := recover(); r != nil {
			err = fmt.Errorf("compile: %v", r)
		}
		if err != nil {
			m.release()
			m = machine{}
		}
	}()
	if err := offer(ctx, m.runtime, imports()); err != nil {
		return m, err
	}
	if m.compiled, err = m.runtime.CompileModule(ctx, binary); err != nil {
		return m, fmt.Errorf("compile: %w", err)
	}
	return m, nil
}
