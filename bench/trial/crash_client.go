package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cordon-mq/cordon/bench/trial/client"
	"github.com/cordon-mq/cordon/broker/wire"
)

const (
	crashPayload = 64 // bytes
	redialAfter  = 5 * time.Millisecond
	creditEvery  = time.Millisecond // how often a publisher that is ahead looks again

	longestAbsence = 500 * time.Millisecond // of a client that has cut its connection
)

// errDropped is a connection that the client itself cut, in the midst of things.
var errDropped = errors.New("cut by the client")

// crashTrial is one run of the crash trial: the clients and what they note.
type crashTrial struct {
	program *program
	ledger  *ledger
	window  int
	closing chan struct{} // closed when nothing new is to be published

	// Counted by all clients.
	connects, resumes, cuts, refusals, lostSessions atomic.Int64

	subscribed sync.WaitGroup // readers that have no SUBACK yet

	guarded struct {
		sync.Mutex
		faults []string // of the protocol
	}
}

// versionOf is 3.1.1 and 5 by turns of two, so that each meets both QoS.
func versionOf(i int) wire.Version {
	if i/2%2 == 0 {
		return wire.V311
	}
	return wire.V5
}

func (t *crashTrial) fault(err error) {
	t.guarded.Lock()
	defer t.guarded.Unlock()
	if len(t.guarded.faults) < faultLines {
		t.guarded.faults = append(t.guarded.faults, err.Error())
	}
}

func (t *crashTrial) faults() []string {
	t.guarded.Lock()
	defer t.guarded.Unlock()
	return slices.Clone(t.guarded.faults)
}

// peer is what publishers and readers have in common: a kept session, and
// connections that come and go.
type peer struct {
	trial *crashTrial
	who   client.Config
	known bool // the broker has promised to keep the session
	rng   *rand.Rand
}

// live connects again and again and lets serve use each connection, until serve
// returns nil or ctx is done.
func (p *peer) live(ctx context.Context, serve func(*client.Conn) error) {
	for ctx.Err() == nil {
		conn, err := client.Dial(ctx, p.who)
		var refused *client.RefusedError
		switch {
		case errors.As(err, &refused):
			p.trial.refusals.Add(1)
			p.trial.fault(err)
		case errors.Is(err, client.ErrMalformed):
			p.trial.fault(err)
		}
		if err != nil {
			_ = pause(ctx, redialAfter)
			continue
		}
		p.trial.connects.Add(1)
		switch {
		case conn.Present:
			p.trial.resumes.Add(1)
		case p.known:
			p.trial.lostSessions.Add(1)
		}
		p.known = true
		unbind := context.AfterFunc(ctx, func() { _ = conn.Close() })
		err = serve(conn)
		unbind()
		_ = conn.Close()
		switch {
		case err == nil:
			return
		case errors.Is(err, errDropped):
			p.trial.cuts.Add(1)
			if p.rng.IntN(2) == 0 { // it stays away, and its queue grows
				_ = pause(ctx, time.Duration(p.rng.Int64N(int64(longestAbsence))))
			}
		case errors.Is(err, client.ErrMalformed), errors.Is(err, client.ErrUnasked), errors.Is(err, errAnswer):
			p.trial.fault(err)
		}
	}
}

// lifetime is after how many packets the client cuts this connection: every
// second one is left to the broker's end.
func (p *peer) lifetime() int {
	const most = 4000
	if p.rng.IntN(2) == 0 {
		return 0
	}
	return 1 + p.rng.IntN(most)
}

// errAnswer is a packet that has no place where it came.
var errAnswer = errors.New("unexpected packet")

// publish is one publisher, until everything it has sent is through.
func (t *crashTrial) publish(ctx context.Context, i int, seed uint64) {
	p := &peer{trial: t, rng: chance(seed, 1+uint64(i))}
	p.who = t.program.application("p"+itoa(i), versionOf(i), false)
	sender := &client.Sender{Version: p.who.Version, QoS: qosOf(i), Message: func(n uint64) client.Message {
		return client.Message{
			Topic:   t.ledger.topic(i, n),
			Payload: client.Stamp{Publisher: uint32(i), Number: n}.Payload(crashPayload),
		}
	}}
	t.subscribed.Wait()
	p.live(ctx, func(conn *client.Conn) error {
		out := sender.Resume(nil, conn.Present)
		for left := p.lifetime(); ; {
			for !t.ended() && sender.InFlight() < t.window && !t.ledger.behind(i, sender.Sent()) {
				t.ledger.send(i, sender.Sent())
				out = sender.Publish(out)
			}
			if err := conn.Write(out); err != nil {
				return err
			}
			out = out[:0]
			if sender.InFlight() == 0 {
				if t.ended() {
					return nil
				}
				if err := pause(ctx, creditEvery); err != nil {
					return err
				}
				continue
			}
			for more := true; more; more = conn.Buffered() {
				answer, err := conn.Next()
				if err != nil {
					return err
				}
				var number uint64
				var outcome client.Outcome
				if out, number, outcome, err = sender.Handle(out, answer); err != nil {
					return err
				}
				t.ledger.answered(i, number, outcome)
				if left--; left == 0 {
					return errDropped
				}
			}
		}
	})
}

func (t *crashTrial) ended() bool {
	select {
	case <-t.closing:
		return true
	default:
		return false
	}
}

// read is one reader, until ctx is done.
func (t *crashTrial) read(ctx context.Context, i int, seed uint64) {
	p := &peer{trial: t, rng: chance(seed, 1<<32+uint64(i))}
	p.who = t.program.application("r"+itoa(i), versionOf(i), false)
	var receiver client.Receiver
	subscribed := false
	p.live(ctx, func(conn *client.Conn) error {
		if !conn.Present {
			receiver.Forget()
		}
		var out []byte
		take := func(m *client.Packet) (err error) {
			out, err = t.take(out, i, &receiver, p.who.Version, m)
			return err
		}
		if !subscribed || !conn.Present {
			if err := conn.Subscribe(qosOf(i), take, t.ledger.filters(i)...); err != nil {
				return err
			}
			if !subscribed {
				subscribed = true
				t.subscribed.Done()
			}
		}
		for left := p.lifetime(); ; {
			m, err := conn.Next()
			if err != nil {
				return err
			}
			if err := take(m); err != nil {
				return err
			}
			if left--; left == 0 {
				return errDropped
			}
			if !conn.Buffered() {
				if err := conn.Write(out); err != nil {
					return err
				}
				out = out[:0]
			}
		}
	})
}

// take notes a message and answers it.
func (t *crashTrial) take(dst []byte, reader int, receiver *client.Receiver, v wire.Version, m *client.Packet) ([]byte, error) {
	if m.Type != wire.TypePublish && m.Type != wire.TypePubrel {
		return dst, errAnswer
	}
	out, fresh := receiver.Handle(dst, v, m)
	if !fresh {
		return out, nil
	}
	stamp, err := client.ParseStamp(m.Payload)
	if err != nil {
		return out, errors.Join(client.ErrMalformed, err)
	}
	t.ledger.receive(reader, stamp, m.Topic, m.QoS)
	return out, nil
}
