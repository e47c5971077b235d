package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cordon-mq/cordon/bench/trial/client"
	"github.com/cordon-mq/cordon/broker/wire"
)

// pairsConfig is what pairs do.
type pairsConfig struct {
	name     string // part of client IDs and topics
	pairs    int
	qos      byte
	window   int
	payload  int           // bytes
	kept     bool          // sessions
	messages int           // of each pair; 0: until stop
	every    time.Duration // between two messages of a publisher; 0: as fast as they are acknowledged
	churn    int           // messages after which either end connects anew, about; 0: never
	retain   bool
}

// pairs are publishers, each with one reader of its topic, until stop.
type pairs struct {
	pairsConfig
	program *program
	got     atomic.Int64 // by readers, without repetitions
	owed    []atomic.Int64

	end  context.CancelFunc
	work sync.WaitGroup

	guarded struct {
		sync.Mutex
		err error // the first
	}
}

func newPairs(p *program, c pairsConfig) *pairs {
	return &pairs{pairsConfig: c, program: p, owed: make([]atomic.Int64, c.pairs)}
}

// delivered is how many messages readers have got.
func (p *pairs) delivered() int { return int(p.got.Load()) }

// failure is the first error of a client.
func (p *pairs) failure() error {
	p.guarded.Lock()
	defer p.guarded.Unlock()
	return p.guarded.err
}

func (p *pairs) fail(err error) {
	p.guarded.Lock()
	defer p.guarded.Unlock()
	if p.guarded.err == nil {
		p.guarded.err = err
	}
}

// start subscribes every reader and lets publishers begin. The caller calls
// stop, also after an error.
func (p *pairs) start(ctx context.Context) error {
	ctx, p.end = context.WithCancel(ctx)
	readers := make([]*client.Conn, p.pairs)
	for i := range readers {
		conn, err := p.dial(ctx, "r", i)
		if err != nil {
			return fmt.Errorf("reader %d: %w", i, err)
		}
		if err := conn.Subscribe(p.qos, nil, p.topic(i)); err != nil {
			return errors.Join(fmt.Errorf("reader %d: %w", i, err), conn.Close())
		}
		readers[i] = conn
		p.work.Go(func() { p.read(ctx, i, conn) })
	}
	for i := range p.pairs {
		p.work.Go(func() { p.publish(ctx, i) })
	}
	return nil
}

// stop cuts all connections and waits for their goroutines.
func (p *pairs) stop() error {
	if p.end != nil {
		p.end()
	}
	p.work.Wait()
	return p.failure()
}

func (p *pairs) topic(i int) string {
	return fmt.Sprintf("iot-2/type/pair%s/id/p%d/evt/e/fmt/bin", p.name, i)
}

func (p *pairs) dial(ctx context.Context, end string, i int) (*client.Conn, error) {
	who := p.program.application(fmt.Sprintf("%s%s%d", end, p.name, i), versionOf(i), !p.kept)
	who.ReadBuffer = 16 << 10
	return client.Dial(ctx, who)
}

// use lets f use connections one after the other, until it returns nil, or ctx
// is done. A connection that f did not cut itself must not end.
func (p *pairs) use(ctx context.Context, end string, i int, conn *client.Conn, f func(*client.Conn) error) {
	for ctx.Err() == nil {
		used := conn
		conn = nil
		if used == nil {
			var err error
			if used, err = p.dial(ctx, end, i); err != nil {
				if ctx.Err() == nil {
					p.fail(fmt.Errorf("connect again: %w", err))
				}
				return
			}
		}
		unbind := context.AfterFunc(ctx, func() { _ = used.Close() })
		err := f(used)
		unbind()
		_ = used.Close()
		switch {
		case err == nil || ctx.Err() != nil:
			return
		case !errors.Is(err, errDropped):
			p.fail(err)
			return
		}
	}
}

// mostAhead is how far a publisher gets ahead of its reader: less than a queue takes.
const mostAhead = 2000

