package revocation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cordon-mq/cordon/policy"
)

// question is something that is asked of an address for an organisation.
type question struct {
	org         policy.OrgID
	incarnation uint64
	address     string
	about       string // the issuer, and for OCSP the serial number
}

// call is a question under way.
type call struct {
	done chan struct{}
	err  error // once done is closed
}

var errBusy = errors.New("too many questions about certificates are under way")

// once asks q unless somebody does already, and waits for the outcome as long as ctx
// lasts. What is under way goes on without whoever waits.
func (k *Keeper) once(ctx context.Context, q question, ask func(context.Context) error) error {
	c, err := k.begin(q, ask)
	if err != nil {
		return err
	}
	select {
	case <-c.done:
		return c.err
	case <-ctx.Done():
		return fmt.Errorf("%s did not answer in time", q.address)
	}
}

func (k *Keeper) begin(q question, ask func(context.Context) error) (*call, error) {
	k.asking.Lock()
	defer k.asking.Unlock()
	if c := k.asking.calls[q]; c != nil {
		return c, nil
	}
	now := k.cfg.Now()
	switch until, failed := k.asking.failed[q]; {
	case k.asking.closed:
		return nil, context.Canceled
	case failed && now.Before(until):
		return nil, fmt.Errorf("%s did not answer a moment ago", q.address)
	case len(k.asking.calls) >= maxAsking || k.asking.orgs[q.org] >= maxAskingOrg:
		return nil, errBusy
	}
	delete(k.asking.failed, q)
	c := &call{done: make(chan struct{})}
	k.asking.calls[q] = c
	k.asking.orgs[q.org]++
	k.work.Go(func() {
		ctx, cancel := context.WithTimeout(k.ctx, fetchTime)
		defer cancel()
		c.err = ask(ctx)
		k.end(q, c)
	})
	return c, nil
}

func (k *Keeper) end(q question, c *call) {
	if c.err != nil && k.ctx.Err() == nil {
		k.cfg.Log.LogAttrs(k.ctx, slog.LevelWarn, "revocation not known",
			slog.String("org", q.org.String()), slog.String("address", q.address), slog.String("err", c.err.Error()))
	}
	k.asking.Lock()
	defer k.asking.Unlock()
	delete(k.asking.calls, q)
	if k.asking.orgs[q.org]--; k.asking.orgs[q.org] == 0 {
		delete(k.asking.orgs, q.org)
	}
	if c.err != nil {
		k.forgetFailuresLocked()
		k.asking.failed[q] = k.cfg.Now().Add(failurePause)
	}
	close(c.done)
}

// forgetFailuresLocked keeps their number bounded.
func (k *Keeper) forgetFailuresLocked() {
	if len(k.asking.failed) < maxFailures {
		return
	}
	now := k.cfg.Now()
	for q, until := range k.asking.failed {
		if !now.Before(until) || len(k.asking.failed) >= maxFailures-maxFailures/8 {
			delete(k.asking.failed, q)
		}
	}
}

// jitter spreads what is due at one moment: 0.8 to 1 of d, always the same for a key.
func jitter(d time.Duration, key string) time.Duration {
	var sum uint32 = 2166136261
	for i := range len(key) {
		sum = (sum ^ uint32(key[i])) * 16777619
	}
	return d - d/5/256*time.Duration(sum%256)
}
