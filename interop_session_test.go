package main

import (
	"io"
	"net"
	"sync"
	"testing"
)

// A kept session queues what comes meanwhile; a clean one ends it.
func (s *site) keptSession(t *testing.T, one, other library) {
	base := s.name() + "/"
	kept := greeting{id: s.name(), kept: true, expiry: 60, filters: []string{base + "#"}, qos: 1}
	clean := kept
	clean.kept = false
	sender := s.join(t, other, greeting{id: s.name()})
	comes := func(g greeting, resumed bool) *peer {
		t.Helper()
		p := s.join(t, one, g)
		// CONNACK of MQTT 3.1 does not say so.
		if p.showsResumed && p.version != "3.1" && p.resumed != resumed {
			t.Errorf("session present: %t, want %t", p.resumed, resumed)
		}
		return p
	}
	queued := message{topic: base + "queued", payload: "meanwhile", qos: 1}
	fence := message{topic: base + "fence", payload: "now", qos: 1}

	s.parts(t, comes(kept, false))
	sender.sends(t, queued)
	p := comes(kept, true)
	p.wants(t, queued)
	s.parts(t, p)
	sender.sends(t, queued)
	p = comes(clean, false)
	sender.sends(t, fence)
	p.wants(t, fence)
	s.parts(t, p)
	sender.sends(t, queued)
	p = comes(kept, false)
	sender.sends(t, fence)
	p.wants(t, fence)
}

// relay is a way to the broker that can be cut.
type relay struct {
	listener net.Listener
	work     sync.WaitGroup

	state struct {
		sync.Mutex
		conns []net.Conn
		isCut bool
	}
}

// newRelay leads to the address of a listener.
func newRelay(t *testing.T, address string) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{listener: l}
	r.work.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			broker, err := net.Dial("tcp", address)
			if err != nil {
				_ = client.Close()
				continue
			}
			r.join(client, broker)
		}
	})
	t.Cleanup(r.cut)
	return r
}

// join copies in both directions until either side ends or the relay is cut.
func (r *relay) join(a, b net.Conn) {
	r.state.Lock()
	defer r.state.Unlock()
	if r.state.isCut {
		_, _ = a.Close(), b.Close()
		return
	}
	r.state.conns = append(r.state.conns, a, b)
	for _, way := range [][2]net.Conn{{a, b}, {b, a}} {
		r.work.Go(func() {
			_, _ = io.Copy(way[0], way[1])
			_, _ = way[0].Close(), way[1].Close()
		})
	}
}

// cut ends every connection, and lets nobody in again.
func (r *relay) cut() {
	r.state.Lock()
	r.state.isCut = true
	_ = r.listener.Close()
	for _, c := range r.state.conns {
		_ = c.Close()
	}
	r.state.Unlock()
	r.work.Wait()
}

// through is the same site behind a relay.
func (s *site) through(t *testing.T, l library) (*site, *relay) {
	t.Helper()
	behind, address := *s, &s.address
	if l.ws {
		address = &s.https
	}
	r := newRelay(t, *address)
	if l.ws {
		behind.https = r.listener.Addr().String()
	} else {
		behind.address = r.listener.Addr().String()
	}
	return &behind, r
}

// A will is published when the connection is lost, and not when it is ended, but
// where the client asks for that.
func (s *site) will(t *testing.T, one, other library) {
	base := s.name() + "/"
	will := message{topic: base + "will", payload: "gone", qos: 1}
	g := greeting{id: s.name(), filters: []string{base + "own"}, qos: 1, will: &will}
	watcher := s.join(t, other, greeting{id: s.name(), filters: []string{base + "will", base + "fence"}, qos: 1})

	s.parts(t, s.join(t, one, g))
	fence := message{topic: base + "fence", payload: "between", qos: 1}
	watcher.sends(t, fence)
	if one.leavesWill && one.version == "5" {
		watcher.wants(t, will)
	}
	watcher.wants(t, fence)

	behind, way := s.through(t, one)
	lost := behind.join(t, one, g)
	way.cut()
	watcher.wants(t, will)
	lost.leave()
}

// A retained message waits for whoever subscribes, until it is cleared.
func (s *site) retained(t *testing.T, one, other library) {
	base := s.name() + "/"
	watches := greeting{id: s.name(), filters: []string{base + "#"}, qos: 2}
	sender := s.join(t, one, greeting{id: s.name()})
	set := message{topic: base + "kept", payload: "still", qos: 1, retain: true}
	cleared := message{topic: base + "kept", qos: 1, retain: true}
	fence := message{topic: base + "fence", payload: "now", qos: 1}
	live := func(m message) message { m.retain = false; return m } // [MQTT-3.3.1-9]

	p := s.join(t, other, watches)
	sender.sends(t, set)
	p.wants(t, live(set))
	p.leave()

	p = s.join(t, other, watches)
	p.wants(t, set)
	sender.sends(t, cleared)
	p.wants(t, live(cleared))
	p.leave()

	p = s.join(t, other, watches)
	sender.sends(t, fence)
	p.wants(t, fence)
}

// idle says nothing for longer than the broker would wait without a PINGREQ. Two
// seconds leave room for a client that looks every half second.
func (s *site) idle(t *testing.T, one, other library) func(*testing.T) {
	base := s.name() + "/"
	p := s.join(t, one, greeting{id: s.name(), filters: []string{base + "#"}, qos: 1, keepAlive: 2})
	return func(t *testing.T) {
		m := message{topic: base + "x", payload: "awake", qos: 1}
		if p.onlyText { // another process publishes for it
			s.join(t, other, greeting{id: s.name()}).sends(t, m)
		} else {
			p.sends(t, m)
		}
		p.wants(t, m)
	}
}

// The session of a client that left ends when its time is up, and its queue with it.
func (s *site) sessionExpiry(t *testing.T, one, other library) func(*testing.T) {
	base := s.name() + "/"
	g := greeting{id: s.name(), kept: true, expiry: 1, filters: []string{base + "#"}, qos: 1}
	s.parts(t, s.join(t, one, g))
	s.join(t, other, greeting{id: s.name()}).sends(t, message{topic: base + "queued", payload: "too late", qos: 1})
	return func(t *testing.T) {
		p := s.join(t, one, g)
		if p.resumed {
			t.Error("the session is still there")
		}
		fence := message{topic: base + "fence", payload: "now", qos: 1}
		s.join(t, other, greeting{id: s.name()}).sends(t, fence)
		p.wants(t, fence)
	}
}
