package registry

import (
	"sync"
	"testing"

	"github.com/cordon-mq/cordon/policy"
)

// Whoever has seen a write end never reads the record before it, however many
// read it meanwhile.
func TestCacheNeverOutlivesAWrite(t *testing.T) {
	t.Parallel()
	f := newFixture(t, stores[0].open(t))
	ctx := t.Context()
	f.organisation(acme)
	f.deviceType(acme, "sensor", ClassDevice)
	f.device(acme, "sensor", "d1", "")
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					_, _ = f.DeviceFacts(ctx, acme, "sensor", "d1")
				}
			}
		})
	}
	for i := range 200 {
		want := []string{string(rune('a' + i%26))}
		_, err := f.UpdateDevice(ctx, acme, "sensor", "d1", func(d *Device) error { d.Groups = want; return nil })
		f.ok(err)
		if facts := must[*policy.Device](t)(f.DeviceFacts(ctx, acme, "sensor", "d1")); facts.Groups[0] != want[0] {
			t.Fatalf("after edit %d the groups are %v, want %v", i, facts.Groups, want)
		}
	}
	close(done)
	readers.Wait()
}

// The memory of it has a bound.
func TestCacheIsBounded(t *testing.T) {
	t.Parallel()
	var c cache
	c.guarded.records = make(map[cached]any)
	for i := range cacheMost {
		c.guarded.records[cached{as: i}] = i
	}
	c.shrinkLocked()
	if got := len(c.guarded.records); got != cacheMost-cacheMost/8 {
		t.Errorf("%d records are left", got)
	}
}
