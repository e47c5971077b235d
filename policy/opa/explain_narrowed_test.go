package opa

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/audit"
)

const openPlatform = `decision := {"allow": true} if input.qos < 2

else := {"allow": false, "reason": "QoS 2"}`

// Where the organisation's own rules took part, they are shown as the platform's are:
// where they are, which got furthest, what did not hold, and what it saw.
func TestExplainNarrowed(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		rules string
		topic string
		want  []string
	}{
		"the head decides": {`# METADATA
# title: Small messages
decision := {"allow": input.size < 10, "reason": "too large"}`, "iot-2/evt/a/fmt/json", []string{
			"publish denied: too large\n", "rules that gave a value\n  cordon.publish.decision  cordon/publish/publish.rego:3:1\n",
			"the organisation's own policy, revision ", ": denied: too large\n",
			"  cordon.publish.decision  p/p.rego:5:1  gave a value  # Small messages\n",
			"the organisation's rules that would have allowed it, the one that got furthest first\n",
			"    failed: decision := {\"allow\": input.size < 10, \"reason\": \"too large\"}  p/p.rego:5:23\n      input.size = 20\n",
		}},
		"a chain": {`default decision := {"allow": false, "reason": "at night only"}

decision := {"allow": true} if {
	kind := input.levels[5]
	kind == "evt"
	startswith(input.levels[6], "temp")
}

decision := {"allow": true} if input.levels[0] == "elsewhere"`, "iot-2/evt/hum/fmt/json", []string{
			"publish denied: at night only\n",
			"  cordon.publish.decision  p/p.rego:3:9  gave a value\n",
			"  cordon.publish.decision  p/p.rego:5:1  (2 of 3 held)\n", "failed: startswith(input.levels[6], \"temp\")  p/p.rego:8:2\n",
			"input.levels[6] = \"hum\"\n", "(0 of 1 held)", `failed: decision := {"allow": true} if input.levels[0] == "elsewhere"  p/p.rego:11:32`,
		}},
		"variables": {`decision := {"allow": true} if {
	kind := input.levels[5]
	name := lower(input.levels[6])
	name != ""
	kind == "cmd"
}

else := {"allow": false, "reason": "no"}`, "iot-2/evt/hum/fmt/json", []string{
			"  cordon.publish.decision  p/p.rego:10:1  gave a value\n", "(3 of 4 held)", "failed: kind == \"cmd\"  p/p.rego:7:2\n      kind = \"evt\"\n",
		}},
		"rules behind it": {`decision := {"allow": true} if {
	_open
	not _closed
}

else := {"allow": false, "reason": "no"}

_open if count(input.levels) > 3

_closed if {
	some level in input.levels
	contains(upper(level), "HUM")
}`, "iot-2/evt/hum/fmt/json", []string{
			"(1 of 2 held)", "failed: not _closed  p/p.rego:5:2\n      cordon.publish._closed  p/p.rego:12:1  gave a value\n",
		}},
		"rules that give nothing": {`decision := {"allow": true} if _open

else := {"allow": false, "reason": "no"}

_open if {
	input.qos == 1
	count(input.levels) > 30
}

_open if input.retain`, "iot-2/evt/hum/fmt/json", []string{
			"failed: decision := {\"allow\": true} if _open  p/p.rego:3:32\n",
			"      cordon.publish._open  p/p.rego:7:1  (1 of 2 held)\n        failed: count(input.levels) > 30  p/p.rego:9:2\n",
			"count(input.levels) = 9\n", "cordon.publish._open  p/p.rego:12:1  (0 of 1 held)\n", "input.retain = false\n",
		}},
		"functions": {`decision := {"allow": true} if _named(input.levels[6])

else := {"allow": false, "reason": "no"}

_named(name) if endswith(name, "x")`, "iot-2/evt/hum/fmt/json", []string{
			"cordon.publish._named  p/p.rego:7:1  (0 of 1 held)", "name = \"hum\"\n",
		}},
		"an error": {`decision := {"allow": true} if to_number(input.levels[6]) > 3`, "iot-2/evt/hum/fmt/json", []string{
			"publish denied\n", "cause        policy_error", "the organisation's bundle: p/p.rego:3:32", "(0 of 1 held)", "input.levels[6] = \"hum\"\n",
		}},
		"undefined": {`decision := {"allow": true} if input.qos == 0`, "iot-2/evt/hum/fmt/json", []string{
			"cause        policy_undefined", "failed: decision := {\"allow\": true} if input.qos == 0  p/p.rego:3:32\n      input.qos = 1\n",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := engineOf(t, module(map[string]string{"publish": openPlatform}), Options{NarrowingTimeout: 10 * time.Second})
			facts := deviceFacts(t)
			own := mustNarrow(t, fstest.MapFS{"p/p.rego": {Data: []byte("package cordon.publish\n\n" + tt.rules + "\n")}})
			e.Narrow(facts.Principal.Org, own)
			r := publishTo(t, tt.topic)
			r.Size = 20
			ev := asWritten(t, recordOf(t, e, facts, r))
			x, tree := explain(t, live(e), ev, Explaining{Own: own})
			contains(t, tree, tt.want...)
			if x.Allow || x.Allow != ev.Custom.Allow || x.Reason != ev.Custom.Reason || x.Cause != ev.Custom.Cause || len(x.Differences) != 0 || len(x.Notes) != 0 || len(x.Tried) != 0 {
				t.Errorf("%+v\n%+v", x, ev.Custom)
			}
		})
	}
}

