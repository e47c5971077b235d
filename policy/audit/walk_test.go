package audit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"
)

// walk lists the IDs of everything that is walked over.
func walk(t *testing.T, st *Store, tenant *Tenant, since, until time.Time) (ids []string) {
	t.Helper()
	err := st.Walk(context.Background(), tenant, since, until, func(batch [][]byte) error {
		if len(batch) == 0 || len(batch) > walkBatch {
			t.Errorf("a batch of %d", len(batch))
		}
		for _, text := range batch {
			ev, err := ParseEvent(text)
			if err != nil {
				return err
			}
			ids = append(ids, ev.DecisionID)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// A walk has every event once, whatever the segments and batches, and always in the
// same order.
func TestWalk(t *testing.T) {
	t.Parallel()
	c, m := newClock(), newMemory()
	st := openStore(t, m, c, StoreOptions{})
	defer closeStore(t, st)
	begin := c.now()
	orgs := []string{"other1", "acme01", ""}
	for i := range 30 {
		write(t, st, []*Event{eventAt(t, c.now(), orgs[i%3], fmt.Sprint("d", i), 10)})
		c.add(time.Hour)
	}
	if got := fmt.Sprint(walk(t, st, tenantNamed(t, "acme01"), time.Time{}, time.Time{})); got != "[d28 d25 d22 d19 d16 d13 d10 d7 d4 d1]" {
		t.Errorf("acme01: %s", got)
	}
	all := walk(t, st, nil, time.Time{}, time.Time{})
	if len(all) != 30 || all[0] != "d29" || all[10] != "d28" || all[20] != "d27" || !slices.Equal(all, walk(t, st, nil, time.Time{}, time.Time{})) {
		t.Errorf("all: %v", all)
	}
	since, until := begin.Add(4*time.Hour), begin.Add(10*time.Hour)
	if got := fmt.Sprint(walk(t, st, tenantNamed(t, "acme01"), since, until)); got != "[d10 d7 d4]" {
		t.Errorf("between two times, both included: %s", got)
	}
	namesake := tenantNamed(t, "acme01")
	namesake.Incarnation = 2
	if got := walk(t, st, namesake, time.Time{}, time.Time{}); len(got) != 0 {
		t.Errorf("a namesake sees %v", got)
	}
	c.add(st.o.Age - 15*time.Hour) // what is too old is not there any more, deleted or not
	if got := fmt.Sprint(walk(t, st, tenantNamed(t, "acme01"), time.Time{}, time.Time{})); got != "[d28 d25 d22 d19 d16]" {
		t.Errorf("later: %s", got)
	}
}

func TestWalkInBatches(t *testing.T) {
	t.Parallel()
	for _, n := range []int{walkBatch - 1, walkBatch, walkBatch + 1, 2*walkBatch + 1} {
		c, m := newClock(), newMemory()
		st := openStore(t, m, c, StoreOptions{})
		var events []*Event
		for i := range n {
			events = append(events, eventAt(t, c.now(), "acme01", fmt.Sprint("d", i), 1)) // all in one moment
		}
		write(t, st, events)
		if got := walk(t, st, nil, time.Time{}, c.now()); len(got) != n || got[0] != fmt.Sprint("d", n-1) || got[n-1] != "d0" {
			t.Errorf("%d events: %d were walked over", n, len(got))
		}
		closeStore(t, st)
	}
}

// Whoever walks may give up, or be told to.
func TestWalkEndsEarly(t *testing.T) {
	t.Parallel()
	c, m := newClock(), newMemory()
	st := openStore(t, m, c, StoreOptions{})
	defer closeStore(t, st)
	for _, org := range []string{"acme01", "other1"} {
		write(t, st, []*Event{eventAt(t, c.now(), org, "d", 1)})
	}
	enough, calls := errors.New("enough"), 0
	err := st.Walk(context.Background(), nil, time.Time{}, time.Time{}, func([][]byte) error { calls++; return enough })
	if !errors.Is(err, enough) || calls != 1 {
		t.Errorf("%v after %d calls", err, calls)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(enough)
	if err := st.Walk(ctx, nil, time.Time{}, time.Time{}, func([][]byte) error { return nil }); !errors.Is(err, enough) {
		t.Errorf("%v", err)
	}
}
