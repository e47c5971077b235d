package broker

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/cordon-mq/cordon/broker/durable"
	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/topic"
)

// Tenant is one incarnation of an organisation that is in the registry.
type Tenant struct {
	Org         policy.OrgID
	Incarnation uint64
}

// Restored says what Restore found.
type Restored struct {
	Sessions, Subscriptions, Messages, Retained, Wills int
	// Dropped counts records that nothing leads to: those of sessions whose owner
	// is gone, and what a crash left of a message that nobody was told is kept.
	Dropped int
}

// Restore raises what earlier runs kept. It is called once, before Serve. All
// sessions are offline, with the connect decision they had last: each is judged
// again when it is resumed, before anything is sent. A session that had a
// connection when the process died is offline from now on, and its will is due.
// A record that cannot be read is dropped and logged: it may cost its session,
// and no other.
func (b *Broker) Restore(ctx context.Context, tenants []Tenant) (Restored, error) {
	var found Restored
	for _, t := range tenants {
		sp, err := b.space(t.Org, t.Incarnation)
		if err != nil {
			return found, err
		}
		r := &restoring{b: b, sp: sp, found: &found, raised: map[uint64]*session{}, offline: map[*session]time.Time{}, bodies: map[uint64]*stored{}}
		if err := r.run(ctx); err != nil {
			return found, fmt.Errorf("restore %s: %w", t.Org, err)
		}
	}
	return found, nil
}

// restoring is one space on its way from the store to memory.
type restoring struct {
	b       *Broker
	sp      *space
	found   *Restored
	raised  map[uint64]*session
	offline map[*session]time.Time // since when
	bodies  map[uint64]*stored
	drops   writes

	arrivals []*Arrival
}

func (r *restoring) run(ctx context.Context) error {
	now := time.Now()
	for _, step := range []struct {
		kind store.Kind
		read func(key store.Key, value []byte) error
	}{
		{store.KindSession, func(key store.Key, value []byte) error { return r.session(ctx, now, key, value) }},
		{store.KindSubscription, r.subscription},
		{store.KindMessage, r.message},
		{store.KindQueue, r.entry},
		{store.KindInbound, r.inbound},
		{store.KindWill, r.will},
		{store.KindRetained, func(key store.Key, value []byte) error { return r.retained(now, key, value) }},
		{store.KindArrival, r.arrival},
	} {
		if err := r.scan(ctx, step.kind, step.read); err != nil {
			return err
		}
	}
	r.finish(now)
	r.handOver()
	return ctx.Err()
}

// errDrop is a record to be removed without a word.
var errDrop = fmt.Errorf("nothing leads to it")

func (r *restoring) scan(ctx context.Context, kind store.Kind, read func(store.Key, []byte) error) error {
	var failed error
	err := r.b.store.Scan(r.sp.keys.Prefix(kind), store.Key{}, func(key store.Key, value []byte) bool {
		switch err := read(key, value); {
		case err == nil:
		case policy.KindOf(err) == policy.KindUnavailable:
			failed = err
			return false
		default:
			if err != errDrop { //nolint:errorlint // the very value
				r.b.log.Error("record dropped", "key", key.String(), "err", err)
			}
			r.found.Dropped++
			r.drop(key)
		}
		return ctx.Err() == nil
	})
	if failed != nil {
		return failed
	}
	return err
}

// drop removes a record, in steps that are not too large. They are submitted
// before anything that a client does.
func (r *restoring) drop(key store.Key) {
	r.drops.delete(key)
	if len(r.drops.ops) >= 1024 {
		r.b.commit(&r.drops, nil)
	}
}

