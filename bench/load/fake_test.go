package load_test

import (
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/cordon-mq/cordon/bench/load"
	"github.com/cordon-mq/cordon/broker/wire"
)

// fakeBroker is the smallest broker that a generator can be tested with. It
// keeps sessions in memory and can be told to misbehave.
type fakeBroker struct {
	t    *testing.T
	l    net.Listener
	work sync.WaitGroup

	// fault says what becomes of the nth delivery, from 1: how often it is sent.
	fault func(n int) int

	guarded struct {
		sync.Mutex
		sessions map[string]*fakeSession
		conns    map[net.Conn]struct{}
		count    int
		connects int
	}
}

type fakeSession struct {
	conn    net.Conn // nil while nobody is there
	filters map[string]byte
	id      uint16
	waiting []byte
}

// startFake listens on the loopback interface until the test ends.
func startFake(t *testing.T) *fakeBroker {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &fakeBroker{t: t, l: l, fault: func(int) int { return 1 }}
	b.guarded.sessions = map[string]*fakeSession{}
	b.guarded.conns = map[net.Conn]struct{}{}
	b.work.Go(b.accept)
	t.Cleanup(func() {
		_ = l.Close()
		b.guarded.Lock()
		for c := range b.guarded.conns {
			_ = c.Close()
		}
		b.guarded.Unlock()
		b.work.Wait()
	})
	return b
}

func (b *fakeBroker) target() load.Target { return load.Target{Address: b.l.Addr().String()} }

func (b *fakeBroker) accept() {
	for {
		conn, err := b.l.Accept()
		if err != nil {
			return
		}
		b.guarded.Lock()
		b.guarded.conns[conn] = struct{}{}
		b.guarded.Unlock()
		b.work.Go(func() { b.serve(conn) })
	}
}

// serve carries one connection. A write that fails is seen by the next read.
func (b *fakeBroker) serve(conn net.Conn) {
	defer conn.Close()
	in := wire.NewReader(conn, 1<<20)
	var s *fakeSession
	for {
		packet, err := in.Next()
		b.guarded.Lock()
		if err == nil && packet.Type() == wire.TypeDisconnect || err != nil {
			if s != nil && s.conn == conn {
				s.conn = nil
			}
			delete(b.guarded.conns, conn)
			b.guarded.Unlock()
			return
		}
		if c, ok := packet.(*wire.Connect); ok {
			s = b.connectLocked(conn, c)
		} else {
			b.handleLocked(conn, s, packet)
		}
		b.guarded.Unlock()
	}
}

func (b *fakeBroker) connectLocked(conn net.Conn, c *wire.Connect) *fakeSession {
	b.guarded.connects++
	s := b.guarded.sessions[c.ClientID]
	present := byte(0)
	if s == nil || c.CleanStart {
		s = &fakeSession{filters: map[string]byte{}}
		b.guarded.sessions[c.ClientID] = s
	} else {
		present = 1
	}
	s.conn = conn
	out := append([]byte{0x20, 2, present, 0}, s.waiting...)
	s.waiting = nil
	_, _ = conn.Write(out)
	return s
}

func (b *fakeBroker) handleLocked(conn net.Conn, s *fakeSession, packet wire.Packet) {
	var answer []byte
	switch p := packet.(type) {
	case *wire.Subscribe:
		answer = []byte{0x90, byte(2 + len(p.Filters)), byte(p.PacketID >> 8), byte(p.PacketID)}
		for _, f := range p.Filters {
			s.filters[f.Filter] = f.QoS
			answer = append(answer, f.QoS)
		}
	case *wire.Unsubscribe:
		for _, f := range p.Filters {
			delete(s.filters, f)
		}
		answer = []byte{0xb0, 2, byte(p.PacketID >> 8), byte(p.PacketID)}
	case *wire.Publish:
		b.routeLocked(p)
		if p.QoS > 0 {
			answer = []byte{[]byte{0, 0x40, 0x50}[p.QoS], 2, byte(p.PacketID >> 8), byte(p.PacketID)}
		}
	case *wire.Ack:
		if first := map[wire.Type]byte{wire.TypePubrec: 0x62, wire.TypePubrel: 0x70}[p.Kind]; first != 0 {
			answer = []byte{first, 2, byte(p.PacketID >> 8), byte(p.PacketID)}
		}
	}
	_, _ = conn.Write(answer)
}

func (b *fakeBroker) routeLocked(p *wire.Publish) {
	for _, s := range b.guarded.sessions {
		for filter, qos := range s.filters {
			if !matches(filter, string(p.Topic)) {
				continue
			}
			b.guarded.count++
			for range b.fault(b.guarded.count) {
				s.id = s.id%60_000 + 1
				out := wire.AppendPublish(nil, wire.V311, &wire.Publish{
					Topic: p.Topic, Payload: p.Payload, QoS: min(qos, p.QoS), PacketID: s.id,
				})
				if s.conn == nil {
					s.waiting = append(s.waiting, out...)
				} else {
					_, _ = s.conn.Write(out)
				}
			}
		}
	}
}

func matches(filter, topic string) bool {
	f, t := strings.Split(filter, "/"), strings.Split(topic, "/")
	if len(f) != len(t) {
		return false
	}
	for i := range f {
		if f[i] != "+" && f[i] != t[i] {
			return false
		}
	}
	return true
}

// forget drops everything that waits for sessions, as a broker does that is
// killed and has stored nothing.
func (b *fakeBroker) forget() {
	b.guarded.Lock()
	defer b.guarded.Unlock()
	b.guarded.sessions = map[string]*fakeSession{}
}
