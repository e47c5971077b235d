package metrics

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/cordon-mq/cordon/broker"
	"github.com/cordon-mq/cordon/policy"
)

type fixedBroker broker.Stats

func (f fixedBroker) Stats() broker.Stats { return broker.Stats(f) }

// everything has a value for every metric there is.
func everything() Sources {
	return Sources{
		Broker: fixedBroker{
			In: broker.Traffic{Messages: [3]uint64{10, 20, 30}, Bytes: 4000}, Out: broker.Traffic{Messages: [3]uint64{1, 2, 3}, Bytes: 500},
			Dropped: map[broker.Drop]uint64{
				broker.DropBacklog: 1, broker.DropQueueFull: 2, broker.DropExpired: 3, broker.DropTooLarge: 4, broker.DropNoTopic: 5,
			},
			Refused: map[broker.Refusal]uint64{
				{Action: policy.ActionPublish, Cause: policy.CausePolicy}: 6, {Action: policy.ActionNone, Cause: policy.CauseProtocol}: 7,
			},
			Rejudged: 8, TakeOvers: 9, Connections: map[string]int{"mqtts": 11, "wss": 0}, Online: 12, Offline: 13, Subscriptions: 14,
			Retained: broker.Stock{Messages: 15, Bytes: 16}, Queued: broker.Stock{Messages: 17, Bytes: 18}, InFlight: 19, Buffer: 21, BufferMax: 22,
		},
		Policy: func() Policy {
			return Policy{
				Revision: "abc", Activated: time.UnixMilli(1_700_000_000_500), CoverMismatches: 1,
				Actions: map[policy.Action]Decisions{
					policy.ActionConnect: {Allowed: 5, Denied: map[policy.Cause]uint64{policy.CauseTimeout: 2}, Remembered: 3},
					policy.ActionPublish: {Allowed: 50, Denied: map[policy.Cause]uint64{policy.CausePolicy: 4}, Remembered: 40, Covered: 30},
				},
			}
		},
		Plugins: func() []Plugin {
			return []Plugin{{Folder: "acme01", Name: "door", Verdicts: map[string]uint64{"good": 3}, Quarantined: true}}
		},
		Store: func() Store { return Store{Pending: 100, Free: 1 << 40, FreeKnown: true, Short: true} },
		Certificates: func() []Certificate {
			return []Certificate{{"server", time.Unix(1_800_000_000, 0)}, {"ca", time.Unix(1_900_000_000, 0)}}
		},
		REST: func() map[Refused]uint64 {
			return map[Refused]uint64{{"organisation", policy.CausePolicy}: 23, {"operator", policy.CauseBad}: 24}
		},
		Monitor: func() Monitored { return Monitored{Dropped: 25, Full: 26} },
		Devices: func() Devices { return Devices{Unheard: 30, Claimed: 31, Handed: 32} },
		DecisionLog: func() DecisionLog {
			return DecisionLog{Recorded: 27, Lost: map[string]uint64{"ring": 28, "store": 29}}
		},
	}
}

func watching(t *testing.T, src Sources) *Set {
	t.Helper()
	s, err := New("1.2.3", "deadbeef", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Watch(src); err != nil {
		t.Fatal(err)
	}
	s.Evaluated(20 * time.Microsecond)
	s.Committed(time.Millisecond, nil)
	s.Committed(time.Second, errors.New("disk"))
	s.Connect(true, time.Millisecond)
	s.Connect(false, time.Millisecond)
	s.Sweep(time.Second)
	return s
}

// family is one metric, whatever its labels say.
type family struct {
	name, kind, help string
	labels           []string // their names
}

// gathered are Cordon's own metrics.
func gathered(t *testing.T, s *Set) (own []family) {
	t.Helper()
	all, err := s.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if !strings.HasPrefix(f.GetName(), "cordon_") {
			continue
		}
		labels := map[string]bool{}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = true
			}
		}
		own = append(own, family{f.GetName(), strings.ToLower(f.GetType().String()), f.GetHelp(), slices.Sorted(maps.Keys(labels))})
	}
	return own
}

