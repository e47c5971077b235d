package opa

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/revision"
)

// What an organisation may not write, and how it is told.
func TestNarrowingRefused(t *testing.T) {
	t.Parallel()
	const most = 250 << 10
	fill := func(s string) string { return strings.Repeat(s, most/len(s)) }
	numbered := func(format string, most int) string {
		var b strings.Builder
		for i := 0; b.Len() < most; i++ {
			b.WriteString(strings.NewReplacer("THIS", fmt.Sprint(i), "NEXT", fmt.Sprint(i+1)).Replace(format))
		}
		return b.String()
	}
	body := func(n int, line string) string {
		var b strings.Builder
		for i := range n {
			b.WriteString(strings.NewReplacer("THIS", fmt.Sprint(i), "NEXT", fmt.Sprint(i+1)).Replace(line))
		}
		return b.String()
	}
	const allow = "decision := {\"allow\": true}\n"
	for name, c := range map[string]struct{ pkg, text, want string }{
		"roles":              {"connect", `decision := {"allow": true, "roles": ["PD_ADMIN_APP"]}`, "decision has no field roles"},
		"groups":             {"connect", `decision := {"allow": true, "groups": ["x"]}`, "decision has no field groups"},
		"mounts":             {"connect", `decision := {"allow": true, "mounts": [{"client": "", "org": ""}]}`, "decision has no field mounts"},
		"share":              {"connect", `decision := {"allow": true, "share": "x"}`, "decision has no field share"},
		"share in an else":   {"connect", "decision := {\"allow\": true} if input.client.id == \"x\"\nelse := {\"allow\": true, \"share\": \"x\"}", "decision has no field share"},
		"verifiers":          {"connect", allow + `verifiers := [{"verifier": "anonymous", "org": "other1"}]`, "verifiers is the platform's to say"},
		"queue_overflow":     {"connect", `decision := {"allow": true, "limits": {"queue_overflow": "drop_newest"}}`, "has no field queue_overflow"},
		"administration":     {"admin", allow, "cordon.admin cannot be narrowed"},
		"misspelt input":     {"publish", `decision := {"allow": input.platfrom.allow}`, "undefined ref: input.platfrom"},
		"misspelt answer":    {"publish", `decision := {"alow": true}`, "decision has no field alow"},
		"misspelt rule":      {"publish", `verdict := {"allow": true}`, "data.cordon.publish.decision has no rule"},
		"regex":              {"publish", `decision := {"allow": regex.match("a", input.topic)}`, "undefined function regex.match"},
		"network":            {"publish", `decision := {"allow": http.send({"url": input.topic}).status_code == 200}`, "undefined function http.send"},
		"failing test":       {"publish_test", "import data.cordon.publish\n\ntest_x if publish.decision.allow", "test_x"},
		"functions replaced": {"publish", "f(x) := x\ng(x) := x\n\ndecision := {\"allow\": p}\n\np if f(1) == 1 with f as g\n", "with replaces input or data here"},

		"too large":             {"publish", allow + "#" + strings.Repeat("x", 256<<10), "the bundle is larger than 256 KiB"},
		"brackets":              {"publish", "p := " + fill("["), "more than 256 brackets are open"},
		"brackets and texts":    {"publish", "p := " + fill(`"]" [`), "more than 256 brackets are open"},
		"template":              {"publish", "p := $\"" + fill("{["), "texts with expressions inside"},
		"operators":             {"publish", "p := 1" + fill("==1"), "nested more than 24 deep"},
		"a long reference":      {"publish", "p := data" + fill(".a"), "a reference has more than 64 levels"},
		"a long head":           {"publish", "p" + fill(".a") + " := 1", "a reference has more than 64 levels"},
		"a long literal":        {"publish", "p := [" + fill("1,") + "1]", "a literal has more than 4096 elements"},
		"a long body":           {"publish", "p if {" + fill("1\n") + "}", "a body has more than 128 expressions"},
		"many with":             {"publish", "p if { q " + fill("with input.a as 1 ") + "}\nq := 1", "an expression has more than 16 with"},
		"many else":             {"publish", "p := 1 if input.qos == 1\n" + fill("else := 1 if input.qos == 1\n"), "a rule has more than 128 else"},
		"many rules":            {"publish", numbered("rTHIS := rNEXT\n", most), "rules"},
		"many imports":          {"publish", fill("import data.a\n"), "more than 64 imports"},
		"expressions to sort":   {"publish", numbered("rTHIS if {\n"+body(120, "xTHIS = xNEXT + 1\n")+"x120 = 1\n}\n", most/2), "the bodies of all rules together are too long"},
		"types that double":     {"publish", "decision := {\"allow\": r0 == r1}\n" + body(60, "rTHIS := [rNEXT, rNEXT]\n") + "r60 := 1\n", "has more than 4096 parts"},
		"variables that double": {"publish", "decision := {\"allow\": true} if {\nx0 := input.qos\n" + body(60, "xNEXT := [xTHIS, xTHIS]\n") + "x60 == 3\n}\n", "has more than 4096 parts"},
		"a large number":        {"publish", `decision := {"allow": 1e999999999 > input.size}`, "number too big"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files := module(map[string]string{c.pkg: c.text})
			if strings.HasSuffix(c.pkg, "_test") {
				files = module(map[string]string{"publish": `decision := {"allow": false}`})
				files["cordon/publish/x_test.rego"] = &fstest.MapFile{Data: []byte("package cordon." + c.pkg + "\n\n" + c.text)}
			}
			n, report := LoadNarrowing(context.Background(), files, builtinSchemas())
			if n != nil || report.Err() == nil {
				t.Fatal("it was taken")
			}
			found := ""
			for _, p := range report.Problems {
				found += p.String() + "\n"
			}
			if !strings.Contains(found, c.want) {
				t.Errorf("%.1000s\nwant %s", found, c.want)
			}
		})
	}
}

