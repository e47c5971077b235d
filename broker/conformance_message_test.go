package broker_test

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/broker/wire/wiretest"
)

// everything is each property that travels with a message. The order of user
// properties means something, and so do repeated names.
func everything() wire.PublishProperties {
	return wire.PublishProperties{
		HasPayloadFormat: true, PayloadFormat: 1,
		HasContentType: true, ContentType: "text/plain",
		ResponseTopic: "answers/\ufeffhere", CorrelationData: []byte{0, 1, 0xff},
		User: []wire.UserProperty{
			{Key: "z", Value: "1"}, {Key: "a", Value: "2"}, {Key: "z", Value: "3"}, {Key: "", Value: ""}, {Key: "z", Value: "1"},
		},
	}
}

// hasEverything compares what arrived with what was sent.
func hasEverything(t *testing.T, how string, p *wire.Publish) {
	t.Helper()
	if want := everything(); p.Properties == nil || !reflect.DeepEqual(*p.Properties, want) {
		t.Errorf("%s: properties %+v, want %+v", how, p.Properties, want)
	}
}

// The properties of a message arrive as they were sent, on every way it takes
// [MQTT-3.3.2-4] [MQTT-3.3.2-15] to [MQTT-3.3.2-18] [MQTT-3.3.2-20].
func TestPropertiesArriveUnaltered(t *testing.T) {
	t.Parallel()
	for qos := range byte(3) {
		t.Run(fmt.Sprintf("QoS %d", qos), func(t *testing.T) {
			t.Parallel()
			w := newOpenWorld(t)
			send := func(from *client, retain bool) {
				p := retained("a", "x", qos)
				properties := everything()
				p.Retain, p.Properties = retain, &properties
				if ack := from.publish(p); ack.Code.Failed() {
					t.Fatal(ack.Code)
				}
			}
			from := w.join("from", wire.V5)
			live := w.join("live", wire.V5, keptClean)
			live.listen(qos, "a")
			old := w.join("old", wire.V311)
			old.listen(qos, "a")
			send(from, false)
			hasEverything(t, "live", live.take())
			old.hear("a", "x") // which has no properties, and must not see their bytes
			if qos > 0 {
				send(from, false)
				live.next()
				live.drop(w)
				send(from, false)
				live = w.join("live", wire.V5, kept)
				again := live.take()
				hasEverything(t, "sent again", again)
				if !again.Dup {
					t.Error("sent again without DUP")
				}
				hasEverything(t, "queued", live.take())
			}
			live.unsubscribe("a")
			send(from, true)
			late := w.join("late", wire.V5)
			late.listen(qos, "a")
			hasEverything(t, "retained", late.take())
		})
	}
}

// A message from MQTT 3.x has no properties, and none are made up.
func TestPropertiesAreNotInvented(t *testing.T) {
	t.Parallel()
	w := newOpenWorld(t)
	c := w.join("c", wire.V5)
	c.listen(2, "#")
	for _, v := range versions {
		from := w.join("from"+v.String(), v)
		for qos := range byte(3) {
			from.say("a", "x", qos)
			if p := c.hear("a", "x"); p.Properties != nil || p.SubscriptionIDs != nil || p.TopicAlias != 0 {
				t.Errorf("MQTT %s, QoS %d: %+v", v, qos, p)
			}
		}
	}
}