// What the organisation has now explains as far as it can, and says where it cannot.
func TestExplainNarrowedNow(t *testing.T) {
	t.Parallel()
	e := engineOf(t, module(map[string]string{"publish": openPlatform, "connect": `decision := {"allow": true, "mounts": [{"client": "", "org": ""}]}`}), Options{})
	facts := deviceFacts(t)
	first := mustNarrow(t, publishNarrow(`decision := {"allow": false, "reason": "closed here"}`))
	second := mustNarrow(t, publishNarrow(`decision := {"allow": true}`))
	connects := mustNarrow(t, module(map[string]string{"connect": `decision := {"allow": true, "limits": {"payload_max": 77}}`}))
	e.Narrow(facts.Principal.Org, first)
	ev := asWritten(t, recordOf(t, e, facts, publishTo(t, "iot-2/evt/a/fmt/json")))
	high := publishTo(t, "iot-2/evt/a/fmt/json")
	high.QoS = 2
	refused := asWritten(t, recordOf(t, e, facts, high))
	described, err := live(e).Describe(context.Background(), []byte(`{"action": "publish", "topic": "a", "levels": ["a"], "principal": {"org": "acme01"}}`), noon())
	if err != nil {
		t.Fatal(err)
	}
	hidden := *ev
	hidden.Masked = []string{"/input/client/address"}
	for name, tt := range map[string]struct {
		ev    *audit.Event
		own   *Narrowing
		allow bool
		own2  bool // asked
		notes string
	}{
		"the same":              {ev, first, false, true, ""},
		"another":               {ev, second, true, true, "[the organisation's own policy was revision " + first.Revision() + ", and is explained with " + second.Revision() + "]"},
		"none":                  {ev, nil, true, false, "[the organisation's own policy, revision " + first.Revision() + ", was asked after the platform's, and cannot be asked again: the organisation has no such policy any more the platform's policy allows it, and the organisation's refused: closed here]"},
		"masked":                {&hidden, first, true, false, "[the organisation's own policy, revision " + first.Revision() + ", was asked after the platform's, and cannot be asked again: a mask hides input, and the organisation's rules may read it the platform's policy allows it, and the organisation's refused: closed here]"},
		"the platform refused":  {refused, first, false, false, ""},
		"described":             {described, first, false, true, ""},
		"described, not asked":  {described, connects, true, false, ""},
		"described, nobody's":   {described, nil, true, false, ""},
		"described, not narrow": {described, second, true, true, ""},
	} {
		x, _ := explain(t, live(e), tt.ev, Explaining{Own: tt.own})
		notes := ""
		if len(x.Notes) > 0 {
			notes = fmt.Sprint(x.Notes)
		}
		if x.Allow != tt.allow || (x.Organisation != nil) != tt.own2 || notes != tt.notes {
			t.Errorf("%s: %+v %q", name, x, notes)
		}
	}
	if x, _ := explain(t, live(e), described, Explaining{Own: connects}); !strings.Contains(string(x.Limits), `"payload_max":77`) {
		t.Errorf("limits of the organisation's connect: %s", x.Limits)
	}
}