func TestNarrowingDataIsBounded(t *testing.T) {
	t.Parallel()
	for want, data := range map[string]string{
		"too many digits": `{"x": 1e999999999}`, "nested more than": strings.Repeat(`{"x":`, 40) + "1" + strings.Repeat("}", 40),
		"more than 256 brackets": `{"x": ` + strings.Repeat("[", 100_000),
	} {
		files := fsWith(publishNarrow(`decision := {"allow": true}`), "data.json", data)
		if n, report := LoadNarrowing(context.Background(), files, builtinSchemas()); n != nil || !strings.Contains(report.Err().Error(), want) {
			t.Errorf("%v, want %s", report.Err(), want)
		}
	}
	files := fsWith(publishNarrow(`decision := {"allow": true}`), "data.yaml", "x: 1")
	if n, report := LoadNarrowing(context.Background(), files, builtinSchemas()); n != nil || !strings.Contains(report.Err().Error(), "JSON") {
		t.Errorf("%v, want a word about JSON", report.Err())
	}
}

// A rule that takes too long is stopped, and what it took is taken from the share of
// its organisation; other organisations are answered.
func TestNarrowingShare(t *testing.T) {
	t.Parallel()
	e := engineOf(t, builtinBundle(), Options{NarrowingTimeout: 20 * time.Millisecond, NarrowingShare: 1e-9})
	defer e.Close()
	ours, theirs := deviceFacts(t), deviceFacts(t)
	other := *theirs.Principal
	other.Org = mustOrg(t, "other1")
	theirs.Principal = &other
	busy := fsWith(publishNarrow(`decision := {"allow": count([1 | some a in data.list; some b in data.list; a > b; b > a]) == 0}`),
		"data.json", `{"list": [`+strings.Repeat("1,", 20_000)+`1]}`)
	e.Narrow(ours.Principal.Org, mustNarrow(t, busy))
	e.Narrow(other.Org, mustNarrow(t, publishNarrow(`decision := {"allow": true}`)))
	r := publishTo(t, "iot-2/evt/status/fmt/json")
	e.useOf(e.tenant(ours.Principal.Org, true)).decided.burst = 50 * time.Millisecond
	var causes []policy.Cause
	for range 20 {
		d := decide(t, e.Judge(ours), r)
		causes = append(causes, d.Cause)
		if !strings.Contains(d.Detail, ownDetail) {
			t.Fatalf("%+v", d)
		}
	}
	if causes[0] != policy.CauseTimeout || causes[len(causes)-1] != policy.CauseQuota || e.Stats().OverShare == 0 {
		t.Errorf("causes %v", causes)
	}
	e.narrowing.timeout = 10 * time.Second // a busy machine may stall
	if d := decide(t, e.Judge(theirs), r); !d.Allow {
		t.Errorf("the other organisation: %+v", d)
	}
}

