package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// behaviour is one thing that works with every client that can do it. A library
// meets the next one in the table that can.
type behaviour struct {
	name string
	fits func(library) bool // nil: all do
	run  func(s *site, t *testing.T, one, other library)
}

func behaviours() []behaviour {
	return []behaviour{
		{"messages go both ways", nil, (*site).messages},
		{"a client ID is assigned", assigns, (*site).assigned},
		{"a session is kept, or not", nil, (*site).keptSession},
		{"a will", nil, (*site).will},
		{"a retained message", nil, (*site).retained},
		{"a shared subscription", nil, (*site).shared},
		{"a refused filter", nil, (*site).refusedFilter},
		{"no messages after unsubscribing", unsubscribes, (*site).unsubscribed},
		{"request and response", hasProperties, (*site).requestResponse},
		{"topic aliases", hasAliases, (*site).topicAliases},
	}
}

// patientBehaviour is one in which time has to pass: once, for all clients.
type patientBehaviour struct {
	name string
	fits func(library) bool
	wait time.Duration
	run  func(s *site, t *testing.T, one, other library) (afterwards func(t *testing.T))
}

func patientBehaviours() []patientBehaviour {
	return []patientBehaviour{
		{"idle clients stay connected", pings, 3500 * time.Millisecond, (*site).idle},
		{"messages expire", hasProperties, 1500 * time.Millisecond, (*site).messageExpiry},
		{"sessions expire", speaks5, 2 * time.Second, (*site).sessionExpiry},
	}
}

// What a library has to be able to do.
func speaks5(l library) bool       { return l.version == "5" }
func hasProperties(l library) bool { return l.properties && l.version == "5" }
func hasAliases(l library) bool    { return l.aliases && l.version == "5" }
func unsubscribes(l library) bool  { return l.unsubscribes }
func pings(l library) bool         { return l.pings }

// The command does not say which ID it got.
func assigns(l library) bool { return l.version == "5" && !l.onlyText }

// TestInterop has clients of others, and Cordon's own, speak with one real broker
// that is open to everybody, over TLS and over WebSocket.
func TestInterop(t *testing.T) {
	t.Parallel()
	o := startOpen(t)
	s := newSite(t, o.doors, o.log)
	succeeds(t, append(s.cordonArgs(t, library{version: "5"}, greeting{}, "pub"), "-t", readyTopic, "-m", "yes", "-r", "-q", "1")...)
	present := presentLibraries(t)
	for _, b := range behaviours() {
		able := slices.DeleteFunc(slices.Clone(present), func(l library) bool { return b.fits != nil && !b.fits(l) })
		t.Run(b.name, func(t *testing.T) {
			for i, l := range able {
				t.Run(l.String(), func(t *testing.T) {
					t.Parallel()
					b.run(s, t, l, partner(able, i))
				})
			}
		})
	}
	for _, b := range patientBehaviours() {
		able := slices.DeleteFunc(slices.Clone(present), func(l library) bool { return !b.fits(l) })
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			afterwards := make([]func(*testing.T), len(able))
			for i, l := range able {
				afterwards[i] = b.run(s, t, l, partner(able, i))
			}
			<-time.After(b.wait)
			for i, l := range able {
				t.Run(l.String(), afterwards[i])
			}
		})
	}
}

// presentLibraries are those whose program is installed; a test says which are
// not.
func presentLibraries(t *testing.T) []library {
	t.Helper()
	missing := map[string]string{
		mosquittoProduct().name: mosquittoMissing(),
		mqttJSProduct().name:    mqttJSMissing(),
	}
	return slices.DeleteFunc(libraries(), func(l library) bool {
		why := missing[l.name]
		if why != "" {
			t.Run(l.String(), func(t *testing.T) { t.Skip(why) })
		}
		return why != ""
	})
}

// partner is the next library of another product, and of the same only if there
// is no other.
func partner(able []library, i int) library {
	for step := range able {
		if l := able[(i+1+step)%len(able)]; l.product.name != able[i].product.name {
			return l
		}
	}
	return able[(i+1)%len(able)]
}

