package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cordon-mq/cordon/policy"
)

type clock struct {
	guarded struct {
		sync.Mutex
		now time.Time
	}
}

func newClock() *clock {
	c := &clock{}
	c.guarded.now = time.Unix(1_800_000_000, 0)
	return c
}

func (c *clock) now() time.Time {
	c.guarded.Lock()
	defer c.guarded.Unlock()
	return c.guarded.now
}

func (c *clock) add(d time.Duration) {
	c.guarded.Lock()
	defer c.guarded.Unlock()
	c.guarded.now = c.guarded.now.Add(d)
}

func openStore(t *testing.T, s Storage, c *clock, o StoreOptions) *Store {
	t.Helper()
	o.Now = c.now
	st, err := OpenStore(s, o)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func closeStore(t *testing.T, st *Store) {
	t.Helper()
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
}

// eventAt is a denied publish of an organisation.
func eventAt(t *testing.T, at time.Time, org, id string, size int) *Event {
	t.Helper()
	ev := &Event{DecisionID: id, Timestamp: at.UTC(), Input: json.RawMessage(`"` + strings.Repeat("x", size) + `"`)}
	ev.Custom = Custom{Org: org, Action: "publish", Count: 1, Weight: 1}
	if org != "" {
		ev.Custom.Incarnation = 1
	}
	if err := ev.seal(); err != nil {
		t.Fatal(err)
	}
	return ev
}

func tenantNamed(t *testing.T, org string) *Tenant {
	t.Helper()
	if org == "" {
		return &Tenant{}
	}
	return &Tenant{factsOf(t, org).Principal.Org, 1}
}

// list reads all pages.
func list(t *testing.T, st *Store, q Query) (ids []string) {
	t.Helper()
	for range 10_000 {
		p, err := st.List(context.Background(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, ev := range p.Events {
			ids = append(ids, ev.DecisionID)
		}
		if q.Cursor = p.Next; q.Cursor == "" {
			return ids
		}
	}
	t.Fatal("the pages do not end")
	return nil
}

func TestStoreListsTheNewestFirst(t *testing.T) {
	t.Parallel()
	c, m := newClock(), newMemory()
	st := openStore(t, m, c, StoreOptions{})
	defer closeStore(t, st)
	begin := c.now()
	for i := range 30 { // an hour apart, so several segments
		org := []string{"acme01", "other1", ""}[i%3]
		ev := eventAt(t, c.now(), org, fmt.Sprint("d", i), 10)
		if i%2 == 0 {
			ev.Custom.Client, ev.encoded = "even", nil
			_ = ev.seal()
		}
		write(t, st, []*Event{ev})
		c.add(time.Hour)
	}
	for _, limit := range []int{1, 2, 7, 100} {
		if got := fmt.Sprint(list(t, st, Query{Tenant: tenantNamed(t, "acme01"), Limit: limit})); got != "[d27 d24 d21 d18 d15 d12 d9 d6 d3 d0]" {
			t.Errorf("acme01 in pages of %d: %s", limit, got)
		}
		if got := list(t, st, Query{Limit: limit}); len(got) != 30 || got[0] != "d29" || got[29] != "d0" {
			t.Errorf("all in pages of %d: %v", limit, got)
		}
	}
	if got := fmt.Sprint(list(t, st, Query{Tenant: tenantNamed(t, ""), Filter: Filter{Client: "even"}})); got != "[d26 d20 d14 d8 d2]" {
		t.Errorf("even ones of nobody: %s", got)
	}
	since, until := begin.Add(3*time.Hour), begin.Add(9*time.Hour)
	if got := fmt.Sprint(list(t, st, Query{Since: since, Until: until, Tenant: tenantNamed(t, "acme01")})); got != "[d9 d6 d3]" {
		t.Errorf("between two times: %s", got)
	}
	namesake := tenantNamed(t, "acme01")
	namesake.Incarnation = 2
	if got := list(t, st, Query{Tenant: namesake}); len(got) != 0 {
		t.Errorf("a namesake sees %v", got)
	}
	for _, cursor := range []string{"x", "00", strings.Repeat("0", 26)} {
		if _, err := st.List(context.Background(), Query{Cursor: cursor}); policy.KindOf(err) != policy.KindInvalid {
			t.Errorf("cursor %q: %v", cursor, err)
		}
	}
}

func TestStoreFinds(t *testing.T) {
	t.Parallel()
	c, m := newClock(), newMemory()
	st := openStore(t, m, c, StoreOptions{})
	defer closeStore(t, st)
	ours, theirs := tenantNamed(t, "acme01"), tenantNamed(t, "other1")
	write(t, st, []*Event{eventAt(t, c.now(), "acme01", "abc", 10), eventAt(t, c.now(), "other1", "abcd", 10)})
	c.add(30 * time.Hour)
	write(t, st, []*Event{eventAt(t, c.now(), "acme01", "abc", 20)}) // the same answer again
	for i, tt := range []struct {
		tenant *Tenant
		id     string
		found  bool
	}{
		{ours, "abc", true},
		{nil, "abc", true},
		{theirs, "abc", false},
		{theirs, "abcd", true},
		{ours, "abcd", false},
		{nil, "ab", false},
		{nil, "", false},
		{nil, strings.Repeat("x", 65), false},
	} {
		ev, err := st.Find(context.Background(), tt.tenant, tt.id)
		if (err == nil) != tt.found || err != nil && policy.KindOf(err) != policy.KindNotFound {
			t.Errorf("%d: %v, %v", i, ev, err)
		}
		if tt.id == "abc" && tt.found && !ev.Timestamp.Equal(c.now()) {
			t.Errorf("%d: not the newest: %v", i, ev.Timestamp)
		}
	}
}

// A filter that chooses one of very many still comes to the end, page by page.
func TestStorePagesGetOn(t *testing.T) {
	t.Parallel()
	c, m := newClock(), newMemory()
	st := openStore(t, m, c, StoreOptions{})
	defer closeStore(t, st)
	for org := range 8 {
		var events []*Event
		for i := range 40 {
			c.add(time.Millisecond)
			ev := eventAt(t, c.now(), fmt.Sprint("org", org), fmt.Sprintf("d%d-%d", org, i), 1)
			if i == 3 {
				ev.Custom.Client, ev.encoded = "rare", nil
				_ = ev.seal()
			}
			events = append(events, ev)
		}
		write(t, st, events)
	}
	p := pageBuilder{limit: 10, most: 7, last: strings.Repeat("\xff", 12), query: Query{Filter: Filter{Client: "rare"}}}
	seen := 0
	for pages := range 1000 {
		for _, w := range st.segments(nil, 0, maxTime) {
			if err := p.scan(st.storage, w); err != nil {
				t.Fatal(err)
			}
		}
		page := p.page()
		seen += len(page.Events)
		if page.Next == "" {
			if seen != 8 || pages == 0 {
				t.Errorf("%d events on %d pages", seen, pages)
			}
			return
		}
		next := p
		next.best, next.bound = nil, ""
		next.after = string(mustHex(t, page.Next))
		if next.after <= p.after {
			t.Fatal("a page does not get on")
		}
		p = next
	}
	t.Fatal("the pages do not end")
}

// Too old, or too much of one organisation: gone, with every trace.
func TestStoreKeepsItsBounds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		st, err := OpenStore(m, StoreOptions{Age: 24 * time.Hour, Size: 4 << 20})
		if err != nil {
			t.Fatal(err)
		}
		defer closeStore(t, st)
		write(t, st, []*Event{eventAt(t, time.Now(), "quiet1", "q", 100)})
		for i := range 50 { // 5 MB of one organisation
			var events []*Event
			for k := range 100 {
				events = append(events, eventAt(t, time.Now(), "loud01", fmt.Sprintf("l%d-%d", i, k), 1000))
			}
			write(t, st, events)
			synctest.Wait()
		}
		st.guarded.Lock()
		total := st.guarded.bytes
		st.guarded.Unlock()
		if total > 4<<20 {
			t.Errorf("%d bytes are kept", total)
		}
		if _, err := st.Find(context.Background(), nil, "l49-99"); err != nil {
			t.Errorf("the newest is gone: %v", err)
		}
		if _, err := st.Find(context.Background(), nil, "l0-0"); policy.KindOf(err) != policy.KindNotFound {
			t.Errorf("the oldest is there: %v", err)
		}
		if _, err := st.Find(context.Background(), nil, "q"); err != nil {
			t.Errorf("another organisation's is gone: %v", err)
		}
		m.state.Lock()
		if m.state.most > commitOps+64 {
			t.Errorf("a commit of %d operations", m.state.most)
		}
		m.state.Unlock()
		time.Sleep(25 * time.Hour)
		if got := list(t, st, Query{}); len(got) != 0 {
			t.Errorf("%d old events are listed", len(got))
		}
		time.Sleep(4 * time.Hour)
		synctest.Wait()
		if n := m.len(); n != 0 {
			t.Errorf("%d keys are left", n)
		}
	})
}

