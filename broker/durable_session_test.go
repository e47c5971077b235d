package broker_test

import (
	"fmt"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/broker/store/memstore"
	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/broker/wire/wiretest"
)

// eachEndInABubble runs test for every way to stop, with a clock of its own.
func eachEndInABubble(t *testing.T, r rules, test func(s scene, end ending)) {
	bundle := r.bundle(t)
	for name, end := range endings {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, bundle)
				test(scene{t, w, w.org("acme01"), wire.V5}, func(w *world) *memstore.Disk {
					synctest.Wait() // the end of connections is stored
					return end(w)
				})
			})
		})
	}
}

func (s scene) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// expiring keeps a session for so many seconds.
func expiring(seconds uint32) option {
	return func(c *wire.Connect) { c.CleanStart, c.HasSessionExpiry, c.SessionExpiry = false, true, seconds }
}

// A subscription comes back with all that was asked for.
func TestRestartKeepsSubscriptionOptions(t *testing.T) {
	t.Parallel()
	eachEndInABubble(t, rules{}, func(s scene, end ending) {
		t := s.t
		c := s.connect("d1", kept)
		c.subscribeWith(&wire.Subscribe{SubscriptionID: 7, Filters: []wire.Subscription{
			{Filter: "mine", QoS: 1, NoLocal: true}, {Filter: "flag/+", QoS: 2, RetainAsPublished: true},
		}})
		c.subscribeWith(&wire.Subscribe{SubscriptionID: 300, Filters: []wire.Subscription{{Filter: "flag/#", QoS: 0}}})
		c.listen(1, "gone", "plain", "$share/g/s")
		c.unsubscribe("gone")

		s = s.after(end)
		if n := s.w.restored.Subscriptions; n != 5 {
			t.Errorf("restored %d subscriptions", n)
		}
		c, from := s.resume("d1"), s.connect("d2")
		c.say("mine", "its own", 1)
		from.say("gone", "unsubscribed", 1)
		from.retain("flag/a", "as published", 2)
		p := c.hear("flag/a", "as published")
		if !p.Retain || p.QoS != 2 || !reflect.DeepEqual(p.SubscriptionIDs, []uint32{7, 300}) && !reflect.DeepEqual(p.SubscriptionIDs, []uint32{300, 7}) {
			t.Errorf("got %+v", p)
		}
		from.retain("plain", "not as published", 2)
		if p := c.hear("plain", "not as published"); p.Retain || p.QoS != 1 || len(p.SubscriptionIDs) != 0 {
			t.Errorf("got %+v", p)
		}
		from.say("mine", "another's", 1)
		c.hear("mine", "another's")

		other := s.connect("d2", kept) // takes over from; and shares
		other.listen(1, "$share/g/s")
		heard := 0
		for i := range 4 {
			c.say("s", fmt.Sprint(i), 1)
			c.ping()
			heard += len(c.inbox)
			for _, p := range c.inbox {
				c.finish(p)
			}
			c.inbox = nil
		}
		if heard != 2 {
			t.Errorf("%d of 4 shared messages, with one other member", heard)
		}
		c.quiet()
	})
}

// What a message carries comes back with it.
func TestRestartKeepsProperties(t *testing.T) {
	t.Parallel()
	eachEndInABubble(t, rules{}, func(s scene, end ending) {
		s.away()
		p := message("a", "payload\x00\xff", 1)
		p.Properties = &wire.PublishProperties{
			HasPayloadFormat: true, PayloadFormat: 1, HasMessageExpiry: true, MessageExpiry: 100, HasContentType: true, ContentType: "text/x",
			ResponseTopic: "answer/here", CorrelationData: []byte{0, 1}, User: []wire.UserProperty{{Key: "k", Value: "v"}, {Key: "k", Value: ""}},
		}
		s.connect("d1").publish(p)
		s.pass(10 * time.Second)
		s = s.after(end)
		s.pass(20 * time.Second)
		want := *p.Properties
		want.MessageExpiry = 70
		if got := s.resume("d2").hear("a", "payload\x00\xff"); !reflect.DeepEqual(got.Properties, &want) {
			s.t.Errorf("got %+v, want %+v", got.Properties, &want)
		}
	})
}

