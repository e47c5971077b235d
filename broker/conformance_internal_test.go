package broker

import (
	"slices"
	"sync/atomic"
	"testing"
)

// The broker's packet identifiers are never zero and never one that is in use;
// behind the last of them it begins again [MQTT-2.2.1-4] [MQTT-4.3.2-1] [MQTT-4.3.3-1].
func TestPacketIdentifiersInUseAreLeftOut(t *testing.T) {
	t.Parallel()
	o := outgoing{total: new(atomic.Int64), budget: &budget{}, next: 65533}
	for _, seq := range []uint64{0, 1} { // packet IDs 1 and 2 are still open
		o.inflight = append(o.inflight, &entry{seq: seq})
	}
	var got []uint16
	for range 4 {
		e := &entry{}
		o.number(e)
		o.send(e, nil)
		got = append(got, e.id())
	}
	if want := []uint16{65534, 65535, 3, 4}; !slices.Equal(got, want) {
		t.Errorf("packet IDs %v, want %v", got, want)
	}
	o.remove(o.inflight[0])
	o.next = 2 * 65535
	e := &entry{}
	if o.number(e); e.id() != 1 {
		t.Errorf("packet ID %d; 1 is free again", e.id())
	}
}
