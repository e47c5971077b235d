package registry

import (
	"slices"
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
		records map[cached]remembered
		bytes   int // the sum of their costs
	}
}

// cached names a record and how it was decoded: the organisation's is read as
// more than one type.
type cached struct {
	key store.Key
	as  any // a nil *T
}

type remembered struct {
	record any
	cost   int // bytes
}

const (
	// cacheMost is what the remembered records may cost, in bytes; beyond, some go.
	cacheMost = 64 << 20
	// A record costs its entry, and more than its JSON text: free-form data, which
	// an organisation's administrators choose, become maps of small values.
	cacheEntry  = 512
	cacheFactor = 5
)

// recall is load through the cache. The record is shared.
func recall[T any](r *Registry, key store.Key) (stamped[T], error) {
	name := cached{key, (*T)(nil)}
	c := &r.cache
	c.guarded.RLock()
	known, ok := c.guarded.records[name].record.(stamped[T])
	before := c.guarded.writes
	c.guarded.RUnlock()
	if ok {
		return known, nil
	}
	value, err := r.store.Get(key)
	if err != nil {
		return stamped[T]{}, err
	}
	found, err := read[T](key, value)
	if err == nil && slices.Contains(decodings(key.Kind()), name.as) { // else no write would forget it
		c.remember(name, remembered{found, cacheEntry + cacheFactor*len(value)}, before)
	}
	return found, err
}

// remember keeps what was read after that many writes had ended, unless another
// one has ended since.
func (c *cache) remember(name cached, found remembered, before uint64) {
	c.guarded.Lock()
	defer c.guarded.Unlock()
	if c.guarded.writes != before {
		return
	}
	if c.guarded.records == nil {
		c.guarded.records = make(map[cached]remembered)
	}
	if c.guarded.bytes+found.cost > cacheMost {
		c.shrinkLocked()
	}
	c.dropLocked(name) // somebody else may have read it, too
	c.guarded.records[name] = found
	c.guarded.bytes += found.cost
}

// shrinkLocked forgets an eighth of the records, whichever come first.
func (c *cache) shrinkLocked() {
	for name := range c.guarded.records {
		if c.guarded.bytes <= cacheMost-cacheMost/8 {
			return
		}
		c.dropLocked(name)
	}
}

func (c *cache) dropLocked(name cached) {
	c.guarded.bytes -= c.guarded.records[name].cost
	delete(c.guarded.records, name)
}

// forget ends a write that touched the keys of ops.
func (c *cache) forget(ops []store.Op) {
	c.guarded.Lock()
	defer c.guarded.Unlock()
	c.guarded.writes++
	for _, op := range ops {
		for _, as := range decodings(op.Key().Kind()) {
			c.dropLocked(cached{op.Key(), as})
		}
	}
}

// decodings are the types that records of a kind are remembered as.
func decodings(kind store.Kind) []any {
	switch kind {
	case store.KindDirectory:
		return []any{(*directoryEntry)(nil)}
	case store.KindOrganisation:
		return []any{(*standing)(nil), (*organisationRecord)(nil)}
	case store.KindDeviceType:
		return []any{(*DeviceType)(nil)}
	case store.KindDevice:
		return []any{(*Device)(nil)}
	case store.KindAPIKey:
		return []any{(*APIKey)(nil)}
	case store.KindUser:
		return []any{(*User)(nil)}
	case store.KindRole:
		return []any{(*Role)(nil)}
	case store.KindGroup:
		return []any{(*Group)(nil)}
	case store.KindGroupMember:
		return []any{(*departed)(nil)}
	case store.KindCredential:
		return []any{(*credential)(nil)}
	default:
		return nil
	}
}
