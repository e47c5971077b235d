package load

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Absence is messages that were published while nobody read.
type Absence struct {
	flow *flow
	// Acknowledged is how many deliveries the broker owes: every message was
	// acknowledged, and counts once for each of its readers.
	Acknowledged int64
}

// Leave opens the readers' sessions and goes away; then each publisher sends n
// messages, a window at a time, and waits until all are acknowledged.
// It needs Keep and QoS 1.
func (f Flow) Leave(ctx context.Context, n int) (*Absence, error) {
	if !f.Keep || f.QoS != 1 || n <= 0 || f.Window <= 0 {
		return nil, errors.New("a session keeps messages of QoS 1 when clean session is off")
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r, err := f.open(ctx, cancel)
	defer r.close()
	if err != nil {
		return nil, err
	}
	for _, k := range r.sinks {
		if err := k.client.Disconnect(); err != nil {
			return nil, err
		}
	}
	if err := together(ctx, len(r.sources), dialers, func(i int) error { return r.sources[i].leave(n) }); err != nil {
		return nil, err
	}
	a := &Absence{flow: r}
	for _, s := range r.sources {
		a.Acknowledged += int64(s.sent.Load()) * int64(len(s.readers))
	}
	return a, nil
}

// leave sends n messages and waits for their acknowledgements.
func (s *source) leave(n int) error {
	s.guarded.Lock()
	defer s.guarded.Unlock()
	if err := s.client.conn.SetDeadline(time.Now().Add(answerTime)); err != nil {
		return err
	}
	for acked := 0; acked < n; {
		var out []byte
		for s.sent.Load() < uint64(min(n, acked+s.flow.Window)) {
			out = s.appendNext(out, time.Since(s.flow.began))
		}
		if err := s.writeLocked(out); err != nil {
			return err
		}
		first, _, err := s.client.in.wait()
		if err != nil {
			return err
		}
		if first>>4 != typePuback {
			return fmt.Errorf("packet type %d, want PUBACK", first>>4)
		}
		acked++
	}
	return nil
}

// Collect resumes the sessions, counts what each kept, and ends them for good.
// Nothing more for a second means that nothing more is kept. The broker may be
// another process now.
func (a *Absence) Collect(ctx context.Context, t Target) (kept int64, err error) {
	f := a.flow
	f.Target = t
	f.closing.Store(true) // connections are cut here
	err = together(ctx, len(f.sinks), len(f.sinks), func(i int) error { return f.sinks[i].collect(ctx, f.sources) })
	for _, k := range f.sinks {
		once, _ := k.delivered()
		kept += once
	}
	return kept, err
}

func (k *sink) collect(ctx context.Context, sources []*source) (err error) {
	if k.client, err = Connect(ctx, k.flow.Target, k.reader.Identity, false); err != nil {
		return err
	}
	due := int64(0)
	for i, s := range k.sources {
		if s != nil {
			due += int64(sources[i].sent.Load())
		}
	}
	err = k.gather(due)
	if err := errors.Join(err, k.client.Close()); err != nil {
		return err
	}
	last, err := Connect(ctx, k.flow.Target, k.reader.Identity, true)
	if err != nil {
		return err
	}
	return last.Disconnect()
}

// gather takes messages until due have come, or none for a while.
func (k *sink) gather(due int64) error {
	for {
		for {
			first, body, ok, err := k.client.in.next()
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			if first>>4 != typePublish {
				continue
			}
			m, err := parseMessage(first, body)
			if err != nil {
				return err
			}
			if k.take(m, 0) {
				k.arrived.Add(1)
			}
			if receipt := appendReceipt(nil, m); len(receipt) > 0 {
				if _, err := k.client.conn.Write(receipt); err != nil {
					return err
				}
			}
		}
		if once, _ := k.delivered(); once >= due {
			return nil
		}
		if err := k.client.conn.SetReadDeadline(time.Now().Add(lostAfter)); err != nil {
			return err
		}
		if err := k.client.in.fill(); err != nil {
			return ignoreTimeout(err)
		}
	}
}

// ignoreTimeout makes no failure of a broker that has nothing more to say.
func ignoreTimeout(err error) error {
	var timeout interface{ Timeout() bool }
	if errors.As(err, &timeout) && timeout.Timeout() {
		return nil
	}
	return err
}