// Rules that nobody vouches for are explained within the bounds they run in.
func TestExplainHostileNarrowing(t *testing.T) {
	t.Parallel()
	e := engineOf(t, module(map[string]string{"publish": openPlatform}), Options{})
	var many strings.Builder
	many.WriteString("decision := {\"allow\": true} if _r0\n\nelse := {\"allow\": false}\n\n")
	for i := range 200 {
		fmt.Fprintf(&many, "_r0 if {\n\tinput.qos == 1\n\tinput.size == %d\n\tinput.retain\n}\n\n", i)
	}
	for name, rules := range map[string]string{
		"doubling": "decision := {\"allow\": count(_d19) > 0}\n\n_d0 := [1, 2]\n\n" + doubling(20),
		"wide":     many.String(),
		"deep":     "decision := {\"allow\": true} if {\n\tsome a in input.levels\n\tsome b in input.levels\n\tsome c in input.levels\n\tsome d in input.levels\n\tconcat(\"\", [a, b, c, d]) == \"x\"\n}",
	} {
		own := mustNarrow(t, publishNarrow(rules))
		ev, err := live(e).Describe(context.Background(), []byte(`{"action": "publish", "topic": "a", "levels": ["a", "b", "c", "d", "e", "f", "g"], "qos": 1, "principal": {"org": "acme01"}}`), noon())
		if err != nil {
			t.Fatal(err)
		}
		x, tree := explain(t, live(e), ev, Explaining{Own: own})
		if x.Allow || x.Organisation == nil || len(x.Organisation.Tried) == 0 || len(tree) > 256<<10 {
			t.Errorf("%s: %d bytes: %+v", name, len(tree), x.Organisation)
		}
	}
}

func doubling(n int) string {
	var b strings.Builder
	for i := 1; i < n; i++ {
		fmt.Fprintf(&b, "_d%d := array.concat(_d%d, _d%d)\n\n", i, i-1, i-1)
	}
	return b.String()
}

// An organisation's administrator reads values of input, whatever it asks, and none of
// the platform's data: not by a variable, not by what an array should have been, not by
// a look-up, not in the words of an error.
func TestExplainKeepsDataOfThePlatform(t *testing.T) {
	t.Parallel()
	const data = `{"secret": "canary", "list": ["canary", "rival1"], "byOrg": {"acme01": "canary"}, "at": {"six": 6}, "pattern": ["canary"], "cidr": "canary/99"}`
	for name, rules := range map[string]string{
		"iterated":            "allow if {\n\tsome x in data.cordon.publish.list\n\tx == input.principal.id\n}",
		"assigned":            "allow if {\n\tx := data.cordon.publish.secret\n\tx == input.principal.id\n}",
		"the other way round": "allow if {\n\tx := data.cordon.publish.secret\n\tinput.principal.id == x\n}",
		"looked up":           "allow if {\n\tx := data.cordon.publish.byOrg[input.principal.org]\n\tstartswith(input.principal.id, x)\n}",
		"in an array":         "allow if {\n\tx := data.cordon.publish.secret\n\t[\"iot-2\", \"type\", _, _, _, _, _, _, x] = input.levels\n}",
		"an array":            "allow if {\n\tx := data.cordon.publish.pattern\n\tx == input.levels\n}",
		"a position":          "allow if {\n\ti := data.cordon.publish.secret\n\tinput.principal.claims[i] == 7\n}",
		"an argument":         "allow if _is(data.cordon.publish.secret)\n\n_is(x) if {\n\tx == input.principal.id\n\tx == \"y\"\n}",
		"an argument in it":   "allow if _is(data.cordon.publish.secret)\n\n_is(x) if {\n\ty := input.principal.id\n\tx = y\n}",
		"a key":               "allow if _set[data.cordon.publish.secret]\n\n_set contains x if {\n\tx = input.principal.id\n\tx != \"y\"\n}",
		"a comprehension":     "allow if {\n\txs := {x | some x in data.cordon.publish.list}\n\tinput.principal.id in xs\n}",
		"text":                "allow if {\n\ttext := concat(\"-\", [data.cordon.publish.secret, input.principal.id])\n\ttext == \"no\"\n}",
		"an error":            "allow if to_number(data.cordon.publish.secret) > 3",
		"another error":       "allow if net.cidr_contains(data.cordon.publish.cidr, input.client.address)",
		"a conflict":          "allow if {\n\tx := _two\n\tx == 1\n}\n\n_two := data.cordon.publish.secret\n\n_two := input.principal.id",
		"unified":             "allow if {\n\tx = data.cordon.publish.secret\n\tx = input.principal.claims[_]\n}",
		"unified first":       "allow if {\n\t[x, y] = [input.principal.id, data.cordon.publish.secret]\n\tx == y\n}",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files := module(map[string]string{"publish": "decision := {\"allow\": allow, \"reason\": \"no\"}\n\ndefault allow := false\n\n" + rules + "\n"})
			fsWith(files, "cordon/publish/data.json", data)
			e := engineOf(t, files, Options{})
			facts := deviceFacts(t)
			facts.Principal.Claims = map[string]any{"a": "rival1", "b": "guess"}
			ev := asWritten(t, recordOf(t, e, facts, publishTo(t, "iot-2/evt/a/fmt/json")))
			_, all := explain(t, live(e), ev)
			x, tree := explain(t, live(e), ev, Explaining{Restricted: true})
			text := fmt.Sprintf("%+v", x) + tree
			for _, secret := range []string{"canary", `= "rival1"`, `wanted`} {
				if strings.Contains(tree, secret) || secret == "canary" && strings.Contains(text, secret) {
					t.Errorf("%s: %q is shown:\n%s", name, secret, tree)
				}
			}
			if x.Cause != policy.CauseError {
				contains(t, tree, "publish denied: no", "cordon/publish/publish.rego:", "failed: ")
			} else {
				contains(t, tree, "cordon/publish/publish.rego:")
			}
			if x.Allow || !strings.Contains(all, "publish denied") {
				t.Errorf("to the operator:\n%s", all)
			}
		})
	}
}

