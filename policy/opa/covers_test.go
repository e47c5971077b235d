package opa

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/topic"
)

// ownEvents states, truly, that every event of the device has one answer.
const ownEvents = `
_own := ["iot-2", "type", input.principal.type, "id", input.principal.id, "evt"]

decision := {"allow": true, "covers": [concat("/", array.concat(_own, ["+", "fmt", "+"]))]} if {
	array.slice(input.levels, 0, 6) == _own
	input.levels[7] == "fmt"
	count(input.levels) == 9
}
`

// churn publishes n topics that nobody published before, and waits for the
// checks of each.
func churn(t testing.TB, e *Engine, j policy.Judge, from, n int) (last *policy.Decision) {
	t.Helper()
	for i := range n {
		last = j.Decide(context.Background(), publishTo(t, fmt.Sprintf("iot-2/evt/e%d/fmt/json", from+i)))
		e.checks.working.Wait()
	}
	return last
}

func TestCoversAnswerOtherTopics(t *testing.T) {
	t.Parallel()
	e := engineOf(t, module(map[string]string{"publish": ownEvents}), Options{})
	defer e.Close()
	judge := e.Judge(deviceFacts(t))
	first := churn(t, e, judge, 0, 1)
	if s := e.Stats(); s.Evaluations != 1 {
		t.Errorf("a session of one topic costs %d evaluations", s.Evaluations)
	}
	churn(t, e, judge, 1, 1) // starts the proof
	before := e.Stats().Evaluations
	if d := churn(t, e, judge, 2, 1); d != first {
		t.Errorf("the third topic was not answered by the first: %+v", d)
	}
	churn(t, e, judge, 3, 100)
	s := e.Stats()
	if s.Covered != 101 || s.CoverMismatches != 0 {
		t.Errorf("covered %d, mismatches %d", s.Covered, s.CoverMismatches)
	}
	if s.Evaluations > before+2 { // the first covered answer is checked
		t.Errorf("101 covered topics cost %d evaluations", s.Evaluations-before)
	}
	if d := judge.Decide(context.Background(), publishTo(t, "iot-2/evt/e/fmt")); d.Allow {
		t.Error("a topic that is not covered was allowed")
	}

	other := deviceFacts(t)
	other.Principal.ID = "d2"
	if d := e.Judge(other).Decide(context.Background(), publishTo(t, "iot-2/evt/e2/fmt/json")); d.Allow {
		t.Error("covers of one device answered for another")
	}
	// The shape is proven: another device is asked a few questions only.
	third := deviceFacts(t)
	third.Principal.Claims = map[string]any{"serial": "4711"}
	before = e.Stats().Evaluations
	churn(t, e, e.Judge(third), 0, 10)
	if n := e.Stats().Evaluations - before; n > 20 {
		t.Errorf("the second device costs %d evaluations", n)
	}
}

