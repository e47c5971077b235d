package broker_test

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/broker/wire/wiretest"
)

// reader is the receiving client of the model with what it keeps itself. It
// takes messages as MQTT tells a client to.
type reader struct {
	t    *testing.T
	c    *client
	subs map[string]bool
	open map[uint16]bool // QoS 2 identifiers received and not released
	late []*wire.Publish // not answered yet
	got  map[string]int  // how often each message was handed on
	last map[string]int  // number of the last new one by publisher and topic
	lazy bool            // answers late
}

// pump takes what has come by the time a ping is answered.
func (r *reader) pump() {
	r.t.Helper()
	r.c.Send(wiretest.Pingreq())
	for {
		p, err := r.c.Receive()
		if err != nil {
			r.t.Fatalf("the reader: %v", err)
		}
		switch p := p.(type) {
		case *wiretest.Pingresp:
			return
		case *wire.Publish:
			r.take(p)
		case *wire.Ack:
			delete(r.open, p.PacketID)
			r.c.answerAs(wire.TypePubcomp, p.PacketID)
		default:
			r.t.Fatalf("the reader got %+v", p)
		}
	}
}

func (r *reader) take(p *wire.Publish) {
	r.t.Helper()
	if p.QoS == 1 || !r.open[p.PacketID] {
		var publisher, number int
		text := string(p.Payload)
		if _, err := fmt.Sscanf(text, "%d %d", &publisher, &number); err != nil {
			r.t.Fatalf("got %q", text)
		}
		from := fmt.Sprint(publisher, " ", string(p.Topic))
		if r.got[text]++; r.got[text] == 1 {
			if number <= r.last[from] {
				r.t.Fatalf("%s: %d came after %d", from, number, r.last[from])
			}
			r.last[from] = number
		} else if p.QoS == 2 {
			r.t.Fatalf("%q came twice at QoS 2", text)
		}
	}
	if p.QoS == 2 {
		r.open[p.PacketID] = true
	}
	r.late = append(r.late, p)
	if !r.lazy {
		r.answer(len(r.late))
	}
}

// answer acknowledges the n messages that have waited longest.
func (r *reader) answer(n int) {
	for _, p := range r.late[:n] {
		kind := wire.TypePuback
		if p.QoS == 2 {
			kind = wire.TypePubrec
		}
		r.c.answerAs(kind, p.PacketID)
	}
	r.late = r.late[n:]
}

// model is one random story: what was acknowledged to its publishers, and
// whether it has to arrive.
type model struct {
	rt     *rapid.T
	s      scene
	r      *reader
	from   [2]*client
	trace  []string
	number int
	must   map[string]bool // acknowledged and subscribed to: false once that subscription was ended
}

func (m *model) connect() {
	for i := range m.from {
		id := uint16(0)
		if m.from[i] != nil {
			id = m.from[i].lastID
		}
		m.from[i] = m.s.connect(fmt.Sprint("d", i+1), kept)
		m.from[i].lastID = id%60000 + 1
	}
}

// online gives the reader a connection, unless it has one.
func (m *model) online() {
	if m.r.c != nil {
		return
	}
	m.r.c = m.s.w.connect(m.s.t, m.s.acme.app("reader"), m.s.v, kept)
	m.r.late = nil // what was not answered comes again
	m.r.pump()
}

func (m *model) offline() {
	if m.r.c != nil {
		m.r.c.Close()
		m.r.c = nil
	}
}

