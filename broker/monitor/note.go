package monitor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/time/rate"

	"github.com/cordon-mq/cordon/broker"
	"github.com/cordon-mq/cordon/broker/ledger"
	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/topic"
)

// utterance is something to be said once it is stored.
type utterance struct {
	tenant  broker.Tenant
	state   ledger.State
	payload []byte
	keep    broker.Keeping
}

// round is the work on what was told together.
type round struct {
	m       *Monitor
	ctx     context.Context
	batch   *ledger.Batch
	says    []utterance
	tenants map[broker.Tenant]bool // whether they exist
	devices map[place]uint64       // incarnations; 0: there is none
}

func (m *Monitor) round(ctx context.Context) *round {
	return &round{m: m, ctx: ctx, batch: m.ledger.Batch(), tenants: map[broker.Tenant]bool{}, devices: map[place]uint64{}}
}

// end stores what was noted, and then says it.
func (r *round) end() error {
	if err := r.batch.Commit(r.ctx); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	r.keepLast()
	for i := range r.says {
		r.say(&r.says[i])
	}
	r.says = nil
	return nil
}

// keepLast has only the last message about a topic change what is retained: the
// others are live all the same.
func (r *round) keepLast() {
	last := make(map[place]bool, len(r.says))
	for i := len(r.says) - 1; i >= 0; i-- {
		u := &r.says[i]
		if u.keep == broker.KeepNothing {
			continue
		}
		at := place{u.tenant, topicOf(&u.state)}
		if last[at] {
			u.keep = broker.KeepNothing
		}
		last[at] = true
	}
}

// say publishes one message. What is retained of a device that was deleted in
// between goes again: the deletion looked for it before it was there, or does so
// after this.
func (r *round) say(u *utterance) {
	name, err := topic.ParseName(topicOf(&u.state))
	if err != nil {
		return
	}
	if err := r.m.voice.Say(r.ctx, u.tenant, name, u.payload, u.keep); err != nil {
		if errors.Is(err, broker.ErrUnsaid) {
			r.m.drops.Add(1)
		}
		return // the log has it, or the broker has shut down and the next start puts it right
	}
	if u.keep == broker.KeepThis && isDevice(&u.state) {
		clear(r.devices)
		if !r.stands(u.tenant, &u.state) {
			_ = r.m.voice.Silence(u.tenant, name)
		}
	}
}

// exists reports whether an organisation is still the one it was.
func (r *round) exists(t broker.Tenant) bool {
	known, asked := r.tenants[t]
	if !asked {
		o, err := r.m.registry.Organisation(r.ctx, t.Org)
		known = err == nil && o.Incarnation == t.Incarnation
		r.tenants[t] = known
	}
	return known
}

// stands reports whether the client of s is still the one it was.
func (r *round) stands(t broker.Tenant, s *ledger.State) bool {
	if !r.exists(t) {
		return false
	}
	return !isDevice(s) || s.Device == 0 || r.incarnation(t, s.Type, s.ID) == s.Device
}

// incarnation is that of a device; 0: it is not registered.
func (r *round) incarnation(t broker.Tenant, typ, id policy.ID) uint64 {
	key := place{t, string(typ) + "/" + string(id)}
	n, asked := r.devices[key]
	if !asked {
		if so, err := r.m.registry.DeviceIncarnation(r.ctx, t.Org, typ, id); err == nil {
			n = so
		}
		r.devices[key] = n
	}
	return n
}

// note is one batch of what the broker told.
func (m *Monitor) note(ctx context.Context, list []told) error {
	r := m.round(ctx)
	var errs []error
	for i := range list {
		t := &list[i]
		switch t.kind {
		case connect:
			errs = append(errs, r.online(t.visit))
		case disconnect:
			errs = append(errs, r.offline(t.visit, &t.leaving))
		case failedConnect:
			errs = append(errs, r.refused(t.visit, &t.leaving))
		}
	}
	return errors.Join(append(errs, r.end())...)
}

// online notes that a client is connected.
func (r *round) online(v *broker.Visit) error {
	m := r.m
	if m.visits[v.Number] != nil {
		return nil // the correction was first
	}
	m.visits[v.Number] = v
	m.clients[client{v.Tenant, v.Client.ID}]++
	s, _, err := r.batch.State(ledger.Tenant(v.Tenant), string(v.Client.ID))
	if err != nil {
		return err
	}
	describe(v, &s)
	m.places[place{v.Tenant, topicOf(&s)}]++
	s.Connected, s.ConnectTime = true, v.Began
	s.ActivityEvent, s.ActivityTime = string(connect), v.Began
	if !r.stands(v.Tenant, &s) {
		return nil
	}
	return r.record(v.Tenant, &s, connect, nil, broker.KeepThis,
		fmt.Sprintf("Connected: ClientID='%s', ClientIP=%s, protocol %s", s.ClientID, s.Address, s.Protocol))
}

