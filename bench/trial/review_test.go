package main

import (
	"testing"
	"time"
)

// A short run of the whole trial: what is counted has to be right on any machine.
func TestReviewTrial(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("builds and runs the program")
	}
	found, err := review(t.Context(), reviewConfig{
		sessions: 20, filters: 2, rounds: 1, decisions: 2000, pairs: 2, rate: 50, lead: 100 * time.Millisecond, span: 300 * time.Millisecond,
		costMessages: 2000, explained: 20,
	})
	if err != nil {
		t.Fatal(err)
	}
	if !found.right() {
		t.Errorf("%+v\n%v", found, found.faults)
	}
	if len(found.sessions) != 1 || len(found.both) != 1 || len(found.quiet) != 1 || len(found.door) < 20 || len(found.command) == 0 || len(found.with) != 1 {
		t.Errorf("not everything was measured: %+v", found)
	}
}

func TestReviewFound(t *testing.T) {
	t.Parallel()
	good := func() *reviewFound {
		f := &reviewFound{
			reviewConfig: reviewConfig{sessions: 5, decisions: 1000},
			alone:        []time.Duration{time.Millisecond}, door: []time.Duration{time.Millisecond},
		}
		f.sessions = []reviewRound{{took: time.Second, removed: 5, beside: []time.Duration{time.Millisecond}}}
		f.both = []reviewRound{{took: time.Second, removed: 5, replayed: 1000}}
		f.quiet = []reviewRound{{took: time.Second / 100, replayed: 1000}}
		return f
	}
	if err := good().verdict(); err != nil {
		t.Errorf("%v: %+v", err, good())
	}
	for name, change := range map[string]func(*reviewFound){
		"too slow":           func(f *reviewFound) { f.sessions[0].took = 3 * time.Second },
		"beside the load":    func(f *reviewFound) { f.sessions[0].beside[0] = 2 * time.Millisecond },
		"one not counted":    func(f *reviewFound) { f.sessions[0].removed = 4 },
		"one not replayed":   func(f *reviewFound) { f.quiet[0].replayed = 999 },
		"replay too slow":    func(f *reviewFound) { f.quiet[0].took = time.Second },
		"explain too slow":   func(f *reviewFound) { f.door[0] = time.Second },
		"something is wrong": func(f *reviewFound) { f.faults = []string{"panic"} },
	} {
		f := good()
		if change(f); f.verdict() == nil {
			t.Errorf("%s: no promise was broken", name)
		}
	}
}
