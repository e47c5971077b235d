package opa

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/cordon-mq/cordon/policy"
)

func TestNoBundleDenies(t *testing.T) {
	t.Parallel()
	e := New(Options{})
	for action := policy.ActionNone; action <= policy.ActionAdminister; action++ {
		d := e.Judge(deviceFacts(t)).Decide(context.Background(), &policy.Request{Action: action})
		if d.Allow || d.Cause != policy.CauseUndefined || e.Judge(nil).Decides(action) {
			t.Errorf("%v: %+v", action, d)
		}
	}
	if refs, err := e.Verifiers(context.Background(), &policy.Client{}, nil); err == nil || policy.KindOf(err) != policy.KindForbidden {
		t.Errorf("verifiers are %v, error %v", refs, err)
	}
	if e.Revision() != "" || e.Generation() != 0 {
		t.Errorf("revision %q, generation %d", e.Revision(), e.Generation())
	}
}

func TestUnknownActionDenies(t *testing.T) {
	t.Parallel()
	e := engineOf(t, builtinBundle(), Options{})
	for _, action := range []policy.Action{policy.ActionNone, policy.ActionAdminister + 1, 255} {
		if d := e.Judge(deviceFacts(t)).Decide(context.Background(), &policy.Request{Action: action}); d.Allow || d.Cause != policy.CauseUndefined {
			t.Errorf("action %d: %+v", action, d)
		}
	}
}

func TestBuiltinBundle(t *testing.T) {
	t.Parallel()
	e := engineOf(t, builtinBundle(), Options{})
	refs, err := e.Verifiers(context.Background(), &policy.Client{Username: "use-token-auth"}, nil)
	if err != nil || len(refs) != 1 || refs[0].Verifier != "token" {
		t.Fatalf("verifiers are %v (%v)", refs, err)
	}
	judge := e.Judge(deviceFacts(t))
	d := judge.Decide(context.Background(), &policy.Request{Action: policy.ActionConnect})
	if !d.Allow || len(d.Mounts.List()) != 4 || d.Limits != policy.DefaultLimits() {
		t.Errorf("connect: %+v", d)
	}
	if d := judge.Decide(context.Background(), publishTo(t, "iot-2/evt/a/fmt/json")); !d.Allow || d.Retain != policy.RetainStrip {
		t.Errorf("publish: %+v", d)
	}
	if d := judge.Decide(context.Background(), publishTo(t, "iot-2/cmd/a/fmt/json")); d.Allow || d.Reason != "a device publishes iot-2/evt/{event}/fmt/{format}" {
		t.Errorf("publish: %+v", d)
	}
	if d := judge.Decide(context.Background(), subscribeTo(t, "iot-2/cmd/+/fmt/+")); !d.Allow || d.MaxQoS != 2 {
		t.Errorf("subscribe: %+v", d)
	}
	if e.Judge(nil).Decides(policy.ActionReceive) || !e.Judge(nil).Decides(policy.ActionPublish) {
		t.Error("the built-in bundle decides publish, and receive for those who are restricted")
	}
}

func TestTimeout(t *testing.T) {
	t.Parallel()
	modules := module(map[string]string{"publish": `
decision := {"allow": true} if {
	some a in numbers.range(1, 3000)
	some b in numbers.range(1, 3000)
	a * b == input.size
}
`})
	r := publishTo(t, "iot-2/evt/a/fmt/json")
	r.Size = -1
	for name, c := range map[string]struct {
		timeout time.Duration
		ctx     func() (context.Context, context.CancelFunc)
	}{
		"own timeout": {5 * time.Millisecond, func() (context.Context, context.CancelFunc) { return context.Background(), func() {} }},
		"context deadline": {time.Hour, func() (context.Context, context.CancelFunc) {
			return context.WithTimeout(context.Background(), 5*time.Millisecond)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := engineOf(t, modules, Options{Timeout: c.timeout})
			ctx, cancel := c.ctx()
			defer cancel()
			d := e.Judge(deviceFacts(t)).Decide(ctx, r)
			if d.Allow || d.Cause != policy.CauseTimeout {
				t.Errorf("%+v", d)
			}
		})
	}
}

