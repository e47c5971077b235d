package load

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Latency counts how long things took, from a microsecond to a minute, to one
// per cent. It is not safe for concurrent use.
type Latency struct{ histogram *hdrhistogram.Histogram }

const (
	leastLatency = time.Microsecond
	mostLatency  = time.Minute
)

// NewLatency returns one that is empty.
func NewLatency() *Latency {
	return &Latency{hdrhistogram.New(1, mostLatency.Microseconds(), 2)}
}

// Record counts d; what is out of range counts as the nearest that is not.
func (l *Latency) Record(d time.Duration) {
	d = min(max(d, leastLatency), mostLatency)
	_ = l.histogram.RecordValue(d.Microseconds()) // in range
}

// Add counts everything that other counted.
func (l *Latency) Add(other *Latency) { l.histogram.Merge(other.histogram) }

// Count is how many were recorded.
func (l *Latency) Count() int64 { return l.histogram.TotalCount() }

// Quantile is the latency that a share q of all did not exceed, 0 < q ≤ 1; zero
// when there are none.
func (l *Latency) Quantile(q float64) time.Duration {
	return time.Duration(l.histogram.ValueAtQuantile(q*100)) * time.Microsecond
}