func (r *restoring) session(ctx context.Context, now time.Time, key store.Key, value []byte) error {
	number, _, ok := durable.Owner(key)
	if !ok {
		return durable.ErrDamaged
	}
	r.sp.numbers.Store(max(r.sp.numbers.Load(), number))
	record, err := durable.ParseSession(value)
	if err != nil {
		return err
	}
	p := &record.Principal
	if p.Org != r.sp.key.org || p.Incarnation != 0 && p.Incarnation != r.sp.key.incarnation {
		return durable.ErrDamaged
	}
	stands, err := r.b.registry.Stands(ctx, p)
	switch {
	case err != nil:
		return &policy.Error{Kind: policy.KindUnavailable, Op: "restore session", Err: err}
	case !stands:
		return errDrop
	}
	offline := record.Offline
	if offline.IsZero() {
		offline = now
	}
	if record.Expiry < neverExpires && !now.Before(offline.Add(record.Expiry)) {
		return errDrop
	}
	mounts, err := topic.NewMounts(record.Mounts)
	if err != nil {
		return err
	}
	s := newSession(r.sp, sessionKey{p.Subject(), record.Client.ID})
	s.standing.Store(&standing{
		principal: p, judge: nobody{},
		facts:   &policy.Facts{Principal: p, Org: &policy.Organisation{ID: p.Org}, Client: &record.Client, Budget: r.sp},
		connect: &policy.Decision{Allow: true, Limits: record.Limits, Mounts: mounts},
	})
	s.guarded.expiry, s.guarded.number = record.Expiry, number
	if older := r.sp.restore(s); older != nil { // it was begun anew just before the crash
		delete(r.raised, older.guarded.number)
		r.drop(r.sp.keys.Session(older.guarded.number))
		r.found.Sessions--
	}
	r.raised[number], r.offline[s] = s, offline
	r.found.Sessions++
	return nil
}

// nobody judges for a session that has not been judged in this run: it allows
// nothing, and is out of date from the beginning.
type nobody struct{}

func (nobody) Decide(context.Context, *policy.Request) *policy.Decision {
	return &policy.Decision{Cause: policy.CauseRejudged}
}

func (nobody) Generation() policy.Generation { return 1 } // standings begin with 0
func (nobody) Decides(policy.Action) bool    { return true }

func (r *restoring) subscription(key store.Key, value []byte) error {
	s, number, err := r.part(key)
	if err != nil {
		return err
	}
	record, err := durable.ParseSubscription(value)
	if err != nil {
		return err
	}
	mounts := s.standing.Load().mounts()
	routed, mount, err := mounts.InFilter(record.Filter)
	if err != nil {
		return errDrop // its mount was taken away just before the crash
	}
	sub := &subscription{
		session: s, filter: record.Filter, mounts: mounts, mount: mount, routed: routed,
		wanted: record.Wanted, qos: record.QoS, id: record.ID, number: uint32(number),
		named: record.Named, share: record.Share, noLocal: record.NoLocal, asPublished: record.AsPublished,
	}
	s.guarded.subbed = max(s.guarded.subbed, sub.number)
	s.guarded.subs[sub.key()] = sub
	r.sp.add(sub)
	r.found.Subscriptions++
	return nil
}

// part finds the session that a record is part of.
func (r *restoring) part(key store.Key) (*session, uint64, error) {
	number, part, ok := durable.Owner(key)
	if !ok {
		return nil, 0, durable.ErrDamaged
	}
	s := r.raised[number]
	if s == nil {
		return nil, 0, errDrop
	}
	return s, part, nil
}

func (r *restoring) message(key store.Key, value []byte) error {
	id, _, ok := durable.Owner(key)
	if !ok {
		return durable.ErrDamaged
	}
	bs := &r.sp.bodies.guarded
	bs.next = max(bs.next, id)
	m, err := durable.ParseMessage(value)
	if err != nil {
		return err
	}
	kept := restoredMessage(m)
	kept.shared.Store(&body{id: id})
	r.bodies[id] = kept
	return nil
}

func restoredMessage(m *durable.Message) *stored {
	kept := &stored{
		routed: m.Topic, levels: m.Topic.Levels(), payload: m.Payload, qos: m.QoS, retain: m.Retain, props: m.Props,
		response: m.Response, expires: m.Expires, origin: sessionKey{m.Origin.Subject, m.Origin.Client},
		device: deviceName{m.DeviceType, m.DeviceID},
	}
	kept.size = kept.weight()
	return kept
}

