package broker_test

import (
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cordon-mq/cordon/broker"
	"github.com/cordon-mq/cordon/broker/store/memstore"
	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/broker/wire/wiretest"
)

// The same client ID under another subject is another session: it resumes
// nothing, sees nothing, and ends nobody's connection.
func TestA14AnotherSubjectGetsAnotherSession(t *testing.T) {
	t.Parallel()
	for _, v := range versions {
		t.Run("MQTT "+v.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, rules{}.bundle(t))
			acme := w.org("acme01")
			pairs := map[string][2]login{
				"two keys, one application ID":   {acme.app("same"), acme.appWith(acme.addKey(), "same")},
				"two names, one free client ID":  {acme.free("one", "same"), acme.free("two", "same")},
				"two verifiers, one application": {acme.app("also"), acme.free("also", "a:acme01:also")},
			}
			from := w.connect(t, acme.device("d2"), wire.V5)
			for name, pair := range pairs {
				first := w.connect(t, pair[0], v, kept)
				first.listen(1, "a")
				first.disconnect()
				from.say("a", "for the first", 1)
				second := w.connect(t, pair[1], v, kept)
				if second.ack.SessionPresent {
					t.Errorf("%s: session present", name)
				}
				second.quiet()
				first = w.connect(t, pair[0], v, kept)
				first.hear("a", "for the first")
				second.listen(1, "a") // both stay, and both hear
				from.say("a", "for both", 1)
				first.hear("a", "for both")
				second.hear("a", "for both")
				first.unsubscribe("a")
				second.unsubscribe("a")
			}
		})
	}
}

// What a session had is judged again after a restart, before anything is sent:
// the policy may have changed while nobody ran.
func TestA16RestartJudgesAgain(t *testing.T) {
	t.Parallel()
	disk := memstore.NewDisk()
	var who, other login
	t.Run("before", func(t *testing.T) {
		w := newWorldOn(t, rules{}.bundle(t), disk, broker.Config{})
		who, other = w.org("acme01").device("d1"), w.org("acme01").device("d2")
		c := w.connect(t, who, wire.V5, keptClean)
		c.listen(1, "a", "b")
		c.disconnect()
		from := w.connect(t, other, wire.V5)
		from.say("a", "one", 1)
		from.say("b", "two", 1)
	})
	t.Run("after", func(t *testing.T) {
		w := newWorldOn(t, rules{subscribe: `decision := {"allow": input.filter != "b"}`}.bundle(t), disk, broker.Config{})
		if w.restored.Sessions != 1 || w.restored.Messages != 2 {
			t.Errorf("restored %+v", w.restored)
		}
		c := w.connect(t, who, wire.V5, kept)
		if !c.ack.SessionPresent {
			t.Error("no session present")
		}
		c.hear("a", "one")
		from := w.connect(t, other, wire.V5)
		from.say("b", "three", 1)
		c.quiet()
	})
}

func TestA22TakeOver(t *testing.T) {
	t.Parallel()
	for _, v := range versions {
		t.Run("MQTT "+v.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, rules{publish: mortal}.bundle(t))
			acme := w.org("acme01")
			old := w.connect(t, acme.device("d1"), v, kept)
			old.listen(1, "a")

			wrong := acme.device("d1")
			wrong.password = acme.tokens["d2"]
			for name, refused := range map[string]*client{
				"wrong token": w.answer(t, wrong, v),
				"denied will": w.answer(t, acme.device("d1"), v, withWill(wire.Will{Topic: "denied/x"})),
			} {
				if refused.ack.Code == 0 {
					t.Fatalf("%s: accepted", name)
				}
				old.silence(old, "a", "a")
			}
			old.ping() // its acknowledgements have arrived

			fresh := w.connect(t, acme.device("d1"), v, kept)
			if d := old.expectGone(); v == wire.V5 && d.Code != wire.SessionTakenOver {
				t.Errorf("told %s", d.Code)
			}
			fresh.silence(fresh, "a", "a") // with the subscriptions of the old one
		})
	}
}

