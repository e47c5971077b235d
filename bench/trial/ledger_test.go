package main

import (
	"errors"
	"testing"

	"github.com/cordon-mq/cordon/bench/trial/client"
)

func TestNumbers(t *testing.T) {
	t.Parallel()
	var s numbers
	for _, n := range []uint64{0, 63, 64, 1000} {
		if s.has(n) || !s.add(n) || s.add(n) || !s.has(n) {
			t.Errorf("%d: not in the set exactly once", n)
		}
	}
	var list []uint64
	s.each(func(n uint64) { list = append(list, n) })
	if len(list) != 4 || list[2] != 64 || s.count() != 4 || s.has(65) {
		t.Errorf("%d numbers: %v", s.count(), list)
	}
}

// story is two publishers, at QoS 1 and 2, and two readers likewise.
type story struct {
	*testing.T
	ledger *ledger
}

func (s story) publish(publisher int, numbers ...uint64) {
	for _, n := range numbers {
		s.ledger.send(publisher, n)
		s.ledger.answered(publisher, n, client.Acknowledged)
	}
}

// arrive hands a message to a reader as a broker should.
func (s story) arrive(reader, publisher int, numbers ...uint64) {
	for _, n := range numbers {
		qos := min(qosOf(publisher), qosOf(reader))
		s.ledger.receive(reader, client.Stamp{Publisher: uint32(publisher), Number: n}, []byte(s.ledger.topic(publisher, n)), qos)
	}
}

// Messages 0 and 1 are for both readers, 2 and 3 of publisher 1 for reader 1.
func TestLedger(t *testing.T) {
	t.Parallel()
	whole := func(s story) {
		s.publish(1, 0, 1, 2, 3)
		s.arrive(0, 1, 0, 1)
		s.arrive(1, 1, 0, 1, 2, 3)
	}
	for _, test := range []struct {
		name string
		tell func(s story)
		want balance
	}{
		{"all of it, once", whole, balance{sent: 4, acknowledged: 4, wanted: 6, received: 6}},
		{"one is missing", func(s story) {
			s.publish(1, 0)
			s.arrive(0, 1, 0)
		}, balance{sent: 1, acknowledged: 1, wanted: 2, received: 1, missing: 1}},
		{"what was not acknowledged may be missing", func(s story) {
			s.ledger.send(1, 0)
			s.arrive(0, 1, 0)
		}, balance{sent: 1, received: 1}},
		{"twice at QoS 2", func(s story) {
			whole(s)
			s.arrive(1, 1, 2)
		}, balance{sent: 4, acknowledged: 4, wanted: 6, received: 7, twice: 1}},
		{"twice where the reader has QoS 1", func(s story) {
			whole(s)
			s.arrive(0, 1, 1)
		}, balance{sent: 4, acknowledged: 4, wanted: 6, received: 7, repeated: 1}},
		{"out of order in one topic", func(s story) {
			s.publish(1, 0, 4)
			s.arrive(0, 1, 4, 0)
			s.arrive(1, 1, 0, 4)
		}, balance{sent: 5, acknowledged: 2, wanted: 4, received: 4, disordered: 1}},
		{"different topics have no order", func(s story) {
			s.publish(1, 0, 1)
			s.arrive(0, 1, 1, 0)
			s.arrive(1, 1, 1, 0)
		}, balance{sent: 2, acknowledged: 2, wanted: 4, received: 4}},
		{"a repetition is not out of order", func(s story) {
			s.publish(0, 0, 4)
			s.arrive(0, 0, 0, 4, 0)
			s.arrive(1, 0, 0, 4)
		}, balance{sent: 5, acknowledged: 2, wanted: 4, received: 5, repeated: 1}},
		{"never sent, and not subscribed to", func(s story) {
			s.arrive(0, 1, 0)
			s.arrive(0, 9, 0)
			s.publish(1, 0, 1, 2)
			s.arrive(0, 1, 0, 1, 2)
			s.arrive(1, 1, 0, 1, 2)
		}, balance{sent: 3, acknowledged: 3, wanted: 5, received: 5, strange: 3}},
		{"refused", func(s story) {
			s.ledger.send(1, 0)
			s.ledger.answered(1, 0, client.Refused)
		}, balance{sent: 1, refused: 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := story{t, newLedger(2, 2)}
			test.tell(s)
			if got := s.ledger.balance(); got != test.want {
				t.Errorf("got  %+v\nwant %+v", got, test.want)
			}
			if got := len(s.ledger.missing(10)); got != test.want.missing {
				t.Errorf("%d are listed as missing, want %d", got, test.want.missing)
			}
		})
	}
}

// Every QoS meets every other, among messages for one reader alone too.
func TestLedgerMeetsEveryQoS(t *testing.T) {
	t.Parallel()
	l := newLedger(8, 4)
	met := map[[2]byte]bool{}
	for publisher := range l.publishers {
		met[[2]byte{qosOf(publisher), qosOf(l.readerOf(publisher))}] = true
	}
	if len(met) != 4 {
		t.Errorf("publisher and reader meet at %v", met)
	}
}

func TestLedgerHoldsPublishersBack(t *testing.T) {
	t.Parallel()
	l := newLedger(2, 2)
	for n := range uint64(mostOwed) {
		l.send(1, n*topicsPerPublisher+2) // for reader 1
	}
	if !l.behind(1, 2) || !l.behind(0, 0) || l.behind(0, 2) {
		t.Error("publishers have to wait for reader 1, and for nobody else")
	}
	story{t, l}.arrive(1, 1, 2)
	if l.behind(1, 2) {
		t.Error("publishers still wait")
	}
}

func TestCrashVerdict(t *testing.T) {
	t.Parallel()
	good := crashFound{balance: balance{acknowledged: 5, wanted: 5}}
	if err := good.verdict(); err != nil {
		t.Errorf("nothing was wrong: %v", err)
	}
	for name, spoil := range map[string]func(*crashFound){
		"missing":       func(f *crashFound) { f.missing = 1 },
		"twice":         func(f *crashFound) { f.twice = 1 },
		"out of order":  func(f *crashFound) { f.disordered = 1 },
		"strange":       func(f *crashFound) { f.strange = 1 },
		"refused":       func(f *crashFound) { f.refused = 1 },
		"not connected": func(f *crashFound) { f.refusals = 1 },
		"session lost":  func(f *crashFound) { f.lostSessions = 1 },
		"not started":   func(f *crashFound) { f.failedStarts = 1 },
		"logged":        func(f *crashFound) { f.faults = []string{"level=ERROR"} },
		"nothing done":  func(f *crashFound) { f.acknowledged = 0 },
	} {
		bad := good
		spoil(&bad)
		if err := bad.verdict(); !errors.Is(err, errBroken) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
