package opa

import (
	"context"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/audit"
)

func replayNarrowed(t *testing.T, b *Bundle, n *Narrowing, ev *audit.Event) *Replayed {
	t.Helper()
	r, err := b.ReplayNarrowed(context.Background(), deviceFacts(t).Principal.Org, n, ev)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Both layers are asked again: what the platform refuses stays refused, and the
// candidate takes the place of what the organisation had.
func TestReplayNarrowed(t *testing.T) {
	t.Parallel()
	e := engineOf(t, module(map[string]string{
		"publish":   "decision := {\"allow\": true} if input.qos < 2\n\nelse := {\"allow\": false, \"reason\": \"QoS 2\"}",
		"subscribe": `decision := {"allow": true, "qos": 1}`,
	}), Options{})
	b, facts := live(e), deviceFacts(t)
	small := publishNarrow(`decision := {"allow": input.size < 10, "reason": "too large"}`)
	publish := func(qos byte, size int) *policy.Request {
		r := publishTo(t, "iot-2/evt/a/fmt/json")
		r.QoS, r.Size = qos, size
		return r
	}
	record := func(r *policy.Request) *audit.Event { return asWritten(t, recordOf(t, e, facts, r)) }
	allowed, large, refused := record(publish(0, 1)), record(publish(0, 100)), record(publish(2, 1))
	subscribed := record(subscribeTo(t, "iot-2/cmd/+/fmt/+"))
	// These were answered by both.
	e.Narrow(facts.Principal.Org, mustNarrow(t, publishNarrow(`decision := {"allow": input.size > 10, "reason": "too small"}`)))
	ownRefused, ownAllowed := record(publish(0, 2)), record(publish(0, 100))
	if ownRefused.Custom.Reason != "too small" || ownRefused.Bundles[audit.BundleOrganisation].Revision == "" {
		t.Fatalf("recorded %+v", ownRefused)
	}

	for name, tt := range map[string]struct {
		ev     *audit.Event
		allow  bool
		reason string
		fields int // that differ
	}{
		"still allowed":                    {allowed, true, "", 0},
		"refused now":                      {large, false, "too large", 5},
		"refused by the platform":          {refused, false, "QoS 2", 0},
		"nothing is said about it":         {subscribed, true, "", 0},
		"refused by what was there before": {ownRefused, true, "", 5},
		"allowed by what was there before": {ownAllowed, false, "too large", 5},
	} {
		got := replayNarrowed(t, b, mustNarrow(t, small), tt.ev)
		if got.Skipped != "" || got.Allow != tt.allow || got.Reason != tt.reason || len(got.Differences) != tt.fields {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// Whose decision it is counts, and what the organisation's rules may read has to be
// there.
func TestReplayNarrowedSkips(t *testing.T) {
	t.Parallel()
	e := engineOf(t, module(map[string]string{
		"publish": `decision := {"allow": true}`, "subscribe": `decision := {"allow": true, "qos": 1}`,
	}), Options{})
	n := mustNarrow(t, publishNarrow(`decision := {"allow": input.size < 10}`))
	for name, tt := range map[string]struct {
		request *policy.Request
		change  func(*audit.Event)
		why     string
	}{
		"untouched":          {publishTo(t, "a"), func(*audit.Event) {}, ""},
		"another's":          {publishTo(t, "a"), func(ev *audit.Event) { ev.Custom.Org = "other1" }, "it is about another organisation"},
		"nobody's":           {publishTo(t, "a"), func(ev *audit.Event) { ev.Custom.Org = "" }, "it is about another organisation"},
		"masked":             {publishTo(t, "a"), func(ev *audit.Event) { ev.Masked = []string{"/input/principal/claims"} }, "a mask hides input, and the organisation's rules may read it"},
		"erased":             {publishTo(t, "a"), func(ev *audit.Event) { ev.Erased = []string{"/input/client/address"} }, "a mask hides input, and the organisation's rules may read it"},
		"masked, not judged": {subscribeTo(t, "a"), func(ev *audit.Event) { ev.Masked = []string{"/input/client/address"} }, ""},
		"over a quota":       {publishTo(t, "a"), func(ev *audit.Event) { ev.Custom.Cause = policy.CauseQuota }, "no rule was asked: the quota of the organisation was used up"},
		"no input":           {publishTo(t, "a"), func(ev *audit.Event) { ev.Input = nil }, "the input is not recorded"},
	} {
		ev := asWritten(t, recordOf(t, e, deviceFacts(t), tt.request))
		tt.change(ev)
		if got := replayNarrowed(t, live(e), n, ev); got.Skipped != tt.why {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if r, err := live(e).ReplayNarrowed(context.Background(), policy.OrgID{}, n, recordOf(t, e, deviceFacts(t), publishTo(t, "a"))); err != nil || r.Skipped == "" {
		t.Errorf("without an organisation: %+v, %v", r, err)
	}
}

// Asked again and again, the answer is the same: the clock is that of the record, for
// the rules of both.
func TestReplayNarrowedAtItsTime(t *testing.T) {
	t.Parallel()
	e := engineOf(t, module(map[string]string{"publish": `decision := {"allow": time.clock(time.now_ns())[0] < 13}`}), Options{})
	n := mustNarrow(t, publishNarrow(`decision := {"allow": time.clock(time.now_ns())[0] > 11, "reason": "too early"}`))
	ev := asWritten(t, recordOf(t, e, deviceFacts(t), publishTo(t, "a"))) // at noon
	for range 3 {
		if got := replayNarrowed(t, live(e), n, ev); !got.Allow || got.Skipped != "" {
			t.Errorf("at noon: %+v", got)
		}
	}
	for hours, reason := range map[time.Duration]string{-2: "too early", 2: ""} {
		at := noon().Add(hours * time.Hour)
		ev.Custom.DecidedAt = &at
		if got := replayNarrowed(t, live(e), n, ev); got.Allow || got.Reason != reason {
			t.Errorf("%d hours later: %+v", hours, got)
		}
	}
}
