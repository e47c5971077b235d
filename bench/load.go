package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/broker/wire/wiretest"
)

const (
	topicsPerPublisher = 10
	payloadBytes       = 64
	patience           = 60 * time.Second // for the whole of one case
)

// load publishes what sc says and returns how many messages arrived.
func load(p *peer, sc scenario) (delivered int, err error) {
	g := &generator{peer: p, scenario: sc, until: time.Now().Add(patience)}
	defer g.close()
	for i := range sc.readers {
		if err := g.startReader(i); err != nil {
			return 0, err
		}
	}
	errs := make(chan error, sc.publishers)
	for i := range sc.publishers {
		c, err := g.dial(p.publisher(i))
		if err != nil {
			return 0, err
		}
		go func() { errs <- g.publish(c, i) }()
	}
	for range sc.publishers {
		err = errors.Join(err, <-errs)
	}
	due := int64(sc.messages / sc.publishers * sc.publishers * sc.readers)
	for last, still := int64(-1), 0; g.received.Load() < due && still < 20; {
		if now := g.received.Load(); now == last {
			still++
		} else {
			last, still = now, 0
		}
		time.Sleep(50 * time.Millisecond) // QoS 0 may lose some: wait until no more come
	}
	return int(g.received.Load()), err
}

type generator struct {
	peer     *peer
	scenario scenario
	until    time.Time
	conns    []net.Conn
	readers  sync.WaitGroup
	sent     atomic.Int64
	received atomic.Int64
}

func (g *generator) close() {
	for _, c := range g.conns {
		_ = c.Close()
	}
	g.readers.Wait()
}

// client is one connection that has its CONNACK.
type client struct {
	net.Conn
	in *bufio.Reader
}

func (g *generator) dial(who identity) (*client, error) {
	conn, err := net.Dial("tcp", g.peer.address)
	if err != nil {
		return nil, err
	}
	g.conns = append(g.conns, conn)
	if err := conn.SetDeadline(g.until); err != nil {
		return nil, err
	}
	connect := wire.Connect{
		Version: wire.V311, ClientID: who.client, CleanStart: true,
		HasUsername: who.user != "", Username: who.user, HasPassword: who.user != "", Password: []byte(who.token),
	}
	if _, err := conn.Write(wiretest.Connect(&connect)); err != nil {
		return nil, err
	}
	c := &client{conn, bufio.NewReaderSize(conn, 64<<10)}
	kind, body, err := c.next()
	if err != nil || wire.Type(kind>>4) != wire.TypeConnack || body[1] != 0 {
		return nil, fmt.Errorf("%s: not connected: %x % x %w", who.client, kind, body, err)
	}
	return c, nil
}

// next reads one packet; its body is valid until the next call.
func (c *client) next() (kind byte, body []byte, err error) {
	head, err := c.in.Peek(2)
	if err != nil {
		return 0, nil, err
	}
	kind = head[0]
	length, size := 0, 1
	for shift := 0; ; shift += 7 {
		head, err := c.in.Peek(size + 1)
		if err != nil {
			return 0, nil, err
		}
		b := head[size]
		size++
		length |= int(b&0x7f) << shift
		if b < 0x80 {
			break
		}
	}
	whole, err := c.in.Peek(size + length)
	if err != nil {
		return 0, nil, err
	}
	_, err = c.in.Discard(size + length)
	return kind, whole[size:], err
}

func (g *generator) startReader(i int) error {
	c, err := g.dial(g.peer.reader(i))
	if err != nil {
		return err
	}
	sub := wire.Subscribe{PacketID: 1, Filters: []wire.Subscription{{Filter: "iot-2/type/+/id/+/evt/+/fmt/+", QoS: g.scenario.qos}}}
	if _, err := c.Write(wiretest.Subscribe(wire.V311, &sub)); err != nil {
		return err
	}
	kind, body, err := c.next()
	if err != nil || wire.Type(kind>>4) != wire.TypeSuback || body[2] >= 0x80 {
		return fmt.Errorf("not subscribed: %x % x %w", kind, body, err)
	}
	g.readers.Go(func() {
		acks := make([]byte, 0, 4096)
		for {
			kind, body, err := c.next()
			if err != nil {
				return
			}
			g.received.Add(1)
			if kind&0x06 != 0 {
				n := int(body[0])<<8 | int(body[1])
				acks = append(acks, byte(wire.TypePuback)<<4, 2, body[2+n], body[3+n])
			}
			if len(acks) > 0 && c.in.Buffered() == 0 {
				if _, err := c.Write(acks); err != nil {
					return
				}
				acks = acks[:0]
			}
		}
	})
	return nil
}

// publish sends this publisher's share, in batches as large as its window allows.
func (g *generator) publish(c *client, i int) error {
	sc := g.scenario
	var packets [topicsPerPublisher]wire.Publish
	for k := range packets {
		packets[k] = wire.Publish{Topic: []byte(g.peer.topic(i, k)), Payload: make([]byte, payloadBytes), QoS: sc.qos}
	}
	var out []byte
	id := uint16(0)
	for left, open := sc.messages/sc.publishers, 0; left > 0 || open > 0; {
		out = out[:0]
		for open < sc.window && left > 0 {
			pk := &packets[left%topicsPerPublisher]
			if sc.qos > 0 {
				id = id%60000 + 1
				pk.PacketID = id
			}
			out = wire.AppendPublish(out, wire.V311, pk)
			open++
			left--
		}
		if len(out) > 0 {
			if _, err := c.Write(out); err != nil {
				return err
			}
			g.sent.Add(int64(len(out) / len(wire.AppendPublish(nil, wire.V311, &packets[0]))))
			g.pace()
		}
		if sc.qos == 0 {
			open = 0
			continue
		}
		for first := true; first || c.in.Buffered() >= 4; first = false {
			kind, _, err := c.next()
			if err != nil {
				return err
			}
			if wire.Type(kind>>4) != wire.TypePuback {
				return io.ErrUnexpectedEOF
			}
			open--
		}
	}
	return nil
}

// pace keeps publishers from running ahead of the readers. What overflows a
// queue or a buffer is lost by rule, and would make a broker look cheap.
func (g *generator) pace() {
	ahead := int64(g.scenario.window * g.scenario.publishers)
	for g.sent.Load()*int64(g.scenario.readers)-g.received.Load() > ahead*int64(g.scenario.readers) && time.Now().Before(g.until) {
		time.Sleep(200 * time.Microsecond)
	}
}
