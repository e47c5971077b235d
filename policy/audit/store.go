package audit

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/cordon-mq/cordon/policy"
)

// Key names a value of a Storage by its parts. Keys sort by their parts, and parts of
// one length by their bytes.
type Key []string

// Op stores a value; a nil value deletes the key.
type Op struct {
	Key   Key
	Value []byte
}

// Storage is what a Store writes to: ordered, and with commits that are atomic.
type Storage interface {
	// Scan calls fn for each key that begins with the parts of prefix and sorts after
	// the key after, in order, until fn answers false. An empty after is before all.
	// The value is valid only until fn returns.
	Scan(prefix, after Key, fn func(key Key, value []byte) bool) error
	// Commit writes ops as one and then calls done. It is not called from done.
	Commit(ops []Op, done func(error))
}

// StoreOptions of a Store.
type StoreOptions struct {
	Age  time.Duration    // how long events are kept; 0: 7 days
	Size int64            // about how many bytes are kept; 0: 256 MiB
	Now  func() time.Time // nil: time.Now
	Log  *slog.Logger     // nil: nothing is logged
}

// Store is a Sink that keeps events where they can be found again. A Write that
// returned without an error is kept as well as the Storage keeps anything.
//
// Problem: what is deleted at the front of a range leaves marks that every later read
// of that range has to step over; and one organisation that is refused without end
// must not push out what is known of others.
//
// Outline: each tenant has a chain of segments, each of a bounded time and size. A
// segment is deleted whole, in small steps: by age, or by size the oldest one of the
// tenant that has most. Every key of a segment begins with the segment, and reads go
// to the segments that there are, so that nobody reads where things were deleted. The
// record of a segment is written with its first event and deleted after its last, so
// that a process that dies in between finds the rest again.
//
// Keys: "s" tenant segment: what the segment has; "e" tenant segment position: an
// event; "i" tenant segment decision position: where the events of a decision are.
// Positions sort the newest first.
type Store struct {
	storage Storage
	o       StoreOptions
	// span and segmentMax bound a segment.
	span       time.Duration
	segmentMax int64

	guarded struct {
		sync.Mutex
		chains   map[string]*chain // by tenant
		bytes    int64
		sequence uint32 // of the last event
		last     uint64 // segment begun
	}
	sweeping chan struct{} // there may be something to delete
	quit     chan struct{}
	done     chan struct{}
}

type chain struct {
	segments []*segment // the oldest first
	bytes    int64
}

// segment is what the record of one says, and its name.
type segment struct {
	id                  uint64 // Unix nanoseconds of its begin; unique
	bytes, count        int64
	earliest, latest    int64 // Unix nanoseconds of its events
	condemned, unwanted bool  // it is being deleted; it is to be, whatever its age
}

var _ Sink = (*Store)(nil)

const (
	partSegment, partEvent, partIndex = "s", "e", "i"

	keyOverhead = 256 // bytes of an event beside its JSON: keys, index
	sweepStep   = 256 // events deleted in one commit
)

// OpenStore reads which segments there are, and starts deleting what is too old.
func OpenStore(s Storage, o StoreOptions) (*Store, error) {
	if o.Age <= 0 {
		o.Age = 7 * 24 * time.Hour
	}
	if o.Size <= 0 {
		o.Size = 256 << 20
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	st := &Store{
		storage: s, o: o, span: min(max(o.Age/8, time.Minute), 24*time.Hour), segmentMax: max(o.Size/64, 64<<10),
		sweeping: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{}),
	}
	st.guarded.chains = map[string]*chain{}
	if err := st.load(); err != nil {
		return nil, fmt.Errorf("decision log: %w", err)
	}
	go st.sweep()
	return st, nil
}

func (st *Store) load() error {
	var bad error
	err := st.storage.Scan(Key{partSegment}, nil, func(key Key, value []byte) bool {
		seg, ok := decodeSegment(key, value)
		if !ok {
			bad = errors.New("a record of a segment is damaged")
			return false
		}
		c := st.chainLocked(key[1])
		c.segments = append(c.segments, seg)
		c.bytes += seg.bytes
		st.guarded.bytes += seg.bytes
		st.guarded.last = max(st.guarded.last, seg.id)
		return true
	})
	return errors.Join(err, bad)
}

func (st *Store) chainLocked(tenant string) *chain {
	c := st.guarded.chains[tenant]
	if c == nil {
		c = &chain{}
		st.guarded.chains[tenant] = c
	}
	return c
}

