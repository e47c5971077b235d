package opa

import (
	"context"
	"fmt"
	"math"
	"testing"

	"github.com/cordon-mq/cordon/policy"
)

// numbered is a device of a fleet.
func numbered(t testing.TB, n int) *policy.Principal {
	t.Helper()
	p := *deviceFacts(t).Principal
	p.ID = policy.ID(fmt.Sprintf("d%d", n))
	return &p
}

func TestChosen(t *testing.T) {
	t.Parallel()
	p := deviceFacts(t).Principal
	p.Groups = []string{"pilot"}
	tests := map[string]struct {
		chosen Chosen
		want   bool
	}{
		"nobody":               {Chosen{}, false},
		"everybody":            {Chosen{Percent: 100}, true},
		"its organisation":     {Chosen{Orgs: []policy.OrgID{p.Org}}, true},
		"another organisation": {Chosen{Orgs: []policy.OrgID{mustOrg(t, "other1")}}, false},
		"its type":             {Chosen{Types: []policy.ID{p.Type}}, true},
		"another type":         {Chosen{Types: []policy.ID{"nothing"}}, false},
		"its group":            {Chosen{Groups: []string{"a", "pilot"}}, true},
		"another group":        {Chosen{Groups: []string{"a"}}, false},
	}
	for name, test := range tests {
		if got := test.chosen.Includes(p); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if everybody := (&Chosen{Percent: 100}); everybody.Includes(nil) {
		t.Error("nobody at all is chosen")
	}
}

// The same principals are always chosen, about as many as were asked for, and a
// larger share holds the smaller.
func TestChosenShare(t *testing.T) {
	t.Parallel()
	const fleet = 10_000
	small, large := Chosen{Percent: 5}, Chosen{Percent: 25}
	inSmall, inLarge := 0, 0
	for n := range fleet {
		p := numbered(t, n)
		a, b := small.Includes(p), large.Includes(p)
		if a && !b || a != small.Includes(numbered(t, n)) {
			t.Fatalf("%s: %v of 5 %%, %v of 25 %%", p.ID, a, b)
		}
		if a {
			inSmall++
		}
		if b {
			inLarge++
		}
	}
	if math.Abs(float64(inSmall)/fleet-0.05) > 0.01 || math.Abs(float64(inLarge)/fleet-0.25) > 0.02 {
		t.Errorf("%d and %d of %d", inSmall, inLarge, fleet)
	}
}

func TestCanary(t *testing.T) {
	t.Parallel()
	allow := mustLoad(t, module(map[string]string{"publish": `decision := {"allow": true}`}))
	deny := mustLoad(t, module(map[string]string{"publish": `decision := {"allow": false, "reason": "canary"}`}))
	e := New(Options{})
	t.Cleanup(e.Close)
	heard := 0
	e.OnActivate(func(policy.Generation) { heard++ })
	e.Activate(allow)

	r := publishTo(t, "iot-2/evt/a/fmt/json")
	chosen, rest := deviceFacts(t), deviceFacts(t)
	rest.Principal = numbered(t, 2)
	rest.Principal.Type = "other"
	judges := map[string]policy.Judge{"chosen": e.Judge(chosen), "rest": e.Judge(rest)}
	// Asked twice, so that the second answer is a remembered one.
	ask := func(when, who, reason, revision string) {
		t.Helper()
		for range 2 {
			d := judges[who].Decide(context.Background(), r)
			if d.Allow != (reason == "") || d.Reason != reason || d.Revision != revision {
				t.Errorf("%s, %s: %+v", when, who, d)
			}
		}
	}
	ask("before", "chosen", "", allow.Revision())
	before := judges["rest"].Generation()
	if _, err := e.StartCanary(deny, Chosen{Types: []policy.ID{chosen.Principal.Type}}); err != nil {
		t.Fatal(err)
	}
	if judges["rest"].Generation() <= before || heard != 2 || e.Canary() != deny.Revision() || e.Revision() != allow.Revision() {
		t.Errorf("generation %d after %d, %d activations heard, canary %s", judges["rest"].Generation(), before, heard, e.Canary())
	}
	ask("with the canary", "chosen", "canary", deny.Revision())
	ask("with the canary", "rest", "", allow.Revision())

	// The bundle of an organisation is on top of both.
	e.Narrow(chosen.Principal.Org, mustNarrow(t, publishNarrow(`decision := {"allow": false, "reason": "own"}`)))
	ask("narrowed", "chosen", "canary", deny.Revision())
	ask("narrowed", "rest", "own", allow.Revision())
	e.Narrow(chosen.Principal.Org, nil)

	e.EndCanary()
	e.EndCanary()
	ask("after", "chosen", "", allow.Revision())
	if heard != 3 || e.Canary() != "" {
		t.Errorf("%d activations heard, canary %q", heard, e.Canary())
	}
	if _, err := e.StartCanary(deny, Chosen{Percent: math.NaN()}); policy.KindOf(err) != policy.KindInvalid {
		t.Error(err)
	}
	if _, err := e.StartCanary(deny, Chosen{Percent: 100}); err != nil {
		t.Fatal(err)
	}
	ask("with everybody in it", "rest", "canary", deny.Revision())
	e.Activate(allow)
	ask("after an activation", "rest", "", allow.Revision())
}

func TestBesideAnswersWithBothLayers(t *testing.T) {
	t.Parallel()
	e := engineOf(t, module(map[string]string{"publish": `decision := {"allow": false}`}), Options{})
	facts := deviceFacts(t)
	e.Narrow(facts.Principal.Org, mustNarrow(t, publishNarrow(`decision := {"allow": input.size < 10, "reason": "too large"}`)))
	c := e.Beside(mustLoad(t, module(map[string]string{"publish": `decision := {"allow": true}`})), 0)
	t.Cleanup(c.Close)
	small, large := publishTo(t, "iot-2/evt/a/fmt/json"), publishTo(t, "iot-2/evt/a/fmt/json")
	small.Size, large.Size = 1, 100
	if d := decide(t, c.Judge(facts), small); !d.Allow {
		t.Errorf("small: %+v", d)
	}
	if d := decide(t, c.Judge(facts), large); d.Allow || d.Reason != "too large" {
		t.Errorf("large: %+v", d)
	}
	if d := decide(t, e.Judge(facts), small); d.Allow || e.Stats().Evaluations != 1 {
		t.Errorf("live: %+v, %d evaluations", d, e.Stats().Evaluations)
	}

	// The bundles of organisations are followed, and what was given here stays.
	e.Narrow(facts.Principal.Org, mustNarrow(t, publishNarrow(`decision := {"allow": input.size > 10, "reason": "too small"}`)))
	if d := decide(t, c.Judge(facts), small); d.Allow || d.Reason != "too small" {
		t.Errorf("small, narrowed anew: %+v", d)
	}
	e.Narrow(facts.Principal.Org, nil)
	if d := decide(t, c.Judge(facts), small); !d.Allow {
		t.Errorf("small, no longer narrowed: %+v", d)
	}
	c.Narrow(facts.Principal.Org, mustNarrow(t, publishNarrow(`decision := {"allow": false, "reason": "candidate"}`)))
	e.Narrow(facts.Principal.Org, mustNarrow(t, publishNarrow(`decision := {"allow": true}`)))
	if d := decide(t, c.Judge(facts), small); d.Reason != "candidate" {
		t.Errorf("with a candidate of its own: %+v", d)
	}
}
