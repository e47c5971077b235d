package monitor

import (
	"context"
	"errors"
	"time"

	"github.com/cordon-mq/cordon/broker"
	"github.com/cordon-mq/cordon/broker/ledger"
	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/policy/topic"
)

// maxKept is the largest event that is kept, in bytes.
const maxKept = 128 << 10

// keep stores last events: the first and what waits behind it, only the newest of
// each name.
func (m *Monitor) keep(ctx context.Context, first event) error {
	type key struct {
		tenant        broker.Tenant
		device, event string
	}
	r := m.round(ctx)
	newest := map[key]event{}
	for e, more := first, true; more; {
		m.held.Add(-int64(len(e.payload)))
		if typ, id, name, _, ok := eventOf(e.name); ok && len(e.payload) <= maxKept && !m.broker.Short() {
			newest[key{e.tenant, string(typ) + "/" + string(id), name}] = e
		}
		if len(newest) >= batchMost/8 {
			break
		}
		select {
		case e = <-m.events:
		default:
			more = false
		}
	}
	var errs []error
	wanted := map[broker.Tenant]bool{}
	for k, e := range newest {
		typ, id, name, format, _ := eventOf(e.name)
		n := uint64(0)
		if _, asked := wanted[k.tenant]; !asked {
			noting, err := m.ledger.Noting(ledger.Tenant(k.tenant))
			wanted[k.tenant] = err == nil && noting.LastEvents && r.exists(k.tenant)
		}
		if wanted[k.tenant] {
			n = r.incarnation(k.tenant, typ, id)
		}
		if n == 0 {
			continue // not registered, so nobody could ask for it
		}
		err := r.batch.PutEvent(ledger.Tenant(e.tenant), ledger.Device{Type: typ, ID: id, Incarnation: n},
			&ledger.Event{Name: name, Format: format, Payload: e.payload, Time: e.at})
		if errors.Is(err, ledger.ErrFull) { // its own organisation's affair
			m.full.Add(1)
			continue
		}
		errs = append(errs, err)
	}
	return errors.Join(append(errs, r.end())...)
}

// forget removes what is noted and retained of devices that were deleted. The broker
// removed what was retained at the deletion, and what was said since then goes here.
func (m *Monitor) forget(ctx context.Context) error {
	m.forgotten.Lock()
	list := m.forgotten.list
	m.forgotten.list = nil
	m.forgotten.Unlock()
	if len(list) == 0 {
		return nil
	}
	var errs []error
	b := m.ledger.Batch()
	r := m.round(ctx)
	for i := range list {
		ch := &list[i]
		t := ledger.Tenant{Org: ch.Org, Incarnation: ch.Incarnation}
		if ch.Kind == registry.OrganisationChanged {
			errs = append(errs, m.retap(t))
			continue
		}
		errs = append(errs, b.Forget(t, ledger.Device{Type: ch.Type, ID: ch.ID, Incarnation: ch.DeviceIncarnation}), m.forgetState(b, t, ch), r.hush(ch))
		if b.Full() {
			errs = append(errs, b.Commit(ctx))
		}
	}
	return errors.Join(append(errs, b.Commit(ctx))...)
}

// hush removes what is retained of a device that was deleted, unless it is of a
// namesake that was here since.
func (r *round) hush(ch *registry.Change) error {
	t := broker.Tenant{Org: ch.Org, Incarnation: ch.Incarnation}
	name, err := topic.ParseName(deviceTopic(ch.Type, ch.ID))
	if err != nil {
		return err
	}
	if now := r.incarnation(t, ch.Type, ch.ID); now != 0 && now != ch.DeviceIncarnation {
		if r.m.places[place{t, name.String()}] > 0 {
			return nil
		}
		for _, class := range []string{"d:", "g:"} {
			s, ok, err := r.batch.State(ledger.Tenant(t), clientOf(class, ch))
			if err != nil || ok && s.Device == now {
				return err
			}
		}
	}
	return r.m.voice.Silence(t, name)
}

// clientOf is the client ID that a device usually has.
func clientOf(class string, ch *registry.Change) string {
	return class + ch.Org.String() + ":" + string(ch.Type) + ":" + string(ch.ID)
}

// retap does what the organisation wants, which an import may have brought along.
func (m *Monitor) retap(t ledger.Tenant) error {
	m.tapping.Lock()
	defer m.tapping.Unlock()
	noting, err := m.ledger.Noting(t)
	if err == nil {
		m.broker.Tap(broker.Tenant(t), noting.LastEvents)
	}
	return err
}

// forgetState removes the state of the client IDs that a device usually has.
func (m *Monitor) forgetState(b *ledger.Batch, t ledger.Tenant, ch *registry.Change) error {
	for _, class := range []string{"d:", "g:"} {
		id := clientOf(class, ch)
		s, ok, err := b.State(t, id)
		if err != nil {
			return err
		}
		if ok && s.Device == ch.DeviceIncarnation {
			b.DropState(t, id)
		}
	}
	return nil
}

// count adds what went over connections since the last time to the day.
func (m *Monitor) count(ctx context.Context) error {
	r := m.round(ctx)
	var errs []error
	for t, sum := range m.broker.Carried() {
		if sum <= m.carried[t] || !r.exists(t) {
			continue
		}
		if err := r.batch.AddTraffic(ledger.Tenant(t), m.now(), sum-m.carried[t]); err != nil {
			errs = append(errs, err)
			continue
		}
		m.carried[t] = sum
	}
	return errors.Join(append(errs, r.end())...)
}

// sweep removes last events that are too old.
func (m *Monitor) sweep(ctx context.Context) error {
	var errs []error
	for t := range m.broker.Carried() {
		noting, err := m.ledger.Noting(ledger.Tenant(t))
		if err != nil || !noting.LastEvents {
			errs = append(errs, err)
			continue
		}
		b := m.ledger.Batch()
		errs = append(errs, b.ForgetEvents(ledger.Tenant(t), m.now().Add(-time.Duration(noting.TTLDays)*24*time.Hour)), b.Commit(ctx))
	}
	return errors.Join(errs...)
}

// tap changes what an organisation wants noted, and what the broker tells.
func (m *Monitor) tap(ctx context.Context, t ledger.Tenant, n ledger.Noting) error {
	m.tapping.Lock()
	defer m.tapping.Unlock()
	if err := m.ledger.SetNoting(ctx, t, n); err != nil {
		return err
	}
	m.broker.Tap(broker.Tenant(t), n.LastEvents)
	return nil
}

// SetNoting changes what an organisation wants noted. Last events that are not to
// be kept any more are gone when it returns.
func (m *Monitor) SetNoting(ctx context.Context, t ledger.Tenant, n ledger.Noting) error {
	if err := m.tap(ctx, t, n); err != nil {
		return err
	}
	for !n.LastEvents {
		b := m.ledger.Batch()
		if err := b.ForgetEvents(t, time.Time{}); err != nil {
			return err
		}
		full := b.Full()
		if err := b.Commit(ctx); err != nil || !full {
			return err
		}
	}
	return nil
}