func (r *restoring) entry(key store.Key, value []byte) error {
	s, slot, err := r.part(key)
	if err != nil {
		return err
	}
	record, err := durable.ParseEntry(value)
	if err != nil {
		return err
	}
	e := &entry{
		seq: record.Seq, qos: record.QoS, retain: record.Retain, released: record.Released,
		place: s.guarded.number,
	}
	if uint64(e.id()) != slot {
		return durable.ErrDamaged
	}
	for _, sub := range s.guarded.subs {
		if slices.Contains(record.Subs, sub.number) {
			e.subs = append(e.subs, sub)
		}
	}
	switch {
	case record.Released:
	case len(e.subs) == 0:
		// Nobody is subscribed to it any more, so it will not be sent; and the number
		// of a subscription that is gone may be given to another one.
		if e.qos == 1 {
			s.guarded.out.next = max(s.guarded.out.next, e.seq+1)
			return errDrop
		}
		// At QoS 2 the client may have it, and only PUBREL frees the packet ID there.
		e.released, e.retain = true, false
		r.drops.put(key, (&durable.Entry{Seq: e.seq, QoS: 2, Released: true}).Append(nil))
	case record.Message != nil:
		e.msg = restoredMessage(record.Message)
	default:
		if e.msg = r.bodies[record.Shared]; e.msg == nil {
			return errDrop // a part of what nobody was told is kept
		}
		e.body = e.msg.shared.Load()
		e.body.refs.Add(1)
	}
	o := &s.guarded.out
	o.next = max(o.next, e.seq+1)
	if e.released {
		o.inflight = append(o.inflight, e)
	} else {
		o.append(e)
	}
	r.found.Messages++
	return nil
}

func (r *restoring) inbound(key store.Key, _ []byte) error {
	s, id, err := r.part(key)
	if err != nil {
		return err
	}
	if s.guarded.in == nil {
		s.guarded.in = make(map[uint16]struct{})
	}
	s.guarded.in[uint16(id)] = struct{}{}
	return nil
}

func (r *restoring) will(key store.Key, value []byte) error {
	s, _, err := r.part(key)
	if err != nil {
		return err
	}
	record, err := durable.ParseWill(value)
	if err != nil {
		return err
	}
	s.guarded.will = &will{
		name: record.Name, payload: record.Payload, qos: record.QoS, retain: record.Retain,
		delay: record.Delay, props: record.Props, place: s.guarded.number,
	}
	r.found.Wills++
	return nil
}

func (r *restoring) retained(now time.Time, key store.Key, value []byte) error {
	record, err := durable.ParseMessage(value)
	if err != nil {
		return err
	}
	if r.sp.keys.Retained(record.Topic) != key {
		return durable.ErrDamaged
	}
	m := restoredMessage(record)
	if m.expired(now) {
		return errDrop
	}
	r.sp.retained.restore(m)
	r.found.Retained++
	return nil
}

// finish puts queues into their order, drops messages that no queue has, and
// starts the clocks of sessions and wills.
func (r *restoring) finish(now time.Time) {
	for id, m := range r.bodies {
		if m.shared.Load().refs.Load() == 0 {
			r.drop(r.sp.keys.Message(id))
			r.found.Dropped++
		}
	}
	for _, s := range r.raised {
		o := &s.guarded.out
		slices.SortFunc(o.queue, func(a, b *entry) int { return cmp.Compare(a.seq, b.seq) })
		slices.SortFunc(o.inflight, func(a, b *entry) int { return cmp.Compare(a.seq, b.seq) })
		for i, e := range o.queue { // which ones were sent was not stored: no more than fitted the window
			e.resumed = len(o.inflight)+i < s.standing.Load().limits().InflightMax
		}
	}
	r.b.commitAny(&r.drops)
	for _, s := range r.raised {
		offline := r.offline[s]
		s.guarded.Lock()
		if s.guarded.expiry < neverExpires {
			s.guarded.expiryTimer = s.after(max(0, offline.Add(s.guarded.expiry).Sub(now)), s.endIfOffline)
		}
		if w := s.guarded.will; w != nil {
			due := offline.Add(min(w.delay, s.guarded.expiry))
			s.guarded.willTimer = s.after(max(0, due.Sub(now)), s.fireDelayed)
		}
		s.guarded.Unlock()
	}
}
