package broker

import (
	"slices"
	"testing"
)

// The broker's packet identifiers are never zero and never one that is in use;
// behind the last of them it begins again [MQTT-2.2.1-4] [MQTT-4.3.2-1] [MQTT-4.3.3-1].
func TestPacketIdentifiersInUseAreLeftOut(t *testing.T) {
	t.Parallel()
	o := outgoing{lastID: 65533, inflight: []*sent{{id: 65535}, {id: 2}, {id: 1}}}
	var got []uint16
	for range 4 {
		got = append(got, o.send(queued{}, nil).id)
	}
	if want := []uint16{65534, 3, 4, 5}; !slices.Equal(got, want) {
		t.Errorf("identifiers %v, want %v", got, want)
	}
	o.remove(o.find(1))
	o.lastID = 65535
	if id := o.send(queued{}, nil).id; id != 1 {
		t.Errorf("identifier %d, want 1, which is free again", id)
	}
}