// A panic inside an evaluation denies, and is logged without the request.
func TestPanic(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	e := engineOf(t, builtinBundle(), Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	_, cause, err := e.evaluate(context.Background(), &entryPoint{ref: entryRef("publish", "decision")}, ast.NewObject(), time.Now())
	if cause != policy.CausePanic || err == nil {
		t.Errorf("cause %q, error %v", cause, err)
	}
	if !strings.Contains(log.String(), "policy evaluation panicked") {
		t.Errorf("the log says %q", log.String())
	}
}

func TestFactsThatAreNoJSON(t *testing.T) {
	t.Parallel()
	e := engineOf(t, builtinBundle(), Options{})
	f := deviceFacts(t)
	f.Principal.Claims = map[string]any{"x": func() {}}
	if d := e.Judge(f).Decide(context.Background(), publishTo(t, "iot-2/evt/a/fmt/json")); d.Allow || d.Cause != policy.CauseError {
		t.Errorf("%+v", d)
	}
}

func TestRevisionNamesTheContent(t *testing.T) {
	t.Parallel()
	a := mustLoad(t, module(map[string]string{"publish": `decision := {"allow": true}`}))
	b := mustLoad(t, module(map[string]string{"publish": `decision := {"allow": false}`}))
	again := mustLoad(t, module(map[string]string{"publish": `decision := {"allow": true}`}))
	if a.Revision() == b.Revision() || a.Revision() != again.Revision() || len(a.Revision()) < 12 {
		t.Errorf("revisions %q, %q, %q", a.Revision(), b.Revision(), again.Revision())
	}
}

func TestWatchersHearInOrder(t *testing.T) {
	t.Parallel()
	e := New(Options{})
	var heard []string
	for _, name := range []string{"first", "second"} {
		e.OnActivate(func(g policy.Generation) { heard = append(heard, fmt.Sprintf("%s%d%d", name, g, e.Generation())) })
	}
	b := mustLoad(t, builtinBundle())
	if g := e.Activate(b); g != 1 {
		t.Errorf("generation %d", g)
	}
	e.Activate(b)
	if got := strings.Join(heard, " "); got != "first11 second11 first22 second22" {
		t.Errorf("heard %q", got)
	}
	e.Activate(nil)
	if d := e.Judge(deviceFacts(t)).Decide(context.Background(), publishTo(t, "iot-2/evt/a/fmt/json")); d.Allow {
		t.Error("a policy that was taken away allows")
	}
}

// After Activate returned, a Decide that starts later answers from that bundle
// or a newer one, also where its judge remembers older answers.
func TestActivateWhileJudging(t *testing.T) {
	t.Parallel()
	bundles := []*Bundle{}
	number := map[string]int{}
	for i := range 2 {
		b := mustLoad(t, module(map[string]string{"publish": fmt.Sprintf(`decision := {"allow": %v, "reason": input.topic}`, i == 1)}))
		number[b.Revision()] = i
		bundles = append(bundles, b)
	}
	e := New(Options{Timeout: 10 * time.Second})
	e.Activate(bundles[0])

	var activated atomic.Uint64 // generation whose Activate has returned
	activated.Store(1)
	judge := e.Judge(deviceFacts(t))
	requests := []*policy.Request{publishTo(t, "iot-2/evt/a/fmt/json"), publishTo(t, "iot-2/evt/b/fmt/json")}

	var stopped atomic.Bool
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			for i := worker; !stopped.Load(); i++ {
				before := activated.Load()
				d := judge.Decide(context.Background(), requests[i%2])
				after := uint64(e.Generation())
				// Generations alternate between the two bundles, beginning with the first.
				if before == after && number[d.Revision] != int(before-1)%2 {
					t.Errorf("revision %s answered under generation %d", d.Revision, before)
				}
				if d.Allow != (number[d.Revision] == 1) || d.Reason != requests[i%2].Topic.String() {
					t.Errorf("a mixed answer: %+v", d)
				}
			}
		})
	}
	for i := range 200 {
		activated.Store(uint64(e.Activate(bundles[(i+1)%2])))
		judge.Decide(context.Background(), requests[0])
	}
	stopped.Store(true)
	wg.Wait()
}

func TestDecisionIDsAreUnique(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 3 {
		e := New(Options{})
		for range 1000 {
			id := e.newID()
			if seen[id] || len(id) != 16 {
				t.Fatalf("ID %q", id)
			}
			seen[id] = true
		}
	}
}