// While the new connection is being judged, the old one goes on.
func TestA22OldConnectionLivesUntilTheNewOneIsAccepted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rules{}.bundle(t))
	acme := w.org("acme01")
	old := w.connect(t, acme.device("d1"), wire.V5)
	old.listen(1, "a")
	judging, accept := make(chan struct{}), make(chan struct{})
	w.registry.afterNextRefresh(func() { close(judging); <-accept })
	fresh := w.start(t, acme.device("d1"), wire.V5)
	<-judging
	old.silence(old, "a", "a")
	close(accept)
	if d := old.expectGone(); d.Code != wire.SessionTakenOver {
		t.Errorf("told %s", d.Code)
	}
	fresh.Expect(wire.TypeConnack)
	fresh.ping()
}

// However many connections fight for one client ID, one has it in the end.
func TestTakeOverStorm(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rules{}.bundle(t))
	acme := w.org("acme01")
	const rivals, rounds = 8, 12
	conns := make([]net.Conn, rivals*rounds)
	for i := range conns {
		conns[i] = w.net.Dial()
	}
	var wg sync.WaitGroup
	for i := range rivals {
		wg.Go(func() {
			for _, conn := range conns[i*rounds : (i+1)*rounds] {
				_, _ = conn.Write(wiretest.Connect(connectPacket(acme.device("d1"), wire.V5, kept)))
				_, _ = conn.Write(wiretest.Subscribe(wire.V5, &wire.Subscribe{PacketID: 1, Filters: []wire.Subscription{{Filter: "a", QoS: 1}}}))
				_ = conn.SetReadDeadline(time.Now().Add(wiretest.Patience))
				_, _ = conn.Read(make([]byte, 1)) // some answer, or the end
			}
		})
	}
	wg.Wait()
	last := w.connect(t, acme.device("d1"), wire.V5, kept)
	for _, conn := range conns { // every other one is ended
		_ = conn.SetReadDeadline(time.Now().Add(wiretest.Patience))
		if _, err := io.Copy(io.Discard, conn); err != nil {
			t.Fatalf("a rival is still connected: %v", err)
		}
	}
	last.listen(1, "a")
	from := w.connect(t, acme.device("d2"), wire.V5)
	from.say("a", "to the one that is left", 1)
	last.hear("a", "to the one that is left")
	last.quiet()
}

func TestKeepAlive(t *testing.T) {
	t.Parallel()
	bundle := rules{}.bundle(t)
	for _, v := range versions {
		t.Run("MQTT "+v.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, bundle)
				acme := w.org("acme01")
				listener := w.connect(t, acme.app("x"), v)
				listener.listen(1, "#")
				c := w.connect(t, acme.device("d1"), v, keepAlive(10), withWill(wire.Will{Topic: "will", Payload: []byte("x"), QoS: 1}))
				forever := w.connect(t, acme.device("d2"), v, keepAlive(0))
				time.Sleep(14 * time.Second)
				c.ping() // within one and a half times the interval [MQTT-3.1.2-22]
				time.Sleep(14 * time.Second)
				synctest.Wait()
				listener.quiet()
				time.Sleep(2 * time.Second)
				if d := c.expectGone(); v == wire.V5 && d.Code != wire.KeepAliveTimeout {
					t.Errorf("told %s", d.Code)
				}
				listener.hear("will", "x")
				time.Sleep(24 * time.Hour)
				forever.ping()
			})
		})
	}
}

