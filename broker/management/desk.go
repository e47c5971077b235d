package management

import (
	"context"
	"sync"
	"time"

	"github.com/cordon-mq/cordon/broker"
	"github.com/cordon-mq/cordon/broker/ledger"
	"github.com/cordon-mq/cordon/policy"
)

// desk is where the work for one organisation is done, one thing after the other.
// Lock order: Management.guarded, desk.guarded; turn before the locks of the
// registry, which may take desk.guarded.
type desk struct {
	m      *Management
	tenant ledger.Tenant

	// turn is held by whoever changes requests or tasks: the goroutine of the desk,
	// or that of a call.
	turn     sync.Mutex
	requests map[string]*ledger.Request // nil: not read yet

	guarded struct {
		sync.Mutex
		queue    []job
		working  bool
		closed   bool
		earliest time.Time // deadline of an open request; zero: none
	}
}

// job is one thing to do.
type job struct {
	arrival *broker.Arrival
	resume  bool   // what an earlier run left is to be looked through
	expire  bool   // requests whose time is over are to be ended
	send    string // of this request, from after this device on
	after   [2]policy.ID
	gone    *goneDevice
}

type goneDevice struct {
	typ, id     policy.ID
	incarnation uint64
}

// put has j done when its turn comes.
func (d *desk) put(j job) {
	d.m.guarded.Lock()
	defer d.m.guarded.Unlock()
	d.putLocked(j, d.m.guarded.started && !d.m.guarded.stopped)
}

// putLocked is put with the lock of the Management held.
func (d *desk) putLocked(j job, running bool) {
	d.guarded.Lock()
	defer d.guarded.Unlock()
	if d.guarded.closed {
		return
	}
	d.guarded.queue = append(d.guarded.queue, j)
	if running && !d.guarded.working {
		d.guarded.working = true
		d.m.work.Go(d.run)
	}
}

// run does what waits.
func (d *desk) run() {
	d.m.slots <- struct{}{}
	defer func() { <-d.m.slots }()
	ctx := context.Background()
	for {
		d.guarded.Lock()
		if len(d.guarded.queue) == 0 || d.guarded.closed || d.m.halted() {
			d.guarded.working = false
			d.guarded.Unlock()
			return
		}
		j := d.guarded.queue[0]
		d.guarded.queue[0] = job{}
		d.guarded.queue = d.guarded.queue[1:]
		d.guarded.Unlock()
		if err := d.do(ctx, &j); err != nil {
			d.m.log.Error("device management", "org", d.tenant.Org, "err", err)
		}
	}
}

// halted is stopping without the lock.
func (m *Management) halted() bool {
	select {
	case <-m.stop:
		return true
	default:
		return false
	}
}

func (d *desk) do(ctx context.Context, j *job) error {
	d.turn.Lock()
	defer d.turn.Unlock()
	if !d.stands(ctx) {
		return nil
	}
	switch {
	case j.arrival != nil:
		return d.hear(ctx, j.arrival)
	case j.resume:
		return d.resume(ctx)
	case j.expire:
		return d.expire(ctx)
	case j.send != "":
		return d.sendMore(ctx, j.send, j.after)
	case j.gone != nil:
		return d.leave(ctx, j.gone)
	default:
		return nil
	}
}

// stands reports whether the organisation is still the one that it was.
func (d *desk) stands(ctx context.Context) bool {
	o, err := d.m.registry.Organisation(ctx, d.tenant.Org)
	return err == nil && o.Incarnation == d.tenant.Incarnation
}

// forget drops what a device said that is not dealt with.
func (d *desk) forget(typ, id policy.ID) {
	var dropped []*broker.Arrival
	d.guarded.Lock()
	for i, j := range d.guarded.queue {
		if j.arrival == nil {
			continue
		}
		if s, ok := speakerOf(j.arrival.Name); ok && s.typ == typ && s.id == id {
			d.guarded.queue[i] = job{}
			dropped = append(dropped, j.arrival)
		}
	}
	d.guarded.Unlock()
	for _, a := range dropped {
		a.Done() // which may wait for the store
	}
}

// close ends the desk: its organisation was deleted.
func (d *desk) close() {
	d.guarded.Lock()
	defer d.guarded.Unlock()
	d.guarded.closed, d.guarded.queue = true, nil
}

// due reports whether the time of a request is over.
func (d *desk) due(now time.Time) bool {
	d.guarded.Lock()
	defer d.guarded.Unlock()
	return !d.guarded.earliest.IsZero() && !now.Before(d.guarded.earliest)
}

// load reads the requests of the organisation, once.
func (d *desk) load(ctx context.Context) error {
	if d.requests != nil {
		return nil
	}
	list, err := d.m.ledger.Requests(d.tenant)
	if err != nil {
		return err
	}
	requests := make(map[string]*ledger.Request, len(list))
	for i := range list {
		if list[i].Unfinished { // the process died, or the store failed, in between
			if err := d.drop(ctx, d.m.ledger.Batch(), &list[i]); err != nil {
				return err
			}
			continue
		}
		requests[list[i].ID] = &list[i]
	}
	d.requests = requests
	d.timed()
	return nil
}

// timed finds out when the next request has to be ended.
func (d *desk) timed() {
	earliest := time.Time{}
	for _, r := range d.requests {
		if r.Open > 0 && (earliest.IsZero() || r.Deadline.Before(earliest)) {
			earliest = r.Deadline
		}
	}
	d.guarded.Lock()
	defer d.guarded.Unlock()
	d.guarded.earliest = earliest
}
