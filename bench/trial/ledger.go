package main

import (
	"fmt"
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/cordon-mq/cordon/bench/trial/client"
)

// numbers is a set of message numbers.
type numbers []uint64

// add reports whether n was not in the set.
func (s *numbers) add(n uint64) bool {
	for uint64(len(*s)) <= n/64 {
		*s = append(*s, 0)
	}
	if (*s)[n/64]>>(n%64)&1 != 0 {
		return false
	}
	(*s)[n/64] |= 1 << (n % 64)
	return true
}

func (s numbers) has(n uint64) bool {
	return n/64 < uint64(len(s)) && s[n/64]>>(n%64)&1 != 0
}

func (s numbers) count() (n int) {
	for _, word := range s {
		n += bits.OnesCount64(word)
	}
	return n
}

// each calls f with every number, in order.
func (s numbers) each(f func(n uint64)) {
	for at, word := range s {
		for ; word != 0; word &= word - 1 {
			f(uint64(at)*64 + uint64(bits.TrailingZeros64(word)))
		}
	}
}

// topicsPerPublisher are used in turn: the first half by every reader, so that
// their queues share a message, the other half by one reader.
const topicsPerPublisher = 4

// isWide reports whether message n of a publisher, whose topic is n modulo
// topicsPerPublisher, is for every reader.
func isWide(n uint64) bool { return n%topicsPerPublisher < topicsPerPublisher/2 }

// ledger is what was acknowledged and what arrived. Its methods are safe for
// concurrent use.
type ledger struct {
	publishers, readers []*account
}

// account is one client's part of the ledger.
type account struct {
	qos byte
	// owed is how many messages a reader has not got, about: publishers wait
	// where it is too much.
	owed atomic.Int64

	guarded struct {
		sync.Mutex
		sent         uint64                       // by a publisher: numbers below it
		acknowledged numbers                      // by the broker, to a publisher
		refused      int                          // likewise
		seen         []numbers                    // by a reader, of each publisher
		last         [][topicsPerPublisher]uint64 // the highest number seen, plus 1
		received     int                          // everything that a reader's application saw
		repeated     int                          // again, where that is allowed
		twice        int                          // again, where it is exactly once
		disordered   int                          // for the first time after a later one of the same topic
		strange      int                          // not sent, not subscribed to, or at another QoS
	}
}

// qosOf is 1 and 2 in turn.
func qosOf(i int) byte { return byte(1 + i%2) }

func newLedger(publishers, readers int) *ledger {
	l := &ledger{}
	for i := range publishers {
		l.publishers = append(l.publishers, &account{qos: qosOf(i)})
	}
	for i := range readers {
		a := &account{qos: qosOf(i)}
		a.guarded.seen = make([]numbers, publishers)
		a.guarded.last = make([][topicsPerPublisher]uint64, publishers)
		l.readers = append(l.readers, a)
	}
	return l
}

// wants reports whether a reader has subscribed to message n of a publisher.
func (l *ledger) wants(reader, publisher int, n uint64) bool {
	return isWide(n) || l.readerOf(publisher) == reader
}

// readerOf is the reader of what is for one alone. Over all publishers every
// QoS meets every other.
func (l *ledger) readerOf(publisher int) int {
	return (publisher + publisher/len(l.readers)) % len(l.readers)
}

// topic is what message n of a publisher is written to.
func (l *ledger) topic(publisher int, n uint64) string {
	kind := "wide"
	if !isWide(n) {
		kind = fmt.Sprintf("r%d", l.readerOf(publisher))
	}
	return fmt.Sprintf("iot-2/type/%s/id/p%d/evt/e%d/fmt/bin", kind, publisher, n%topicsPerPublisher)
}

// filters are what a reader subscribes to.
func (l *ledger) filters(reader int) []string {
	return []string{"iot-2/type/wide/id/+/evt/+/fmt/bin", fmt.Sprintf("iot-2/type/r%d/id/+/evt/+/fmt/bin", reader)}
}

// mostOwed is how far publishers get ahead of a reader. A session's queue takes
// 5 000 messages by default; what is left is for messages that are sent again.
const mostOwed = 2000

// behind reports whether some reader of message n has too much to catch up with.
func (l *ledger) behind(publisher int, n uint64) bool {
	for i, r := range l.readers {
		if l.wants(i, publisher, n) && r.owed.Load() >= mostOwed {
			return true
		}
	}
	return false
}

