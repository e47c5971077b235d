package main

import "testing"

// The program is killed a few times, starting and under load. What it has
// acknowledged arrives, at QoS 2 once, in order.
func TestKilledUnderLoad(t *testing.T) {
	if testing.Short() {
		t.Skip("builds, starts and kills the program; not with -short")
	}
	t.Parallel()
	found, err := crash(t.Context(), crashConfig{
		kills: 4, seed: 1, publishers: 4, readers: 4, window: 10, up: crashUp, durability: "process",
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := found.verdict(); err != nil {
		t.Errorf("%v:\n%s", err, found.summary())
	}
	if got := found.killedStarting + found.killedReady; got != 4 {
		t.Errorf("killed %d times, want 4", got)
	}
}