func (s *site) messages(t *testing.T, one, other library) {
	base := s.name() + "/"
	left := s.join(t, one, greeting{filters: []string{base + "left/#"}, qos: 2, id: s.name()})
	right := s.join(t, other, greeting{filters: []string{base + "right/+", base + "nowhere"}, qos: 2, id: s.name()})
	send := func(payload string, qos byte) {
		for to, from := range map[*peer]*peer{left: right, right: left} {
			topic := base + map[*peer]string{left: "left/1", right: "right/1"}[to]
			from.sends(t, message{topic: topic, payload: payload, qos: qos})
			to.wants(t, message{topic: topic, payload: payload, qos: qos})
		}
	}
	for qos := range byte(3) {
		send(fmt.Sprintf(`{"d":{"qos":%d,"of":"ü"}}`, qos), qos)
		send("", qos)
	}
	send(longPayload(), 1)
	send(longPayload(), 2)
}

// longPayload takes several WebSocket messages.
func longPayload() string { return strings.Repeat("0123456789", 10_000) }

func (s *site) assigned(t *testing.T, one, other library) {
	base := s.name() + "/"
	first := s.join(t, one, greeting{filters: []string{base + "+"}, qos: 1})
	second := s.join(t, one, greeting{filters: []string{base + "+"}, qos: 1})
	if first.id == "" || second.id == "" || first.id == second.id {
		t.Errorf("assigned %q and %q", first.id, second.id)
	}
	m := message{topic: base + "x", payload: "to both", qos: 1}
	s.join(t, other, greeting{id: s.name()}).sends(t, m)
	first.wants(t, m)
	second.wants(t, m)
}

func (s *site) refusedFilter(t *testing.T, one, other library) {
	base := s.name() + "/"
	asks := s.join(t, one, greeting{filters: []string{"test/nosubscribe", base + "#"}, qos: 1, id: s.name()})
	m := message{topic: base + "x", payload: "the other filter", qos: 1}
	s.join(t, other, greeting{id: s.name()}).sends(t, m)
	asks.wants(t, m)
	refused := byte(0x80)
	if one.version == "5" {
		refused = 0x87
	}
	if got, want := asks.granted(), []byte{refused, 1}; !slices.Equal(got, want) {
		t.Errorf("SUBACK has %x, want %x", got, want)
	}
}

func (s *site) unsubscribed(t *testing.T, one, other library) {
	base := s.name() + "/"
	p := s.join(t, one, greeting{filters: []string{base + "left", base + "kept"}, qos: 1, id: s.name()})
	sender := s.join(t, other, greeting{id: s.name()})
	left, kept := message{topic: base + "left", payload: "1", qos: 1}, message{topic: base + "kept", payload: "2", qos: 1}
	sender.sends(t, left)
	p.wants(t, left)
	if err := p.unsubscribe(left.topic); err != nil {
		t.Fatal(err)
	}
	sender.sends(t, left)
	sender.sends(t, kept)
	p.wants(t, kept)
}

// Each message of a group goes to one of its members.
func (s *site) shared(t *testing.T, one, other library) {
	base := s.name() + "/"
	filters := []string{"$share/crew/" + base + "work/#", base + "fence"}
	members := []*peer{
		s.join(t, one, greeting{filters: filters, qos: 1, id: s.name()}),
		s.join(t, other, greeting{filters: filters, qos: 1, id: s.name()}),
	}
	const sent = 20
	sender := s.join(t, library{paho5Product(), "5", false}, greeting{id: s.name()})
	for i := range sent {
		sender.sends(t, message{topic: base + "work/x", payload: fmt.Sprint(i), qos: 1})
	}
	sender.sends(t, message{topic: base + "fence", qos: 1})
	times := map[string]int{}
	for _, p := range members {
		for m := p.next(t); m.topic != base+"fence"; m = p.next(t) {
			times[m.payload]++
		}
	}
	for i := range sent {
		if n := times[fmt.Sprint(i)]; n != 1 {
			t.Errorf("message %d was delivered %d times", i, n)
		}
	}
	if len(times) != sent {
		t.Errorf("%d messages, want %d: %s", len(times), sent, strings.TrimPrefix(fmt.Sprint(times), "map"))
	}
}
