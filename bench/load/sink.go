package load

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// sink is a reader that runs. One goroutine reads it; the atomics are for others.
type sink struct {
	flow    *flow
	reader  Reader
	client  *Client
	sources []*source // by number of the publisher; nil: none of its business

	arrived atomic.Int64    // messages so far
	upTo    []atomic.Uint64 // by publisher: one more than the highest number that arrived
	missed  int64           // numbers that were passed over
	late    int64           // numbers that came after a higher one: missed before, or twice
	latency *Latency
}

func newSink(f *flow, reader Reader) *sink {
	return &sink{
		flow: f, reader: reader, latency: NewLatency(),
		sources: make([]*source, len(f.sources)), upTo: make([]atomic.Uint64, len(f.sources)),
	}
}

// expect tells the sink and its sources of one another.
func (k *sink) expect(all []*source) error {
	if k.reader.From == nil {
		copy(k.sources, all)
	}
	for _, i := range k.reader.From {
		if i < 0 || i >= len(all) {
			return fmt.Errorf("reader %s wants publisher %d of %d", k.reader.Identity, i, len(all))
		}
		k.sources[i] = all[i]
	}
	for _, s := range k.sources {
		if s != nil {
			s.readers = append(s.readers, k)
		}
	}
	return nil
}

func (k *sink) open(ctx context.Context) (err error) {
	k.client, err = Connect(ctx, k.flow.Target, k.reader.Identity, !k.flow.Keep)
	if err != nil {
		return err
	}
	return k.client.Subscribe(k.flow.QoS, k.reader.Filters...)
}

// delivered is how many messages came, each counted once, and how many more
// came again. A late one fills a gap as long as there are gaps.
func (k *sink) delivered() (once, again int64) {
	again = max(0, k.late-k.missed)
	return k.arrived.Load() - again, again
}

// read counts messages, answers them, and lets their publishers send more,
// until the connection ends.
func (k *sink) read() error {
	var answers []byte
	freed := make([]*source, 0, len(k.sources))
	marked := make([]bool, len(k.sources))
	for {
		if err := k.client.in.fill(); err != nil {
			return err
		}
		now := time.Since(k.flow.began)
		answers, freed = answers[:0], freed[:0]
		arrived := int64(0)
		for {
			first, body, ok, err := k.client.in.next()
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			if first>>4 != typePublish {
				if answers, err = k.answerAck(answers, first, body); err != nil {
					return err
				}
				continue
			}
			m, err := parseMessage(first, body)
			if err != nil {
				return err
			}
			answers = appendReceipt(answers, m)
			if !k.take(m, now) {
				continue
			}
			arrived++
			if !marked[m.publisher] {
				marked[m.publisher] = true
				freed = append(freed, k.sources[m.publisher])
			}
		}
		k.arrived.Add(arrived)
		if len(answers) > 0 {
			if _, err := k.client.conn.Write(answers); err != nil {
				return err
			}
		}
		for _, s := range freed {
			marked[s.index] = false
			if err := s.pump(nil); err != nil {
				return err
			}
		}
	}
}

// take counts m if it is of this run and of a publisher of this reader.
func (k *sink) take(m message, now time.Duration) bool {
	if m.run != k.flow.id || int64(m.publisher) >= int64(len(k.sources)) || k.sources[m.publisher] == nil {
		return false
	}
	switch next := k.upTo[m.publisher].Load(); {
	case m.number >= next:
		k.missed += int64(m.number - next)
		k.upTo[m.publisher].Store(m.number + 1)
	default:
		k.late++
	}
	if k.flow.measuring.Load() {
		k.latency.Record(now - time.Duration(m.due))
	}
	return true
}

// answerAck answers what is not a PUBLISH: only QoS 2 has such packets.
func (k *sink) answerAck(answers []byte, first byte, body []byte) ([]byte, error) {
	if first != firstPubrel || len(body) < 2 {
		return answers, errors.New("a reader was sent something else than messages")
	}
	return appendAck(answers, typePubcomp<<4, uint16(body[0])<<8|uint16(body[1])), nil
}

// appendReceipt appends the first answer to a message, if it wants one.
func appendReceipt(answers []byte, m message) []byte {
	switch m.qos {
	case 1:
		return appendAck(answers, typePuback<<4, m.packetID)
	case 2:
		return appendAck(answers, typePubrec<<4, m.packetID)
	}
	return answers
}