// What covers states wrongly is found before it is used, wherever the rules name
// what they treat otherwise.
func TestProbesFindContradictions(t *testing.T) {
	t.Parallel()
	all := func(allowed string) string {
		return "decision := {\"allow\": _allowed, \"covers\": [concat(\"/\", array.concat(array.slice(input.levels, 0, 6), [\"+\", \"fmt\", \"+\"]))]}\n\ndefault _allowed := false\n\n_allowed if {\n\t" + allowed + "\n}"
	}
	hash := strings.ReplaceAll(all(`input.levels[7] != "secret"`), `"+", "fmt", "+"`, `"#"`)
	for name, modules := range map[string]map[string]string{
		"a constant":             {"publish": all(`input.levels[6] != "secret"`)},
		"in the last position":   {"publish": all(`input.levels[8] != "secret"`)},
		"a number":               {"publish": all(`not regex.match("^[0-9]+$", input.levels[6])`)},
		"a prefix":               {"publish": all(`not startswith(input.levels[6], "sec")`)},
		"a helper's constant":    {"publish": all(`not data.cordon.own.special[input.levels[6]]`), "own": `special contains "maintenance"`},
		"the asker":              {"publish": all(`input.levels[6] != input.principal.id`)},
		"a group of the asker":   {"publish": all(`not input.levels[6] in input.principal.groups`)},
		"below a #":              {"publish": hash},
		"as deep as it gets":     {"publish": strings.ReplaceAll(all(`count(input.levels) < 20`), `"+", "fmt", "+"`, `"#"`)},
		"the client's spelling":  {"publish": all(`not endswith(input.topic, "/secret")`)},
		"a topic as written":     {"publish": all(`input.topic != "iot-2/evt/a/fmt/c"`)},
		"a constant of levels":   {"publish": all(`concat("/", array.slice(input.levels, 6, 9)) != "a/fmt/c"`)},
		"an error":               {"publish": all(`not to_number(object.get({"secret": "x"}, input.levels[6], "1")) == 2`)},
		"the reason":             {"publish": `decision := {"allow": false, "reason": input.levels[6], "covers": ["#"]}`},
		"the lifetime":           {"publish": `decision := {"allow": true, "ttl": 100 + count(input.levels[6]), "covers": ["#"]}`},
		"what covers is not its": {"publish": "decision := {\"allow\": input.levels[0] == \"iot-2\", \"covers\": [\"other/+\", \"#\"]}"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log bytes.Buffer
			e := engineOf(t, module(modules), Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
			defer e.Close()
			judge := e.Judge(deviceFacts(t))
			churn(t, e, judge, 100000, 5)
			s := e.Stats()
			if s.CoverMismatches != 1 || s.Covered != 0 {
				t.Errorf("%d mismatches, %d covered answers, want 1 and none\n%s", s.CoverMismatches, s.Covered, log.String())
			}
			for _, want := range []string{"level=ERROR", "covers not used", e.Revision(), "other_topic=", "answer=", "other_answer="} {
				if !strings.Contains(log.String(), want) {
					t.Errorf("the log does not say %q:\n%s", want, log.String())
				}
			}
		})
	}
}

// What no probe could guess is found by checking samples, and ends the use of
// covers for that bundle, under whatever generation it is live.
func TestSamplesFindContradictions(t *testing.T) {
	t.Parallel()
	lying := mustLoad(t, module(map[string]string{"publish": `decision := {"allow": count(input.levels[6]) != 51, "covers": ["iot-2/type/+/id/+/evt/+/fmt/+"]}`}))
	honest := mustLoad(t, module(map[string]string{"publish": `decision := {"allow": true, "covers": ["#"], "reason": concat("", array.slice(input.levels, 0, 1))} if input.levels[0] == "iot-2"`}))
	e := New(Options{Timeout: 10 * time.Second})
	defer e.Close()
	e.Activate(lying)
	judge := e.Judge(deviceFacts(t))
	churn(t, e, judge, 0, 2)
	long := publishTo(t, "iot-2/evt/"+strings.Repeat("x", 51)+"/fmt/json")
	if d := judge.Decide(context.Background(), long); !d.Allow {
		t.Fatal("the probes found what the samples should")
	}
	e.checks.working.Wait()
	if s := e.Stats(); s.CoverMismatches != 1 {
		t.Fatalf("%+v", s)
	}
	if d := judge.Decide(context.Background(), long); d.Allow {
		t.Error("a contradicted answer was given again")
	}
	for _, b := range []*Bundle{honest, lying} {
		e.Activate(b)
		before := e.Stats().Covered
		churn(t, e, judge, 10, 5)
		if used := e.Stats().Covered > before; used && b == lying {
			t.Error("covers is used again after the bundle came back")
		}
	}
}