// offline notes that a connection has ended.
func (r *round) offline(v *broker.Visit, l *broker.Leaving) error {
	m := r.m
	s, _, err := r.batch.State(ledger.Tenant(v.Tenant), string(v.Client.ID))
	if err != nil {
		return err
	}
	before := s
	describe(v, &s)
	who, where := client{v.Tenant, v.Client.ID}, place{v.Tenant, topicOf(&s)}
	if m.visits[v.Number] != nil {
		delete(m.visits, v.Number)
		less(m.clients, who)
		less(m.places, where)
	}
	still := m.clients[who] > 0 || l.Code == broker.ClosedTakenOver
	if still {
		// The record goes on being that of the connection that there is.
		left := s
		s = before
		s.Kind, s.Type, s.ID, s.App, s.Device, s.ClientID = left.Kind, left.Type, left.ID, left.App, left.Device, left.ClientID
	}
	s.Connected = still
	if !still || s.ConnectTime.IsZero() {
		s.ConnectTime = v.Began
	}
	s.DisconnectTime, s.CloseCode, s.Reason = l.At, int(l.Code), l.Reason
	s.ActivityEvent, s.ActivityTime = string(disconnect), l.At
	if !r.stands(v.Tenant, &s) {
		return nil
	}
	keep := broker.KeepThis
	switch {
	case still || m.places[where] > 0:
		keep = broker.KeepNothing
	case !isDevice(&s):
		keep = broker.KeepNoMore
	}
	return r.record(v.Tenant, &s, disconnect, &visited{v, l}, keep,
		fmt.Sprintf("Closed connection from %s (code %d). %s", s.Address, s.CloseCode, l.Reason))
}

// visited is a connection that has ended.
type visited struct {
	visit   *broker.Visit
	leaving *broker.Leaving
}

func less[K comparable](counts map[K]int, key K) {
	if counts[key]--; counts[key] <= 0 {
		delete(counts, key)
	}
}

// record notes s and a line of the log, and has it said.
func (r *round) record(t broker.Tenant, s *ledger.State, what action, of *visited, keep broker.Keeping, line string) error {
	if err := r.batch.PutState(ledger.Tenant(t), s); err != nil {
		return err
	}
	if err := r.line(t, s, line, s.ActivityTime); err != nil {
		return err
	}
	if topicOf(s) == "" {
		return nil
	}
	said := *s
	var leaving *broker.Leaving
	if of != nil { // of this connection, whatever the state is of
		leaving = of.leaving
		describe(of.visit, &said)
		said.ConnectTime = of.visit.Began
	}
	r.says = append(r.says, utterance{t, said, render(what, &said, leaving), keep})
	return nil
}

// line adds to the connection log of a device.
func (r *round) line(t broker.Tenant, s *ledger.State, text string, at time.Time) error {
	if !isDevice(s) || s.Device == 0 {
		return nil
	}
	return r.batch.Log(ledger.Tenant(t), deviceOf(s), ledger.Line{Message: text, Time: at})
}

// refused tells of a connect that was, if its identity exists.
func (r *round) refused(v *broker.Visit, l *broker.Leaving) error {
	p := v.Principal
	if p == nil {
		claimed, ok := guess(&v.Client)
		if !ok {
			return nil
		}
		p = &claimed
	}
	o, err := r.m.registry.Organisation(r.ctx, p.Org)
	if err != nil || !r.m.mayTell(p.Org) {
		return nil //nolint:nilerr // an organisation that there is not is told nothing
	}
	t := broker.Tenant{Org: p.Org, Incarnation: o.Incarnation}
	switch p.Kind {
	case policy.KindDevice, policy.KindGateway:
		named := *p
		if named.DeviceIncarnation = r.incarnation(t, p.Type, p.ID); named.DeviceIncarnation == 0 {
			return nil
		}
		p = &named
	case policy.KindApplication:
		if _, err := r.m.registry.APIKey(r.ctx, p.Org, p.APIKey); err != nil && v.Principal == nil {
			return nil // nobody's
		}
	default:
		return nil
	}
	var s ledger.State
	attempt := *v
	attempt.Principal = p
	describe(&attempt, &s)
	s.DisconnectTime, s.CloseCode, s.Reason = l.At, int(l.Code), l.Reason
	if err := r.line(t, &s, fmt.Sprintf("Refused connection from %s (code %d). %s", s.Address, s.CloseCode, l.Reason), l.At); err != nil {
		return err
	}
	if topicOf(&s) != "" {
		r.says = append(r.says, utterance{t, s, render(failedConnect, &s, l), broker.KeepNothing})
	}
	return nil
}

// mayTell takes one from the rate of an organisation's refused connects.
func (m *Monitor) mayTell(org policy.OrgID) bool {
	limiter := m.rates[org]
	if limiter == nil {
		if len(m.rates) >= 4096 {
			clear(m.rates)
		}
		limiter = rate.NewLimiter(refusedOrgRate, refusedOrgBurst)
		m.rates[org] = limiter
	}
	return limiter.Allow()
}
