package opa

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/policy"
)

// Answers are counted by action, outcome and cause, whether they were evaluated
// or remembered, and each evaluation is timed.
func TestStatsByAction(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_700_000_000, 0)
	var timed atomic.Int64
	e := engineOf(t, module(map[string]string{
		"publish": `
decision := {"allow": true} if input.qos == 0

decision := {"allow": false} if input.qos == 1

decision := {"allow": to_number(input.topic) == 1} if input.qos == 2
`,
		"subscribe": `decision := {"allow": true}`,
	}), Options{Now: func() time.Time { return now }, Evaluated: func(took time.Duration) {
		if took > 0 {
			timed.Add(1)
		}
	}})
	judge := e.Judge(deviceFacts(t))
	for qos := range byte(3) {
		for range 3 {
			r := publishTo(t, "iot-2/evt/a/fmt/b")
			r.QoS = qos
			judge.Decide(context.Background(), r)
		}
	}
	judge.Decide(context.Background(), subscribeTo(t, "iot-2/cmd/+/fmt/+"))
	judge.Decide(context.Background(), &policy.Request{Action: policy.ActionReceive}) // no rule
	judge.Decide(context.Background(), &policy.Request{Action: 200})                  // no action

	s := e.Stats()
	p := s.Actions[policy.ActionPublish]
	if p.Allowed != 3 || p.Denied[policy.CausePolicy] != 3 || p.Denied[policy.CauseError] != 3 || len(p.Denied) != 2 || p.Remembered != 4 || p.Covered != 0 {
		t.Errorf("publish: %+v", p)
	}
	if a := s.Actions[policy.ActionSubscribe]; a.Allowed != 1 || len(a.Denied) != 0 || a.Remembered != 0 {
		t.Errorf("subscribe: %+v", a)
	}
	if a := s.Actions[policy.ActionReceive]; a.Denied[policy.CauseUndefined] != 1 {
		t.Errorf("receive: %+v", a)
	}
	if _, counted := s.Actions[policy.ActionNone]; counted || s.Remembered != 4 {
		t.Errorf("%+v", s)
	}
	if s.Evaluations != 6 || timed.Load() != 6 {
		t.Errorf("%d evaluations, %d timed", s.Evaluations, timed.Load())
	}
	if !s.Activated.Equal(now) {
		t.Errorf("activated %v", s.Activated)
	}
	if unused := New(Options{}).Stats(); !unused.Activated.IsZero() {
		t.Errorf("without a bundle: %v", unused.Activated)
	}
}