// What came from input is shown to everybody.
func TestExplainRestrictedShowsInput(t *testing.T) {
	t.Parallel()
	e := engineOf(t, builtinBundle(), Options{})
	ev := recordOf(t, e, deviceFacts(t), publishTo(t, "iot-2/cmd/status/fmt/json"))
	_, all := explain(t, live(e), ev)
	_, tree := explain(t, live(e), ev, Explaining{Restricted: true})
	contains(t, tree, "publish denied: a device publishes", `input.levels = ["iot-2","type","sensor","id","d1","cmd","status","fmt","json"]`, `input.principal.kind = "device"`,
		`input.levels[5] = "cmd", wanted "evt"`)
	if all != tree {
		t.Errorf("the built-in rule reads no data, but\n%s\nis not\n%s", tree, all)
	}
	files := module(map[string]string{"publish": `
decision := {"allow": true} if {
	some claim, value in input.principal.claims
	name := input.levels[6]
	claim == "may"
	value == name
}

else := {"allow": false, "reason": "no"}
`})
	e = engineOf(t, files, Options{})
	facts := deviceFacts(t)
	facts.Principal.Claims = map[string]any{"may": "temp"}
	_, tree = explain(t, live(e), recordOf(t, e, facts, publishTo(t, "iot-2/evt/hum/fmt/json")), Explaining{Restricted: true})
	contains(t, tree, "failed: value == name", `value = "temp"`, `name = "hum"`)
}

func TestPublicDetail(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		cause        policy.Cause
		detail, want string
	}{
		{policy.CauseError, `a.rego:4:2: eval_builtin_error: to_number: parsing "canary": no`, "a.rego:4:2: eval_builtin_error: to_number"},
		{policy.CauseError, `a.rego:4:2: eval_conflict_error: two`, "a.rego:4:2: eval_conflict_error: two"},
		{policy.CauseMalformed, `reason: "canary" is too long`, `reason: "…" is too long`},
		{policy.CauseError, ownDetail + `p.rego:1:1: to_number: parsing "mine"`, ownDetail + `p.rego:1:1: to_number: parsing "mine"`},
		{policy.CauseNone, "", ""},
	} {
		if got := PublicDetail(tt.cause, tt.detail); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.detail, got, tt.want)
		}
	}
}