func TestOtherFieldsStayInTheKey(t *testing.T) {
	t.Parallel()
	e := engineOf(t, module(map[string]string{"publish": `decision := {
	"allow": input.qos < 2,
	"reason": sprintf("%v %v %v", [input.size, object.get(input.device, "id", "none"), input.properties.content_type]),
	"covers": ["iot-2/type/+/id/+/evt/+/fmt/+"],
} if input.levels[0] == "iot-2"`}), Options{})
	defer e.Close()
	judge := e.Judge(deviceFacts(t))
	ask := func(i int, change func(*policy.Request)) *policy.Decision {
		r := publishTo(t, fmt.Sprintf("iot-2/evt/e%d/fmt/json", i))
		r.Properties = &policy.Properties{ContentType: "text"}
		r.Device = &policy.Device{Type: "sensor", ID: "d1"}
		change(r)
		d := judge.Decide(context.Background(), r)
		e.checks.working.Wait()
		return d
	}
	for i := range 3 {
		ask(i, func(*policy.Request) {})
	}
	if e.Stats().Covered != 1 {
		t.Fatalf("%+v", e.Stats())
	}
	for want, change := range map[string]func(*policy.Request){
		"65 d1 text": func(r *policy.Request) { r.Size = 65 },
		"64 d2 text": func(r *policy.Request) { r.Device.ID = "d2" },
		"64 d1 json": func(r *policy.Request) { r.Properties.ContentType = "json" },
	} {
		if d := ask(9, change); d.Reason != want || !d.Allow {
			t.Errorf("reason %q, want %q", d.Reason, want)
		}
	}
	if d := ask(10, func(r *policy.Request) { r.QoS = 2 }); d.Allow {
		t.Error("another QoS got the answer of the first")
	}
}

// Rules that refuse an empty level, as the built-in ones do, may state covers.
func TestCoversLeaveOutEmptyLevels(t *testing.T) {
	t.Parallel()
	e := engineOf(t, module(map[string]string{"publish": `decision := {"allow": input.levels[6] != "", "covers": ["iot-2/type/+/id/+/evt/+/fmt/+"]} if input.levels[0] == "iot-2"`}), Options{})
	defer e.Close()
	judge := e.Judge(deviceFacts(t))
	churn(t, e, judge, 0, 5)
	if d := judge.Decide(context.Background(), publishTo(t, "iot-2/evt//fmt/json")); d.Allow {
		t.Error("an empty level was covered")
	}
	if s := e.Stats(); s.Covered == 0 || s.CoverMismatches != 0 {
		t.Errorf("%+v", s)
	}
}

// A rule that reads how the client writes the topic is answered for one way of
// writing at a time.
func TestCoversAndSpelling(t *testing.T) {
	t.Parallel()
	e := engineOf(t, module(map[string]string{"publish": `decision := {"allow": substring(input.topic, 0, 1) != "/", "covers": ["iot-2/type/sensor/id/d1/#"]} if input.levels[0] == "iot-2"`}), Options{})
	defer e.Close()
	judge := e.Judge(deviceFacts(t))
	for i := range 6 {
		r := publishTo(t, fmt.Sprintf("iot-2/evt/e%d/fmt/json", i))
		slashed := *r
		slashed.Topic, _ = topic.ParseName("/" + r.Topic.String())
		for want, r := range map[bool]*policy.Request{true: r, false: &slashed} {
			if d := judge.Decide(context.Background(), r); d.Allow != want {
				t.Errorf("%s: allow %v", r.Topic, d.Allow)
			}
			e.checks.working.Wait()
		}
	}
	if s := e.Stats(); s.Covered == 0 || s.CoverMismatches != 0 {
		t.Errorf("%+v", s)
	}
}

// Answers that change with time, and say for how long they hold, are no
// contradiction.
func TestCoversHaveALifetime(t *testing.T) {
	t.Parallel()
	var clock struct {
		sync.Mutex
		now time.Time
	}
	clock.now = time.Unix(1_700_000_000, 0)
	e := engineOf(t, module(map[string]string{"publish": `decision := {"allow": (time.now_ns() / 1000000000) % 2 == 0, "ttl": 10, "covers": ["iot-2/#"]} if input.levels[0] == "iot-2"`}), Options{Now: func() time.Time {
		clock.Lock()
		defer clock.Unlock()
		return clock.now
	}})
	defer e.Close()
	judge := e.Judge(deviceFacts(t))
	if d := churn(t, e, judge, 0, 3); !d.Allow || e.Stats().Covered != 1 {
		t.Fatalf("%+v, %+v", d, e.Stats())
	}
	clock.Lock()
	clock.now = clock.now.Add(9 * time.Second) // an odd second, but the answer still holds
	clock.Unlock()
	if d := churn(t, e, judge, 3, 1); !d.Allow {
		t.Error("a covered answer ended before its time")
	}
	clock.Lock()
	clock.now = clock.now.Add(2 * time.Second)
	clock.Unlock()
	if d := churn(t, e, judge, 4, 1); d.Allow {
		t.Error("a covered answer outlived its time")
	}
	if s := e.Stats(); s.CoverMismatches != 0 {
		t.Errorf("%+v", s)
	}
}

