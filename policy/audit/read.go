package audit

import (
	"context"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"github.com/cordon-mq/cordon/policy"
)

// Reader finds what was recorded.
type Reader interface {
	// Find returns the newest event of a decision. A nil tenant looks at all of them.
	// The error is KindNotFound where there is none, or no longer.
	Find(ctx context.Context, t *Tenant, decisionID string) (*Event, error)
	// List returns events, the newest first.
	List(ctx context.Context, q Query) (Page, error)
}

// Query says what to list.
type Query struct {
	Tenant       *Tenant   // nil: all
	Since, Until time.Time // both inclusive; zero: no bound
	Filter       Filter
	Limit        int    // 0: 100; at most 1000
	Cursor       string // Page.Next of the page before; empty: the first
}

// Page is a part of a list.
type Page struct {
	Events []*Event
	Next   string // empty: there are no more
}

var _ Reader = (*Store)(nil)

// scanMost is about how many events one page looks at: a filter that chooses nothing
// must not read everything for one answer. Each segment has its part of it, but at
// least scanLeast, so that every page gets on.
const (
	scanMost  = 20_000
	scanLeast = 64
)

// where is one segment of one tenant.
type where struct{ tenant, segment string }

// segments lists what may have events between two times, the newest of each tenant
// first.
func (st *Store) segments(t *Tenant, since, until int64) []where {
	limit := max(since, st.o.Now().Add(-st.o.Age).UnixNano())
	st.guarded.Lock()
	defer st.guarded.Unlock()
	var all []where
	add := func(tenant string, c *chain) {
		for _, seg := range slices.Backward(c.segments) {
			if !seg.condemned && !seg.unwanted && seg.latest >= limit && seg.earliest <= until {
				all = append(all, where{tenant, seg.name()})
			}
		}
	}
	if t == nil {
		for tenant, c := range st.guarded.chains {
			add(tenant, c)
		}
	} else if c := st.guarded.chains[t.part()]; c != nil {
		add(t.part(), c)
	}
	return all
}

// Find returns the newest event of a decision.
func (st *Store) Find(ctx context.Context, t *Tenant, decisionID string) (*Event, error) {
	missing := &policy.Error{Kind: policy.KindNotFound, Op: "find decision", Public: "no such decision is recorded"}
	if decisionID == "" || len(decisionID) > 64 {
		return nil, missing
	}
	newest, found := "", where{}
	for _, w := range st.segments(t, 0, maxTime) {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		err := st.storage.Scan(Key{partIndex, w.tenant, w.segment, decisionID}, nil, func(key Key, _ []byte) bool {
			if at := key[4]; newest == "" || at < newest {
				newest, found = at, w
			}
			return false
		})
		if err != nil {
			return nil, err
		}
	}
	if newest == "" {
		return nil, missing
	}
	var ev *Event
	var bad error
	err := st.storage.Scan(Key{partEvent, found.tenant, found.segment, newest}, nil, func(_ Key, value []byte) bool {
		ev, bad = ParseEvent(value)
		return false
	})
	switch {
	case err != nil:
		return nil, err
	case bad != nil:
		return nil, bad
	case ev == nil: // deleted meanwhile
		return nil, missing
	}
	return ev, nil
}

const maxTime = 1<<63 - 1

// found is an event and its place in the list.
type found struct {
	at    string
	event *Event
}

// List returns the newest events that q chooses. A page may be short, or empty, and
// still have a Next: when the filter passed over many.
func (st *Store) List(ctx context.Context, q Query) (Page, error) {
	limit := q.Limit
	if limit <= 0 {
		limit = 100
	}
	limit = min(limit, 1000)
	cursor, err := hex.DecodeString(q.Cursor)
	if err != nil || len(cursor) != 0 && len(cursor) != 12 {
		return Page{}, &policy.Error{Kind: policy.KindInvalid, Op: "list decisions", Field: "cursor", Public: "is none that a list returned"}
	}
	since, until := int64(0), int64(maxTime)
	if !q.Since.IsZero() {
		since = q.Since.UnixNano()
	}
	if !q.Until.IsZero() {
		until = q.Until.UnixNano()
	}
	segments := st.segments(q.Tenant, since, until)
	p := pageBuilder{query: q, limit: limit, after: string(cursor), most: max(scanLeast, scanMost/max(1, len(segments)))}
	if !q.Until.IsZero() {
		// Everything later sorts before this.
		if first := position(q.Until.Add(1), 0); first > p.after {
			p.after = first
		}
	}
	oldest := max(since, st.o.Now().Add(-st.o.Age).UnixNano())
	p.last = position(time.Unix(0, oldest), 0)
	for _, w := range segments {
		if ctx.Err() != nil {
			return Page{}, context.Cause(ctx)
		}
		if err := p.scan(st.storage, w); err != nil {
			return Page{}, err
		}
	}
	return p.page(), nil
}

// pageBuilder keeps the newest events of all segments it has seen.
type pageBuilder struct {
	query       Query
	limit       int
	after, last string // positions
	best        []found
	most        int    // how many events of one segment are looked at
	bound       string // where a segment was left before its end; empty: nowhere
}

func (p *pageBuilder) scan(s Storage, w where) error {
	var bad error
	var after Key
	left := p.most
	if p.after != "" {
		after = Key{partEvent, w.tenant, w.segment, p.after}
	}
	err := s.Scan(Key{partEvent, w.tenant, w.segment}, after, func(key Key, value []byte) bool {
		at := key[3]
		if at > p.last || len(p.best) == p.limit && at > p.best[p.limit-1].at || p.bound != "" && at > p.bound {
			return false
		}
		if left == 0 {
			p.bound = at // what is older than this is for the next page
			return false
		}
		left--
		var ev *Event
		if ev, bad = ParseEvent(value); bad != nil {
			return false
		}
		if p.query.Filter.Matches(ev) {
			p.add(found{at, ev})
		}
		return true
	})
	if err != nil {
		return err
	}
	return bad
}

func (p *pageBuilder) add(f found) {
	i, _ := slices.BinarySearchFunc(p.best, f.at, func(a found, at string) int { return strings.Compare(a.at, at) })
	p.best = slices.Insert(p.best, i, f)
	if len(p.best) > p.limit {
		p.best = p.best[:p.limit]
	}
}

func (p *pageBuilder) page() Page {
	var page Page
	for _, f := range p.best {
		if p.bound != "" && f.at >= p.bound {
			break
		}
		page.Events = append(page.Events, f.event)
	}
	switch n := len(page.Events); {
	case n == p.limit:
		page.Next = hex.EncodeToString([]byte(p.best[n-1].at))
	case p.bound != "":
		page.Next = hex.EncodeToString([]byte(before(p.bound)))
	}
	return page
}

// before is the position just before at.
func before(at string) string {
	b := []byte(at)
	for i := len(b) - 1; i >= 0; i-- {
		b[i]--
		if b[i] != 0xff {
			break
		}
	}
	return string(b)
}