func (p *pairs) publish(ctx context.Context, i int) {
	sender := &client.Sender{Version: versionOf(i), QoS: p.qos, Message: func(n uint64) client.Message {
		return client.Message{
			Topic: p.topic(i), Retain: p.retain,
			Payload: client.Stamp{Publisher: uint32(i), Number: n}.Payload(p.payload),
		}
	}}
	if p.every > 0 {
		// Publishers take turns, not steps.
		if pause(ctx, p.every*time.Duration(i)/time.Duration(p.pairs)) != nil {
			return
		}
	}
	if p.qos == 0 {
		p.use(ctx, "p", i, nil, func(conn *client.Conn) error { return p.stream(ctx, conn, sender) })
		return
	}
	p.use(ctx, "p", i, nil, func(conn *client.Conn) error {
		out := sender.Resume(nil, conn.Present)
		next := time.Now()
		for answers := 0; ; {
			for sender.InFlight() < p.window && !p.through(sender) && p.owed[i].Load() < mostAhead && !time.Now().Before(next) {
				p.owed[i].Add(1)
				out = sender.Publish(out)
				next = next.Add(p.every)
			}
			if err := conn.Write(out); err != nil {
				return err
			}
			out = out[:0]
			if sender.InFlight() == 0 {
				if p.through(sender) {
					return nil
				}
				if p.churn > 0 && answers > p.churn {
					return errDropped
				}
				if err := pause(ctx, max(creditEvery, time.Until(next))); err != nil {
					return err
				}
				continue
			}
			for more := true; more; more = conn.Buffered() {
				answer, err := conn.Next()
				if err != nil {
					return err
				}
				var outcome client.Outcome
				if out, _, outcome, err = sender.Handle(out, answer); err != nil {
					return err
				}
				if outcome == client.Refused {
					return fmt.Errorf("publish refused: %s", answer.Code)
				}
				answers++
			}
		}
	})
}

// stream publishes at QoS 0, where nothing is answered.
func (p *pairs) stream(ctx context.Context, conn *client.Conn, sender *client.Sender) error {
	next := time.Now()
	for sent := 1; !p.through(sender); sent++ {
		if err := conn.Write(sender.Publish(nil)); err != nil {
			return err
		}
		if p.churn > 0 && sent > p.churn {
			return errDropped
		}
		next = next.Add(p.every)
		if err := pause(ctx, max(0, time.Until(next))); err != nil {
			return err
		}
	}
	return nil
}

func (p *pairs) through(s *client.Sender) bool {
	return p.messages > 0 && s.Sent() >= uint64(p.messages)
}

func (p *pairs) read(ctx context.Context, i int, conn *client.Conn) {
	var receiver client.Receiver
	var seen uint64 // numbers below it
	p.use(ctx, "r", i, conn, func(conn *client.Conn) error {
		var out []byte
		take := func(m *client.Packet) error {
			if m.Type != wire.TypePublish && m.Type != wire.TypePubrel {
				return errAnswer
			}
			var fresh bool
			out, fresh = receiver.Handle(out, conn.Version, m)
			if !fresh {
				return nil
			}
			stamp, err := client.ParseStamp(m.Payload)
			if err != nil {
				return err
			}
			if stamp.Number >= seen { // repetitions come before anything new
				seen = stamp.Number + 1
				p.got.Add(1)
				p.owed[i].Add(-1)
			}
			return nil
		}
		if !conn.Present {
			receiver.Forget()
			p.owed[i].Store(0) // what was on its way went with the session
			if err := conn.Subscribe(p.qos, take, p.topic(i)); err != nil {
				return err
			}
		}
		for packets := 0; ; packets++ {
			m, err := conn.Next()
			if err != nil {
				return err
			}
			if err := take(m); err != nil {
				return err
			}
			if conn.Buffered() {
				continue
			}
			if err := conn.Write(out); err != nil {
				return err
			}
			out = out[:0]
			if p.churn > 0 && packets > p.churn {
				return errDropped
			}
		}
	})
}