// A session's time is counted from the disconnect, whatever came between; one
// that had a connection when the process died is offline from the restart on.
func TestRestartKeepsSessionExpiry(t *testing.T) {
	t.Parallel()
	eachEndInABubble(t, rules{}, func(s scene, end ending) {
		t := s.t
		for _, who := range []string{"gone", "stays", "online"} {
			s.acme.addDevice(who)
			c := s.connect(who, expiring(100))
			c.listen(1, "a")
			if who != "online" {
				c.disconnect()
			}
			if who == "gone" {
				s.pass(40 * time.Second)
			}
		}
		s.connect("d1").say("a", "x", 1)
		s.pass(50 * time.Second)
		s = s.after(end)
		if n := s.w.restored.Sessions; n != 3 {
			t.Errorf("restored %d sessions", n)
		}
		s.pass(11 * time.Second)
		if c := s.connect("gone", expiring(100)); c.ack.SessionPresent {
			t.Error("a session is there after its end")
		}
		s.pass(38 * time.Second)
		s.resume("stays").hear("a", "x")
		s.pass(50 * time.Second)
		online := s.connect("online", expiring(100))
		if !online.ack.SessionPresent { // 99 s after the end of its connection
			t.Error("a session is gone too early")
		}
	})
}

// What ended while nobody ran is not there any more, in memory nor in the store.
func TestSessionExpiresWhileDown(t *testing.T) {
	t.Parallel()
	eachEndInABubble(t, rules{}, func(s scene, end ending) {
		c := s.connect("d2", expiring(10), withWill(wire.Will{Topic: "a", QoS: 1, DelayInterval: 5}))
		c.listen(2, "a")
		s.connect("d1").say("a", "x", 2)
		c.disconnect()
		disk := end(s.w)
		s.pass(11 * time.Second)
		s = s.on(disk)
		if s.w.restored.Sessions != 0 || s.w.restored.Dropped == 0 {
			s.t.Errorf("restored %+v", s.w.restored)
		}
		s.w.nothingStored()
	})
}

func TestRestartKeepsMessageExpiry(t *testing.T) {
	t.Parallel()
	eachEndInABubble(t, rules{}, func(s scene, end ending) {
		s.away()
		from := s.connect("d1")
		for _, seconds := range []uint32{10, 30} {
			p := retained(fmt.Sprint("r/", seconds), "x", 1)
			p.Properties = &wire.PublishProperties{HasMessageExpiry: true, MessageExpiry: seconds}
			from.publish(p)
			p = message("a", fmt.Sprint(seconds), 1)
			p.Properties = &wire.PublishProperties{HasMessageExpiry: true, MessageExpiry: seconds}
			from.publish(p)
		}
		disk := end(s.w)
		s.pass(12 * time.Second)
		s = s.on(disk)
		if s.w.restored.Retained != 1 {
			s.t.Errorf("restored %+v", s.w.restored)
		}
		c := s.resume("d2")
		c.hear("a", "30")
		c.listen(1, "r/+")
		if p := c.hear("r/30", "x"); p.Properties == nil || p.Properties.MessageExpiry != 18 {
			s.t.Errorf("properties %+v", p.Properties)
		}
		c.quiet()
		synctest.Wait()
		if n := len(s.w.stored(store.KindRetained)); n != 1 {
			s.t.Errorf("%d retained messages in the store", n)
		}
	})
}

func TestRestartKeepsRetained(t *testing.T) {
	t.Parallel()
	eachEndInABubble(t, rules{}, func(s scene, end ending) {
		from := s.connect("d1")
		for qos := range byte(3) {
			from.retain(fmt.Sprint("r/", qos), "x", qos)
		}
		from.retain("r/replaced", "first", 1)
		from.retain("r/replaced", "second", 1)
		from.retain("r/deleted", "x", 1)
		from.retain("r/deleted", "", 1)
		s = s.after(end)
		if s.w.restored.Retained != 4 {
			s.t.Errorf("restored %+v", s.w.restored)
		}
		c := s.connect("d2")
		c.listen(2, "r/+")
		got := map[string]string{}
		for range 4 {
			p := c.take()
			got[string(p.Topic)] = fmt.Sprint(string(p.Payload), " ", p.QoS, " ", p.Retain)
		}
		want := map[string]string{"r/0": "x 0 true", "r/1": "x 1 true", "r/2": "x 2 true", "r/replaced": "second 1 true"}
		if !reflect.DeepEqual(got, want) {
			s.t.Errorf("got %v, want %v", got, want)
		}
		c.quiet()
	})
}

