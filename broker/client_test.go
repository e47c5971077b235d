package broker_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/broker/wire/wiretest"
)

// versions are all that a client may speak.
var versions = []wire.Version{wire.V31, wire.V311, wire.V5}

// client is a wiretest.Client that knows the usual exchanges.
type client struct {
	*wiretest.Client
	t      *testing.T
	ack    *wire.Connack
	lastID uint16
	inbox  []*wire.Publish // came while something else was waited for

	completes bool // answers a PUBREL that comes while something else is waited for
}

// Expect waits for a packet of type kind. Messages that come before it are kept
// for next.
func (c *client) Expect(kind wire.Type) wire.Packet {
	c.t.Helper()
	if kind == wire.TypePublish && len(c.inbox) > 0 {
		p := c.inbox[0]
		c.inbox = c.inbox[1:]
		return p
	}
	for {
		p, err := c.Receive()
		if err != nil {
			c.t.Fatalf("expect %s: %v", kind, err)
		}
		if p.Type() == kind {
			return p
		}
		switch p := p.(type) {
		case *wire.Publish:
			c.inbox = append(c.inbox, p)
			continue
		case *wire.Ack:
			if p.Kind == wire.TypePubrel && c.completes {
				c.Send(wiretest.Ack(c.Version, wire.Ack{Kind: wire.TypePubcomp, PacketID: p.PacketID}))
				continue
			}
		}
		c.t.Fatalf("expect %s, got %+v", kind, p)
	}
}

// option changes a CONNECT.
type option func(*wire.Connect)

// kept asks for a session that outlives its connection by an hour.
func kept(c *wire.Connect) {
	c.CleanStart = false
	if c.Version == wire.V5 {
		c.HasSessionExpiry, c.SessionExpiry = true, 3600
	}
}

// keptClean is kept, beginning anew; MQTT 3.x cannot ask for both at once.
func keptClean(c *wire.Connect) { kept(c); c.CleanStart = c.Version == wire.V5 }

func keepAlive(seconds uint16) option { return func(c *wire.Connect) { c.KeepAlive = seconds } }

func receiveMaximum(n uint16) option { return func(c *wire.Connect) { c.ReceiveMaximum = n } }

func withWill(will wire.Will) option {
	return func(c *wire.Connect) { w := will; c.Will = &w }
}

// dial opens a connection and sends nothing.
func (w *world) dial(t *testing.T, v wire.Version) *client {
	return &client{Client: wiretest.NewClient(t, w.net.Dial(), v), t: t}
}

// start sends a CONNECT and waits for nothing.
func (w *world) start(t *testing.T, who login, v wire.Version, options ...option) *client {
	t.Helper()
	c := w.dial(t, v)
	c.Send(wiretest.Connect(connectPacket(who, v, options...)))
	return c
}

func connectPacket(who login, v wire.Version, options ...option) *wire.Connect {
	pk := &wire.Connect{
		Version: v, ClientID: who.clientID, CleanStart: true,
		HasUsername: who.username != "", Username: who.username, HasPassword: who.password != "", Password: []byte(who.password),
	}
	for _, o := range options {
		o(pk)
	}
	return pk
}

// answer is start, and the CONNACK whatever it says.
func (w *world) answer(t *testing.T, who login, v wire.Version, options ...option) *client {
	t.Helper()
	c := w.start(t, who, v, options...)
	c.ack = c.Expect(wire.TypeConnack).(*wire.Connack)
	return c
}

// connect is answer, and the answer is yes.
func (w *world) connect(t *testing.T, who login, v wire.Version, options ...option) *client {
	t.Helper()
	c := w.answer(t, who, v, options...)
	if c.ack.Code != wire.Success {
		t.Fatalf("connect %s: %s %q", who.clientID, c.ack.Code, c.ack.ReasonString)
	}
	return c
}

func (c *client) id() uint16 { c.lastID++; return c.lastID }

// message is a PUBLISH without its exchange.
func message(topic, payload string, qos byte) *wire.Publish {
	return &wire.Publish{Topic: []byte(topic), Payload: []byte(payload), QoS: qos}
}

// send sends p, with a packet ID if it needs one.
func (c *client) send(p *wire.Publish) uint16 {
	c.t.Helper()
	if p.QoS > 0 && p.PacketID == 0 {
		p.PacketID = c.id()
	}
	c.Send(wiretest.Publish(c.Version, p))
	return p.PacketID
}

// publish goes through the whole exchange and returns the publisher's answer.
// Whoever is to have the message has it then. At QoS 0 a ping stands for the answer.
func (c *client) publish(p *wire.Publish) *wire.Ack {
	c.t.Helper()
	id := c.send(p)
	switch p.QoS {
	case 0:
		c.ping()
		return &wire.Ack{}
	case 1:
		return c.expectAck(wire.TypePuback, id)
	default:
		rec := c.expectAck(wire.TypePubrec, id)
		if !rec.Code.Failed() {
			c.Send(wiretest.Ack(c.Version, wire.Ack{Kind: wire.TypePubrel, PacketID: id}))
			c.expectAck(wire.TypePubcomp, id)
		}
		return rec
	}
}

// say publishes, and the broker must take it.
func (c *client) say(topic, payload string, qos byte) {
	c.t.Helper()
	if ack := c.publish(message(topic, payload, qos)); ack.Code.Failed() {
		c.t.Fatalf("publish %s: %s %q", topic, ack.Code, ack.ReasonString)
	}
}

func (c *client) expectAck(kind wire.Type, id uint16) *wire.Ack {
	c.t.Helper()
	a := c.Expect(kind).(*wire.Ack)
	if a.PacketID != id {
		c.t.Fatalf("%s for packet %d, want %d", kind, a.PacketID, id)
	}
	return a
}

