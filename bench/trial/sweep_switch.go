package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cordon-mq/cordon/bench/trial/client"
	"github.com/cordon-mq/cordon/broker/wire"
)

// switchOver activates and rolls back while publishers write, and compares what
// became of each message with what was live.
func (t *sweepTrial) switchOver(ctx context.Context) error {
	if err := t.activate(ctx, t.open); err != nil {
		return err
	}
	say("switching revisions under %d messages a second", t.switchRate)
	l := &switchLoad{sweepTrial: t, ledger: newSwitchLedger(t.publishers)}
	defer l.stop()
	l.ledger.over(switchOver{opens: true})
	if err := l.start(ctx); err != nil {
		return err
	}
	for end := time.Now().Add(t.switchFor); time.Now().Before(end); t.found.switches++ {
		if err := pause(ctx, t.switchGap); err != nil {
			return err
		}
		opens := t.found.switches%2 == 1
		over := switchOver{opens: opens, from: time.Since(t.zero)}
		var err error
		if opens {
			_, err = t.call(ctx, "POST", "/policy/rollback", struct{}{})
		} else {
			err = t.activate(ctx, t.shut)
		}
		if err != nil {
			return err
		}
		over.by = time.Since(t.zero)
		l.ledger.over(over)
		t.found.calls = append(t.found.calls, over.by-over.from)
	}
	slices.Sort(t.found.calls)
	if err := l.drain(ctx); err != nil {
		return err
	}
	t.found.balance = l.ledger.balance()
	return nil
}

// switchLoad is everybody who publishes and reads meanwhile.
type switchLoad struct {
	*sweepTrial
	ledger *switchLedger
	ending context.CancelFunc // publishers begin nothing more

	conns      []*client.Conn
	publishing sync.WaitGroup
	reading    sync.WaitGroup

	guarded struct {
		sync.Mutex
		closed bool
		err    error
	}
}

func (l *switchLoad) fail(err error) {
	l.guarded.Lock()
	defer l.guarded.Unlock()
	if !l.guarded.closed && l.guarded.err == nil {
		l.guarded.err = err
	}
}

func (l *switchLoad) failure() error {
	l.guarded.Lock()
	defer l.guarded.Unlock()
	return l.guarded.err
}

// topic is what message n of a publisher is written to.
func (l *switchLoad) topic(i int, n uint64) string {
	event := "steady"
	if isSwitched(n) {
		event = "switched"
	}
	return fmt.Sprintf("iot-2/type/sweep/id/p%d/evt/%s/fmt/bin", i, event)
}

func (l *switchLoad) start(ctx context.Context) error {
	ctx, l.ending = context.WithCancel(ctx)
	dial := func(name string) (*client.Conn, error) {
		conn, err := client.Dial(ctx, l.program.application(name, wire.V5, true))
		if err == nil {
			l.conns = append(l.conns, conn)
		}
		return conn, err
	}
	for i := range l.publishers {
		reader, err := dial("xr" + itoa(i))
		if err != nil {
			return err
		}
		if err := reader.Subscribe(qosOf(i), nil, fmt.Sprintf("iot-2/type/sweep/id/p%d/evt/+/fmt/bin", i)); err != nil {
			return err
		}
		publisher, err := dial("xp" + itoa(i))
		if err != nil {
			return err
		}
		l.reading.Go(func() { l.read(reader) })
		l.publish(ctx, i, publisher)
	}
	return nil
}

func (l *switchLoad) read(conn *client.Conn) {
	var receiver client.Receiver
	var out []byte
	for {
		p, err := conn.Next()
		if err != nil {
			l.fail(err)
			return
		}
		if p.Type != wire.TypePublish && p.Type != wire.TypePubrel {
			l.fail(errAnswer)
			return
		}
		var fresh bool
		if out, fresh = receiver.Handle(out, conn.Version, p); fresh {
			stamp, err := client.ParseStamp(p.Payload)
			if err != nil {
				l.fail(err)
				return
			}
			l.ledger.deliver(int(stamp.Publisher), stamp.Number)
		}
		if conn.Buffered() {
			continue
		}
		if err := conn.Write(out); err != nil {
			l.fail(err)
			return
		}
		out = out[:0]
	}
}

// publish begins a writer and a reader of answers, which share the sender.
func (l *switchLoad) publish(ctx context.Context, i int, conn *client.Conn) {
	var shared struct {
		sync.Mutex
		client.Sender
	}
	shared.Version, shared.QoS = wire.V5, qosOf(i)
	shared.Message = func(n uint64) client.Message {
		return client.Message{Topic: l.topic(i, n), Payload: client.Stamp{Publisher: uint32(i), Number: n}.Payload(64)}
	}
	every := time.Second * time.Duration(l.publishers) / time.Duration(l.switchRate)
	idle := make(chan struct{}, 1) // nothing is in flight, perhaps
	l.publishing.Go(func() {
		for due := time.Now().Add(every * time.Duration(i) / time.Duration(l.publishers)); ; due = due.Add(every) {
			if pause(ctx, time.Until(due)) != nil {
				break
			}
			shared.Lock()
			var out []byte
			if shared.InFlight() < switchWindow {
				l.ledger.send(i, time.Since(l.zero))
				out = shared.Publish(nil)
			}
			shared.Unlock()
			if err := conn.Write(out); err != nil {
				l.fail(err)
				return
			}
		}
		for range idle {
			shared.Lock()
			left := shared.InFlight()
			shared.Unlock()
			if left == 0 {
				return
			}
		}
	})
	l.reading.Go(func() {
		defer close(idle)
		for {
			p, err := conn.Next()
			if err != nil {
				l.fail(err)
				return
			}
			at := time.Since(l.zero)
			shared.Lock()
			out, n, outcome, err := shared.Handle(nil, p)
			shared.Unlock()
			if err != nil {
				l.fail(err)
				return
			}
			switch outcome {
			case client.Acknowledged:
				l.ledger.answer(i, n, taken, at)
			case client.Refused:
				l.ledger.answer(i, n, turnedAway, at)
			case client.Nothing:
			}
			if err := conn.Write(out); err != nil {
				l.fail(err)
				return
			}
			select {
			case idle <- struct{}{}:
			default:
			}
		}
	})
}

// drain lets publishers finish, and readers get what was taken.
func (l *switchLoad) drain(ctx context.Context) error {
	l.ending()
	done := make(chan struct{})
	go func() { l.publishing.Wait(); close(done) }()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		return errors.New("publishers got no answers")
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	for last, since := -1, time.Now(); ; {
		owed := l.ledger.owed()
		if owed == 0 || owed == last && time.Since(since) > patience {
			break
		}
		if owed != last {
			last, since = owed, time.Now()
		}
		if err := pause(ctx, lookEvery); err != nil {
			return err
		}
	}
	if err := pause(ctx, lookEvery); err != nil { // for what comes twice
		return err
	}
	return l.failure()
}

// stop cuts everybody and waits.
func (l *switchLoad) stop() {
	l.guarded.Lock()
	l.guarded.closed = true
	l.guarded.Unlock()
	if l.ending != nil {
		l.ending()
	}
	for _, conn := range l.conns {
		_ = conn.Close()
	}
	l.publishing.Wait()
	l.reading.Wait()
}
