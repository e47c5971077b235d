package opa

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/policy"
)

// smallNarrowing is what an organisation typically writes.
const smallNarrowing = `
default decision := {"allow": false, "reason": "not in this building"}

decision := {"allow": true} if {
	input.levels[6] in {"status", "alarm"}
	input.size <= 4096
}

decision := {"allow": true} if "ops" in input.principal.groups
`

// Narrowed: decisions with an organisation's bundle on top of the built-in one.
func BenchmarkNarrowed(b *testing.B) {
	e := engineOf(b, builtinBundle(), Options{NarrowingTimeout: 10 * time.Second, NarrowingShare: 1000})
	defer e.Close()
	facts := deviceFacts(b)
	e.Narrow(facts.Principal.Org, mustNarrow(b, module(map[string]string{"publish": smallNarrowing})))
	r := publishTo(b, "iot-2/evt/status/fmt/json")
	b.Run("cold", func(b *testing.B) {
		j := e.Judge(facts).(*judge)
		b.ReportAllocs()
		for b.Loop() {
			if a, _ := j.answer(context.Background(), j.sight().entry(r.Action), r, e.now()); !a.Allow {
				b.Fatal(a.Cause, a.Reason, a.Detail)
			}
		}
	})
	b.Run("last", func(b *testing.B) {
		j := e.Judge(facts)
		j.Decide(context.Background(), r)
		b.ReportAllocs()
		for b.Loop() {
			j.Decide(context.Background(), r)
		}
	})
	b.Run("remembered", func(b *testing.B) {
		j := e.Judge(facts)
		requests := make([]*policy.Request, 64)
		for i := range requests {
			requests[i] = publishTo(b, fmt.Sprintf("iot-2/evt/event%d/fmt/json", i))
			j.Decide(context.Background(), requests[i])
		}
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			j.Decide(context.Background(), requests[i%len(requests)])
		}
	})
}

// LoadNarrowing: compiling a small bundle of an organisation, on first need.
func BenchmarkLoadNarrowing(b *testing.B) {
	files := module(map[string]string{"publish": smallNarrowing})
	for b.Loop() {
		mustNarrow(b, files)
	}
}

// ThousandNarrowings: memory of a thousand small bundles, all compiled, each of
// another text.
func BenchmarkThousandNarrowings(b *testing.B) {
	for b.Loop() {
		e := engineOf(b, builtinBundle(), Options{})
		before := heap()
		for i := range 1000 {
			rules := smallNarrowing + fmt.Sprintf("\n_n := %d\n", i)
			e.Narrow(mustOrg(b, fmt.Sprintf("org%04d", i)), mustNarrow(b, module(map[string]string{"publish": rules})))
		}
		b.ReportMetric(float64(heap()-before)/1000, "B/bundle")
		e.Close()
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
