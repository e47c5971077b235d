package audit

import "sync/atomic"

// Stats counts since the log was made.
type Stats struct {
	Recorded   uint64 // events that were rendered
	Folded     uint64 // denials that are counted in the record of an equal one
	Dropped    uint64 // the ring was full
	OverRate   uint64 // an organisation was over its rate
	RuledOut   uint64 // a rule of the bundle dropped them
	Masked     uint64 // of Recorded: those that a rule of the bundle masked
	MaskFailed uint64 // of Recorded: those whose mask failed
	Failed     uint64 // could not be rendered
	Sinks      []SinkStats
}

// SinkStats counts what one sink did.
type SinkStats struct {
	Name    string
	Written uint64
	Dropped uint64 // its queue was full
	Failed  uint64 // the sink gave them up
}

type counters struct {
	recorded, folded, dropped, overRate, ruledOut, masked, maskFailed, failed atomic.Uint64
}

// Stats returns the counts so far.
func (l *Log) Stats() Stats {
	c := &l.stats
	s := Stats{
		Recorded: c.recorded.Load(), Folded: c.folded.Load(), Dropped: c.dropped.Load(), OverRate: c.overRate.Load(),
		RuledOut: c.ruledOut.Load(), Masked: c.masked.Load(), MaskFailed: c.maskFailed.Load(), Failed: c.failed.Load(),
	}
	for _, q := range l.drain.sinks {
		s.Sinks = append(s.Sinks, SinkStats{q.sink.Name(), q.written.Load(), q.dropped.Load(), q.failed.Load()})
	}
	return s
}
