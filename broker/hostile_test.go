package broker_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cordon-mq/cordon/broker"
	"github.com/cordon-mq/cordon/broker/store/memstore"
	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/broker/wire/wiretest"
)

// attacks are bytes that no well-behaved client sends. Each ends in a packet that
// does not exist, for a version that would find nothing wrong with the rest.
func attacks() map[string][]byte {
	b := wiretest.MustBytes
	deep := strings.Repeat("a/", 5000)
	list := map[string][]byte{
		"SUBSCRIBE cut after its filter":       b(`82 [ 0001 00 s"a" ]`),
		"SUBSCRIBE without a filter":           b(`82 [ 0001 00 ]`),
		"SUBSCRIBE with QoS 3":                 b(`82 [ 0001 00 s"a" 03 ]`),
		"SUBSCRIBE with packet ID 0":           b(`82 [ 0000 00 s"a" 00 ]`),
		"SUBSCRIBE to a wildcard in a name":    b(`82 [ 0001 00 s"a/b+/c" 00 ]`),
		"SUBSCRIBE with a control character":   b(`82 [ 0001 00 s"a\x07" 00 ]`),
		"SUBSCRIBE that is no UTF-8":           b(`82 [ 0001 00 s"\xff\xfe" 00 ]`),
		"UNSUBSCRIBE from nonsense":            b(`a2 [ 0001 00 s"#/#" ]`),
		"UNSUBSCRIBE cut":                      b(`a2 [ 0001 00 0009 "abc" ]`),
		"PUBLISH with a wildcard":              b(`30 [ s"a/+" 00 "x" ]`),
		"PUBLISH with NUL":                     b(`30 [ s"a\x00b" 00 "x" ]`),
		"PUBLISH with a surrogate":             b(`30 [ 0003 eda080 00 "x" ]`),
		"PUBLISH with QoS 3":                   b(`36 [ s"a" 0001 00 "x" ]`),
		"PUBLISH with a length beyond its end": b(`30 [ 00ff "a" ]`),
		"PUBLISH with an unknown property":     b(`30 [ s"a" [ 7f 00 ] "x" ]`),
		"PUBLISH with a subscription ID":       b(`30 [ s"a" [ 0b 01 ] "x" ]`),
		"PUBLISH to an alias of zero":          b(`30 [ s"a" [ 23 0000 ] "x" ]`),
		"PUBREL with packet ID 0":              b(`62 [ 0000 ]`),
		"second CONNECT":                       wiretest.Hello(wire.V5, "again"),
		"AUTH out of the blue":                 wiretest.Auth(&wire.Auth{Code: wire.ReAuthenticate, Method: "m"}),
		"CONNACK from a client":                b(`20 [ 00 00 00 ]`),
		"reserved type 0":                      b(`00 00`),
		"endless remaining length":             b(`30 ff*20`),
		"256 MiB announced":                    b(`30 ff ff ff 7f`),
		"more than 1 MiB":                      append(b(`30 80 80 c0 00`), make([]byte, 1<<10)...),
	}
	subscribe := func(filters ...wire.Subscription) []byte {
		return wiretest.Subscribe(wire.V5, &wire.Subscribe{PacketID: 1, Filters: filters})
	}
	list["SUBSCRIBE with thousands of levels"] = subscribe(wire.Subscription{Filter: deep + "#"})
	list["PUBLISH with thousands of levels"] = wiretest.Publish(wire.V5, message(deep, "x", 0))
	list["SUBSCRIBE to every $share there is"] = subscribe(
		wire.Subscription{Filter: "$share/g/#"}, wire.Subscription{Filter: "$SHARE/g/#"}, wire.Subscription{Filter: "$share/g"},
		wire.Subscription{Filter: "$share//#"}, wire.Subscription{Filter: "$share/+/#"})
	list["SUBSCRIBE with 1001 filters"] = subscribe(make([]wire.Subscription, 1001)...)
	for name := range list {
		list[name] = append(list[name], 0, 0)
	}
	return list
}

// noise is bytes that mean nothing on purpose, the same in every run.
func noise(n int) (list [][]byte) {
	random := rand.New(rand.NewPCG(1, 2))
	for range n {
		b := make([]byte, 1+random.IntN(200))
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		list = append(list, b)
	}
	return list
}