func TestWithoutProofNothingIsCovered(t *testing.T) {
	t.Parallel()
	many := make([]string, 300)
	for i := range many {
		many[i] = fmt.Sprintf("%q", fmt.Sprintf("constant%d", i))
	}
	filters := make([]string, 16)
	for i := range filters {
		filters[i] = fmt.Sprintf("%q", fmt.Sprintf("iot-2/type/sensor/id/+/evt/+/fmt/%d", i))
	}
	filters[0] = `"iot-2/#"`
	for name, c := range map[string]struct {
		rules string
		close bool
	}{
		"the engine is closed": {ownEvents, true},
		"too many probes":      {"decision := {\"allow\": true, \"covers\": [" + strings.Join(filters, ", ") + "]} if input.levels[0] == \"iot-2\"\n\n_constants := [" + strings.Join(many, ", ") + "]", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log bytes.Buffer
			e := engineOf(t, module(map[string]string{"publish": c.rules}), Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
			if c.close {
				e.Close()
			}
			defer e.Close()
			if d := churn(t, e, e.Judge(deviceFacts(t)), 0, 10); !d.Allow {
				t.Fatalf("%+v", d)
			}
			if s := e.Stats(); s.Covered != 0 || s.CoverMismatches != 0 {
				t.Errorf("%+v", s)
			}
			if said := strings.Count(log.String(), "cannot be probed"); (said == 1) == c.close {
				t.Errorf("the log says it %d times:\n%s", said, log.String())
			}
		})
	}
}

// allowance is a budget of so many evaluations.
type allowance struct{ left atomic.Int64 }

func (a *allowance) Spend() bool { return a.left.Add(-1) >= 0 }

// An organisation pays for its checks, and does without when it has spent all.
func TestChecksCostBudget(t *testing.T) {
	t.Parallel()
	e := engineOf(t, module(map[string]string{"publish": ownEvents}), Options{})
	defer e.Close()
	budget := &allowance{}
	budget.left.Store(2)
	f := deviceFacts(t)
	f.Budget = budget
	judge := e.Judge(f)
	churn(t, e, judge, 0, 2) // all is spent, the proof cannot be paid for
	if s := e.Stats(); s.Evaluations != 2 {
		t.Errorf("%d evaluations for two", s.Evaluations)
	}
	if d := churn(t, e, judge, 2, 1); d.Cause != policy.CauseQuota {
		t.Errorf("%+v", d)
	}
	budget.left.Store(100)
	if d := churn(t, e, judge, 3, 3); !d.Allow || e.Stats().Covered == 0 {
		t.Errorf("%+v, %+v", d, e.Stats())
	}
}

// Sessions that start, policies that change and an engine that is closed do not
// disturb each other.
func TestChecksBesideEverything(t *testing.T) {
	t.Parallel()
	bundles := []*Bundle{
		mustLoad(t, module(map[string]string{"publish": ownEvents})),
		mustLoad(t, module(map[string]string{"publish": `decision := {"allow": false, "covers": ["#"]} if input.levels[0] == "iot-2"`})),
	}
	e := New(Options{Timeout: 10 * time.Second})
	e.Activate(bundles[0])
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			for i := range 20 {
				judge := e.Judge(deviceFacts(t))
				for n := range 20 {
					d := judge.Decide(context.Background(), publishTo(t, fmt.Sprintf("iot-2/evt/%d-%d-%d/fmt/json", worker, i, n)))
					if want := d.Revision == bundles[0].Revision(); d.Allow != want {
						t.Errorf("%+v", d)
					}
				}
			}
		})
	}
	for i := range 20 {
		e.Activate(bundles[i%2])
	}
	e.Close()
	wg.Wait()
	e.checks.working.Wait()
}