// TestMetricsAreListed holds names, types, labels and help together with
// testdata/metrics.txt, which is what an operator's dashboards and alerts stand
// on: a metric that is added, renamed or removed is so there too.
func TestMetricsAreListed(t *testing.T) {
	t.Parallel()
	var got strings.Builder
	shown := map[string]bool{}
	for _, f := range gathered(t, watching(t, everything())) {
		shown[f.name] = true
		fmt.Fprintf(&got, "%s %s {%s}\n    %s\n", f.name, f.kind, strings.Join(f.labels, ","), f.help)
	}
	want, err := os.ReadFile("testdata/metrics.txt")
	if err != nil || string(want) != got.String() {
		t.Errorf("testdata/metrics.txt is not what is shown (%v):\n%s", err, got.String())
	}
	// What everything has no value for would be missing there too.
	for _, desc := range newCollector(Sources{}).descs {
		name, _, _ := strings.Cut(strings.TrimPrefix(desc.String(), `Desc{fqName: "`), `"`)
		if !shown[name] {
			t.Errorf("no test has a value for %s", name)
		}
	}
}

func TestConventions(t *testing.T) {
	t.Parallel()
	problems, err := testutil.GatherAndLint(watching(t, everything()).Gatherer())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// What is shown is what was read.
func TestValues(t *testing.T) {
	t.Parallel()
	s := watching(t, everything())
	answer := httptest.NewRecorder()
	s.Handler().ServeHTTP(answer, httptest.NewRequest("GET", "/metrics", nil))
	text, err := io.ReadAll(answer.Result().Body)
	if err != nil || answer.Code != 200 {
		t.Fatalf("%d, %v", answer.Code, err)
	}
	for _, want := range []string{
		`cordon_messages_total{direction="in",qos="2"} 30`,
		`cordon_messages_total{direction="out",qos="0"} 1`,
		`cordon_mqtt_bytes_total{direction="out"} 500`,
		`cordon_messages_dropped_total{reason="queue_full"} 2`,
		`cordon_refusals_total{action="publish",cause="policy"} 6`,
		`cordon_refusals_total{action="none",cause="protocol"} 7`,
		`cordon_rest_refusals_total{cause="policy",surface="organisation"} 23`,
		`cordon_rest_refusals_total{cause="credential_bad",surface="operator"} 24`,
		`cordon_monitor_dropped_total 25`,
		`cordon_monitor_full_total 26`,
		`cordon_decision_log_recorded_total 27`,
		`cordon_management_dropped_total 30`,
		`cordon_claims_spent_total 31`,
		`cordon_claim_tokens_total 32`,
		`cordon_decision_log_lost_total{where="ring"} 28`,
		`cordon_sessions{state="offline"} 13`,
		`cordon_connections{listener="wss"} 0`,
		`cordon_policy_decisions_total{action="publish",cause="none",outcome="allow"} 50`,
		`cordon_policy_decisions_total{action="publish",cause="policy",outcome="deny"} 4`,
		`cordon_policy_decisions_total{action="connect",cause="policy",outcome="deny"} 0`,
		`cordon_policy_decisions_total{action="connect",cause="policy_timeout",outcome="deny"} 2`,
		`cordon_policy_cache_hits_total{action="publish"} 40`,
		`cordon_policy_activated_timestamp_seconds 1.7000000005e+09`,
		`cordon_policy_info{revision="abc"} 1`,
		`cordon_certificate_expiry_timestamp_seconds{certificate="ca"} 1.9e+09`,
		`cordon_store_commit_duration_seconds_count{result="failed"} 1`,
		`cordon_connect_duration_seconds_count{outcome="deny"} 1`,
		`cordon_policy_evaluation_duration_seconds_bucket{le="2.5e-05"} 1`,
		`cordon_plugin_verdicts_total{plugin="door",result="good"} 3`,
		`cordon_plugin_quarantined{plugin="door"} 1`,
		`cordon_storage_short 1`,
		`go_goroutines `,
		`process_start_time_seconds `,
	} {
		if !strings.Contains("\n"+string(text), "\n"+want) {
			t.Errorf("missing: %s", want)
		}
	}
	if !strings.Contains(string(text), `cordon_build_info{goversion="go1.`) || !strings.Contains(string(text), `revision="deadbeef",version="1.2.3"} 1`) {
		t.Error("the build is missing")
	}
}

// Without a policy, or a disk that can be asked, there is no number rather than a
// wrong one.
func TestUnknownIsLeftOut(t *testing.T) {
	t.Parallel()
	s := watching(t, Sources{Policy: func() Policy { return Policy{} }, Store: func() Store { return Store{} }})
	for _, f := range gathered(t, s) {
		switch f.name {
		case "cordon_policy_info", "cordon_policy_activated_timestamp_seconds", "cordon_storage_free_bytes":
			t.Errorf("%s is shown", f.name)
		}
	}
}

// A counter of a plugin only grows, whatever becomes of its versions and of
// others of its name, and goes when the last of them has.
func TestPluginCountersGrow(t *testing.T) {
	t.Parallel()
	good := func(folder, name string, n uint64) Plugin {
		return Plugin{Folder: folder, Name: name, Verdicts: map[string]uint64{"good": n}}
	}
	sums := &totals{}
	for i, step := range []struct {
		list []Plugin
		want map[verdict]uint64
	}{
		{[]Plugin{good("a", "door", 5)}, map[verdict]uint64{{"door", "good"}: 5}},
		{[]Plugin{good("a", "door", 7), good("b", "door", 1)}, map[verdict]uint64{{"door", "good"}: 8}},
		{[]Plugin{good("a", "door", 2), good("b", "door", 1)}, map[verdict]uint64{{"door", "good"}: 10}}, // another version
		{[]Plugin{good("b", "door", 3)}, map[verdict]uint64{{"door", "good"}: 12}},                       // a is gone
		{[]Plugin{{Folder: "b", Name: "door", Refused: true}}, map[verdict]uint64{{"door", "good"}: 12}},
		{[]Plugin{good("b", "door", 1), good("c", "other", 4)}, map[verdict]uint64{{"door", "good"}: 13, {"other", "good"}: 4}},
		{[]Plugin{good("c", "other", 4)}, map[verdict]uint64{{"other", "good"}: 4}},
		{nil, map[verdict]uint64{}},
	} {
		got := sums.add(step.list)
		if fmt.Sprint(got) != fmt.Sprint(step.want) {
			t.Errorf("step %d: %v, want %v", i, got, step.want)
		}
	}
}

// A file of the plugins folder may be called anything; the others are shown all
// the same.
func TestNamesThatAreNoText(t *testing.T) {
	t.Parallel()
	src := everything()
	src.Plugins = func() []Plugin {
		return []Plugin{{Name: "\xff\xfe\n\"}", Refused: true}, {Name: "\xfe\n\"}", Verdicts: map[string]uint64{"bad": 1}}}
	}
	s := watching(t, src)
	if _, err := s.Gatherer().Gather(); err != nil {
		t.Error(err)
	}
	n, err := testutil.GatherAndCount(s.Gatherer(), "cordon_plugin_refused")
	if err != nil || n != 1 {
		t.Errorf("%d, %v", n, err)
	}
}

// Nothing is shared with whoever registers metrics in the same process.
func TestRegistryIsItsOwn(t *testing.T) {
	t.Parallel()
	for range 2 {
		watching(t, everything())
	}
	all, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if strings.HasPrefix(f.GetName(), "cordon_") {
			t.Errorf("the default registry has %s", f.GetName())
		}
	}
}
