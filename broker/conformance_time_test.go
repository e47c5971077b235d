package broker_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/cordon-mq/cordon/broker/wire"
)

// The keep alive that counts is the one in the CONNACK, one and a half times
// [MQTT-3.1.2-22] [MQTT-3.2.2-22].
func TestServerKeepAliveCounts(t *testing.T) {
	t.Parallel()
	openBundle()
	for name, asked := range map[string]uint16{"none": 0, "more than the server's": 600, "the server's": 60} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newOpenWorld(t)
				c := w.join("c", wire.V5, keepAlive(asked))
				if a := c.ack; a.HasServerKeepAlive != (asked != 60) || asked != 60 && a.ServerKeepAlive != 60 {
					t.Errorf("CONNACK %+v", a)
				}
				time.Sleep(89 * time.Second)
				c.ping()
				time.Sleep(91 * time.Second)
				if d := c.expectGone(); d.Code != wire.KeepAliveTimeout {
					t.Errorf("told %s", d.Code)
				}
			})
		})
	}
}

// Every packet counts, not PINGREQ alone; what the server sends does not.
func TestAnyPacketKeepsTheConnection(t *testing.T) {
	t.Parallel()
	openBundle()
	for _, v := range versions {
		t.Run("MQTT "+v.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newOpenWorld(t)
				c := w.join("c", v, keepAlive(10))
				for _, packet := range []func(){
					func() { c.listen(1, "c") },
					func() { c.say("x", "", 0) },
					func() { c.say("x", "", 1) },
					func() { c.say("x", "", 2) },
					func() { c.unsubscribe("y") },
				} {
					time.Sleep(14 * time.Second)
					packet()
				}
				from := w.join("from", v, keepAlive(60))
				time.Sleep(14 * time.Second)
				from.say("c", "not yours", 1)
				time.Sleep(2 * time.Second)
				synctest.Wait()
				c.next()
				if d := c.expectGone(); v == wire.V5 && d.Code != wire.KeepAliveTimeout {
					t.Errorf("told %s", d.Code)
				}
			})
		})
	}
}

// A Session Expiry Interval of 0xFFFFFFFF is for ever, and told so by saying
// nothing else [MQTT-3.1.2-23] [MQTT-4.1.0-1].
func TestSessionForEver(t *testing.T) {
	t.Parallel()
	openBundle()
	synctest.Test(t, func(t *testing.T) {
		w := newOpenWorld(t)
		forEver := func(c *wire.Connect) { c.CleanStart, c.HasSessionExpiry, c.SessionExpiry = false, true, 0xFFFFFFFF }
		c := w.join("c", wire.V5, forEver)
		if c.ack.HasSessionExpiry {
			t.Errorf("granted %d", c.ack.SessionExpiry)
		}
		c.listen(1, "a")
		c.disconnect()
		from := w.join("from", wire.V5)
		from.say("a", "long ago", 1)
		time.Sleep(200 * 365 * 24 * time.Hour)
		if c = w.join("c", wire.V5, forEver); !c.ack.SessionPresent {
			t.Error("session not present")
		}
		c.hear("a", "long ago")
	})
}

// The interval begins when the connection ends, however long it was, and anew
// with each connection [MQTT-4.1.0-1] [MQTT-4.1.0-2].
func TestSessionExpiryCountsFromTheEnd(t *testing.T) {
	t.Parallel()
	openBundle()
	synctest.Test(t, func(t *testing.T) {
		w := newOpenWorld(t)
		hundred := func(c *wire.Connect) { c.CleanStart, c.HasSessionExpiry, c.SessionExpiry = false, true, 100 }
		c := w.join("c", wire.V5, hundred)
		for range 3 {
			for range 10 {
				time.Sleep(time.Minute)
				c.ping()
			}
			c.Close()
			time.Sleep(99 * time.Second)
			if c = w.join("c", wire.V5, hundred); !c.ack.SessionPresent {
				t.Fatal("session not present")
			}
		}
		c.Close()
		time.Sleep(101 * time.Second)
		if c = w.join("c", wire.V5, hundred); c.ack.SessionPresent {
			t.Error("session present after its interval")
		}
	})
}

