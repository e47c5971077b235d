package opa

import (
	"context"
	"hash/fnv"
	"math"
	"slices"

	"github.com/cordon-mq/cordon/policy"
)

// Chosen says whom a canary's policy judges: whoever any of the fields chooses. The
// zero value chooses nobody.
type Chosen struct {
	// Percent is a share of all principals, 0 to 100. It is always the same ones, and
	// a larger share holds the smaller.
	Percent float64
	Orgs    []policy.OrgID // everybody in them
	Types   []policy.ID    // devices and gateways of these types
	Groups  []string       // members
}

// Includes reports whether c chooses the principal.
func (c *Chosen) Includes(p *policy.Principal) bool {
	if p == nil {
		return false
	}
	if slices.Contains(c.Orgs, p.Org) || p.Type != "" && slices.Contains(c.Types, p.Type) {
		return true
	}
	for _, group := range slices.Concat(p.MemberOf, p.Groups) {
		if slices.Contains(c.Groups, group) {
			return true
		}
	}
	return c.Percent > 0 && placeOf(p) < c.Percent
}

// placeOf is where a principal stands among all of them, from 0 to below 100. It
// depends on nothing but who it is.
func placeOf(p *policy.Principal) float64 {
	h := fnv.New64a()
	s := p.Subject()
	for _, part := range []string{p.Org.String(), p.Kind.String(), s.Owner, s.Name} {
		_, _ = h.Write([]byte(part))
		_, _ = h.Write([]byte{0})
	}
	// The low bits of FNV are mixed best.
	return float64(mix(h.Sum64())>>11) / (1 << 53) * 100
}

// mix spreads each bit over all of them, as MurmurHash3 ends.
func mix(n uint64) uint64 {
	n ^= n >> 33
	n *= 0xff51afd7ed558ccd
	n ^= n >> 33
	n *= 0xc4ceb9fe1a85ec53
	return n ^ n>>33
}

// canary is a second live bundle, of those that are chosen.
type canary struct {
	chosen *Chosen
	*snapshot
}

// chosenBy reports whether the judge's holder is judged by c. It is asked with every
// packet while there is a canary.
func (j *judge) chosenBy(c *canary) bool {
	if known := j.choice.Load(); known != nil && known.of == c.chosen {
		return known.yes
	}
	yes := j.facts != nil && c.chosen.Includes(j.facts.Principal)
	j.choice.Store(&choice{c.chosen, yes})
	return yes
}

// choice remembers what a canary chose.
type choice struct {
	of  *Chosen
	yes bool
}

// StartCanary makes b live for whom it chooses, beside the live bundle, which stays
// that of everybody else. An earlier canary ends. It counts as an activation: the
// watchers are told, and nobody who is chosen is answered from the live bundle once
// it returned. The next Activate ends it.
func (e *Engine) StartCanary(b *Bundle, c Chosen) (policy.Generation, error) {
	if math.IsNaN(c.Percent) || c.Percent < 0 || c.Percent > 100 {
		return 0, &policy.Error{Kind: policy.KindInvalid, Field: "percent", Public: "must be 0 to 100"}
	}
	e.activating.Lock()
	defer e.activating.Unlock()
	live := e.live.Load()
	next := e.succeed(live.Bundle, live)
	next.canary = &canary{&c, e.succeed(b, live)}
	e.goLive(next)
	e.log.Info("policy canary started", "revision", b.revision, "live", live.revision, "generation", uint64(next.generation))
	return next.generation, nil
}

// EndCanary has everybody judged by the live bundle again. Without a canary it does
// nothing.
func (e *Engine) EndCanary() {
	e.activating.Lock()
	defer e.activating.Unlock()
	live := e.live.Load()
	if live.canary == nil {
		return
	}
	e.goLive(e.succeed(live.Bundle, live))
	e.log.Info("policy canary ended", "revision", live.canary.revision, "live", live.revision)
}

// Canary is the revision of the canary; empty when there is none.
func (e *Engine) Canary() string {
	if c := e.live.Load().canary; c != nil {
		return c.revision
	}
	return ""
}

// Narrowing is the bundle of an organisation, compiled, or nil where there is none
// or it cannot be compiled.
func (e *Engine) Narrowing(ctx context.Context, org policy.OrgID) *Narrowing {
	t := e.tenant(org, true)
	e.learn(t)
	if above := t.above.Load(); above == nil {
		return nil
	} else if above.unready() && e.awaken(ctx, t) != nil {
		return nil
	}
	t.guarded.Lock()
	defer t.guarded.Unlock()
	return t.guarded.own
}

// CanaryBundle is the bundle of the canary; nil when there is none.
func (e *Engine) CanaryBundle() *Bundle {
	if c := e.live.Load().canary; c != nil {
		return c.Bundle
	}
	return nil
}

// Beside makes an engine that answers as this one would if b were live, with the
// bundles of organisations on top: those that are live now, and later ones as they
// come. It counts apart and logs nothing. share is how much of one processor the
// rules of one organisation may use over time, apart from what they use here; 0: as
// much as they need. A nil b is the live bundle. Close it.
func (e *Engine) Beside(b *Bundle, share float64) *Engine {
	if b == nil {
		b = e.live.Load().Bundle
	}
	if share <= 0 {
		share = 1000
	}
	c := New(Options{
		Now: e.now, Timeout: e.timeout, InputMax: e.inputMax, OutputMax: e.outputMax, MemoryEntries: e.memoryEntries,
		NarrowingTimeout: e.narrowing.timeout, NarrowingShare: share,
	})
	c.narrowing.outer, c.narrowing.followed.numbers = e, map[*tenant]policy.Generation{}
	c.Activate(b)
	return c
}

// follow takes over the bundle that the organisation has in the outer engine, if it is
// another one than at the last look. What Narrow was given stays. t is locked.
func (e *Engine) follow(t *tenant) {
	outer := e.narrowing.outer
	theirs := outer.tenant(t.org, true)
	outer.learn(theirs)
	theirs.guarded.Lock()
	number, has := theirs.guarded.number, theirs.guarded.own != nil
	theirs.guarded.Unlock()
	e.narrowing.followed.Lock()
	before, followed := e.narrowing.followed.numbers[t]
	e.narrowing.followed.Unlock()
	if t.guarded.known && (!followed || before == number) {
		return
	}
	t.guarded.known = true
	var own *Narrowing
	if has {
		if own = outer.Narrowing(context.Background(), t.org); own == nil {
			own = &Narrowing{} // it does not compile, and refuses here as it does there
		}
	}
	if own != nil || t.guarded.own != nil {
		e.setLocked(t, own)
	}
	e.narrowing.followed.Lock()
	e.narrowing.followed.numbers[t] = number
	e.narrowing.followed.Unlock()
}
