package broker_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/broker/wire/wiretest"
)

// Hundreds of idle sessions are judged again after an activation, each of their
// subscriptions for itself, and nobody has to do anything for it.
func TestASweepJudgesEverySubscription(t *testing.T) {
	t.Parallel()
	const sessions, filters = 200, 10
	narrow := func(closed int) rules {
		names := make([]string, closed)
		for i := range names {
			names[i] = fmt.Sprintf("%q", fmt.Sprint("f", i))
		}
		return rules{subscribe: `
decision := {"allow": false, "reason": "closed"} if input.levels[1] in {` + strings.Join(names, ", ") + `}

else := {"allow": true}`}
	}
	w := sweeping(newWorld(t, rules{}.bundle(t)))
	acme := w.org("acme01")
	clients := make([]*client, sessions)
	for i := range clients {
		names := make([]string, filters)
		for k := range names {
			names[k] = fmt.Sprintf("s%d/f%d", i, k)
		}
		clients[i] = w.connect(t, acme.app(fmt.Sprint("s", i)), versions[i%len(versions)])
		clients[i].listen(1, names...)
	}
	for closed := 1; closed <= 3; closed++ {
		w.activate(narrow(closed))
		eventually(t, func() bool { return len(w.log.find("msg", "refused", "reason", "closed")) == closed*sessions })
	}
	lost := map[string]bool{}
	for _, line := range w.log.find("msg", "refused") {
		lost[line["topic"]] = true
	}
	app := w.connect(t, acme.app("publisher"), wire.V5)
	for i, c := range clients {
		for k := range filters {
			topic := fmt.Sprintf("s%d/f%d", i, k)
			if lost[topic] != (k < 3) {
				t.Fatalf("%s was taken away: %v", topic, lost[topic])
			}
		}
		app.say(fmt.Sprintf("s%d/f2", i), "closed", 1)
		app.say(fmt.Sprintf("s%d/f3", i), "open", 1)
		c.hear(fmt.Sprintf("s%d/f3", i), "open")
		c.quiet()
	}
}

// While one revision follows another, each message is treated as one of those says
// that were live between its PUBLISH and its answer. What is acknowledged arrives
// once, what is refused never does, and a topic that both allow never suffers.
func TestSwitchingRevisionsUnderLoad(t *testing.T) {
	t.Parallel()
	const publishers, rounds, burst = 10, 40, 10
	open := rules{}.bundle(t)
	shut := rules{publish: `decision := {"allow": startswith(input.topic, "steady/")}`}.bundle(t)
	w := sweeping(newWorld(t, open))
	acme := w.org("acme01")
	for i := range 100 { // who is judged again beside it
		w.connect(t, acme.app(fmt.Sprint("idle", i)), wire.V5).listen(1, fmt.Sprintf("idle/%d/+", i))
	}
	reader := w.connect(t, acme.app("reader"), wire.V5)
	reader.listen(2, "switched/+", "steady/+")
	writers := make([]*client, publishers)
	for i := range writers {
		writers[i] = w.connect(t, acme.app(fmt.Sprint("p", i)), wire.V5)
	}

	// Revision n is open where n is even. It may be live from begun = n on, and is
	// the least that may be from done = n on.
	var begun, done atomic.Int64
	next := make(chan struct{}, 1)
	var switching sync.WaitGroup
	switching.Go(func() {
		n := int64(0)
		for range next {
			n++
			begun.Store(n)
			if n%2 == 0 {
				w.engine.Activate(open)
			} else {
				w.engine.Activate(shut)
			}
			done.Store(n)
		}
	})
	defer switching.Wait()
	defer close(next)

	taken, refused, certain := 0, 0, 0
	for round := range rounds {
		due := map[string]string{} // payload: topic
		for i, c := range writers {
			qos := byte(1 + i%2)
			type sent struct {
				topic, payload string
				least          int64
			}
			inFlight := map[uint16]sent{}
			var received []uint16 // at QoS 2
			for k := range burst {
				if i%4 == 0 && k == burst/2 {
					select {
					case next <- struct{}{}: // beside what follows
					default:
					}
				}
				m := sent{fmt.Sprintf("switched/%d", i), fmt.Sprintf("%d %d %d", round, i, k), done.Load()}
				if k%2 == 1 {
					m.topic = fmt.Sprintf("steady/%d", i)
				}
				inFlight[c.send(message(m.topic, m.payload, qos))] = m
			}
			for len(inFlight) > 0 {
				kind := wire.TypePuback
				if qos == 2 {
					kind = wire.TypePubrec
				}
				ack := c.Expect(kind).(*wire.Ack)
				m, ok := inFlight[ack.PacketID]
				if !ok {
					t.Fatalf("%s %d for nothing", kind, ack.PacketID)
				}
				delete(inFlight, ack.PacketID)
				most := begun.Load()
				mayPass := m.least%2 == 0 || most > m.least
				mayFail := m.least%2 == 1 || most > m.least
				if strings.HasPrefix(m.topic, "steady/") {
					mayPass, mayFail = true, false
				}
				if mayPass != mayFail && strings.HasPrefix(m.topic, "switched/") {
					certain++
				}
				switch {
				case ack.Code.Failed() && !mayFail:
					t.Fatalf("%s was refused, and revisions %d to %d allow it", m.topic, m.least, most)
				case !ack.Code.Failed() && !mayPass:
					t.Fatalf("%s was taken, and revisions %d to %d refuse it", m.topic, m.least, most)
				case ack.Code.Failed():
					refused++
					continue
				}
				taken++
				due[m.payload] = m.topic
				if qos == 2 {
					received = append(received, ack.PacketID)
				}
			}
			for _, id := range received {
				c.Send(wiretest.Ack(c.Version, wire.Ack{Kind: wire.TypePubrel, PacketID: id}))
				c.expectAck(wire.TypePubcomp, id)
			}
		}
		for len(due) > 0 {
			p := reader.take()
			if due[string(p.Payload)] != string(p.Topic) {
				t.Fatalf("%s %q arrived, which is refused or arrived before", p.Topic, p.Payload)
			}
			delete(due, string(p.Payload))
		}
		reader.quiet()
	}
	if refused == 0 || certain == 0 || begun.Load() < 2 {
		t.Errorf("nothing was tested: %d taken, %d refused, %d certain, %d switches", taken, refused, certain, begun.Load())
	}
}