func TestSessionExpiry(t *testing.T) {
	t.Parallel()
	bundle := rules{connect: limited(`"session_expiry_max": 100`)}.bundle(t)
	expiry := func(seconds uint32) option {
		return func(c *wire.Connect) { c.CleanStart, c.HasSessionExpiry, c.SessionExpiry = false, true, seconds }
	}
	tests := map[string]struct {
		v      wire.Version
		option option
		bye    *wire.Disconnect // nil: without a word
		away   time.Duration
		want   bool
	}{
		"within the interval":             {wire.V5, expiry(50), nil, 49 * time.Second, true},
		"past the interval":               {wire.V5, expiry(50), nil, 51 * time.Second, false},
		"for ever, lowered to the limit":  {wire.V5, expiry(0xFFFFFFFF), nil, 101 * time.Second, false},
		"no interval":                     {wire.V5, expiry(0), nil, time.Millisecond, false},
		"kept by 3.1.1, within the limit": {wire.V311, kept, nil, 99 * time.Second, true},
		"kept by 3.1.1, past the limit":   {wire.V311, kept, nil, 101 * time.Second, false},
		"shortened by DISCONNECT":         {wire.V5, expiry(50), &wire.Disconnect{HasSessionExpiry: true, SessionExpiry: 5}, 6 * time.Second, false},
		"lengthened by DISCONNECT":        {wire.V5, expiry(5), &wire.Disconnect{HasSessionExpiry: true, SessionExpiry: 50}, 49 * time.Second, true},
		"ended by DISCONNECT":             {wire.V5, expiry(50), &wire.Disconnect{HasSessionExpiry: true}, time.Millisecond, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, bundle)
				acme := w.org("acme01")
				from := w.connect(t, acme.device("d2"), wire.V5)
				c := w.connect(t, acme.device("d1"), tt.v, tt.option)
				c.listen(1, "a")
				if tt.bye != nil {
					c.Send(wiretest.Disconnect(tt.v, tt.bye))
				}
				c.Close()
				synctest.Wait()
				from.say("a", "queued", 1)
				time.Sleep(tt.away)
				synctest.Wait()
				c = w.connect(t, acme.device("d1"), tt.v, tt.option)
				if c.ack.SessionPresent != tt.want {
					t.Errorf("session present %v, want %v", c.ack.SessionPresent, tt.want)
				}
				if tt.want {
					c.hear("a", "queued")
				}
				c.quiet()
			})
		})
	}
}

// A session that was to end with its connection cannot be kept after all.
func TestDisconnectCannotKeepTheSession(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rules{}.bundle(t))
	c := w.connect(t, w.org("acme01").device("d1"), wire.V5)
	c.Send(wiretest.Disconnect(wire.V5, &wire.Disconnect{HasSessionExpiry: true, SessionExpiry: 5}))
	if d := c.expectGone(); d.Code != wire.ProtocolError {
		t.Errorf("told %s", d.Code)
	}
}

func TestCleanStartEmptiesTheSession(t *testing.T) {
	t.Parallel()
	for _, v := range versions {
		t.Run("MQTT "+v.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, rules{}.bundle(t))
			acme := w.org("acme01")
			from := w.connect(t, acme.device("d2"), v)
			c := w.connect(t, acme.device("d1"), v, kept)
			c.listen(2, "a")
			from.say("a", "in flight", 2)
			c.next()
			c.drop(w)
			from.say("a", "queued", 1)
			c = w.connect(t, acme.device("d1"), v)
			if c.ack.SessionPresent {
				t.Error("session present")
			}
			from.say("a", "nobody subscribed", 1)
			c.quiet()
			c.disconnect()
			if c = w.connect(t, acme.device("d1"), v, kept); c.ack.SessionPresent {
				t.Error("a clean session was kept")
			}
		})
	}
}

func TestShutdownSaysGoodbyeAndFiresNoWill(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rules{}.bundle(t))
	acme := w.org("acme01")
	clients := []*client{}
	for i := range 3 {
		c := w.connect(t, acme.free(fmt.Sprint("n", i), "c"), wire.V5, withWill(wire.Will{Topic: "will", QoS: 1}))
		c.listen(1, "will")
		clients = append(clients, c)
	}
	must(t, w.broker.Shutdown(t.Context()))
	for _, c := range clients {
		last := c.ExpectClosed()
		if d, ok := last[0].(*wire.Disconnect); len(last) != 1 || !ok || d.Code != wire.ServerShuttingDown {
			t.Errorf("told %+v", last)
		}
	}
	if late := w.start(t, acme.device("d1"), wire.V5); len(late.ExpectClosed()) != 0 {
		t.Error("answered after shutdown")
	}
}
