package client

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"testing"

	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/broker/wire/wiretest"
)

// described reads what a client has written, one short line for each packet.
func described(t *testing.T, v wire.Version, b []byte) (list []string) {
	t.Helper()
	in := bytes.NewReader(append(wiretest.Hello(v, "c"), b...))
	reader := wire.NewReader(in, maxPacket)
	for first := true; in.Len() > 0 || reader.Buffered() > 0; first = false {
		p, err := reader.Next()
		if err != nil {
			t.Fatal(err)
		}
		switch p := p.(type) {
		case *wire.Publish:
			dup := ""
			if p.Dup {
				dup = " again"
			}
			list = append(list, fmt.Sprintf("%s as %d%s", p.Payload, p.PacketID, dup))
		case *wire.Ack:
			list = append(list, fmt.Sprintf("%s %d", p.Kind, p.PacketID))
		default:
			if !first {
				t.Fatalf("%s", p.Type())
			}
		}
	}
	return list
}

func newSender(v wire.Version, qos byte) *Sender {
	return &Sender{Version: v, QoS: qos, Message: func(n uint64) Message {
		return Message{Topic: "t", Payload: fmt.Append(nil, "m", n)}
	}}
}

// answer hands the sender one acknowledgement.
func answer(t *testing.T, s *Sender, p Packet) (string, uint64, Outcome) {
	t.Helper()
	out, number, outcome, err := s.Handle(nil, &p)
	if err != nil {
		t.Fatal(err)
	}
	reply := ""
	for _, line := range described(t, s.Version, out) {
		reply += line
	}
	return reply, number, outcome
}

func TestSenderSendsAgain(t *testing.T) {
	t.Parallel()
	for _, v := range []wire.Version{wire.V311, wire.V5} {
		s := newSender(v, 2)
		var out []byte
		for range 4 {
			out = s.Publish(out)
		}
		if got, want := described(t, v, out), []string{"m0 as 1", "m1 as 2", "m2 as 3", "m3 as 4"}; !reflect.DeepEqual(got, want) {
			t.Errorf("MQTT %s: sent %q, want %q", v, got, want)
		}
		if reply, n, outcome := answer(t, s, Packet{Type: wire.TypePubrec, ID: 2}); reply != "PUBREL 2" || n != 1 || outcome != Acknowledged {
			t.Errorf("MQTT %s: PUBREC: %q, message %d, outcome %d", v, reply, n, outcome)
		}
		answer(t, s, Packet{Type: wire.TypePubrec, ID: 1})
		if reply, n, outcome := answer(t, s, Packet{Type: wire.TypePubcomp, ID: 1}); reply != "" || n != 0 || outcome != Nothing {
			t.Errorf("MQTT %s: PUBCOMP: %q, message %d, outcome %d", v, reply, n, outcome)
		}
		want := []string{"PUBREL 2", "m2 as 3 again", "m3 as 4 again"}
		if got := described(t, v, s.Resume(nil, true)); !reflect.DeepEqual(got, want) {
			t.Errorf("MQTT %s: resumed with %q, want %q", v, got, want)
		}
		// The broker has nothing of the session: what it took is done, the rest is new.
		want = []string{"m2 as 3", "m3 as 4"}
		if got := described(t, v, s.Resume(nil, false)); !reflect.DeepEqual(got, want) || s.InFlight() != 2 {
			t.Errorf("MQTT %s: began anew with %q, want %q; %d in flight", v, got, want, s.InFlight())
		}
	}
}

func TestSenderOutcomes(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		qos    byte
		answer Packet
		want   Outcome
		left   int
	}{
		{1, Packet{Type: wire.TypePuback, ID: 1}, Acknowledged, 0},
		{1, Packet{Type: wire.TypePuback, ID: 1, Code: wire.NoMatchingSubscribers}, Acknowledged, 0},
		{1, Packet{Type: wire.TypePuback, ID: 1, Code: wire.QuotaExceeded}, Refused, 0},
		{2, Packet{Type: wire.TypePubrec, ID: 1}, Acknowledged, 1},
		{2, Packet{Type: wire.TypePubrec, ID: 1, Code: wire.NotAuthorized}, Refused, 0},
	} {
		s := newSender(wire.V5, test.qos)
		s.Publish(nil)
		_, _, outcome := answer(t, s, test.answer)
		if outcome != test.want || s.InFlight() != test.left {
			t.Errorf("QoS %d, %+v: outcome %d with %d in flight, want %d with %d", test.qos, test.answer, outcome, s.InFlight(), test.want, test.left)
		}
	}
}

