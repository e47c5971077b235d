package listen

import (
	"container/list"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// maxAddresses bounds a table of addresses; each takes about 300 bytes. Whoever
// commands more addresses than this is not held by a limit per address, and the
// limits over all of them remain.
const maxAddresses = 1 << 16

// addressKey is what counts as one address: an IPv4 address, or the /64 that an
// IPv6 host may choose its own addresses from. What is no IP address shares the
// zero key.
func addressKey(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap()
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64
	}
	key, err := addr.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return key
}

// exempt reports whether limits per address leave addr alone: on the loopback
// interface an address tells nobody apart.
func exempt(addr netip.Addr) bool { return addr.Unmap().IsLoopback() }

// buckets holds one token bucket per address key. When the table is full, the
// address that was quiet for longest is forgotten, which costs the same however
// many there are.
type buckets struct {
	rate  rate.Limit // tokens per second
	burst int        // tokens of a full bucket
	size  int        // addresses at most
	table struct {
		sync.Mutex
		byKey  map[netip.Prefix]*list.Element
		recent list.List // of *bucket, the last used first
	}
}

// bucket is the entry of one address.
type bucket struct {
	key    netip.Prefix
	tokens *rate.Limiter
}

func newBuckets(perSecond float64, burst, size int) *buckets {
	b := &buckets{rate: rate.Limit(perSecond), burst: burst, size: size}
	b.table.byKey = make(map[netip.Prefix]*list.Element)
	return b
}

// take removes a token of key and reports whether there was one.
func (b *buckets) take(key netip.Prefix) bool {
	b.table.Lock()
	defer b.table.Unlock()
	return b.entryLocked(key).tokens.AllowN(time.Now(), 1)
}

// has reports whether key has a token. It remembers nothing about key.
func (b *buckets) has(key netip.Prefix) bool {
	b.table.Lock()
	defer b.table.Unlock()
	found, ok := b.table.byKey[key]
	return !ok || found.Value.(*bucket).tokens.TokensAt(time.Now()) >= 1
}

func (b *buckets) entryLocked(key netip.Prefix) *bucket {
	if found, ok := b.table.byKey[key]; ok {
		b.table.recent.MoveToFront(found)
		return found.Value.(*bucket)
	}
	if len(b.table.byKey) >= b.size {
		oldest := b.table.recent.Back()
		delete(b.table.byKey, b.table.recent.Remove(oldest).(*bucket).key)
	}
	fresh := &bucket{key: key, tokens: rate.NewLimiter(b.rate, b.burst)}
	b.table.byKey[key] = b.table.recent.PushFront(fresh)
	return fresh
}
