package broker_test

import (
	"context"
	"testing"

	"github.com/cordon-mq/cordon/broker"
	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/opa"
)

// candidate is an engine of its own: what is previewed is not live.
func candidate(t *testing.T, r rules) *opa.Engine {
	t.Helper()
	e := opa.New(opa.Options{})
	t.Cleanup(e.Close)
	e.Activate(r.bundle(t))
	return e
}

func TestPreviewSaysWhatAnActivationDoes(t *testing.T) {
	t.Parallel()
	w := sweeping(newWorld(t, rules{}.bundle(t)))
	acme, other := w.org("acme01"), w.org("other1")
	d1 := w.connect(t, acme.device("d1"), wire.V5)
	d2 := w.connect(t, acme.device("d2"), wire.V5, withWill(wire.Will{Topic: "will", QoS: 1}))
	d2.listen(1, "a", "b", "c")
	app := w.connect(t, acme.app("x"), wire.V5)
	bystander := w.connect(t, other.device("d1"), wire.V5)
	bystander.listen(1, "a")

	next := rules{
		connect: `
decision := {"allow": false, "reason": "no"} if {
	input.principal.org == "acme01"
	input.principal.id == "d1"
}

else := {"allow": true, "mounts": [{"client": "", "org": ""}]}`,
		subscribe: `
decision := {"allow": false} if {
	input.principal.org == "acme01"
	input.filter == "a"
}

else := {"allow": true, "qos": 0} if input.filter == "b"

else := {"allow": true}`,
		publish: `decision := {"allow": input.topic != "will"}`,
	}
	steps, inOrder := 0, true
	found, err := w.broker.Preview(ctx, candidate(t, next), broker.PreviewOptions{
		Examples: 2, Progress: func(done, total int) { steps++; inOrder = inOrder && done <= total },
	})
	must(t, err)
	if len(found) != 2 || steps == 0 || !inOrder {
		t.Fatalf("found %v in %d steps", found, steps)
	}
	p := found[acme.id]
	if p.Sessions != 3 || p.Cut != 1 || p.Subscriptions != 3 || p.Removed != 1 || p.Lowered != 1 || p.Wills != 1 || p.Dropped != 1 {
		t.Errorf("acme01: %+v", p)
	}
	if len(p.Examples) != 2 {
		t.Errorf("%d examples, want 2 of 3", len(p.Examples))
	}
	for _, e := range p.Examples {
		if e.Org != acme.id || e.Decision == nil || e.Decision.Allow || e.Action == policy.ActionConnect && e.Decision.Reason != "no" {
			t.Errorf("example %+v", e)
		}
	}
	if q := found[other.id]; q.Sessions != 1 || q.Cut+q.Removed+q.Lowered+q.Dropped != 0 {
		t.Errorf("other1: %+v", q)
	}
	only, err := w.broker.Preview(ctx, candidate(t, next), broker.PreviewOptions{Org: other.id})
	must(t, err)
	if len(only) != 1 || only[other.id] == nil || len(w.log.find("msg", "refused")) != 0 {
		t.Errorf("found %v, log %v", only, w.log.find("msg", "refused"))
	}

	// Nothing happened, until it is activated.
	d1.ping()
	app.say("a", "1", 1)
	d2.hear("a", "1")
	w.activate(next)
	d1.ExpectClosed()
	eventually(t, func() bool { return len(w.log.find("msg", "refused")) == p.Cut+p.Removed+p.Dropped })

	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := w.broker.Preview(cancelled, candidate(t, next), broker.PreviewOptions{}); err == nil {
		t.Error("a cancelled preview has no error")
	}
}
