package broker_test

import (
	"fmt"
	"testing"

	"github.com/cordon-mq/cordon/broker/durable"
	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/topic"
)

// full gives d1 something of every kind that a session keeps.
func (s scene) full() {
	s.t.Helper()
	c := s.connect("d1", kept, withWill(wire.Will{Topic: "will", QoS: 1, DelayInterval: 600}))
	c.listen(2, "a")
	c.send(message("nobody", "open", 2))
	c.expectAck(wire.TypePubrec, c.lastID)
	from := s.connect("d2", kept)
	from.listen(2, "a")
	from.say("a", "shared by two", 2)
	c.drop(s.w)
	from.say("a", "another", 1)
	s.connect("d2").disconnect() // a clean one: what d2 had is gone
}

// Who is deleted, or switched off, while nobody ran or while the broker did,
// leaves nothing behind, in memory nor in the store: a namesake begins empty.
func TestNothingOutlivesItsOwner(t *testing.T) {
	t.Parallel()
	changes := map[string]func(t *testing.T, reg *registry.Registry, id policy.OrgID, o *organisation){
		"device deleted": func(t *testing.T, reg *registry.Registry, id policy.OrgID, o *organisation) {
			must(t, reg.DeleteDevice(ctx, id, "sensor", "d1"))
			_, token, err := reg.CreateDevice(ctx, id, registry.Device{Type: "sensor", ID: "d1"}, plugins.Secret{})
			must(t, err)
			o.keep("d1", token)
		},
		"device switched off and on": func(t *testing.T, reg *registry.Registry, id policy.OrgID, _ *organisation) {
			for _, off := range []bool{true, false} {
				_, err := reg.UpdateDevice(ctx, id, "sensor", "d1", func(d *registry.Device) error { d.Disabled = off; return nil })
				must(t, err)
			}
		},
		"organisation deleted": func(t *testing.T, reg *registry.Registry, id policy.OrgID, o *organisation) {
			must(t, reg.DeleteOrganisation(ctx, id))
			_, err := reg.SeedOrganisation(ctx, id, "another")
			must(t, err)
			_, err = reg.CreateType(ctx, id, registry.DeviceType{ID: "sensor"})
			must(t, err)
			for _, name := range []policy.ID{"d1", "d2"} {
				_, token, err := reg.CreateDevice(ctx, id, registry.Device{Type: "sensor", ID: name}, plugins.Secret{})
				must(t, err)
				o.keep(string(name), token)
			}
		},
	}
	for name, change := range changes {
		for _, running := range []bool{true, false} {
			if !running && name == "device switched off and on" {
				continue // nobody saw it
			}
			t.Run(fmt.Sprintf("%s, broker running %v", name, running), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, rules{}.bundle(t))
				s := scene{t, w, w.org("acme01"), wire.V5}
				s.full()
				former := w.scopes()
				if running {
					change(t, w.registry.Registry, s.acme.id, s.acme)
					w.nothingStored(former...)
				} else {
					disk := w.shut()
					edit(t, disk, func(reg *registry.Registry) { change(t, reg, s.acme.id, s.acme) })
				}
				s = s.after((*world).shut)
				if s.w.restored.Sessions != 0 || s.w.restored.Messages != 0 {
					t.Errorf("restored %+v", s.w.restored)
				}
				s.w.nothingStored(former...)
				if c := s.connect("d1", kept); c.ack.SessionPresent {
					t.Error("session present")
				}
			})
		}
	}
}

// A device that was switched off while nobody ran has lost its session when the
// broker is back.
func TestSwitchedOffWhileDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rules{}.bundle(t))
	s := scene{t, w, w.org("acme01"), wire.V5}
	s.full()
	disk := w.shut()
	edit(t, disk, func(reg *registry.Registry) {
		_, err := reg.UpdateDevice(ctx, s.acme.id, "sensor", "d1", func(d *registry.Device) error { d.Disabled = true; return nil })
		must(t, err)
	})
	s = s.on(disk)
	if s.w.restored.Sessions != 0 {
		t.Errorf("restored %+v", s.w.restored)
	}
	s.w.nothingStored()
}

// acmeSpace names the keys of the organisation in its first incarnation.
func (s scene) space() durable.Space {
	s.t.Helper()
	scope := s.w.scopes()[0]
	return durable.In(s.acme.id, scope.Key(store.KindSession).Incarnation())
}

func routedName(t *testing.T, name string) topic.RoutedName {
	t.Helper()
	n, err := topic.ParseRoutedName(name)
	must(t, err)
	return n
}

// What nothing leads to, as a crash may leave it, is dropped without harm.
func TestOrphansAreDropped(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rules{}.bundle(t))
	s := scene{t, w, w.org("acme01"), wire.V5}
	s.away()
	s.connect("d1").say("a", "stays", 1)
	keys := s.space()
	disk := w.shut()
	m := &durable.Message{Topic: routedName(t, "a"), Payload: []byte("x"), QoS: 1}
	named, err := topic.ParseName("will")
	must(t, err)
	number, _, _ := durable.Owner(w.sessionKeyOn(disk, keys))
	filter, err := topic.ParseFilter("a")
	must(t, err)
	orphans := []store.Op{
		store.Put(keys.Entry(number, durable.Slot(7)), (&durable.Entry{Seq: 7, QoS: 1, Subs: []uint32{1}, Shared: 999}).Append(nil)), // its message is missing
		store.Put(keys.Message(1000), m.Append(nil)),                                                         // nobody has it
		store.Put(keys.Entry(77, durable.Slot(1)), (&durable.Entry{Seq: 1, QoS: 1, Message: m}).Append(nil)), // of no session
		store.Put(keys.Inbound(77, 1), nil),
		store.Put(keys.Will(77), (&durable.Will{Name: named, QoS: 1}).Append(nil)),
		store.Put(keys.Subscription(77, 1), (&durable.Subscription{Filter: filter}).Append(nil)),
	}
	write(t, disk, orphans...)
	s = s.on(disk)
	if found := s.w.restored; found.Dropped != len(orphans) || found.Sessions != 1 || found.Messages != 1 || found.Wills != 0 || found.Subscriptions != 1 {
		t.Errorf("restored %+v", found)
	}
	for _, op := range orphans {
		eventually(t, func() bool { _, err := s.w.store.Get(op.Key()); return err != nil })
	}
	if lines := s.w.log.find("msg", "record dropped"); len(lines) != 0 {
		t.Errorf("logged as damage: %v", lines)
	}
	c := s.resume("d2")
	c.hear("a", "stays")
	c.quiet()
}