// send notes that message n is on its way, before it is.
func (l *ledger) send(publisher int, n uint64) {
	a := l.publishers[publisher]
	a.guarded.Lock()
	a.guarded.sent = n + 1
	a.guarded.Unlock()
	l.owe(publisher, n, 1)
}

func (l *ledger) owe(publisher int, n uint64, more int64) {
	for i, r := range l.readers {
		if l.wants(i, publisher, n) {
			r.owed.Add(more)
		}
	}
}

// answered notes what the broker said of message n.
func (l *ledger) answered(publisher int, n uint64, outcome client.Outcome) {
	a := l.publishers[publisher]
	a.guarded.Lock()
	defer a.guarded.Unlock()
	switch outcome {
	case client.Acknowledged:
		a.guarded.acknowledged.add(n)
	case client.Refused:
		a.guarded.refused++
		l.owe(publisher, n, -1)
	case client.Nothing:
	}
}

// receive notes that a reader's application saw a message.
func (l *ledger) receive(reader int, stamp client.Stamp, topic []byte, qos byte) {
	publisher := int(stamp.Publisher)
	if publisher >= len(l.publishers) {
		l.stranger(reader)
		return
	}
	p := l.publishers[publisher]
	p.guarded.Lock()
	sent := p.guarded.sent
	p.guarded.Unlock()
	n := stamp.Number
	if n >= sent || !l.wants(reader, publisher, n) || qos != min(p.qos, l.readers[reader].qos) ||
		string(topic) != l.topic(publisher, n) {
		l.stranger(reader)
		return
	}
	a := l.readers[reader]
	a.guarded.Lock()
	defer a.guarded.Unlock()
	a.guarded.received++
	if !a.guarded.seen[publisher].add(n) {
		if qos == 2 {
			a.guarded.twice++
		} else {
			a.guarded.repeated++
		}
		return
	}
	a.owed.Add(-1)
	last := &a.guarded.last[publisher][n%topicsPerPublisher]
	if n < *last {
		a.guarded.disordered++
	}
	*last = max(*last, n+1)
}

func (l *ledger) stranger(reader int) {
	a := l.readers[reader]
	a.guarded.Lock()
	defer a.guarded.Unlock()
	a.guarded.strange++
}

// balance is the ledger in sums.
type balance struct {
	sent, acknowledged, refused                    int
	wanted, missing                                int // deliveries of acknowledged messages
	received, repeated, twice, disordered, strange int
}

// balance compares. What was sent and not acknowledged may arrive or not.
func (l *ledger) balance() (b balance) {
	for publisher, a := range l.publishers {
		a.guarded.Lock()
		acknowledged := append(numbers(nil), a.guarded.acknowledged...)
		b.sent += int(a.guarded.sent)
		b.refused += a.guarded.refused
		a.guarded.Unlock()
		b.acknowledged += acknowledged.count()
		for reader, r := range l.readers {
			r.guarded.Lock()
			acknowledged.each(func(n uint64) {
				if l.wants(reader, publisher, n) {
					b.wanted++
					if !r.guarded.seen[publisher].has(n) {
						b.missing++
					}
				}
			})
			r.guarded.Unlock()
		}
	}
	for _, r := range l.readers {
		r.guarded.Lock()
		b.received += r.guarded.received
		b.repeated += r.guarded.repeated
		b.twice += r.guarded.twice
		b.disordered += r.guarded.disordered
		b.strange += r.guarded.strange
		r.guarded.Unlock()
	}
	return b
}

// progress grows with everything that arrives.
func (l *ledger) progress() (n int) {
	for _, r := range l.readers {
		r.guarded.Lock()
		n += r.guarded.received + r.guarded.strange
		r.guarded.Unlock()
	}
	return n
}

// missing lists a few of the deliveries that are, for whoever looks for the cause.
func (l *ledger) missing(most int) (list []string) {
	for publisher, a := range l.publishers {
		a.guarded.Lock()
		acknowledged := append(numbers(nil), a.guarded.acknowledged...)
		a.guarded.Unlock()
		for reader, r := range l.readers {
			r.guarded.Lock()
			acknowledged.each(func(n uint64) {
				if len(list) < most && l.wants(reader, publisher, n) && !r.guarded.seen[publisher].has(n) {
					list = append(list, fmt.Sprintf("publisher %d (QoS %d), number %d, reader %d (QoS %d)", publisher, a.qos, n, reader, r.qos))
				}
			})
			r.guarded.Unlock()
		}
	}
	return list
}
