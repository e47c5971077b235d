package wasm

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/tetratelabs/wazero/sys"

	"github.com/cordon-mq/cordon/policy"
)

var (
	errRetired     = errors.New("the plugin was replaced")
	errBusy        = errors.New("too many calls at once")
	errQuarantined = errors.New("in quarantine, for it missed its deadline too often")
	errDeadline    = errors.New("missed its deadline")
)

// pool are the instances of a plugin. An instance that saw an organisation's
// request serves that organisation only.
type pool struct {
	places  chan struct{} // one for each call that may run
	running sync.WaitGroup
	mu      struct {
		sync.Mutex
		idle    []*instance // the one used last is last
		retired bool
	}
}

// enter counts a call in, unless the plugin was retired.
func (p *pool) enter() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.retired {
		return false
	}
	p.running.Add(1)
	return true
}

// anyGeneration takes an instance whatever its configuration.
const anyGeneration = ^uint64(0)

// take finds an idle instance of org that was configured with generation.
func (p *pool) take(org policy.OrgID, generation uint64) *instance {
	p.mu.Lock()
	defer p.mu.Unlock()
	for n := len(p.mu.idle) - 1; n >= 0 && !org.IsZero(); n-- {
		if i := p.mu.idle[n]; i.org == org && (generation == anyGeneration || i.generation == generation) {
			p.mu.idle = append(p.mu.idle[:n], p.mu.idle[n+1:]...)
			return i
		}
	}
	return nil
}

// putBack keeps i for the next call of its organisation, or closes it, or
// whichever was idle longest.
func (p *plugin) putBack(i *instance) {
	i.usedAt = p.now()
	spent := i.org.IsZero() || i.calls >= p.limits.CallsPerInstance ||
		i.module.Memory().Size() > uint32(p.limits.RecycleBytes)
	p.mu.Lock()
	if !spent && !p.mu.retired {
		p.mu.idle = append(p.mu.idle, i)
		i = nil
		if len(p.mu.idle) > p.limits.Instances {
			i, p.mu.idle = p.mu.idle[0], append(p.mu.idle[:0], p.mu.idle[1:]...)
		}
	}
	p.mu.Unlock()
	if i != nil {
		i.close()
	}
}

// closeIdle closes what was not used since before and returns how many.
func (p *pool) closeIdle(before time.Time) int {
	p.mu.Lock()
	var old, kept []*instance
	for _, i := range p.mu.idle {
		if i.usedAt.Before(before) {
			old = append(old, i)
		} else {
			kept = append(kept, i)
		}
	}
	p.mu.idle = kept
	p.mu.Unlock()
	for _, i := range old {
		i.close()
	}
	return len(old)
}

// retire lets running calls end, refuses others and gives everything back.
func (p *plugin) retire() {
	p.mu.Lock()
	p.mu.retired = true
	idle := p.mu.idle
	p.mu.idle = nil
	p.mu.Unlock()
	for _, i := range idle {
		i.close()
	}
	p.stopKeys()
	p.running.Wait()
	p.machine.release()
}

// admit waits for a place for one call, first among those of the plugin, so that
// one plugin's queue is not another's.
func (p *plugin) admit(ctx context.Context) error {
	if p.quarantine.is(p.now()) {
		return errQuarantined
	}
	if err := p.wait(ctx); err != nil {
		return err
	}
	if !p.enter() {
		p.giveUp()
		return errRetired
	}
	return nil
}

func (p *plugin) wait(ctx context.Context) error {
	select {
	case p.places <- struct{}{}:
		select {
		case p.shared <- struct{}{}:
			return nil
		default:
			<-p.places
		}
	default:
	}
	ctx, cancel := context.WithTimeoutCause(ctx, p.limits.Wait, errBusy)
	defer cancel()
	select {
	case p.places <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case p.shared <- struct{}{}:
		return nil
	case <-ctx.Done():
		<-p.places
		return context.Cause(ctx)
	}
}

// leave is the end of a call that was admitted.
func (p *plugin) leave() {
	p.giveUp()
	p.running.Done()
}

