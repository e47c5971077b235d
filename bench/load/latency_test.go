package load_test

import (
	"testing"
	"time"

	"github.com/cordon-mq/cordon/bench/load"
)

func TestLatency(t *testing.T) {
	t.Parallel()
	l := load.NewLatency()
	if l.Count() != 0 || l.Quantile(0.5) != 0 {
		t.Errorf("an empty one has %d and %s", l.Count(), l.Quantile(0.5))
	}
	other := load.NewLatency()
	for i := 1; i <= 1000; i++ {
		into := l
		if i > 500 {
			into = other
		}
		into.Record(time.Duration(i) * time.Millisecond)
	}
	l.Add(other)
	if l.Count() != 1000 {
		t.Errorf("%d, want 1000", l.Count())
	}
	for q, want := range map[float64]time.Duration{0.001: time.Millisecond, 0.5: 500 * time.Millisecond, 0.99: 990 * time.Millisecond, 1: time.Second} {
		if got := l.Quantile(q); got < want || got > want+want/100 {
			t.Errorf("quantile %g is %s, want %s to one per cent", q, got, want)
		}
	}
}

// Nothing is thrown away, however odd.
func TestLatencyOutOfRange(t *testing.T) {
	t.Parallel()
	l := load.NewLatency()
	l.Record(-time.Second)
	l.Record(time.Hour)
	if l.Count() != 2 || l.Quantile(0.5) != time.Microsecond || l.Quantile(1) < time.Minute {
		t.Errorf("%d, %s, %s", l.Count(), l.Quantile(0.5), l.Quantile(1))
	}
}