func (seg *segment) encode() []byte {
	var b []byte
	for _, n := range []int64{seg.bytes, seg.count, seg.earliest, seg.latest} {
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	return b
}

func decodeSegment(key Key, value []byte) (*segment, bool) {
	if len(key) != 3 || len(key[2]) != 8 || len(value) != 32 {
		return nil, false
	}
	n := func(i int) int64 { return int64(binary.BigEndian.Uint64(value[8*i:])) }
	seg := &segment{id: binary.BigEndian.Uint64([]byte(key[2])), bytes: n(0), count: n(1), earliest: n(2), latest: n(3)}
	return seg, seg.bytes >= 0 && seg.count >= 0
}

func (seg *segment) name() string { return number(seg.id) }

func number(n uint64) string { return string(binary.BigEndian.AppendUint64(nil, n)) }

// Name is "store".
func (*Store) Name() string { return "store" }

func (t Tenant) part() string {
	if t.Org.IsZero() {
		return ""
	}
	return t.Org.String() + "@" + number(t.Incarnation)
}

// tenantOf is whose chain e belongs to.
func tenantOf(e *Event) (Tenant, error) {
	if e.Custom.Org == "" {
		return Tenant{}, nil
	}
	org, err := policy.ParseOrgID(e.Custom.Org)
	return Tenant{org, e.Custom.Incarnation}, err
}

// position is the name of an event in its segment: the newest sorts first.
func position(at time.Time, sequence uint32) string {
	b := binary.BigEndian.AppendUint64(nil, math.MaxUint64-uint64(at.UnixNano()))
	return string(binary.BigEndian.AppendUint32(b, math.MaxUint32-sequence))
}

// Bounds of one commit, below those of the stores there are.
const (
	commitBytes = 1 << 20
	commitOps   = 1024
)

// Write keeps the events.
func (st *Store) Write(ctx context.Context, events []*Event) (lost int, err error) {
	for len(events) > 0 {
		n, wrote := st.writeSome(ctx, events)
		if wrote != nil {
			lost += n
			err = wrote
		}
		events = events[n:]
	}
	return lost, err
}

// change is what one commit adds to a segment.
type change struct {
	tenant string
	seg    *segment
	before segment
	fresh  bool
}

// writeSome commits as many of the events as one commit may have.
func (st *Store) writeSome(ctx context.Context, events []*Event) (n int, err error) {
	var ops []Op
	changed := map[*segment]*change{}
	size := 0
	st.guarded.Lock()
	for n < len(events) && len(ops) < commitOps && (n == 0 || size+len(events[n].encoded) < commitBytes) {
		ev := events[n]
		n++
		text, encoding := ev.JSON()
		tenant, parsing := tenantOf(ev)
		if err = errors.Join(encoding, parsing); err != nil {
			break
		}
		size += len(text) + keyOverhead
		ops = append(ops, st.placeLocked(tenant.part(), ev, text, changed)...)
	}
	for seg, c := range changed {
		ops = append(ops, Op{Key{partSegment, c.tenant, seg.name()}, seg.encode()})
	}
	full := st.guarded.bytes > st.o.Size
	st.guarded.Unlock()
	if full {
		st.wakeSweep()
	}
	if len(ops) == 0 {
		return n, err
	}

	answer := make(chan error, 1)
	st.storage.Commit(ops, func(err error) { answer <- err })
	select {
	case failed := <-answer:
		if failed != nil {
			st.undo(changed)
		}
		return n, errors.Join(err, failed)
	case <-ctx.Done():
		return n, context.Cause(ctx)
	}
}

// placeLocked finds the segment of ev and says what is to be written.
func (st *Store) placeLocked(tenant string, ev *Event, text []byte, changed map[*segment]*change) []Op {
	now := st.o.Now()
	c := st.chainLocked(tenant)
	var seg *segment
	if len(c.segments) > 0 {
		seg = c.segments[len(c.segments)-1]
	}
	fresh := seg == nil || seg.condemned || seg.unwanted || seg.bytes >= st.segmentMax || now.Sub(time.Unix(0, int64(seg.id))) >= st.span
	if fresh {
		st.guarded.last = max(st.guarded.last+1, uint64(now.UnixNano()))
		seg = &segment{id: st.guarded.last, earliest: math.MaxInt64}
		c.segments = append(c.segments, seg)
	}
	if changed[seg] == nil {
		changed[seg] = &change{tenant: tenant, seg: seg, before: *seg, fresh: fresh}
	}
	st.guarded.sequence++
	at := position(ev.Timestamp, st.guarded.sequence)
	n := int64(len(text) + keyOverhead)
	seg.bytes, seg.count = seg.bytes+n, seg.count+1
	seg.earliest, seg.latest = min(seg.earliest, ev.Timestamp.UnixNano()), max(seg.latest, ev.Timestamp.UnixNano())
	c.bytes += n
	st.guarded.bytes += n
	return []Op{
		{Key{partEvent, tenant, seg.name(), at}, text},
		{Key{partIndex, tenant, seg.name(), ev.DecisionID, at}, []byte{}},
	}
}

// undo takes back what a commit that failed would have added.
func (st *Store) undo(changed map[*segment]*change) {
	st.guarded.Lock()
	defer st.guarded.Unlock()
	for seg, ch := range changed {
		c := st.chainLocked(ch.tenant)
		n := seg.bytes - ch.before.bytes
		c.bytes -= n
		st.guarded.bytes -= n
		seg.bytes, seg.count = ch.before.bytes, ch.before.count
		if ch.fresh {
			c.segments = slices.DeleteFunc(c.segments, func(s *segment) bool { return s == seg })
		}
		st.forgetEmptyLocked(ch.tenant)
	}
}

func (st *Store) forgetEmptyLocked(tenant string) {
	if c := st.guarded.chains[tenant]; c != nil && len(c.segments) == 0 {
		delete(st.guarded.chains, tenant)
	}
}

// Close ends the deleting. What is half deleted is finished after the next start.
func (st *Store) Close() error {
	close(st.quit)
	<-st.done
	return nil
}