// A will carries what its client gave it: QoS, the retain flag, and every
// property, with its expiry counted from when it is published
// [MQTT-3.1.2-14] [MQTT-3.1.2-15] [MQTT-3.1.3-10].
func TestWillCarriesEverything(t *testing.T) {
	t.Parallel()
	openBundle()
	for qos := range byte(3) {
		for _, retain := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				w := newOpenWorld(t)
				published := func(c *client, how string, left uint32) {
					t.Helper()
					p := c.hear("will", "gone")
					if p.QoS != qos || p.Properties == nil || p.Properties.MessageExpiry != left {
						t.Fatalf("%s: %+v, properties %+v", how, p, p.Properties)
					}
					p.Properties.HasMessageExpiry, p.Properties.MessageExpiry = false, 0
					hasEverything(t, how, p)
				}
				listener := w.join("listener", wire.V5)
				listener.subscribeWith(&wire.Subscribe{Filters: []wire.Subscription{{Filter: "will", QoS: qos, RetainAsPublished: true}}})
				will := wire.Will{Topic: "will", Payload: []byte("gone"), QoS: qos, Retain: retain, DelayInterval: 30, Properties: everything()}
				will.Properties.HasMessageExpiry, will.Properties.MessageExpiry = true, 20
				c := w.join("c", wire.V5, keptClean, withWill(will))
				c.Close()
				time.Sleep(29 * time.Second)
				listener.quiet()
				time.Sleep(2 * time.Second)
				synctest.Wait()
				published(listener, "live", 20)
				time.Sleep(9 * time.Second)
				late := w.join("late", wire.V5)
				late.listen(qos, "will")
				if retain {
					published(late, "retained", 10)
				}
				late.quiet()
				time.Sleep(11 * time.Second)
				late.listen(qos, "will")
				late.quiet() // it has expired
				// Published once, it is the session's no more [MQTT-3.1.2-10].
				w.join("c", wire.V5, kept).Close()
				time.Sleep(time.Minute)
				listener.quiet()
			})
		}
	}
}

// The time a message has waited is taken off its expiry, and what has expired
// is not sent, however it waited [MQTT-3.3.2-5] [MQTT-3.3.2-6].
func TestMessageExpiryOnEveryWay(t *testing.T) {
	t.Parallel()
	openBundle()
	synctest.Test(t, func(t *testing.T) {
		w := newOpenWorld(t)
		from := w.join("from", wire.V5)
		send := func(payload string, expiry uint32) {
			p := message("a", payload, 1)
			p.Properties = &wire.PublishProperties{HasMessageExpiry: true, MessageExpiry: expiry}
			from.publish(p)
		}
		window := w.join("window", wire.V5, receiveMaximum(1))
		window.listen(1, "a")
		kept100 := w.join("kept", wire.V5, keptClean)
		kept100.listen(1, "a")
		kept100.disconnect()
		old := w.join("old", wire.V311, kept)
		old.listen(1, "a")
		old.disconnect()

		send("sent", 10)
		first := window.next() // the next ones wait for its acknowledgement
		if first.Properties.MessageExpiry != 10 {
			t.Errorf("live: %+v", first.Properties)
		}
		send("short", 10)
		send("long", 50)
		from.say("a", "for ever", 1)
		time.Sleep(20 * time.Second)
		window.finish(first)
		for _, c := range []*client{window, w.join("kept", wire.V5, kept)} {
			if p := c.hear("a", "long"); p.Properties == nil || p.Properties.MessageExpiry != 30 {
				t.Errorf("after 20 of 50 seconds: %+v", p.Properties)
			}
			if p := c.hear("a", "for ever"); p.Properties != nil {
				t.Errorf("without an expiry: %+v", p.Properties)
			}
			c.quiet()
		}
		old = w.join("old", wire.V311, kept)
		old.hear("a", "long")
		old.hear("a", "for ever")
		old.quiet()
	})
}

// What was sent once is sent again after a return, expired or not: the receiver
// may have it half [MQTT-4.3.3-7] [MQTT-4.4.0-1].
func TestExpiryEndsWithTheFirstSending(t *testing.T) {
	t.Parallel()
	openBundle()
	for _, qos := range []byte{1, 2} {
		synctest.Test(t, func(t *testing.T) {
			w := newOpenWorld(t)
			c := w.join("c", wire.V5, keptClean)
			c.listen(qos, "a")
			p := message("a", "sent", qos)
			p.Properties = &wire.PublishProperties{HasMessageExpiry: true, MessageExpiry: 10}
			w.join("from", wire.V5).publish(p)
			first := c.next()
			c.Close()
			time.Sleep(20 * time.Second)
			c = w.join("c", wire.V5, kept)
			if again := c.hear("a", "sent"); !again.Dup || again.PacketID != first.PacketID {
				t.Errorf("sent again as %+v", again)
			}
			c.quiet()
		})
	}
}

// A QoS 2 message that a member of a shared subscription was sent goes to nobody
// else, also when the member's session ends [MQTT-4.8.2-5].
func TestQoS2OfAnEndedMemberGoesToNobody(t *testing.T) {
	t.Parallel()
	openBundle()
	synctest.Test(t, func(t *testing.T) {
		w := newOpenWorld(t)
		member := w.join("member", wire.V5, func(c *wire.Connect) { c.HasSessionExpiry, c.SessionExpiry = true, 10 })
		member.listen(2, "$share/g/a")
		from := w.join("from", wire.V5)
		from.say("a", "sent", 2)
		member.next()
		other := w.join("other", wire.V5)
		other.listen(2, "$share/g/a")
		member.Close()
		time.Sleep(time.Minute)
		synctest.Wait()
		other.quiet()
		from.say("a", "to the one that is left", 2)
		other.hear("a", "to the one that is left")
	})
}