// For one topic and QoS, messages arrive in the order in which each publisher
// sent them, live and after a return, sent again or for the first time
// [MQTT-4.6.0-5] [MQTT-4.6.0-6].
func TestMessagesKeepTheirOrder(t *testing.T) {
	t.Parallel()
	const each = 40
	for _, v := range versions {
		for qos := range byte(3) {
			t.Run(fmt.Sprintf("MQTT %s, QoS %d", v, qos), func(t *testing.T) {
				t.Parallel()
				w := newOpenWorld(t)
				publishers := []*client{w.join("p0", v), w.join("p1", v)}
				c := w.join("c", v, kept)
				c.listen(qos, "a")
				burst := func(first int) {
					for i := first; i < first+each; i++ {
						for n, p := range publishers {
							p.send(message("a", fmt.Sprintf("%d.%d", n, i), qos))
						}
					}
					for _, p := range publishers {
						p.settle(qos, each)
					}
				}
				next := []int{0, 0}
				in := func(p *wire.Publish) {
					t.Helper()
					var n, i int
					if _, err := fmt.Sscanf(string(p.Payload), "%d.%d", &n, &i); err != nil || i != next[n] {
						t.Fatalf("got %s, want %d.%d (%v)", p.Payload, n, next[n], err)
					}
					next[n]++
				}
				burst(0)
				for range 2 * each {
					in(c.take())
				}
				if qos == 0 {
					return
				}
				burst(each) // in flight when the connection breaks
				for range 2 * each {
					c.next()
				}
				c.drop(w)
				burst(2 * each) // queued
				c = w.connect(t, anybody("c"), v, kept)
				for range 4 * each {
					in(c.take())
				}
				c.quiet()
			})
		}
	}
}

// At QoS 2 each message arrives once, though both sides lose their connection
// at every step and say again what was not acknowledged.
func TestExactlyOnceAcrossConnections(t *testing.T) {
	t.Parallel()
	for _, v := range versions {
		t.Run("MQTT "+v.String(), func(t *testing.T) {
			t.Parallel()
			w := newOpenWorld(t)
			c := w.join("c", v, kept)
			c.listen(2, "a")
			from := w.join("from", v, kept)
			back := func(old *client, id string) *client { old.drop(w); return w.connect(t, anybody(id), v, kept) }

			publish := &wire.Publish{Topic: []byte("a"), Payload: []byte("once"), QoS: 2, PacketID: 9}
			from.send(publish)
			from.expectAck(wire.TypePubrec, 9)
			from = back(from, "from")
			publish.Dup = true
			from.send(publish) // PUBREC was lost
			from.expectAck(wire.TypePubrec, 9)
			for range 2 { // PUBCOMP was lost
				from.Send(wiretest.Ack(v, wire.Ack{Kind: wire.TypePubrel, PacketID: 9}))
				from.expectAck(wire.TypePubcomp, 9)
				from = back(from, "from")
			}

			id := c.next().PacketID
			c = back(c, "c")
			if again := c.next(); !again.Dup || again.PacketID != id {
				t.Errorf("sent again as %+v", again)
			}
			c.Send(wiretest.Ack(v, wire.Ack{Kind: wire.TypePubrec, PacketID: id}))
			c.expectAck(wire.TypePubrel, id)
			c = back(c, "c")
			c.expectAck(wire.TypePubrel, id) // and the PUBLISH never again [MQTT-4.3.3-6]
			c.Send(wiretest.Ack(v, wire.Ack{Kind: wire.TypePubcomp, PacketID: id}))
			c.quiet()
			c = back(c, "c")
			c.quiet()
		})
	}
}

// What was said no to is not sent again [MQTT-4.4.0-2], nor does a shared
// subscription offer it to another member [MQTT-4.8.2-6].
func TestNegativeAcknowledgementsEndTheExchange(t *testing.T) {
	t.Parallel()
	for _, filter := range []string{"a", "$share/g/a"} {
		for qos, kind := range map[byte]wire.Type{1: wire.TypePuback, 2: wire.TypePubrec} {
			t.Run(fmt.Sprintf("%s, QoS %d", filter, qos), func(t *testing.T) {
				t.Parallel()
				w := newOpenWorld(t)
				c := w.join("c", wire.V5, keptClean)
				c.listen(qos, filter)
				from := w.join("from", wire.V5)
				from.say("a", "refused", qos)
				p := c.next()
				other := w.join("other", wire.V5)
				other.listen(qos, filter)
				c.Send(wiretest.Ack(wire.V5, wire.Ack{Kind: kind, PacketID: p.PacketID, Code: wire.ImplementationSpecificError}))
				c.quiet()
				c.drop(w)
				other.quiet()
				c = w.join("c", wire.V5, kept)
				c.quiet()
			})
		}
	}
}

