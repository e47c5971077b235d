package opa

import (
	"context"
	"testing"

	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/audit"
)

// nowhere is a sink that keeps nothing.
type nowhere struct{}

func (nowhere) Name() string                                       { return "nowhere" }
func (nowhere) Write(context.Context, []*audit.Event) (int, error) { return 0, nil }
func (nowhere) Close() error                                       { return nil }

// Logged: what the decision log adds to a remembered permit, its share of rendering
// included, and to a denial that is repeated.
func BenchmarkLogged(b *testing.B) {
	e := engineOf(b, builtinBundle(), Options{})
	run := func(name string, d policy.Decider, r *policy.Request, allow bool) {
		b.Run(name, func(b *testing.B) {
			judge := d.Judge(deviceFacts(b))
			judge.Decide(context.Background(), r)
			b.ReportAllocs()
			for b.Loop() {
				if judge.Decide(context.Background(), r).Allow != allow {
					b.Fatal("another answer")
				}
			}
		})
	}
	l := audit.New(e, audit.Options{Renderer: e.Recorder(nil), Sinks: []audit.Sink{nowhere{}}})
	defer func() { _ = l.Close(context.Background()) }()
	permit, denial := publishTo(b, "iot-2/evt/status/fmt/json"), publishTo(b, "iot-2/cmd/status/fmt/json")
	run("permit/without", e, permit, true)
	run("permit/with", l, permit, true)
	run("denial/without", e, denial, false)
	run("denial/with", l, denial, false)
}
