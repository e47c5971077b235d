package registry

import (
	"sync"

	"github.com/cordon-mq/cordon/broker/store"
)

// cache remembers decoded records for verification, which reads the same few at
// every connect. What it returns is shared: nobody may change it, so edits load
// their own copy.
//
// A write forgets the keys it touched after its commit and before anybody is
// told of it: whoever acts on the change finds it. A record that was read while
// a write ended is not remembered, since it may be the one before.
type cache struct {
	guarded struct {
		sync.RWMutex
		writes  uint64 // ended so far
		records map[cached]any
	}
}

// cached names a record and how it was decoded: the organisation's is read as
// more than one type.
type cached struct {
	key store.Key
	as  any // a nil *T
}

// cacheMost is how many records are remembered; beyond, some go.
const cacheMost = 65536

// recall is load through the cache. The record is shared.
func recall[T any](r *Registry, key store.Key) (stamped[T], error) {
	name := cached{key, (*T)(nil)}
	c := &r.cache
	c.guarded.RLock()
	known, ok := c.guarded.records[name].(stamped[T])
	before := c.guarded.writes
	c.guarded.RUnlock()
	if ok {
		return known, nil
	}
	found, err := load[T](r.store, key)
	if err != nil {
		return found, err
	}
	c.guarded.Lock()
	defer c.guarded.Unlock()
	if c.guarded.writes != before {
		return found, nil
	}
	if c.guarded.records == nil {
		c.guarded.records = make(map[cached]any)
	}
	if len(c.guarded.records) >= cacheMost {
		c.shrinkLocked()
	}
	c.guarded.records[name] = found
	return found, nil
}

// shrinkLocked forgets an eighth of the records, whichever come first.
func (c *cache) shrinkLocked() {
	left := cacheMost / 8
	for name := range c.guarded.records {
		delete(c.guarded.records, name)
		if left--; left == 0 {
			return
		}
	}
}

// forget ends a write that touched the keys of ops.
func (c *cache) forget(ops []store.Op) {
	c.guarded.Lock()
	defer c.guarded.Unlock()
	c.guarded.writes++
	for _, op := range ops {
		for _, as := range []any{
			(*directoryEntry)(nil), (*standing)(nil), (*organisationRecord)(nil), (*Device)(nil), (*DeviceType)(nil),
			(*APIKey)(nil), (*User)(nil), (*credential)(nil),
		} {
			delete(c.guarded.records, cached{op.Key(), as})
		}
	}
}