func (c *client) ping() {
	c.t.Helper()
	c.Send(wiretest.Pingreq())
	c.Expect(wire.TypePingresp)
}

// subscribe asks for filters at qos and returns the codes.
func (c *client) subscribe(qos byte, filters ...string) []wire.Code {
	c.t.Helper()
	pk := &wire.Subscribe{}
	for _, f := range filters {
		pk.Filters = append(pk.Filters, wire.Subscription{Filter: f, QoS: qos})
	}
	return c.subscribeWith(pk).Codes
}

func (c *client) subscribeWith(pk *wire.Subscribe) *wire.Suback {
	c.t.Helper()
	pk.PacketID = c.id()
	c.Send(wiretest.Subscribe(c.Version, pk))
	ack := c.Expect(wire.TypeSuback).(*wire.Suback)
	if ack.PacketID != pk.PacketID || len(ack.Codes) != len(pk.Filters) {
		c.t.Fatalf("SUBACK %+v for %+v", ack, pk)
	}
	return ack
}

// listen is subscribe, and every filter must be granted qos.
func (c *client) listen(qos byte, filters ...string) {
	c.t.Helper()
	for i, code := range c.subscribe(qos, filters...) {
		if code != wire.Code(qos) {
			c.t.Fatalf("subscribe %s at QoS %d: %s", filters[i], qos, code)
		}
	}
}

func (c *client) unsubscribe(filters ...string) *wire.Unsuback {
	c.t.Helper()
	pk := &wire.Unsubscribe{PacketID: c.id(), Filters: filters}
	c.Send(wiretest.Unsubscribe(c.Version, pk))
	return c.Expect(wire.TypeUnsuback).(*wire.Unsuback)
}

// next returns the next message and leaves it unacknowledged.
func (c *client) next() *wire.Publish {
	c.t.Helper()
	return c.Expect(wire.TypePublish).(*wire.Publish)
}

// take returns the next message after its whole exchange.
func (c *client) take() *wire.Publish {
	c.t.Helper()
	p := c.next()
	c.finish(p)
	return p
}

// finish acknowledges p as its QoS demands.
func (c *client) finish(p *wire.Publish) {
	c.t.Helper()
	switch p.QoS {
	case 1:
		c.Send(wiretest.Ack(c.Version, wire.Ack{Kind: wire.TypePuback, PacketID: p.PacketID}))
	case 2:
		c.Send(wiretest.Ack(c.Version, wire.Ack{Kind: wire.TypePubrec, PacketID: p.PacketID}))
		c.expectAck(wire.TypePubrel, p.PacketID)
		c.Send(wiretest.Ack(c.Version, wire.Ack{Kind: wire.TypePubcomp, PacketID: p.PacketID}))
	}
}

// hear takes the next message, which must be this one.
func (c *client) hear(topic, payload string) *wire.Publish {
	c.t.Helper()
	p := c.take()
	if string(p.Topic) != topic || string(p.Payload) != payload {
		c.t.Fatalf("got %s %q, want %s %q", p.Topic, p.Payload, topic, payload)
	}
	return p
}

// silence is a fence: from publishes a marker to topic, and it must be the next
// thing that c hears, under the spelling as.
func (c *client) silence(from *client, topic, as string) {
	c.t.Helper()
	marker := fmt.Sprintf("marker %d", from.id())
	from.say(topic, marker, 1)
	c.hear(as, marker)
}

// quiet is a fence where nothing is subscribed: no message came before the
// answer to a ping.
func (c *client) quiet() {
	c.t.Helper()
	c.ping()
	if len(c.inbox) > 0 {
		c.t.Fatalf("got %s %q, want nothing", c.inbox[0].Topic, c.inbox[0].Payload)
	}
}

// disconnect says goodbye and waits until the broker has closed.
func (c *client) disconnect() {
	c.t.Helper()
	c.Send(wiretest.Disconnect(c.Version, &wire.Disconnect{}))
	c.ExpectClosed()
}

// drop breaks the connection without a word, and waits until the broker knows.
func (c *client) drop(w *world) {
	c.t.Helper()
	before := len(w.log.find("msg", "disconnected"))
	c.Close()
	eventually(c.t, func() bool { return len(w.log.find("msg", "disconnected")) > before })
}

// expectGone waits for the end of the connection and returns the code that an
// MQTT 5 client is told; MQTT 3.x is told nothing.
func (c *client) expectGone() *wire.Disconnect {
	c.t.Helper()
	var said *wire.Disconnect
	for _, p := range c.ExpectClosed() {
		if d, ok := p.(*wire.Disconnect); ok {
			said = d
		}
	}
	if c.Version != wire.V5 {
		if said != nil {
			c.t.Fatalf("MQTT %s was told %+v", c.Version, said)
		}
		return &wire.Disconnect{}
	}
	if said == nil {
		c.t.Fatal("closed without DISCONNECT")
	}
	return said
}

// eventually waits for something that no packet announces.
func eventually(t *testing.T, done func() bool) {
	t.Helper()
	look, tooLate := time.NewTicker(time.Millisecond), time.After(wiretest.Patience)
	defer look.Stop()
	for !done() {
		select {
		case <-look.C:
		case <-tooLate:
			t.Fatal("it did not happen")
		}
	}
}

// sendSubscribe sends a SUBSCRIBE that is not expected to be answered.
func (c *client) sendSubscribe(filter string) {
	c.t.Helper()
	pk := &wire.Subscribe{PacketID: c.id(), Filters: []wire.Subscription{{Filter: filter}}}
	c.Send(wiretest.Subscribe(c.Version, pk))
}