func TestSenderRefusesUnaskedAnswers(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		qos    byte
		answer Packet
	}{
		{1, Packet{Type: wire.TypePuback, ID: 2}},
		{1, Packet{Type: wire.TypePubrec, ID: 1}},
		{2, Packet{Type: wire.TypePuback, ID: 1}},
		{2, Packet{Type: wire.TypePubcomp, ID: 1}}, // before PUBREC
		{2, Packet{Type: wire.TypePingresp}},
	} {
		s := newSender(wire.V311, test.qos)
		s.Publish(nil)
		if _, _, outcome, err := s.Handle(nil, &test.answer); !errors.Is(err, ErrUnasked) || outcome != Nothing {
			t.Errorf("QoS %d, %+v: outcome %d, %v", test.qos, test.answer, outcome, err)
		}
	}
}

// Packet identifiers go round, and one that is in flight is passed over.
func TestSenderIdentifiers(t *testing.T) {
	t.Parallel()
	s := newSender(wire.V311, 1)
	s.Publish(nil) // identifier 1 stays
	for range 1<<16 - 2 {
		s.Publish(nil)
		answer(t, s, Packet{Type: wire.TypePuback, ID: s.lastID})
	}
	if got, want := described(t, wire.V311, s.Publish(nil)), []string{"m65535 as 2"}; !reflect.DeepEqual(got, want) {
		t.Errorf("after a round: %q, want %q", got, want)
	}
}

func TestReceiverTakesOnce(t *testing.T) {
	t.Parallel()
	var r Receiver
	for i, step := range []struct {
		packet Packet
		reply  []string
		fresh  bool
	}{
		{Packet{Type: wire.TypePublish}, nil, true},
		{Packet{Type: wire.TypePublish, QoS: 1, ID: 5}, []string{"PUBACK 5"}, true},
		{Packet{Type: wire.TypePublish, QoS: 1, ID: 5, Dup: true}, []string{"PUBACK 5"}, true},
		{Packet{Type: wire.TypePublish, QoS: 2, ID: 5}, []string{"PUBREC 5"}, true},
		{Packet{Type: wire.TypePublish, QoS: 2, ID: 5, Dup: true}, []string{"PUBREC 5"}, false},
		{Packet{Type: wire.TypePublish, QoS: 2, ID: 6}, []string{"PUBREC 6"}, true},
		{Packet{Type: wire.TypePubrel, ID: 5}, []string{"PUBCOMP 5"}, false},
		{Packet{Type: wire.TypePubrel, ID: 5}, []string{"PUBCOMP 5"}, false},
		{Packet{Type: wire.TypePublish, QoS: 2, ID: 5}, []string{"PUBREC 5"}, true},
	} {
		out, fresh := r.Handle(nil, wire.V311, &step.packet)
		if got := described(t, wire.V311, out); !reflect.DeepEqual(got, step.reply) || fresh != step.fresh {
			t.Errorf("step %d: %q, fresh %v; want %q, %v", i, got, fresh, step.reply, step.fresh)
		}
	}
	r.Forget()
	if _, fresh := r.Handle(nil, wire.V311, &Packet{Type: wire.TypePublish, QoS: 2, ID: 6}); !fresh {
		t.Error("a new session remembers an old one")
	}
}

func TestStamp(t *testing.T) {
	t.Parallel()
	want := Stamp{Publisher: 7, Number: 1 << 40, Sent: -5}
	payload := want.Payload(64)
	if got, err := ParseStamp(payload); err != nil || got != want || len(payload) != 64 {
		t.Errorf("got %+v in %d bytes, %v", got, len(payload), err)
	}
	if _, err := ParseStamp(payload[:StampSize-1]); err == nil {
		t.Error("half a stamp was read")
	}
}
