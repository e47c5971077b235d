package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cordon-mq/cordon/bench/trial/client"
)

// soakLoad is everybody in a soak.
type soakLoad struct {
	soakConfig
	program *program
	groups  []*pairs

	end  context.CancelFunc
	work sync.WaitGroup

	guarded struct {
		sync.Mutex
		err error // the first of the clients that come and go
	}
}

const (
	soakChurn = 300 // messages after which a client of a soak connects anew, about
	wanderers = 8   // clients that subscribe, look on, and leave
	stay      = 2 * time.Second
)

// newSoakLoad plans the groups, which share the rate.
func newSoakLoad(p *program, c soakConfig) *soakLoad {
	kinds := []pairsConfig{
		{name: "q0", qos: 0},
		{name: "c1", qos: 1},
		{name: "k1", qos: 1, kept: true},
		{name: "k2", qos: 2, kept: true},
	}
	if c.open {
		kinds = append(kinds, pairsConfig{name: "retained", qos: 1, retain: true})
	}
	l := &soakLoad{soakConfig: c, program: p}
	for _, kind := range kinds {
		kind.pairs, kind.window, kind.payload, kind.churn = c.pairs, 20, 200, soakChurn
		kind.every = time.Second * time.Duration(len(kinds)*c.pairs) / time.Duration(c.rate)
		l.groups = append(l.groups, newPairs(p, kind))
	}
	return l
}

// start begins all of it. The caller calls stop, also after an error.
func (l *soakLoad) start(ctx context.Context) error {
	ctx, l.end = context.WithCancel(ctx)
	for _, g := range l.groups {
		if err := g.start(ctx); err != nil {
			return err
		}
	}
	for i := range wanderers {
		l.work.Go(func() {
			if err := l.wander(ctx, i); err != nil && ctx.Err() == nil {
				l.guarded.Lock()
				defer l.guarded.Unlock()
				if l.guarded.err == nil {
					l.guarded.err = fmt.Errorf("a client that comes and goes: %w", err)
				}
			}
		})
	}
	return nil
}

// wander subscribes to everything of one group, looks on for a while, and
// leaves, again and again, as another client each time.
func (l *soakLoad) wander(ctx context.Context, i int) error {
	for visit := 0; ctx.Err() == nil; visit++ {
		if err := l.visit(ctx, i, visit); err != nil {
			return err
		}
	}
	return nil
}

func (l *soakLoad) visit(ctx context.Context, i, visit int) error {
	who := l.program.application(fmt.Sprintf("w%d-%d", i, visit), versionOf(i), true)
	conn, err := client.Dial(ctx, who)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	unbind := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer unbind()
	ignore := func(*client.Packet) error { return nil }
	group := l.groups[visit%len(l.groups)]
	filter := fmt.Sprintf("iot-2/type/pair%s/id/+/evt/+/fmt/+", group.name)
	others := fmt.Sprintf("iot-2/type/w%d/id/+/cmd/+/fmt/+", i)
	if err := conn.Subscribe(0, ignore, filter, others); err != nil {
		return err
	}
	for left := time.Now().Add(stay); time.Now().Before(left); {
		if _, err := conn.Next(); err != nil {
			return err
		}
	}
	if err := conn.Unsubscribe(ignore, filter); err != nil {
		return err
	}
	return conn.Disconnect()
}

// delivered is how many messages the pairs have got.
func (l *soakLoad) delivered() (n int) {
	for _, g := range l.groups {
		n += g.delivered()
	}
	return n
}

// failure is the first error of a client.
func (l *soakLoad) failure() error {
	var errs []error
	for _, g := range l.groups {
		errs = append(errs, g.failure())
	}
	l.guarded.Lock()
	defer l.guarded.Unlock()
	return errors.Join(append(errs, l.guarded.err)...)
}

// stop ends everybody and waits.
func (l *soakLoad) stop() error {
	if l.end != nil {
		l.end()
	}
	for _, g := range l.groups {
		_ = g.stop() // failure tells
	}
	l.work.Wait()
	return l.failure()
}