// Covering matches as subscriptions do, but for empty levels and a leading $.
func TestCoveredIsMQTT(t *testing.T) {
	t.Parallel()
	level := rapid.SampledFrom([]string{"a", "b", "", "$x"})
	rapid.Check(t, func(t *rapid.T) {
		levels := rapid.SliceOfN(level, 1, 4).Draw(t, "levels")
		filter := rapid.SliceOfN(rapid.OneOf(level, rapid.Just("+")), 1, 4).Draw(t, "filter")
		if rapid.Bool().Draw(t, "hash") {
			filter = append(filter, "#")
		}
		f, err := topic.ParseRoutedFilter(strings.Join(filter, "/"))
		n, err2 := topic.ParseRoutedName(strings.Join(levels, "/"))
		if err != nil || err2 != nil {
			t.Skip("no topic")
		}
		want := f.Matches(n) && !(isWildcard(filter[0]) && strings.HasPrefix(levels[0], "$"))
		for i, l := range n.Levels() {
			want = want && !(l == "" && isWildcard(filter[min(i, len(filter)-1)]))
		}
		if got := covered(f.Levels(), n.Levels()); got != want {
			t.Errorf("%s covers %s: %v", f, n, got)
		}
	})
}

func TestSpelling(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, routed, other, want string }{
		{"iot-2/evt/a", "iot-2/type/T/id/D/evt/a", "iot-2/type/T/id/D/cmd", "iot-2/cmd"},
		{"/iot-2/evt/a", "iot-2/type/T/id/D/evt/a", "iot-2/type/T/id/D/cmd/x", "/iot-2/cmd/x"},
		{"a/b", "a/b", "x", "x"},
		{"a/b", "org/a/b", "org/c", "c"},
		{"org/a/b", "a/b", "c", "org/c"},
		{"a/b", "org/a/b", "other/c", ""},
		{"a/", "b/", "b/c", "a/c"},
		{"a/bc", "x/c", "x/d", ""},
		{"a", "b", "c", ""},
	} {
		got := ""
		if s := spellingOf(c.name, strings.Split(c.routed, "/")); s != nil {
			if !s.fits(c.name, strings.Split(c.routed, "/")) {
				t.Errorf("%s is not how %s is written", c.name, c.routed)
			}
			if n, ok := s.write(strings.Split(c.other, "/")); ok {
				got = n.String()
			}
		}
		if got != c.want {
			t.Errorf("%s is %s, so %s is %q, want %q", c.name, c.routed, c.other, got, c.want)
		}
	}
}

func TestWords(t *testing.T) {
	t.Parallel()
	b := mustLoad(t, fsWith(module(map[string]string{"publish": `decision := {"allow": input.topic == "x/+/y", "reason": "two words", "on_deny": "drop"}`}),
		"cordon/table/data.json", `{"rows": [{"key": "value"}, "a/b"]}`))
	for _, want := range []string{"x", "y", "two words", "rows", "key", "value", "a", "b"} {
		if !slices.Contains(b.words.levels, want) {
			t.Errorf("%q is no word of %q", want, b.words.levels)
		}
	}
	if slices.Contains(b.words.levels, "+") || len(b.words.topics) != 1 {
		t.Errorf("levels %q, topics %q", b.words.levels, b.words.topics)
	}
}

func TestCoveredAllocatesNothing(t *testing.T) {
	e := engineOf(t, module(map[string]string{"publish": ownEvents}), Options{})
	defer e.Close()
	judge := e.Judge(deviceFacts(t))
	churn(t, e, judge, 0, 3)
	requests := make([]*policy.Request, 100)
	for i := range requests {
		requests[i] = publishTo(t, fmt.Sprintf("iot-2/evt/new%d/fmt/json", i))
	}
	i := 0
	if n := testing.AllocsPerRun(98, func() { judge.Decide(context.Background(), requests[i]); i++ }); n != 0 {
		t.Errorf("a covered topic costs %v allocations", n)
	}
	if e.Stats().Covered < 99 {
		t.Errorf("%+v", e.Stats())
	}
}

// A check that fails in itself ends the use of covers, not the process.
func TestPanicInACheck(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	e := engineOf(t, module(map[string]string{"publish": ownEvents}), Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	defer e.Close()
	judge := e.Judge(deviceFacts(t))
	e.live.Load().words = nil // which a proof needs
	if d := churn(t, e, judge, 0, 5); !d.Allow || e.Stats().Covered != 0 {
		t.Errorf("%+v, %+v", d, e.Stats())
	}
	if !strings.Contains(log.String(), "a check panicked") {
		t.Errorf("the log says %q", log.String())
	}
}
