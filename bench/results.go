package main

import (
	"strings"

	"github.com/cordon-mq/cordon/bench/report"
)

// metric is one thing that is measured; it is the head of its column.
type metric string

const (
	cpuPerMessage metric = "CPU per message, µs"
	perSecond     metric = "messages/s"
	delivered     metric = "delivered, %"
	ownCPU        metric = "generator, µs"
	p50           metric = "p50, µs"
	p99           metric = "p99, µs"
	bytesPerConn  metric = "kB per connection"
	connects      metric = "connects/s"
	cpuPerConnect metric = "CPU per connect, µs"
	keptShare     metric = "kept after kill -9, %"
	authShare     metric = "share of CPU, %"
	nanoseconds   metric = "ns"
)

// sample is what one trial measured.
type sample map[metric]float64

// line shows a sample while the run goes on.
func (s sample) line(order []metric) string {
	var cells []string
	for _, m := range order {
		if value, ok := s[m]; ok {
			cells = append(cells, string(m)+" "+report.Number(value))
		}
	}
	return strings.Join(cells, "   ")
}

// results are all samples, by case and peer, in the order they were taken.
type results map[string]map[string][]sample

func newResults() results { return results{} }

func (r results) add(caseID, peer string, s sample) {
	if r[caseID] == nil {
		r[caseID] = map[string][]sample{}
	}
	r[caseID][peer] = append(r[caseID][peer], s)
}

// spread sums up one metric; it is all NaN when that was not measured.
func (r results) spread(caseID, peer string, m metric) report.Spread {
	var values []float64
	for _, s := range r[caseID][peer] {
		if value, ok := s[m]; ok {
			values = append(values, value)
		}
	}
	return report.SpreadOf(values)
}
