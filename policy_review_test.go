package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/broker/api"
)

// What only a running broker can answer says so where there is none, and what makes no
// sense is a matter of usage.
func TestPolicyReviewUsage(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	dir := bundle(t, map[string]string{"publish.rego": denyAll})
	broken := bundle(t, map[string]string{"publish.rego": typo})
	for _, test := range []struct {
		args   string
		status int
		want   string // on standard error
	}{
		{"impact " + dir, exitFailed, "no broker runs on this data folder: " + data},
		{"replay " + dir, exitFailed, "no broker runs"},
		{"shadow start " + dir, exitFailed, "no broker runs"},
		{"shadow status", exitFailed, "no broker runs"},
		{"shadow watch", exitFailed, "no broker runs"},
		{"canary start " + dir + " --percent 5", exitFailed, "no broker runs"},
		{"canary promote", exitFailed, "no broker runs"},
		{"decisions", exitFailed, "no broker runs"},
		{"explain 0123456789abcdef", exitFailed, "no broker runs"},
		{"impact " + broken, exitFailed, "publish.rego:3:"}, // its problems come first
		{"impact", exitUsage, `expected "<policy>"`},
		{"impact " + dir + " --examples 101", exitUsage, "--examples is 0 to 100"},
		{"replay " + dir + " --differences=-1", exitUsage, "--differences is 0 to 1000"},
		{"replay " + dir + " --since yesterday", exitUsage, "neither a duration such as 2h nor a time"},
		{"canary start " + dir, exitUsage, "choose somebody with --percent, --org, --type or --group"},
		{"canary start " + dir + " --percent 101", exitUsage, "--percent is 0 to 100"},
		{"canary start " + dir + " --percent NaN", exitUsage, "--percent is 0 to 100"},
		{"explain", exitUsage, "name a decision, or --input"},
		{"explain x --input y", exitUsage, "name a decision, or --input"},
	} {
		args := append([]string{"policy"}, strings.Fields(test.args)...)
		got := cordon(t, nil, append(args, "--data", data)...)
		if got.status != test.status || !strings.Contains(got.errors, test.want) || got.out != "" {
			t.Errorf("%s: %+v, want %d and %q", test.args, got, test.status, test.want)
		}
	}
}

// Whoever reads the log hears where it is not whole.
func TestLostDecisionsAreTold(t *testing.T) {
	t.Parallel()
	for metrics, want := range map[string]string{
		"": "",
		"cordon_decision_log_lost_total{where=\"ring\"} 0\ncordon_decision_log_lost_total{where=\"rate\"} 0\n":                                                                    "",
		"# HELP cordon_decision_log_lost_total x\ncordon_decision_log_lost_total{where=\"store\"} 3\ncordon_sessions 7\ncordon_decision_log_lost_total{where=\"rate\"} 1.5e+06\n": "rate 1500000, store 3",
		"cordon_decision_log_lost_total{where=\"ring\"} x\ncordon_decision_log_lost_total":                                                                                        "",
	} {
		if got := lostIn(metrics); got != want {
			t.Errorf("%q: %q, want %q", metrics, got, want)
		}
	}
}

func TestPrintImpact(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	found := &api.Impact{
		Revision: "new", Live: "old",
		Total: api.ImpactCount{Sessions: 5, Subscriptions: 4, Wills: 3, SessionsCut: 2, SubscriptionsRemoved: 1, WillsDropped: 1, SessionsAltered: 1},
		Organisations: []api.OrganisationImpact{{
			Org: "acme01", ImpactCount: api.ImpactCount{Sessions: 3, SessionsCut: 2},
			Examples: []api.ImpactExample{
				{Client: "d:acme01:sensor:d1", Action: "connect", Reason: "closed"},
				{Client: "d:acme01:sensor:d2", Action: "subscribe", Topic: "iot-2/cmd/+/fmt/+", Reason: "not authorised", Detail: "a.rego:3:1: it failed"},
			},
		}},
		Decisions: api.ReplayCount{Replayed: 10, NotReplayable: 2, Denied: 1, WeighedTotal: 5009, WeighedDenied: 5000},
		Differences: []api.DecisionDifference{
			{Decision: "d1", Org: "acme01", Client: "d:acme01:sensor:d1", Action: "publish", Topic: "a/b", Before: "allow", After: "deny", Reason: "closed"},
			{Org: "acme01", Client: "x", Action: "connect", Before: "allow", After: "allow", Fields: []string{"limits", "roles"}},
		},
	}
	for i := range found.Differences {
		found.Differences[i].At.Time = at
	}
	var out bytes.Buffer
	if err := printImpact(&out, found); err != nil {
		t.Fatal(err)
	}
	const want = `candidate new, live old
live sessions: 5 judged, 2 cut, 1 altered
subscriptions: 4 judged, 1 removed, 0 with another QoS
wills: 3 judged, 1 dropped

acme01: 2 of 3 sessions cut, 0 subscriptions removed, 0 wills dropped, 0 sessions altered
  d:acme01:sensor:d1 connect: closed
  d:acme01:sensor:d2 subscribe iot-2/cmd/+/fmt/+: not authorised (a.rego:3:1: it failed)

recorded decisions: 10 replayed, 1 now denied, 0 now allowed, 0 otherwise different, 2 not replayable
  they stand for 5009: 5000 now denied, 0 now allowed, 0 otherwise different
  2026-11-22T12:00:00Z acme01 d:acme01:sensor:d1 publish a/b: allow -> deny, closed (decision d1)
  2026-11-22T12:00:00Z acme01 x connect: allow with another limits, roles
`
	if out.String() != want {
		t.Errorf("printed\n%s\nwant\n%s", out.String(), want)
	}
	for name, c := range map[string]struct {
		cmd  policyImpactCmd
		over bool
	}{
		"no limits":       {policyImpactCmd{MaxCut: -1, MaxRemoved: -1, MaxFlips: -1}, false},
		"just within":     {policyImpactCmd{MaxCut: 2, MaxRemoved: 1, MaxFlips: 1}, false},
		"too many cut":    {policyImpactCmd{MaxCut: 1, MaxRemoved: -1, MaxFlips: -1}, true},
		"too many filter": {policyImpactCmd{MaxCut: -1, MaxRemoved: 0, MaxFlips: -1}, true},
		"too many flips":  {policyImpactCmd{MaxCut: -1, MaxRemoved: -1, MaxFlips: 0}, true},
	} {
		if got := c.cmd.exceeded(found); got != c.over {
			t.Errorf("%s: %v", name, got)
		}
	}
}
