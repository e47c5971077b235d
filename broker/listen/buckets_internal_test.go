package listen

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"testing"
)

func TestAddressKey(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"192.0.2.1": "192.0.2.1/32", "::ffff:192.0.2.1": "192.0.2.1/32",
		"2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64", "fe80::1%eth0": "fe80::/64",
	} {
		if got := addressKey(netip.MustParseAddr(address)).String(); got != want {
			t.Errorf("%s counts as %s, want %s", address, got, want)
		}
	}
	if got := addressKey(netip.Addr{}); got != (netip.Prefix{}) {
		t.Errorf("no address counts as %v", got)
	}
}

func address(n uint32) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, n))), 32)
}

// However many addresses come, the table keeps its size, and what it forgets is
// the one not heard of for longest.
func TestBucketsAreBounded(t *testing.T) {
	t.Parallel()
	const size = 8
	b := newBuckets(1e-9, 1, size)
	for n := range uint32(1000) {
		b.take(address(n))
		b.take(address(0)) // stays, being used
	}
	if len(b.table.byKey) != size || b.table.recent.Len() != size {
		t.Errorf("%d and %d entries, want %d", len(b.table.byKey), b.table.recent.Len(), size)
	}
	for n, want := range map[uint32]bool{0: false, 999: false, 1: true, 990: true} {
		if got := b.has(address(n)); got != want {
			t.Errorf("address %d has a token: %t, want %t", n, got, want)
		}
	}
	if len(b.table.byKey) != size {
		t.Error("asking added an entry")
	}
}

func TestHammerBuckets(t *testing.T) {
	t.Parallel()
	const size = 16
	b := newBuckets(1, 5, size)
	var all sync.WaitGroup
	for worker := range uint32(8) {
		all.Go(func() {
			for n := range uint32(1000) {
				b.take(address(n*worker + worker))
				b.has(address(n))
			}
		})
	}
	all.Wait()
	if len(b.table.byKey) > size || len(b.table.byKey) != b.table.recent.Len() {
		t.Errorf("%d and %d entries, want at most %d and the same", len(b.table.byKey), b.table.recent.Len(), size)
	}
}

// Connections come, are named, authenticated and go in any order, and in the end
// nobody is counted.
func TestHammerAdmission(t *testing.T) {
	t.Parallel()
	a := NewAdmission(AdmissionConfig{MaxPending: 20, MaxPendingPerAddress: 3, ConnectRate: 1e6})
	var all sync.WaitGroup
	for worker := range uint32(16) {
		all.Go(func() {
			for n := range uint32(500) {
				p, err := a.enter()
				if err != nil {
					continue
				}
				_ = p.name(address(n % 7 * worker).Addr())
				all.Go(p.leave)
				p.leave()
			}
		})
	}
	all.Wait()
	a.pending.Lock()
	defer a.pending.Unlock()
	if a.pending.total != 0 || len(a.pending.byAddress) != 0 {
		t.Errorf("%d are pending, of %d addresses, after all have left", a.pending.total, len(a.pending.byAddress))
	}
}
