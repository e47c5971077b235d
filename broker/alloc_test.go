package broker_test

import (
	"io"
	"net"
	"runtime"
	"testing"

	"github.com/cordon-mq/cordon/broker/listen"
	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/broker/wire/wiretest"
)

// A QoS 0 message on a topic that was used before is read, judged from memory,
// routed and written without allocating.
func TestRoutingAllocatesNothing(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector allocates")
	}
	w := newWorld(t, builtIn())
	acme := w.org("acme01")
	subscriber, publisher := tcp(t, w), tcp(t, w)
	handshake(t, subscriber, acme.app("reader"))
	handshake(t, publisher, acme.device("d1"))
	sub := wire.Subscribe{PacketID: 1, Filters: []wire.Subscription{{Filter: "iot-2/type/+/id/+/evt/+/fmt/+"}}}
	_, err := subscriber.Write(wiretest.Subscribe(wire.V311, &sub))
	must(t, err)
	suback := make([]byte, 5)
	_, err = io.ReadFull(subscriber, suback)
	must(t, err)

	const batch = 1000
	var packets []byte
	for i := range batch {
		topic := "iot-2/evt/e" + string(rune('0'+i%10)) + "/fmt/json"
		packets = wire.AppendPublish(packets, wire.V311, &wire.Publish{Topic: []byte(topic), Payload: make([]byte, 64)})
	}
	arrives := len(packets) + batch*len("type/sensor/id/d1/")
	buf := make([]byte, 64<<10)
	round := func() {
		_, err := publisher.Write(packets)
		must(t, err)
		for left := arrives; left > 0; {
			n, err := subscriber.Read(buf[:min(left, len(buf))])
			must(t, err)
			left -= n
		}
	}
	for range 20 {
		round()
	}
	// What allocates now and then, whatever the load, is not per message: buffers
	// that a burst made grow, and the runtime itself. What proves the answers of a
	// policy, beside the messages, ends.
	const rounds, attempts = 50, 40
	var least float64
	for attempt := range attempts {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range rounds {
			round()
		}
		runtime.ReadMemStats(&after)
		per := float64(after.Mallocs-before.Mallocs) / (rounds * batch)
		if per <= 0.02 {
			return
		}
		if attempt == 0 || per < least {
			least = per
		}
	}
	t.Errorf("%.3f allocations per message", least)
}

// tcp is a connection to the broker over a real socket.
func tcp(t *testing.T, w *world) net.Conn {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	served := make(chan struct{})
	go func() {
		defer close(served)
		c, err := l.Accept()
		_ = l.Close()
		if err != nil {
			return
		}
		w.broker.Serve(&listen.Conn{Conn: c, Listener: "mqtts"})
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	must(t, err)
	t.Cleanup(func() {
		_ = c.Close()
		<-served
	})
	return c
}

// handshake connects with MQTT 3.1.1 and a clean session.
func handshake(t *testing.T, c net.Conn, who login) {
	t.Helper()
	pk := wire.Connect{
		Version: wire.V311, ClientID: who.clientID, CleanStart: true,
		HasUsername: true, Username: who.username, HasPassword: true, Password: []byte(who.password),
	}
	_, err := c.Write(wiretest.Connect(&pk))
	must(t, err)
	ack := make([]byte, 4)
	_, err = io.ReadFull(c, ack)
	must(t, err)
	if ack[3] != 0 {
		t.Fatalf("refused: %d", ack[3])
	}
}
