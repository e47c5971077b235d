package wasm

import (
	"strings"
	"testing"
)

// Lines that clients cause are folded, and what was folded is counted.
func TestFaultsAreFolded(t *testing.T) {
	t.Parallel()
	p, v, clock, log := clocked(t, "trap", "", patient())
	for range 50 {
		mustBeUnavailable(t, v, token("x"))
	}
	if n := strings.Count(log.String(), "plugin failed"); n != 1 {
		t.Errorf("%d lines for fifty faults", n)
	}
	clock.advance(foldFor)
	mustBeUnavailable(t, v, token("x"))
	if s := log.String(); !strings.Contains(s, "folded=49") {
		t.Errorf("log:\n%s", s)
	}
	for range 7 {
		mustBeUnavailable(t, v, token("x"))
	}
	p.faults.flush(p.log, "plugin failed")
	clock.advance(foldFor)
	p.faults.flush(p.log, "plugin failed")
	p.faults.flush(p.log, "plugin failed")
	if s := log.String(); !strings.Contains(s, "folded=7") || strings.Count(s, "plugin failed") != 3 {
		t.Errorf("log:\n%s", s)
	}
	if n := p.counts.snapshot().Failed; n != 58 {
		t.Errorf("%d faults counted", n)
	}
}
