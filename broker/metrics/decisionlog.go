package metrics

// DecisionLog is what the decision log has done.
type DecisionLog struct {
	Recorded uint64
	// Lost counts what is not on record for want of room or time, by where that was: a
	// closed set of names.
	Lost map[string]uint64
}

type decisionLogMetrics struct{ recorded, lost metric }

func newDecisionLogMetrics(d *catalogue) decisionLogMetrics {
	return decisionLogMetrics{
		recorded: d.counter("cordon_decision_log_recorded_total", "Decisions that were recorded: refusals, and permits as they are sampled."),
		lost: d.counter("cordon_decision_log_lost_total",
			"Decisions that were to be recorded and were not, by where: the ring that nothing waits for, the rate of an organisation, rendering, or one of the places they are written to.", "where"),
	}
}

func (m *decisionLogMetrics) collect(to sink, s DecisionLog) {
	put(to, m.recorded, s.Recorded)
	for where, n := range s.Lost {
		put(to, m.lost, n, where)
	}
}
