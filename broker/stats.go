package broker

import (
	"maps"
	"sync/atomic"
	"time"

	"github.com/cordon-mq/cordon/policy"
)

// Stats says what the broker carries now and has done since it was made.
type Stats struct {
	In, Out Traffic
	// Dropped are messages that a session was to have and did not get, by why.
	Dropped map[Drop]uint64
	// Refused are refusals, each of which has its line in the log.
	Refused map[Refusal]uint64
	// Rejudged counts sessions that were judged again, after an activation, a
	// change of the registry or a time that a decision named.
	Rejudged  uint64
	TakeOvers uint64 // of sessions, by another connection

	Connections     map[string]int // by the name of their listener
	Online, Offline int            // sessions
	Subscriptions   int
	Retained        Stock
	Queued          Stock // for sessions, not sent yet
	InFlight        int   // messages sent and not acknowledged
	Buffer          int64 // bytes in use of Config.Buffer
	BufferMax       int64
}

// Traffic is what went one way.
type Traffic struct {
	Messages [3]uint64 // by QoS; those that were admitted, those that were sent
	Bytes    uint64    // of all packets, without what TLS and WebSocket add
}

// Stock is messages that are kept.
type Stock struct {
	Messages int
	Bytes    int64
}

// Refusal is what was refused and why.
type Refusal struct {
	Action policy.Action // none for a packet that breaks MQTT
	Cause  policy.Cause
}

// Drop says why a message was dropped.
type Drop string

// The closed set of them.
const (
	DropBacklog   Drop = "backlog"     // QoS 0, and its reader is too far behind or has gone
	DropQueueFull Drop = "queue_full"  // by the overflow rule of its session
	DropExpired   Drop = "expired"     // its time was over before it could be sent
	DropTooLarge  Drop = "too_large"   // for its receiver's Maximum Packet Size
	DropNoTopic   Drop = "no_spelling" // the receiver's mounts have no name for its topic any more
)

// Observer is told how long things took that are seldom and slow. It is called
// by the goroutine that did them and must return soon.
type Observer interface {
	// Connect took from a CONNECT to the decision about it; with an exchange of
	// AUTH packets, that too.
	Connect(allowed bool, took time.Duration)
	// Sweep took to judge every session with a connection again.
	Sweep(took time.Duration)
}

type unobserved struct{}

func (unobserved) Connect(bool, time.Duration) {}
func (unobserved) Sweep(time.Duration)         {}

// stats are counters for metrics; nothing decides by them.
type stats struct {
	lanes  [16]lane
	opened atomic.Uint32 // connections so far: they take turns in the lanes

	droppedQueue, expired, tooLarge, noTopic, rejudged, takeOvers atomic.Uint64
}

// lane is what some of the connections count. There are several, so that
// connections on different processors seldom meet in one at every message.
type lane struct {
	in struct {
		messages [3]atomic.Uint64
		bytes    atomic.Uint64
		_        [32]byte
	}
	out struct {
		messages [3]atomic.Uint64
		bytes    atomic.Uint64
		dropped  atomic.Uint64 // DropBacklog
		_        [24]byte
	}
}

// next is the lane of one more connection.
func (s *stats) next() *lane { return &s.lanes[s.opened.Add(1)%uint32(len(s.lanes))] }

// of is the lane of c, nil for the broker itself.
func (s *stats) of(c *conn) *lane {
	if c == nil {
		return &s.lanes[0]
	}
	return c.lane
}

// Stats counts. What needs a look at every session takes no lock for longer than
// that look, so the numbers are of slightly different moments.
func (b *Broker) Stats() Stats {
	s := Stats{
		Refused: b.refused.snapshot(), Rejudged: b.stats.rejudged.Load(), TakeOvers: b.stats.takeOvers.Load(),
		Buffer: b.budget.used.Load(), BufferMax: b.budget.total,
	}
	backlog := uint64(0)
	for i := range b.stats.lanes {
		l := &b.stats.lanes[i]
		for qos := range l.in.messages {
			s.In.Messages[qos] += l.in.messages[qos].Load()
			s.Out.Messages[qos] += l.out.messages[qos].Load()
		}
		s.In.Bytes += l.in.bytes.Load()
		s.Out.Bytes += l.out.bytes.Load()
		backlog += l.out.dropped.Load()
	}
	s.Dropped = map[Drop]uint64{
		DropBacklog: backlog, DropQueueFull: b.stats.droppedQueue.Load(), DropExpired: b.stats.expired.Load(),
		DropTooLarge: b.stats.tooLarge.Load(), DropNoTopic: b.stats.noTopic.Load(),
	}
	b.guarded.Lock()
	s.Connections = maps.Clone(b.guarded.listeners)
	b.guarded.Unlock()
	for _, sp := range b.listSpaces() {
		sp.count(&s)
	}
	return s
}

// count adds what the organisation has to s.
func (sp *space) count(s *Stats) {
	s.Subscriptions += sp.subscriptions()
	s.Queued.Bytes += sp.stored.Load()
	kept := sp.retained.stock()
	s.Retained.Messages += kept.Messages
	s.Retained.Bytes += kept.Bytes
	for _, one := range sp.list() {
		if one.conn.Load() != nil {
			s.Online++
		} else {
			s.Offline++
		}
		waiting, inFlight := one.owes()
		s.Queued.Messages += waiting
		s.InFlight += inFlight
	}
}

// owes is how many messages wait for the client, and how many it has not
// acknowledged.
func (s *session) owes() (waiting, inFlight int) {
	s.guarded.Lock()
	defer s.guarded.Unlock()
	return s.guarded.out.waiting(), len(s.guarded.out.inflight)
}
