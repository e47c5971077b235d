package main

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"sync"
	"time"

	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/opa"
	"github.com/cordon-mq/cordon/policy/revision"
	"github.com/cordon-mq/cordon/rego"
)

const (
	// keptBundles bounds the bundles that are kept compiled for looking back, and
	// keptTime is how long after their last use.
	keptBundles = 4
	keptTime    = 10 * time.Minute
	// bundleTime bounds the compilation of one, its tests included.
	bundleTime = time.Minute
)

// bundles are stored revisions, compiled for looking back, and candidates, which are
// looked at more than once before they go live.
type bundles struct {
	node *node

	guarded struct {
		sync.Mutex
		list []*keptBundle // the last one used is the last one
	}
}

// keptBundle is one that is or will be compiled.
type keptBundle struct {
	id     string
	used   time.Time     // guarded by the list's mutex
	ready  chan struct{} // closed when there is a bundle or an error
	bundle *opa.Bundle
	err    error
}

// open forgets, now and then, what nobody asked for lately.
func (b *bundles) open() {
	b.node.every(keptTime/2, func() {
		b.guarded.Lock()
		defer b.guarded.Unlock()
		b.guarded.list = slices.DeleteFunc(b.guarded.list, func(k *keptBundle) bool { return time.Since(k.used) > keptTime })
	})
}

// find is the bundle of a revision: the live one, that of the canary, or a stored one,
// which is compiled once for all who wait for it.
func (b *bundles) find(ctx context.Context, id string) (*opa.Bundle, error) {
	for _, live := range []*opa.Bundle{b.node.engine.Bundle(), b.node.engine.CanaryBundle()} {
		if live != nil && (id == "" || live.Revision() == id) {
			return live, nil
		}
	}
	return b.once(ctx, id, func(ctx context.Context) (*opa.Bundle, error) { return b.load(ctx, id) })
}

// candidate is the bundle of files that somebody sent. Whoever sends them again, to
// have them judged otherwise, gets what was compiled and tested the first time.
func (b *bundles) candidate(ctx context.Context, files []revision.File) (*opa.Bundle, error) {
	stored, err := revision.FS(files)
	if err != nil {
		return nil, &policy.Error{Kind: policy.KindInvalid, Field: "files", Public: err.Error()}
	}
	return b.once(ctx, string(revision.Sum(files)), func(ctx context.Context) (*opa.Bundle, error) { return loadFS(ctx, stored) })
}

// once compiles what is not kept, once for all who wait for it. It does not end with
// the one who asked first.
func (b *bundles) once(ctx context.Context, id string, load func(context.Context) (*opa.Bundle, error)) (*opa.Bundle, error) {
	k, first := b.keep(id)
	if first {
		loading, cancel := context.WithTimeout(context.WithoutCancel(ctx), bundleTime)
		k.bundle, k.err = load(loading)
		cancel()
		if k.err != nil {
			b.drop(k)
		}
		close(k.ready)
	}
	select {
	case <-k.ready:
		return k.bundle, k.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// keep is the place of a bundle. Whoever is first has to fill it.
func (b *bundles) keep(id string) (k *keptBundle, first bool) {
	g := &b.guarded
	g.Lock()
	defer g.Unlock()
	if i := slices.IndexFunc(g.list, func(k *keptBundle) bool { return k.id == id }); i >= 0 {
		k = g.list[i]
		g.list = slices.Delete(g.list, i, i+1)
	} else {
		k, first = &keptBundle{id: id, ready: make(chan struct{})}, true
	}
	k.used = time.Now()
	if len(g.list) == keptBundles {
		g.list = slices.Delete(g.list, 0, 1)
	}
	g.list = append(g.list, k)
	return k, first
}

func (b *bundles) drop(k *keptBundle) {
	b.guarded.Lock()
	defer b.guarded.Unlock()
	b.guarded.list = slices.DeleteFunc(b.guarded.list, func(other *keptBundle) bool { return other == k })
}

// load compiles a stored revision.
func (b *bundles) load(ctx context.Context, id string) (*opa.Bundle, error) {
	parsed, err := revision.ParseID(id)
	if err != nil {
		return nil, err
	}
	files, err := b.node.revisions.Files(parsed)
	if err != nil {
		return nil, err
	}
	stored, err := revision.FS(files)
	if err != nil {
		return nil, err
	}
	return loadFS(ctx, stored)
}

// loadFS passes files through the gate. Its error is a *revision.Refusal for what
// does not pass.
func loadFS(ctx context.Context, stored fs.FS) (*opa.Bundle, error) {
	bundle, report := opa.Load(ctx, stored, rego.Schemas())
	if bundle == nil {
		return nil, errors.Join(report.Err(), ctx.Err())
	}
	return bundle, nil
}
