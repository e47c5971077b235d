package wasm

import (
	"errors"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cordon-mq/cordon/plugins"
)

// Modules that load and then misbehave. Whoever asks them is refused.
func TestHostileModulesAreDenied(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ guest, why string }{
		{"endless_loop", "missed its deadline"},
		{"hang_without_loop", "missed its deadline"},
		{"copying", "missed its deadline"},
		{"host_calls", "missed its deadline"},
		{"growing_memory", "missed its deadline"},
		{"table_growth", "missed its deadline"},
		{"trap", "unreachable"},
		{"exits", "proc_exit"},
		{"answer_outside", "outside of the memory"},
		{"answer_huge", "outside of the memory or its limit"},
		{"answer_null", "internal error"},
		{"alloc_null", "gave no room"},
		{"alloc_outside", "gave no room"},
	} {
		t.Run(tt.guest, func(t *testing.T) {
			t.Parallel()
			_, v, _ := one(t, tt.guest, "", Limits{})
			why := mustBeUnavailable(t, v, token("x"))
			if !strings.Contains(why, tt.why) {
				t.Errorf("refused with %q, want %q", why, tt.why)
			}
		})
	}
}

// Modules that never get so far.
func TestHostileModulesAreRefused(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ guest, why string }{
		{"slow_start", "missed its deadline"},
		{"slow_initialize", "missed its deadline"},
		{"memory_bomb", "wants 60000 pages of memory"},
		{"table_bomb", "a table of 100000000 elements"},
		{"no_abi", "does not export the function auth_abi_v1 () -> i32"},
		{"wrong_type", "exports auth_verify as (i32) -> i64, not (i32, i32) -> i64"},
		{"imports_file", `imports \"env.open_file\", which is not offered`},
		{"imports_memory", "which is not a function"},
		{"refuses_configuration", "does not accept its configuration: 7"},
	} {
		t.Run(tt.guest, func(t *testing.T) {
			t.Parallel()
			_, v, log := one(t, tt.guest, "", Limits{StartDeadline: 100 * time.Millisecond})
			mustBeUnavailable(t, v, token("x"))
			if s := log.String(); !strings.Contains(s, tt.why) || !strings.Contains(s, "file=acme01/it.wasm") {
				t.Errorf("the log does not say %q:\n%s", tt.why, s)
			}
		})
	}
}

// A guest without a loop would freeze the process at the next collection. Other work on
// the machine makes some collections slow, a guest that seldom leaves makes many of
// them, each time.
func TestCollectionWhileAGuestHangs(t *testing.T) {
	for _, guest := range []string{"hang_without_loop", "copying", "endless_loop", "table_growth"} {
		_, v, _ := one(t, guest, "", Limits{Deadline: time.Second, Strikes: 100})
		const tries = 4
		for try := 1; ; try++ {
			all, slow := collectBeside(t, v)
			// A frozen process has one, which returns with the guest's end.
			if all >= 5 && slow <= all/10 {
				break
			}
			t.Logf("%s: %d collections while the guest ran, %d took more than 20 ms", guest, all, slow)
			if try == tries {
				t.Errorf("%s: collections are slow", guest)
				break
			}
		}
	}
}

// collectBeside collects garbage as long as a call of v lasts, and counts.
func collectBeside(t *testing.T, v plugins.Verifier) (all, slow int) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		_, err := v.Verify(t.Context(), token("x"))
		done <- err
	}()
	for {
		began := time.Now()
		runtime.GC()
		took := time.Since(began)
		select {
		case err := <-done:
			if plugins.CauseOf(err) != "credential_unavailable" {
				t.Error(err)
			}
			return all, slow
		default:
			if all++; took > 20*time.Millisecond {
				slow++
			}
		}
	}
}

// The stack of a guest is bounded. wazero doubles it, up to its own ceiling of 50 MB
// if nobody looks: then a deep recursion takes 161 MiB.
func TestDeepRecursionIsBounded(t *testing.T) {
	_, v, _ := one(t, "deep_recursion", "", patient())
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	if why := mustBeUnavailable(t, v, token("x")); !strings.Contains(why, "stack overflow") {
		t.Error(why)
	}
	runtime.ReadMemStats(&after)
	taken := after.TotalAlloc - before.TotalAlloc
	t.Logf("a deep recursion takes %d MiB", taken>>20)
	if taken > 16<<20 {
		t.Errorf("a deep recursion takes %d MiB", taken>>20)
	}
}

// A start function recurses within the same bound.
func TestDeepRecursionAtTheStartIsBounded(t *testing.T) {
	t.Parallel()
	_, v, log := one(t, "deep_start", "", patient())
	mustBeUnavailable(t, v, token("x"))
	if s := log.String(); !strings.Contains(s, "start: stack overflow") {
		t.Errorf("the log does not say why:\n%s", s)
	}
}

// An instance that does not get its turn in time gives everything back, whether it
// waited before its memory was set aside or afterwards.
func TestAStartThatNeverGetsItsTurn(t *testing.T) {
	t.Parallel()
	p, _, _, _ := clocked(t, "good", "", patient())
	p.closeIdle(p.now().Add(time.Hour))
	large := *p.module
	large.memoryMin, large.memoryMax = heavyBytes/pageBytes, heavyBytes/pageBytes
	p.long = make(chan struct{}, 1)
	p.long <- struct{}{}
	c := &call{log: p.guestLog, turn: turn{places: p.long}}
	if _, err := start(c.until(time.Now()), p.machine, &large, p.budget, p.limits); !errors.Is(err, errDeadline) {
		t.Errorf("before: %v", err)
	}
	if used := p.budget.used.Load(); used != 0 || c.turn.holds {
		t.Errorf("%d bytes were not given back, %t", used, c.turn.holds)
	}
	late := turn{places: p.long, holds: true}
	synctest.Test(t, func(t *testing.T) {
		late.places = make(chan struct{}, 1)
		late.places <- struct{}{}
		if late.heavy(time.Now(), heavyBytes, func() {
			go func() { late.places <- struct{}{} }() // somebody waits, and is first
			synctest.Wait()
			late.had = longTime
		}) {
			t.Error("afterwards: the turn was not somebody else's")
		}
		<-late.places
	})
}

// Guests that take long leave processors to others, and each gets its turn.
func TestLongCallsTakeTurns(t *testing.T) {
	t.Parallel()
	places := make(chan struct{}, 1)
	a, b := turn{places: places, last: time.Now()}, turn{places: places, last: time.Now()}
	long := func(t *turn, deadline time.Time) (late bool) {
		defer func() { late = recover() != nil }()
		for range longTime/turnTime + 1 {
			t.pass(t.last.Add(turnTime), deadline)
		}
		return false
	}
	soon := time.Now().Add(time.Hour)
	if long(&a, soon) || !a.holds {
		t.Fatal("the first does not have the place")
	}
	if !long(&b, time.Now()) || b.holds {
		t.Error("the second has it as well")
	}
	waited := make(chan bool)
	go func() { waited <- long(&b, soon) }()
	a.end()
	if <-waited || !b.holds {
		t.Error("the place was not handed on")
	}
	b.end()
	if len(places) != 0 {
		t.Error("the place was not given back")
	}
}
