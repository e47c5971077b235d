package main

import (
	"testing"
	"time"
)

// A short trial: every session is judged again, and no message is treated
// otherwise than a revision says. Times are not judged here.
func TestRevisionsAreSwitchedUnderLoad(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and starts the program; not with -short")
	}
	t.Parallel()
	found, err := sweep(t.Context(), sweepConfig{
		sessions: 200, filters: 5, rounds: 2, pairs: 2, rate: 50, lead: 100 * time.Millisecond, span: 200 * time.Millisecond,
		publishers: 10, switchRate: 1000, switchFor: 2 * time.Second, switchGap: 50 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	if !found.right() || found.switches < 2 || found.balance.refused == 0 || len(found.rounds) != 2 {
		t.Errorf("%d switches:\n%s", found.switches, found.summary())
	}
}

// What is wrong is found, and what may be is not.
func TestSwitchLedger(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	// Open, shut from 10 or 20 ms on, open again from 30 or 40 ms on.
	timeline := []switchOver{{opens: true}, {from: 10 * ms, by: 20 * ms}, {opens: true, from: 30 * ms, by: 40 * ms}}
	for name, test := range map[string]struct {
		sent, answered time.Duration
		answer         switchAnswer
		delivered      int
		want           switchBalance
	}{
		"taken while open":             {1 * ms, 9 * ms, taken, 1, switchBalance{acknowledged: 1}},
		"refused while shut":           {21 * ms, 29 * ms, turnedAway, 0, switchBalance{refused: 1}},
		"taken before it shut":         {9 * ms, 25 * ms, taken, 1, switchBalance{acknowledged: 1, between: 1}},
		"refused while it shuts":       {9 * ms, 15 * ms, turnedAway, 0, switchBalance{refused: 1, between: 1}},
		"taken while it opens again":   {25 * ms, 35 * ms, taken, 1, switchBalance{acknowledged: 1, between: 1}},
		"taken, long after":            {45 * ms, 50 * ms, taken, 1, switchBalance{acknowledged: 1}},
		"refused while open":           {1 * ms, 9 * ms, turnedAway, 0, switchBalance{refused: 1, wronglyRefused: 1}},
		"refused, long after":          {45 * ms, 50 * ms, turnedAway, 0, switchBalance{refused: 1, wronglyRefused: 1}},
		"taken while shut":             {21 * ms, 29 * ms, taken, 1, switchBalance{acknowledged: 1, wronglyAllowed: 1}},
		"taken and lost":               {1 * ms, 2 * ms, taken, 0, switchBalance{acknowledged: 1, missing: 1}},
		"taken and delivered twice":    {1 * ms, 2 * ms, taken, 2, switchBalance{acknowledged: 1, twice: 1}},
		"refused and delivered":        {21 * ms, 22 * ms, turnedAway, 1, switchBalance{refused: 1, leaked: 1}},
		"sent, and nobody said a word": {1 * ms, 0, noAnswer, 0, switchBalance{unanswered: 1}},
	} {
		l := newSwitchLedger(1)
		for _, s := range timeline {
			l.over(s)
		}
		l.send(0, test.sent)
		if test.answer != noAnswer {
			l.answer(0, 0, test.answer, test.answered)
		}
		for range test.delivered {
			l.deliver(0, 0)
		}
		test.want.sent = 1
		got := l.balance()
		if got != test.want {
			t.Errorf("%s: %+v, want %+v", name, got, test.want)
		}
		bad := got.missing + got.twice + got.leaked + got.unanswered + got.wronglyAllowed + got.wronglyRefused
		if got.right() != (bad == 0) {
			t.Errorf("%s: right %v", name, got.right())
		}
	}
}