// What was written is there after a restart, and so is what was half deleted, to be
// finished.
func TestStoreRestarts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		open := func() *Store {
			st, err := OpenStore(m, StoreOptions{Age: 8 * time.Hour})
			if err != nil {
				t.Fatal(err)
			}
			return st
		}
		st := open()
		for i := range 600 {
			write(t, st, []*Event{eventAt(t, time.Now(), "acme01", fmt.Sprint("d", i), 10)})
		}
		closeStore(t, st)
		st = open()
		if got := list(t, st, Query{}); len(got) != 600 || got[0] != "d599" {
			t.Errorf("after a restart: %d", len(got))
		}
		m.fail(errors.New("disk on fire"))
		if lost, err := st.Write(context.Background(), []*Event{eventAt(t, time.Now(), "acme01", "lost", 10)}); lost != 1 || err == nil {
			t.Errorf("lost %d: %v", lost, err)
		}
		time.Sleep(10 * time.Hour) // deleting fails, too
		closeStore(t, st)
		if m.len() != 1201 {
			t.Errorf("%d keys", m.len())
		}
		m.fail(nil)
		st = open()
		synctest.Wait()
		if n := m.len(); n != 0 {
			t.Errorf("%d keys are left", n)
		}
		write(t, st, []*Event{eventAt(t, time.Now(), "acme01", "new", 10)})
		if got := st.Tenants(); len(got) != 1 || got[0] != *tenantNamed(t, "acme01") {
			t.Errorf("tenants %v", got)
		}
		st.Forget(*tenantNamed(t, "acme01"))
		synctest.Wait()
		if n := m.len(); n != 0 {
			t.Errorf("%d keys are left of what was forgotten", n)
		}
		closeStore(t, st)
	})
}

func TestStoreRefusesDamage(t *testing.T) {
	t.Parallel()
	m := newMemory()
	m.Commit([]Op{{Key{partSegment, "", "short"}, []byte{1}}}, func(error) {})
	if _, err := OpenStore(m, StoreOptions{}); err == nil {
		t.Error("a damaged record was taken")
	}
}

func mustHex(t *testing.T, s string) []byte {
	t.Helper()
	var b []byte
	if _, err := fmt.Sscanf(s, "%x", &b); err != nil {
		t.Fatal(err)
	}
	return b
}
