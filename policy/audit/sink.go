package audit

import (
	"context"
	"sync/atomic"
	"time"
)

// Sink is where events go. One goroutine calls it.
type Sink interface {
	// Name is what the sink is called in counts and in the log, such as "file".
	Name() string
	// Write keeps the events, which it may not change. It may take its time: the
	// queue of the sink is bounded, and nobody else waits. It returns how many were
	// not kept, and why. When ctx ends, it gives up.
	Write(ctx context.Context, events []*Event) (lost int, err error)
	// Close ends the sink after the last Write.
	Close() error
}

// Bounds of what one Write gets, and of the queue before it.
const (
	queueLength = 2048
	batchEvents = 256
	batchBytes  = 1 << 20
	// linger is how long a batch waits for company.
	linger = 50 * time.Millisecond
	// complain is the least time between two lines of the log about one sink.
	complain = 10 * time.Second
)

// queued is an event, or the wish to know when those before it are written.
type queued struct {
	event *Event
	ack   chan<- struct{}
}

// queue feeds one sink.
type queue struct {
	sink  Sink
	log   *Log
	items chan queued
	done  chan struct{}
	err   error // of Close; read after done

	complained time.Time // of the goroutine alone

	written, dropped, failed atomic.Uint64
}

func startQueue(ctx context.Context, s Sink, l *Log) *queue {
	q := &queue{sink: s, log: l, items: make(chan queued, queueLength), done: make(chan struct{})}
	go q.run(ctx)
	return q
}

// offer never waits.
func (q *queue) offer(ev *Event) {
	select {
	case q.items <- queued{event: ev}:
	default:
		q.dropped.Add(1)
	}
}

func (q *queue) flush(ctx context.Context) error {
	ack := make(chan struct{})
	select {
	case q.items <- queued{ack: ack}:
	case <-q.done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case <-ack:
	case <-q.done:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

// end says that nothing is offered any more. flush may still be.
func (q *queue) end() { q.items <- queued{} }

func (q *queue) wait(ctx context.Context) error {
	<-q.done
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return q.err
}

func (q *queue) run(ctx context.Context) {
	defer close(q.done)
	defer func() { q.err = q.sink.Close() }()
	for {
		batch, then := q.collect(<-q.items)
		if len(batch) > 0 {
			q.write(ctx, batch)
		}
		switch {
		case then == nil:
		case then.ack != nil:
			close(then.ack)
		default:
			return
		}
	}
}

// collect adds what arrives within linger to the first event. then is what ended
// the batch, if it was no event.
func (q *queue) collect(first queued) (batch []*Event, then *queued) {
	if first.event == nil {
		return nil, &first
	}
	batch = append(batch, first.event)
	size := len(first.event.encoded)
	timer := time.NewTimer(linger)
	defer timer.Stop()
	for len(batch) < batchEvents && size < batchBytes {
		select {
		case next := <-q.items:
			if next.event == nil {
				return batch, &next
			}
			batch = append(batch, next.event)
			size += len(next.event.encoded)
		case <-timer.C:
			return batch, nil
		}
	}
	return batch, nil
}

func (q *queue) write(ctx context.Context, batch []*Event) {
	lost, err := q.sink.Write(ctx, batch)
	q.written.Add(uint64(len(batch) - lost))
	q.failed.Add(uint64(lost))
	if err != nil && time.Since(q.complained) >= complain {
		q.complained = time.Now()
		q.log.log.Error("decision log not written", "sink", q.sink.Name(), "lost", lost, "err", err)
	}
}