// Whatever one connection sends costs that connection alone: a pair of bystanders
// goes on, and nothing is left behind.
func TestHostileInput(t *testing.T) { // not parallel: it counts goroutines
	w := newWorld(t, rules{}.bundle(t))
	acme := w.org("acme01")
	hears := w.connect(t, acme.app("hears"), wire.V5)
	hears.listen(1, "fence")
	says := w.connect(t, acme.app("says"), wire.V311)
	before := runtime.NumGoroutine()

	connect := wiretest.Connect(connectPacket(acme.device("d1"), wire.V5))
	for name, attack := range attacks() {
		t.Run(name, func(t *testing.T) {
			for _, c := range []struct {
				v     wire.Version
				bytes []byte
			}{
				{wire.V5, append(bytes.Clone(connect), attack...)},
				{wire.V311, append(wiretest.Connect(connectPacket(acme.device("d1"), wire.V311)), attack...)},
				{wire.V5, attack}, // before CONNECT
			} {
				attacker := w.dial(t, c.v)
				attacker.Send(c.bytes)
				must(t, attacker.Conn.SetReadDeadline(time.Now().Add(wiretest.Patience)))
				if _, err := io.Copy(io.Discard, attacker.Conn); err != nil {
					t.Errorf("MQTT %s: not closed: %v", c.v, err)
				}
				hears.silence(says, "fence", "fence")
			}
		})
	}
	t.Run("noise", func(t *testing.T) {
		for i, b := range noise(100) {
			attacker := w.dial(t, wire.V5)
			if i%2 == 0 {
				b = append(bytes.Clone(connect), b...)
			}
			attacker.Send(b)
			hears.silence(says, "fence", "fence")
			attacker.Close() // it may wait for the rest of what looks like a packet
		}
	})
	for name, cut := range map[string]int{"half": len(connect) / 2, "all but one byte": len(connect) - 1, "one byte": 1} {
		t.Run("CONNECT truncated, "+name, func(t *testing.T) {
			attacker := w.dial(t, wire.V5)
			attacker.Send(connect[:cut])
			attacker.Close()
			hears.silence(says, "fence", "fence")
		})
	}
	// Goroutines that were lent to connections wait for more, sixteen at most.
	eventually(t, func() bool { return runtime.NumGoroutine() <= before+16 })
}

func TestHostileConnects(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rules{}.bundle(t))
	acme := w.org("acme01")
	token := acme.tokens["d1"]
	for name, who := range map[string]login{
		"wildcards in the client ID":  {"d:acme01:sensor:+", "use-token-auth", token},
		"# in the client ID":          {"d:acme01:#:d1", "use-token-auth", token},
		"slash in the client ID":      {"d:acme01:sensor:d1/../d2", "use-token-auth", token},
		"a level too many":            {"d:acme01:sensor:d1:d2", "use-token-auth", token},
		"another case":                {"D:acme01:sensor:d1", "use-token-auth", token},
		"no organisation":             {"d::sensor:d1", "use-token-auth", token},
		"65535 bytes":                 {strings.Repeat("x", 65535), "use-token-auth", token},
		"wildcards in the username":   {"d:acme01:sensor:d1", "+/#", token},
		"a token of 65535 bytes":      {"d:acme01:sensor:d1", "use-token-auth", strings.Repeat("x", 65535)},
		"a key with a wildcard":       {"a:acme01:x", "a-acme01-+", token},
		"an organisation with spaces": {"x", "acme01 /x", "x"},
	} {
		for _, v := range versions {
			if c := w.answer(t, who, v); c.ack.Code == 0 {
				t.Errorf("%s, MQTT %s: connected", name, v)
			}
		}
	}
	if strings.Contains(w.log.text(), token) {
		t.Error("a token is in the log")
	}
}

// A client that asks and does not read is not read from for ever: its answers are
// bounded, and the end comes when a write makes no progress.
func TestAnswersAreBounded(t *testing.T) {
	t.Parallel()
	bundle := rules{connect: limited(`"queue_bytes": 100000`)}.bundle(t)
	synctest.Test(t, func(t *testing.T) {
		w := newWorldOn(t, bundle, memstore.NewDisk(), broker.Config{WriteStall: time.Minute})
		c := w.connect(t, w.org("acme01").device("d1"), wire.V311)
		pings := bytes.Repeat(wiretest.Pingreq(), 1000)
		_ = c.Conn.SetWriteDeadline(time.Now().Add(time.Second))
		sent, err := 0, error(nil)
		for err == nil && sent < 64<<20 {
			var n int
			n, err = c.Conn.Write(pings)
			sent += n
		}
		if sent >= 1<<20 { // both buffers of the network, and the limit
			t.Errorf("the broker read %d bytes of a client that does not read", sent)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if _, err := c.Conn.Write(pings); err == nil {
			t.Error("still connected")
		}
	})
}

// Readers that stop lose their QoS 0 messages and hold up nobody.
func TestReadersThatStop(t *testing.T) {
	t.Parallel()
	const stopped, messages = 100, 60
	w := newWorld(t, rules{connect: limited(`"queue_bytes": 20000, "queue_messages": 10, "inflight_max": 10`)}.bundle(t))
	acme := w.org("acme01")
	for i := range stopped {
		c := w.connect(t, acme.free("stopped", fmt.Sprint("c", i)), versions[i%3])
		c.listen(byte(i%3), "a")
	}
	reads := w.connect(t, acme.free("reads", "r"), wire.V5)
	reads.listen(1, "a")
	from := w.connect(t, acme.app("x"), wire.V5)
	payload := strings.Repeat("x", 5000) // 300 kB for each of them, in all
	for qos := range byte(3) {
		for range messages / 3 {
			from.say("a", payload, qos)
			reads.hear("a", payload)
		}
	}
}
