package opa

import (
	"testing"

	"github.com/cordon-mq/cordon/policy"
)

// A memo shortens the way to an answer and changes none: not for another judge,
// after an activation, or where another field that the rules read differs.
func TestMemoChangesNoAnswer(t *testing.T) {
	t.Parallel()
	e := engineOf(t, module(map[string]string{"publish": `decision := {"allow": input.qos < 2} if input.levels[0] == "iot-2"`}), Options{})
	j, memo := e.Judge(deviceFacts(t)), &policy.Memo{}
	ask := func(j policy.Judge, qos byte) *policy.Decision {
		r := publishTo(t, "iot-2/evt/a/fmt/json")
		r.QoS, r.Memo = qos, memo
		return j.Decide(t.Context(), r)
	}
	other := publishTo(t, "iot-2/evt/b/fmt/json")
	first := ask(j, 1)
	j.Decide(t.Context(), other) // so that the last answer is another topic's
	if d := ask(j, 1); d.ID != first.ID || memo.Note == nil {
		t.Fatalf("not remembered: %+v", d)
	}
	if d := ask(j, 1); d.ID != first.ID {
		t.Errorf("noted, and not found: %+v", d)
	}
	if d := ask(j, 2); d.Allow {
		t.Error("QoS 2 has the answer of QoS 1")
	}
	if d := ask(e.Judge(deviceFacts(t)), 1); d.ID == first.ID {
		t.Error("another judge gave the answer of the first")
	}
	e.Activate(mustLoad(t, module(map[string]string{"publish": `decision := {"allow": false}`})))
	if d := ask(j, 1); d.Allow {
		t.Error("the answer of the bundle before")
	}
}
