package metrics

import "github.com/prometheus/client_golang/prometheus"

// Values of labels.
const (
	outcomeAllow = "allow"
	outcomeDeny  = "deny"
	resultOK     = "ok"
	resultFailed = "failed"
	directionIn  = "in"
	directionOut = "out"

	// causeNone stands where nothing was refused: an empty value would be no label.
	causeNone = "none"
)

func outcomeOf(allowed bool) string {
	if allowed {
		return outcomeAllow
	}
	return outcomeDeny
}

// metric is one whose value is read at a scrape.
type metric struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

// catalogue makes metrics and remembers them, since a collector has to say which
// it has.
type catalogue []*prometheus.Desc

func (c *catalogue) add(kind prometheus.ValueType, name, help string, labels []string) metric {
	m := metric{prometheus.NewDesc(name, help, labels, nil), kind}
	*c = append(*c, m.desc)
	return m
}

func (c *catalogue) counter(name, help string, labels ...string) metric {
	return c.add(prometheus.CounterValue, name, help, labels)
}

func (c *catalogue) gauge(name, help string, labels ...string) metric {
	return c.add(prometheus.GaugeValue, name, help, labels)
}

// sink takes what one scrape found.
type sink chan<- prometheus.Metric

func put[N int | int64 | uint64 | float64](to sink, m metric, value N, labels ...string) {
	shown, err := prometheus.NewConstMetric(m.desc, m.kind, float64(value), labels...)
	if err != nil {
		shown = prometheus.NewInvalidMetric(m.desc, err)
	}
	to <- shown
}

// flag is 1 for true.
func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}