func TestShareIsRefilledAndMayBeInDebt(t *testing.T) {
	t.Parallel()
	s := share{rate: 0.5, burst: time.Second}
	at := time.Unix(1000, 0)
	after := func(d time.Duration) bool { return s.left(at.Add(d)) }
	if !after(0) {
		t.Error("it begins full")
	}
	s.take(at, 3*time.Second) // 2 in debt
	if after(0) || after(4*time.Second) || !after(4*time.Second+2) {
		t.Error("a debt of 2 s is paid in 4")
	}
}

// stored is a source of bundles that counts.
type stored struct {
	asked atomic.Int64
	files []revision.File
	err   error
}

func (s *stored) Narrowing(policy.OrgID) ([]revision.File, bool, error) {
	s.asked.Add(1)
	return s.files, len(s.files) > 0, s.err
}

// A bundle is compiled when the first decision needs it, by one of many that do.
func TestNarrowingIsCompiledOnFirstNeed(t *testing.T) {
	t.Parallel()
	source := &stored{files: mustNarrow(t, publishNarrow(`decision := {"allow": false, "reason": "stored"}`)).Files()}
	e := engineOf(t, builtinBundle(), Options{Narrowings: source, Schemas: builtinSchemas(), NarrowingTimeout: 10 * time.Second})
	defer e.Close()
	facts := deviceFacts(t)
	r := publishTo(t, "iot-2/evt/status/fmt/json")
	if j := e.Judge(facts); !j.Decides(policy.ActionReceive) {
		t.Error("what is not compiled may have a rule")
	}
	var work sync.WaitGroup
	for range 8 {
		work.Go(func() {
			if d := e.Judge(facts).Decide(context.Background(), r); d.Allow || d.Reason != "stored" {
				t.Errorf("%+v", d)
			}
		})
	}
	work.Wait()
	if n := source.asked.Load(); n != 2 {
		t.Errorf("asked %d times, want once whether there is one and once for it", n)
	}
	if e.NarrowingRevision(facts.Principal.Org) == "" || e.Judge(facts).Decides(policy.ActionReceive) {
		t.Error("it is not live")
	}
	facts.Principal = &policy.Principal{Org: mustOrg(t, "other1"), Kind: policy.KindDevice, Type: "sensor", ID: "d1", Registered: true}
	source.files = nil
	if d := decide(t, e.Judge(facts), r); !d.Allow {
		t.Errorf("an organisation without one: %+v", d)
	}
}

// While a stored bundle cannot be compiled, its organisation is refused, and asked
// about again after a while; administration goes on.
func TestNarrowingThatDoesNotLoadRefuses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source := &stored{err: errors.New("disk on fire")}
		e := engineOf(t, builtinBundle(), Options{Narrowings: source, Schemas: builtinSchemas(), NarrowingTimeout: 10 * time.Second})
		defer e.Close()
		facts := deviceFacts(t)
		j, r := e.Judge(facts), publishTo(t, "iot-2/evt/status/fmt/json")
		for range 3 {
			if d := decide(t, j, r); d.Allow || d.Cause != policy.CauseUnavailable {
				t.Errorf("%+v", d)
			}
		}
		if n := source.asked.Load(); n != 2 {
			t.Errorf("asked %d times", n)
		}
		if d := decide(t, j, &policy.Request{Action: policy.ActionAdminister}); d.Cause == policy.CauseUnavailable {
			t.Errorf("administration: %+v", d)
		}
		source.err = nil
		time.Sleep(awakenAgain + time.Second)
		if d := decide(t, j, r); !d.Allow {
			t.Errorf("after it was read: %+v", d)
		}
	})
}

// The gate of an engine holds one organisation to one bundle at a time.
func TestLoadNarrowingWaitsForItsTurn(t *testing.T) {
	t.Parallel()
	e := engineOf(t, builtinBundle(), Options{Schemas: builtinSchemas()})
	defer e.Close()
	org := mustOrg(t, "acme01")
	var work sync.WaitGroup
	for range 4 {
		work.Go(func() {
			n, report, err := e.LoadNarrowing(context.Background(), org, publishNarrow(`decision := {"allow": true}`))
			if err != nil || n == nil {
				t.Errorf("%v %v", report, err)
			}
		})
	}
	work.Wait()
	u := e.useOf(e.tenant(org, true))
	u.loaded.take(time.Now(), time.Hour)
	if _, _, err := e.LoadNarrowing(context.Background(), org, publishNarrow(`decision := {"allow": true}`)); policy.KindOf(err) != policy.KindLimit {
		t.Errorf("%v, want the share to be used up", err)
	}
}
