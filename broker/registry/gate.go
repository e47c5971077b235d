package registry

import (
	"context"
	"sync"

	"github.com/cordon-mq/cordon/policy"
)

// gate bounds the slow hashes that run at once.
//
// An organisation first takes one of its own places, then one of the common
// ones. So however many checks it has waiting, it competes for the common
// places with a few of them only, and the others are served in turn.
type gate struct {
	common chan struct{}
	each   int // places of one organisation

	waiting struct {
		sync.Mutex
		lines map[policy.OrgID]*line
	}
}

// line is the places of one organisation, kept while somebody uses it.
type line struct {
	places chan struct{}
	users  int
}

func newGate(n int) *gate {
	g := &gate{common: make(chan struct{}, n), each: max(1, n/2)}
	g.waiting.lines = make(map[policy.OrgID]*line)
	return g
}

// enter waits for a place until ctx ends. leave gives it back.
func (g *gate) enter(ctx context.Context, org policy.OrgID) (leave func(), err error) {
	own := g.join(org)
	for i, places := range []chan struct{}{own.places, g.common} {
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
			if i > 0 {
				<-own.places
			}
			g.part(org, own)
			return nil, context.Cause(ctx)
		}
	}
	return func() {
		<-g.common
		<-own.places
		g.part(org, own)
	}, nil
}

func (g *gate) join(org policy.OrgID) *line {
	g.waiting.Lock()
	defer g.waiting.Unlock()
	own, ok := g.waiting.lines[org]
	if !ok {
		own = &line{places: make(chan struct{}, g.each)}
		g.waiting.lines[org] = own
	}
	own.users++
	return own
}

func (g *gate) part(org policy.OrgID, own *line) {
	g.waiting.Lock()
	defer g.waiting.Unlock()
	if own.users--; own.users == 0 {
		delete(g.waiting.lines, org)
	}
}
