package load

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// source is a publisher that runs.
type source struct {
	flow      *flow
	index     int
	identity  Identity
	templates []template
	readers   []*sink // everybody who gets its messages
	client    *Client

	sent     atomic.Uint64 // written under the lock
	acked    atomic.Uint64 // by the broker
	forgiven atomic.Uint64 // messages before this number are waited for no longer
	stuck    uint64        // of forgive

	// The lock is held while writing: packets of one connection have an order.
	guarded struct {
		sync.Mutex
		out []byte
	}
}

func newSource(f *flow, index int, p Publisher) (*source, error) {
	s := &source{flow: f, index: index, identity: p.Identity}
	if len(p.Topics) == 0 {
		return nil, fmt.Errorf("publisher %d has no topic", index)
	}
	for _, topic := range p.Topics {
		t, err := newTemplate(topic, f.QoS, f.Payload)
		if err != nil {
			return nil, err
		}
		s.templates = append(s.templates, t)
	}
	return s, nil
}

func (s *source) open(ctx context.Context) (err error) {
	s.client, err = Connect(ctx, s.flow.Target, s.identity, true)
	return err
}

// done is how many messages are no longer open.
func (s *source) done() uint64 {
	done := uint64(math.MaxUint64)
	if s.flow.QoS > 0 {
		done = s.acked.Load()
	}
	for _, r := range s.readers {
		done = min(done, r.upTo[s.index].Load())
	}
	return max(done, s.forgiven.Load())
}

func (s *source) settled() bool { return s.done() >= s.sent.Load() }

// pump writes answers and as many messages as the window has places, together.
// Whoever frees a place calls it.
func (s *source) pump(answers []byte) error {
	f := s.flow
	closed := f.Rate == 0 && !f.stopped.Load()
	if len(answers) == 0 && (!closed || s.sent.Load() >= s.done()+uint64(f.Window)) {
		return nil
	}
	s.guarded.Lock()
	defer s.guarded.Unlock()
	out := append(s.guarded.out, answers...) // after what is due and not written
	if closed {
		now := time.Since(f.began)
		for limit := s.done() + uint64(f.Window); s.sent.Load() < limit; {
			out = s.appendNext(out, now)
		}
	}
	return s.writeLocked(out)
}

// appendNext appends the next message; the caller holds the lock.
func (s *source) appendNext(out []byte, due time.Duration) []byte {
	number := s.sent.Load()
	out = s.templates[number%uint64(len(s.templates))].append(out, stamp{
		run: s.flow.id, publisher: uint32(s.index), number: number, due: int64(due),
	})
	s.sent.Store(number + 1)
	return out
}

func (s *source) writeLocked(out []byte) error {
	s.guarded.out = out[:0]
	if len(out) == 0 {
		return nil
	}
	_, err := s.client.conn.Write(out)
	return err
}

// forgive gives up on messages that have been open for a whole period of watch.
func (s *source) forgive() error {
	done := s.done()
	if s.flow.Rate > 0 || s.settled() || done != s.stuck {
		s.stuck = done
		return nil
	}
	s.forgiven.Store(s.sent.Load())
	return s.pump(nil)
}

// read takes acknowledgements until the connection ends.
func (s *source) read() error {
	var answers []byte
	for {
		if err := s.client.in.fill(); err != nil {
			return err
		}
		answers = answers[:0]
		for {
			first, body, ok, err := s.client.in.next()
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			if len(body) < 2 {
				return errMalformed
			}
			switch first >> 4 {
			case typePuback, typePubcomp:
				s.acked.Add(1)
			case typePubrec:
				answers = appendAck(answers, firstPubrel, uint16(body[0])<<8|uint16(body[1]))
			default:
				return errors.New("a publisher was sent something else than an acknowledgement")
			}
		}
		if err := s.pump(answers); err != nil {
			return err
		}
	}
}