// publish publishes one message; where the broker is to be killed meanwhile, the
// publisher sends it again afterwards, as it must.
func (m *model) publish(killed bool) {
	m.number++
	i := rapid.IntRange(0, 1).Draw(m.rt, "publisher")
	name := rapid.SampledFrom([]string{"a", "b"}).Draw(m.rt, "topic")
	qos := rapid.ByteRange(1, 2).Draw(m.rt, "qos")
	text := fmt.Sprint(i, " ", m.number)
	p := message(name, text, qos)
	if m.r.subs[name] {
		m.must[text] = true
	}
	if killed {
		m.from[i].send(p)
		m.end((*world).image)
		p.Dup = true
	}
	ack := m.from[i].publish(p)
	if ack.Code.Failed() {
		m.s.t.Fatalf("publish: %s", ack.Code)
	}
	m.trace = append(m.trace, fmt.Sprint("published ", text, " to ", name, " QoS ", qos, " as ", p.PacketID, ": ", ack.Code))
}

func (m *model) end(how ending) {
	m.offline()
	before := m.s.w
	m.s = m.s.after(how)
	before.stop()
	m.connect()
}

func (m *model) toggle() {
	name := rapid.SampledFrom([]string{"a", "b"}).Draw(m.rt, "filter")
	m.online()
	m.r.pump()
	c := m.r.c
	if m.r.subs[name] {
		c.completes = true
		c.Send(wiretest.Unsubscribe(c.Version, &wire.Unsubscribe{PacketID: c.id(), Filters: []string{name}}))
		for text := range m.must { // what is not here yet need not come
			m.must[text] = false
		}
	} else {
		c.Send(wiretest.Subscribe(c.Version, &wire.Subscribe{PacketID: c.id(), Filters: []wire.Subscription{{Filter: name, QoS: 2}}}))
	}
	m.r.subs[name] = !m.r.subs[name]
	for {
		p, err := c.Receive()
		if err != nil {
			m.s.t.Fatal(err)
		}
		switch p := p.(type) {
		case *wire.Publish:
			m.r.take(p)
		case *wire.Ack:
			delete(m.r.open, p.PacketID)
			c.answerAs(wire.TypePubcomp, p.PacketID)
		default:
			return
		}
	}
}

// However clients and broker come and go: what was acknowledged arrives, at QoS
// 2 once, and what one publisher sends on one topic in its order.
func TestNothingIsLostWhateverHappens(t *testing.T) {
	t.Parallel()
	bundle := rules{connect: limited(`"inflight_max": 3`)}.bundle(t)
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t, bundle)
		m := &model{rt: rt, s: scene{t, w, w.org("acme01"), rapid.SampledFrom([]wire.Version{wire.V311, wire.V5}).Draw(rt, "version")}, must: map[string]bool{}}
		m.r = &reader{t: t, subs: map[string]bool{}, open: map[uint16]bool{}, got: map[string]int{}, last: map[string]int{}}
		m.connect()
		m.online()
		m.toggle()
		for range rapid.IntRange(5, 25).Draw(rt, "steps") {
			step := rapid.IntRange(0, 9).Draw(rt, "step")
			m.trace = append(m.trace, fmt.Sprint(step, m.r.lazy, m.r.c != nil, m.r.subs, m.number))
			switch step {
			case 0:
				m.toggle()
			case 1:
				m.offline()
			case 2:
				m.online()
			case 3:
				m.online()
				m.r.lazy = !m.r.lazy
				m.r.answer(len(m.r.late) / 2)
			case 4:
				m.end(rapid.SampledFrom([]ending{(*world).shut, (*world).image}).Draw(rt, "end"))
			case 5:
				m.publish(true)
			default:
				m.publish(false)
			}
		}
		m.online()
		m.r.lazy = false
		m.r.answer(len(m.r.late))
		defer func() {
			if t.Failed() {
				t.Logf("trace %q\nmust %v\ngot %v\nopen %v late %d\nqueued %v\n%s", m.trace, m.must, m.r.got, m.r.open, len(m.r.late), m.s.w.stored(store.KindQueue), m.s.w.log.text())
			}
		}()
		eventually(t, func() bool {
			m.r.pump()
			for text, due := range m.must {
				if due && m.r.got[text] == 0 {
					return false
				}
			}
			return true
		})
		m.r.pump()
		m.s.w.stop()
	})
}