// A will that waits goes on waiting, and fires when it would have.
func TestRestartKeepsADelayedWill(t *testing.T) {
	t.Parallel()
	eachEndInABubble(t, rules{}, func(s scene, end ending) {
		c := s.connect("d1", kept, withWill(wire.Will{Topic: "will", Payload: []byte("x"), QoS: 1, DelayInterval: 60}))
		c.Close()
		s.pass(20 * time.Second)
		s = s.after(end)
		if s.w.restored.Wills != 1 {
			s.t.Errorf("restored %+v", s.w.restored)
		}
		c = s.connect("d2")
		c.listen(1, "will")
		s.pass(39 * time.Second)
		c.quiet()
		s.pass(2 * time.Second)
		c.hear("will", "x")
		synctest.Wait()
		if n := len(s.w.stored(store.KindWill)); n != 0 {
			s.t.Errorf("%d wills in the store", n)
		}
	})
}

// A client that was connected when the process died left without a word: its
// will fires after the restart. When the broker said goodbye, it does not.
func TestWillOfALiveConnection(t *testing.T) {
	t.Parallel()
	eachEndInABubble(t, rules{}, func(s scene, end ending) {
		s.connect("d1", kept, withWill(wire.Will{Topic: "a", Payload: []byte("will"), QoS: 1}))
		s.away()
		disk := end(s.w)
		graceful := disk == s.w.disk
		s = s.on(disk)
		s.pass(time.Second)
		c := s.resume("d2")
		if !graceful {
			c.hear("a", "will")
		}
		c.quiet()
		synctest.Wait()
		if n := len(s.w.stored(store.KindWill)); n != 0 {
			s.t.Errorf("%d wills in the store", n)
		}
	})
}

// A will is gone from the store when its client says goodbye, comes back in
// time, or brings another one.
func TestWillIsStoredWhileItMayFire(t *testing.T) {
	t.Parallel()
	bundle := rules{}.bundle(t)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, bundle)
		s := scene{t, w, w.org("acme01"), wire.V5}
		wills := func(want int, when string) {
			synctest.Wait()
			if n := len(w.stored(store.KindWill)); n != want {
				t.Errorf("%s: %d wills in the store", when, n)
			}
		}
		left := withWill(wire.Will{Topic: "will", QoS: 1, DelayInterval: 60})
		c := s.connect("d1", kept, left)
		wills(1, "connected")
		c.Close()
		wills(1, "waiting")
		c = s.resume("d1")
		wills(0, "back without one")
		c.disconnect()
		c = s.resume("d1", left)
		wills(1, "back with one")
		c.disconnect()
		wills(0, "after a goodbye")
		c = s.resume("d1", left)
		c.Send(wiretest.Disconnect(wire.V5, &wire.Disconnect{Code: wire.DisconnectWithWill}))
		c.ExpectClosed()
		wills(1, "after a goodbye with will")
		time.Sleep(61 * time.Second)
		wills(0, "after it fired")
	})
}

// The Session Expiry Interval of a DISCONNECT is what counts, after a crash too.
func TestRestartKeepsTheExpiryOfADisconnect(t *testing.T) {
	t.Parallel()
	eachEndInABubble(t, rules{}, func(s scene, end ending) {
		for who, seconds := range map[string]uint32{"d1": 10, "d2": 0} {
			c := s.connect(who, expiring(1000))
			c.Send(wiretest.Disconnect(wire.V5, &wire.Disconnect{HasSessionExpiry: true, SessionExpiry: seconds}))
			c.ExpectClosed()
		}
		synctest.Wait()
		s = s.after(end)
		if s.w.restored.Sessions != 1 {
			s.t.Errorf("restored %+v", s.w.restored)
		}
		s.pass(11 * time.Second)
		s.w.nothingStored()
	})
}
