package main

import (
	"sync"
	"time"
)

// switchLedger is what became of every message, and which revision was live when.
// Its methods are safe for concurrent use.
type switchLedger struct {
	publishers []switchAccount
	timeline   struct {
		sync.Mutex
		list []switchOver // in their order; the first is what was live to begin with
	}
}

// switchOver is one change of the live revision.
type switchOver struct {
	opens    bool          // whether it allows what is switched
	from, by time.Duration // it is live at the latest by, and not before from
}

type switchAccount struct {
	sync.Mutex
	messages []switched
}

// switched is one message.
type switched struct {
	sent, answered time.Duration
	answer         switchAnswer
	delivered      int
}

type switchAnswer uint8

const (
	noAnswer switchAnswer = iota
	taken
	turnedAway
)

func newSwitchLedger(publishers int) *switchLedger {
	return &switchLedger{publishers: make([]switchAccount, publishers)}
}

// isSwitched reports whether message n is one that only revision A allows.
func isSwitched(n uint64) bool { return n%2 == 0 }

// send notes a message before it leaves; they come in the order of their numbers.
func (l *switchLedger) send(publisher int, at time.Duration) {
	a := &l.publishers[publisher]
	a.Lock()
	defer a.Unlock()
	a.messages = append(a.messages, switched{sent: at})
}

func (l *switchLedger) answer(publisher int, n uint64, what switchAnswer, at time.Duration) {
	a := &l.publishers[publisher]
	a.Lock()
	defer a.Unlock()
	a.messages[n].answer, a.messages[n].answered = what, at
}

func (l *switchLedger) deliver(publisher int, n uint64) {
	a := &l.publishers[publisher]
	a.Lock()
	defer a.Unlock()
	a.messages[n].delivered++
}

// over notes a change after it happened.
func (l *switchLedger) over(s switchOver) {
	l.timeline.Lock()
	defer l.timeline.Unlock()
	l.timeline.list = append(l.timeline.list, s)
}

// live reports whether a revision that opens, and one that does not, may have
// been live at some time from begin to end.
func (l *switchLedger) live(begin, end time.Duration) (open, shut bool) {
	l.timeline.Lock()
	defer l.timeline.Unlock()
	for i, s := range l.timeline.list {
		if s.from > end || i+1 < len(l.timeline.list) && l.timeline.list[i+1].by < begin {
			continue
		}
		open, shut = open || s.opens, shut || !s.opens
	}
	return open, shut
}

// owed is how many messages were taken and not delivered yet.
func (l *switchLedger) owed() (n int) {
	for i := range l.publishers {
		a := &l.publishers[i]
		a.Lock()
		for _, m := range a.messages {
			if m.answer == taken && m.delivered == 0 {
				n++
			}
		}
		a.Unlock()
	}
	return n
}

// switchBalance is the ledger in sums.
type switchBalance struct {
	sent, acknowledged, refused, between int
	missing, twice, leaked, unanswered   int
	wronglyAllowed, wronglyRefused       int
}

func (b switchBalance) right() bool {
	return b.sent > 0 && b.missing+b.twice+b.leaked+b.unanswered+b.wronglyAllowed+b.wronglyRefused == 0
}

func (l *switchLedger) balance() (b switchBalance) {
	for i := range l.publishers {
		a := &l.publishers[i]
		a.Lock()
		for n, m := range a.messages {
			b.sent++
			open, shut := true, false
			if isSwitched(uint64(n)) {
				open, shut = l.live(m.sent, m.answered)
			}
			if open && shut {
				b.between++
			}
			if m.delivered > 1 {
				b.twice++
			}
			switch m.answer {
			case noAnswer:
				b.unanswered++
			case taken:
				b.acknowledged++
				if !open {
					b.wronglyAllowed++
				}
				if m.delivered == 0 {
					b.missing++
				}
			case turnedAway:
				b.refused++
				if !shut {
					b.wronglyRefused++
				}
				if m.delivered > 0 {
					b.leaked++
				}
			}
		}
		a.Unlock()
	}
	return b
}
