package opa

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/topic"
)

// honest are rules for the topics iot-2/type/T/id/D/evt/E/fmt/F that state, truly,
// which other topics have the same answer: READS are the fields they look at,
// COVERS the topics, SPECIAL what they treat otherwise.
const honest = `
decision := object.union(_base, {"covers": _covers}) if _covers

else := _base

_base := {
	"allow": _allowed,
	"reason": concat(" ", [_name, input.principal.id, sprintf("%v", [[READS]])]),
	"ttl": 3600,
}

default _allowed := false

_allowed if {
	input.levels[5] == "evt"
	not "ops" in input.principal.groups
	not _special
}

default _special := false

_special if SPECIAL

default _name := "special"

_name := concat("/", array.slice(input.levels, 0, 6)) if not _special

_covers := [concat("/", array.concat(array.slice(input.levels, 0, N), [COVERS]))] if {
	input.levels[5] == "evt"
	input.levels[7] == "fmt"
	count(input.levels) == 9
	not _special
}
`

// honestBundles combine what is read with what is covered.
func honestBundles(t *testing.T) (bundles []*Bundle) {
	t.Helper()
	reads := []string{
		`1`, `input.qos, input.retain`, `object.get(input, "size", 0)`, `input.properties.content_type`,
		`input.properties.user`, `input.device.groups`, `split(input.topic, "/")[0]`, `input.will, input.size`,
	}
	covers := []struct{ n, covers, special string }{
		{"6", `"+", "fmt", "+"`, `input.levels[7] == "cmd"`},
		{"8", `"+"`, `input.levels[6] in {"e1", "secret"}`},
		{"6", `"#"`, `input.levels[5] == "e1"`},
		{"5", `"evt", "+", "fmt", "f1"`, `input.levels[8] == "f2"`},
	}
	for i, read := range reads {
		for k := range 2 {
			c := covers[(i+k)%len(covers)]
			text := strings.NewReplacer("READS", read, "COVERS", c.covers, "SPECIAL", c.special, "array.slice(input.levels, 0, N)", "array.slice(input.levels, 0, "+c.n+")").Replace(honest)
			if c.covers == `"#"` {
				text = strings.Replace(text, "\tinput.levels[7] == \"fmt\"\n\tcount(input.levels) == 9\n", "", 1)
			}
			bundles = append(bundles, mustLoad(t, module(map[string]string{"publish": text, "receive": text})))
		}
	}
	return bundles
}

// drawMessage keeps to few values of everything but the topic.
func drawMessage(t *rapid.T, id string) *policy.Request {
	few := func(label string, of ...string) string { return rapid.SampledFrom(of).Draw(t, label) }
	seldom := func(label string) int { return rapid.IntRange(0, 9).Draw(t, label) / 9 }
	rest := few("kind", "evt", "evt", "evt", "evt", "cmd") + "/" + few("event", "e1", "e1", "secret", "", "fmt", rapid.StringMatching("[a-z]{1,3}").Draw(t, "any event")) + "/" +
		few("word", "fmt", "fmt", "fmt", "fmt", "cmd") + "/" + few("format", "f1", "f2", "", rapid.StringMatching("[a-z]{1,3}").Draw(t, "any format"))
	if rapid.IntRange(0, 9).Draw(t, "short") == 0 {
		rest = few("rest", "evt", "evt/e1", "evt/e1/fmt/f1/x", "evt/")
	}
	prefix := few("prefix", "iot-2/", "iot-2/", "iot-2/", "/iot-2/")
	r := &policy.Request{
		Action: rapid.SampledFrom([]policy.Action{policy.ActionPublish, policy.ActionPublish, policy.ActionPublish, policy.ActionReceive}).Draw(t, "action"),
		QoS:    byte(seldom("qos")), Size: seldom("size"), Retain: seldom("retain") > 0, Will: seldom("will") > 0,
		Levels: append([]string{"iot-2", "type", "sensor", "id", id}, strings.Split(rest, "/")...),
	}
	r.Topic, _ = topic.ParseName(prefix + rest)
	if seldom("no properties") == 0 {
		r.Properties = &policy.Properties{ContentType: few("content type", "", "x", "x", "x"), User: []policy.UserProperty{{Key: "k", Value: few("value", "a", "a", "a", "b")}}}
	}
	if seldom("no device") == 0 {
		r.Device = &policy.Device{Type: "sensor", ID: policy.ID(id), Groups: []string{few("group", "a", "a", "a", "b")}}
	}
	return r
}

// Over any principals, messages and policy edits, an answer from memory is the
// one that a fresh evaluation gives, also where covers answered.
func TestRememberedEqualsFreshOverEdits(t *testing.T) {
	t.Parallel()
	bundles := honestBundles(t)
	var facts []*policy.Facts
	for _, id := range []string{"d1", "d2"} {
		for _, groups := range [][]string{nil, {"ops"}} {
			f := deviceFacts(t)
			f.Principal.ID, f.Principal.Groups = policy.ID(id), groups
			facts = append(facts, f)
		}
	}
	e := New(Options{MemoryEntries: 4, Timeout: 10 * time.Second})
	defer e.Close()
	e.Activate(bundles[0])
	rapid.Check(t, func(t *rapid.T) {
		judges := map[*policy.Facts]policy.Judge{}
		for range rapid.IntRange(10, 30).Draw(t, "steps") {
			if rapid.IntRange(0, 79).Draw(t, "edit") == 79 {
				e.Activate(rapid.SampledFrom(bundles).Draw(t, "bundle"))
			}
			f := facts[max(0, rapid.IntRange(-9, len(facts)-1).Draw(t, "facts"))]
			if judges[f] == nil || rapid.IntRange(0, 19).Draw(t, "new session") == 0 {
				judges[f] = e.Judge(f)
			}
			r := drawMessage(t, string(f.Principal.ID))
			got := judges[f].Decide(context.Background(), r)
			want := e.Judge(f).Decide(context.Background(), r)
			if got.Allow != want.Allow || got.Cause != want.Cause || got.Reason != want.Reason || got.Revision != want.Revision || !slices.Equal(got.Covers, want.Covers) {
				t.Fatalf("remembered %s\nfresh      %s\nrequest %+v", show(got), show(want), r)
			}
			e.checks.working.Wait()
		}
	})
	if s := e.Stats(); s.Covered == 0 || s.CoverMismatches != 0 {
		t.Errorf("%d covered answers and %d mismatches, want many and none", s.Covered, s.CoverMismatches)
	}
}

func show(d *policy.Decision) string {
	return fmt.Sprintf("allow=%v cause=%q reason=%q covers=%v detail=%q", d.Allow, d.Cause, d.Reason, d.Covers, d.Detail)
}
