package main

import (
	"strings"
	"testing"
	"time"
)

// A long export or import says now and then how far it is, and a short one nothing.
func TestProgressIsTold(t *testing.T) {
	t.Parallel()
	var told strings.Builder
	p := newProgress(&told, "imported", 4<<20)
	write := func(text string) {
		t.Helper()
		if n, err := p.Write([]byte(text)); err != nil || n != len(text) {
			t.Fatalf("%d, %v", n, err)
		}
	}
	write(strings.Repeat("x", 1<<20) + "\n")
	if told.Len() != 0 {
		t.Errorf("told at once: %s", told.String())
	}
	p.told = p.told.Add(-progressEvery - time.Millisecond)
	write(strings.Repeat("y", 1<<20) + "\n")
	write("z\n")
	if want := "imported 2 records, 2 MiB (50 %)\n"; told.String() != want {
		t.Errorf("told %q, want %q", told.String(), want)
	}
	p.total, p.told = 0, time.Time{}
	write("\n")
	if want := "imported 4 records, 2 MiB\n"; !strings.HasSuffix(told.String(), want) {
		t.Errorf("told %q, want %q", told.String(), want)
	}
}
