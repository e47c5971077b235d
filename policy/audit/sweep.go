package audit

import (
	"encoding/binary"
	"errors"
	"strings"
	"time"

	"github.com/cordon-mq/cordon/policy"
)

func (st *Store) wakeSweep() {
	select {
	case st.sweeping <- struct{}{}:
	default:
	}
}

// sweep deletes what is too old or too much, as time goes by and when Write wakes it.
func (st *Store) sweep() {
	defer close(st.done)
	tick := time.NewTicker(min(st.span, time.Minute))
	defer tick.Stop()
	for {
		for {
			tenant, seg := st.condemn()
			if seg == nil {
				break
			}
			if err := st.deleteSegment(tenant, seg); err != nil {
				if !errors.Is(err, errQuit) {
					st.o.Log.Error("old decisions not deleted", "err", err)
				}
				break
			}
		}
		select {
		case <-st.quit:
			return
		case <-st.sweeping:
		case <-tick.C:
		}
	}
}

// condemn chooses what goes next: a segment that is too old, or else, when there is
// too much, the oldest of the tenant that has most.
func (st *Store) condemn() (tenant string, _ *segment) {
	st.guarded.Lock()
	defer st.guarded.Unlock()
	limit := st.o.Now().Add(-st.o.Age).UnixNano()
	most := ""
	for name, c := range st.guarded.chains {
		for _, seg := range c.segments {
			if seg.condemned || seg.unwanted || seg.latest < limit {
				seg.condemned = true
				return name, seg
			}
		}
		if c.bytes > 0 && (st.guarded.chains[most] == nil || c.bytes > st.guarded.chains[most].bytes) {
			most = name
		}
	}
	if st.guarded.bytes > st.o.Size && st.guarded.chains[most] != nil {
		seg := st.guarded.chains[most].segments[0]
		seg.condemned = true
		return most, seg
	}
	return "", nil
}

var errQuit = errors.New("audit: closing")

// deleteSegment deletes in steps, each when the one before is done, and the record of
// the segment last.
func (st *Store) deleteSegment(tenant string, seg *segment) error {
	for _, part := range []string{partEvent, partIndex} {
		prefix := Key{part, tenant, seg.name()}
		var after Key
		for {
			var ops []Op
			err := st.storage.Scan(prefix, after, func(key Key, _ []byte) bool {
				ops = append(ops, Op{Key: key})
				after = key
				return len(ops) < sweepStep
			})
			if err != nil {
				return err
			}
			if len(ops) == 0 {
				break
			}
			if err := st.commit(ops); err != nil {
				return err
			}
		}
	}
	if err := st.commit([]Op{{Key: Key{partSegment, tenant, seg.name()}}}); err != nil {
		return err
	}
	st.guarded.Lock()
	defer st.guarded.Unlock()
	c := st.chainLocked(tenant)
	for i, other := range c.segments {
		if other == seg {
			c.segments = append(c.segments[:i:i], c.segments[i+1:]...)
			c.bytes -= seg.bytes
			st.guarded.bytes -= seg.bytes
			break
		}
	}
	st.forgetEmptyLocked(tenant)
	return nil
}

func (st *Store) commit(ops []Op) error {
	select {
	case <-st.quit:
		return errQuit
	default:
	}
	answer := make(chan error, 1)
	st.storage.Commit(ops, func(err error) { answer <- err })
	select {
	case err := <-answer:
		return err
	case <-st.quit:
		return errQuit
	}
}

// Tenants are those that something is kept of.
func (st *Store) Tenants() (all []Tenant) {
	st.guarded.Lock()
	defer st.guarded.Unlock()
	for part := range st.guarded.chains {
		name, incarnation, _ := strings.Cut(part, "@")
		if org, err := policy.ParseOrgID(name); err == nil && len(incarnation) == 8 {
			all = append(all, Tenant{org, binary.BigEndian.Uint64([]byte(incarnation))})
		}
	}
	return all
}

// Forget deletes what is kept of a tenant, soon.
func (st *Store) Forget(t Tenant) {
	st.guarded.Lock()
	if c := st.guarded.chains[t.part()]; c != nil {
		for _, seg := range c.segments {
			seg.unwanted = true
		}
	}
	st.guarded.Unlock()
	st.wakeSweep()
}