func (p *plugin) giveUp() {
	<-p.shared
	<-p.places
}

// run has c answered by an instance, on the goroutine of whoever asks. A guest ends
// at its deadline by itself (rewrite.go), and whatever it waits for ends then too.
func (p *plugin) run(ctx context.Context, c *call) error {
	if err := p.admit(ctx); err != nil {
		return err
	}
	defer p.leave()
	c.turn = turn{places: p.long}
	c.outcome = p.answer(c)
	p.count(c.err)
	return c.err
}

// answer has an instance answer c.
func (p *plugin) answer(c *call) (o outcome) {
	defer recovered(&o.err)
	defer c.turn.end()
	i := p.take(c.org, p.keys.generation())
	if i == nil {
		var err error
		if i, err = p.start(c.org, c); err != nil {
			return outcome{err: err}
		}
	}
	ctx := c.until(time.Now().Add(p.limits.Deadline))
	said, err := i.ask(ctx, c.body, p.limits.OutputBytes)
	if said == "" {
		i.close()
		return outcome{err: explain(err, ctx.Err() != nil)}
	}
	o.said, o.malformed = decodeAnswer(said)
	if err == nil && o.malformed == nil {
		p.putBack(i)
	} else {
		i.close()
	}
	return o
}

// start makes an instance, or takes an idle one that does not have the
// configuration of now and gets it.
func (p *plugin) start(org policy.OrgID, c *call) (*instance, error) {
	ctx := c.until(time.Now().Add(p.limits.StartDeadline))
	i := p.take(org, anyGeneration)
	configuration, generation, err := p.configuration(org)
	if err == nil && i == nil {
		if i, err = start(ctx, p.machine, p.module, p.budget, p.limits); err == nil {
			i.org = org
		}
	}
	if err == nil {
		err = i.configured(ctx, configuration, generation)
	}
	if err != nil {
		late := ctx.Err() != nil
		if i != nil {
			i.close()
		}
		return nil, explain(err, late)
	}
	return i, nil
}

// recovered makes a panic an error. wazero does so with those of guests and host
// functions; this is for what neither is.
func recovered(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("panic: %v", r)
	}
}

// explain is err, in short where the guest ended itself or was ended.
func explain(err error, late bool) error {
	var exit *sys.ExitError
	switch {
	case late, errors.Is(err, errDeadline):
		return errDeadline
	case errors.As(err, &exit):
		return errors.New("the guest called proc_exit")
	default:
		return err
	}
}

// firstLine leaves out the trace of a trap.
func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line[:min(len(line), reasonBytes)]
}

// count keeps the account of missed deadlines. Traps are not on it: a client
// who can make a plugin trap could shut everybody else out.
func (p *plugin) count(err error) {
	if !errors.Is(err, errDeadline) {
		p.quarantine.good()
		return
	}
	if d := p.quarantine.missed(p.now(), p.limits); d > 0 {
		p.counts.quarantines.Add(1)
		p.log.Error("plugin quarantined, for it missed its deadline too often", "duration", d)
	}
}

// quarantine refuses a plugin that misses its deadline again and again, each
// time for longer.
type quarantine struct {
	mu struct {
		sync.Mutex
		inRow   int
		until   time.Time
		penalty time.Duration
	}
}

func (q *quarantine) is(now time.Time) bool { return now.Before(q.until()) }

func (q *quarantine) until() time.Time {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.mu.until
}

func (q *quarantine) good() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.mu.inRow, q.mu.penalty = 0, 0
}

// missed returns how long the quarantine is that it begins, zero for none. One
// more miss after its end begins the next.
func (q *quarantine) missed(now time.Time, l Limits) time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.mu.inRow++
	if q.mu.inRow < l.Strikes || now.Before(q.mu.until) {
		return 0
	}
	q.mu.penalty = min(max(2*q.mu.penalty, l.Quarantine), quarantineMost)
	q.mu.until = now.Add(q.mu.penalty)
	return q.mu.penalty
}