// A message for a subscription that is gone is not for another one that has its
// number after a restart.
func TestNumberOfASubscriptionThatIsGone(t *testing.T) {
	t.Parallel()
	eachEnd(t, rules{connect: limited(`"inflight_max": 1`)}, func(s scene, end ending) {
		c := s.connect("d1", kept)
		c.listen(1, "first", "gone")
		from := s.connect("d2")
		for _, name := range []string{"first", "gone"} { // one in flight, and one behind it
			from.say(name, "x", 1)
		}
		c.next()
		c.unsubscribe("gone")
		s = s.after(end)
		c = s.resume("d1")
		c.next()
		c.listen(1, "another")
		s = s.after(end)
		c = s.resume("d1")
		c.hear("first", "x")
		c.quiet()
		s.w.nothingQueued()
	})
}

// sessionKeyOn is the key of the only session on a disk that nobody has open.
func (w *world) sessionKeyOn(disk interface {
	Open(store.Options) (store.Store, error)
}, keys durable.Space,
) (found store.Key) {
	w.t.Helper()
	st, err := disk.Open(storeOptions)
	must(w.t, err)
	must(w.t, st.Scan(keys.Prefix(store.KindSession), store.Key{}, func(key store.Key, _ []byte) bool { found = key; return true }))
	must(w.t, st.Close())
	return found
}

// A record that cannot be read costs what it is about and nothing else, and
// somebody is told.
func TestDamagedRecords(t *testing.T) {
	t.Parallel()
	damage := map[string][]byte{
		"empty": {}, "another version": {2}, "cut short": {1, 1}, "noise": {1, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255},
	}
	kinds := map[store.Kind]bool{ // does the session survive?
		store.KindSession: false, store.KindSubscription: true, store.KindQueue: true, store.KindWill: true, store.KindRetained: true,
	}
	for kind, survives := range kinds {
		for name, value := range damage {
			t.Run(kind.String()+" "+name, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, rules{}.bundle(t))
				s := scene{t, w, w.org("acme01"), wire.V5}
				c := s.connect("d1", kept, withWill(wire.Will{Topic: "will", QoS: 1, DelayInterval: 600}))
				c.listen(1, "a")
				from := s.connect("d2")
				c.drop(w)
				from.say("a", "queued", 1)
				from.retain("r", "x", 1)
				victims := w.stored(kind)
				if len(victims) != 1 {
					t.Fatalf("%d records", len(victims))
				}
				s.away() // the neighbour
				disk := w.shut()
				write(t, disk, store.Put(victims[0], value))
				s = s.on(disk)
				if n := len(s.w.log.find("msg", "record dropped")); n != 1 {
					t.Errorf("%d lines about it", n)
				}
				if got := s.w.restored.Sessions == 2; got != survives {
					t.Errorf("restored %+v", s.w.restored)
				}
				eventually(t, func() bool { _, err := s.w.store.Get(victims[0]); return err != nil })
				s.resume("d2").quiet()
			})
		}
	}
}

// What a session has is judged again before anything is sent after a restart:
// by receive, and by the mounts that connect gives now.
func TestA16RestartJudgesDeliveriesAgain(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		after rules
		hears string // what is left of "a/1", "a/2"
		spelt string
	}{
		"receive refuses one": {rules{receive: `decision := {"allow": input.topic != "a/1"}`}, "2", "a/2"},
		"another mount": {
			rules{connect: `decision := {"allow": true, "mounts": [{"client": "b/", "org": "a/"}, {"client": "a/", "org": "elsewhere/"}]}`},
			"", "",
		},
		"connect refuses": {rules{connect: `decision := {"allow": input.principal.id != "d1", "mounts": [{"client": "", "org": ""}]}`}, "", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, rules{}.bundle(t))
			s := scene{t, w, w.org("acme01"), wire.V5}
			c := s.connect("d1", kept)
			c.listen(1, "a/+")
			c.disconnect()
			from := s.connect("d2")
			from.say("a/1", "1", 1)
			from.say("a/2", "2", 1)
			w.bundle = tt.after.bundle(t)
			s = s.after((*world).shut)
			if s.w.restored.Messages != 2 {
				t.Errorf("restored %+v", s.w.restored)
			}
			c = s.w.answer(t, s.acme.device("d1"), wire.V5, kept)
			if name == "connect refuses" {
				if c.ack.Code != wire.NotAuthorized {
					t.Errorf("answered %s", c.ack.Code)
				}
				return
			}
			if tt.hears != "" {
				c.hear(tt.spelt, tt.hears)
			}
			c.quiet()
			s.w.nothingQueued()
		})
	}
}