// To unsubscribe stops what was not sent yet; what was sent is completed
// [MQTT-3.10.4-3].
func TestUnsubscribeCompletesWhatWasSent(t *testing.T) {
	t.Parallel()
	for _, v := range versions {
		for _, qos := range []byte{1, 2} {
			t.Run(fmt.Sprintf("MQTT %s, QoS %d", v, qos), func(t *testing.T) {
				t.Parallel()
				w := newOpenWorld(t)
				c := w.join("c", v, kept)
				c.listen(qos, "a")
				from := w.join("from", v)
				from.say("a", "sent", qos)
				p := c.next()
				c.unsubscribe("a")
				from.say("a", "not any more", qos)
				c.finish(p)
				c.quiet()
			})
		}
	}
}

// settle completes n messages that c has sent at qos.
func (c *client) settle(qos byte, n int) {
	c.t.Helper()
	var ids []uint16
	for range n {
		switch qos {
		case 1:
			c.Expect(wire.TypePuback)
		case 2:
			ids = append(ids, c.Expect(wire.TypePubrec).(*wire.Ack).PacketID)
		}
	}
	for _, id := range ids {
		c.Send(wiretest.Ack(c.Version, wire.Ack{Kind: wire.TypePubrel, PacketID: id}))
	}
	for _, id := range ids {
		c.expectAck(wire.TypePubcomp, id)
	}
	c.ping()
}

// Filters under different mounts deliver apart, each copy as it was asked for:
// its spelling, its QoS and its identifier [MQTT-3.3.4-5].
func TestFiltersUnderTwoMountsDeliverApart(t *testing.T) {
	t.Parallel()
	mounts := `decision := {"allow": true, "mounts": [{"client": "", "org": ""}, {"client": "also/", "org": "a/"}]}`
	w := newWorld(t, rules{connect: mounts}.bundle(t))
	acme := w.org("acme01")
	c := w.connect(t, acme.device("d1"), wire.V5)
	for i, f := range []wire.Subscription{{Filter: "a/b", QoS: 2}, {Filter: "also/+", QoS: 1}, {Filter: "a/+", QoS: 0}} {
		c.subscribeWith(&wire.Subscribe{SubscriptionID: uint32(i + 1), Filters: []wire.Subscription{f}})
	}
	w.connect(t, acme.app("x"), wire.V5).say("a/b", "x", 2)
	got := map[string]string{}
	for range 2 {
		p := c.take()
		ids := slices.Sorted(slices.Values(p.SubscriptionIDs))
		got[string(p.Topic)] = fmt.Sprintf("QoS %d, %v", p.QoS, ids)
	}
	want := map[string]string{"a/b": "QoS 2, [1 3]", "also/b": "QoS 1, [2]"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	c.quiet()
}

// A will of MQTT 3.x has the QoS and the retain flag its client gave it
// [MQTT-3.1.2-16] [MQTT-3.1.2-17].
func TestWillOfOlderVersions(t *testing.T) {
	t.Parallel()
	for _, v := range []wire.Version{wire.V31, wire.V311} {
		for qos := range byte(3) {
			for _, retain := range []bool{false, true} {
				t.Run(fmt.Sprintf("MQTT %s, QoS %d, retain %v", v, qos, retain), func(t *testing.T) {
					t.Parallel()
					w := newOpenWorld(t)
					listener := w.join("listener", v)
					listener.listen(2, "will")
					c := w.join("c", v, withWill(wire.Will{Topic: "will", Payload: []byte("gone"), QoS: qos, Retain: retain}))
					c.drop(w)
					if p := listener.hear("will", "gone"); p.QoS != qos || p.Retain {
						t.Errorf("live: %+v", p)
					}
					late := w.join("late", v)
					late.listen(2, "will")
					if retain {
						if p := late.hear("will", "gone"); p.QoS != qos || !p.Retain {
							t.Errorf("retained: %+v", p)
						}
					}
					late.quiet()
				})
			}
		}
	}
}
