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

// round is the work on what was told together. Of each client the last state is
// stored, of each device the lines of its log in one write, and what nobody hears
// and nothing keeps is not said.
type round struct {
	m     *Monitor
	ctx   context.Context
	batch *ledger.Batch
	notes []*note
	of    map[client]*note
	logs  []*log
	logOf map[logKey]*log
	says  []utterance
	// violations are to be counted.
	violations []violation
	tenants    map[broker.Tenant]bool // whether they exist
	devices    map[deviceKey]uint64   // incarnations; 0: there is none
}

// note is what is to be stored about a client.
type note struct {
	client
	state ledger.State
	// noted: the state is of something that was told in this round. whole: it has
	// the last disconnect, too, which may have been stored before.
	noted, whole bool
}

// log is what is to be added to the connection log of a device.
type (
	log struct {
		logKey
		lines []ledger.Line
	}
	logKey struct {
		tenant broker.Tenant
		device ledger.Device
	}
	deviceKey struct {
		tenant  broker.Tenant
		typ, id policy.ID
	}
)

// violation is one of somebody whom a verifier vouched for.
type violation struct {
	tenant broker.Tenant
	by     ledger.Violator
}

// utterance is something to be said once it is stored.
type utterance struct {
	tenant  broker.Tenant
	topic   string
	visit   *broker.Visit // of the connection; nil: the message has a client
	message message
	keep    broker.Keeping
}

func (m *Monitor) round(ctx context.Context) *round {
	return &round{
		m: m, ctx: ctx, batch: m.ledger.Batch(), of: map[client]*note{}, logOf: map[logKey]*log{},
		tenants: map[broker.Tenant]bool{}, devices: map[deviceKey]uint64{},
	}
}

// end stores what was noted, and then says it.
func (r *round) end() error {
	err := r.write()
	r.notes, r.logs, r.violations = nil, nil, nil
	clear(r.of)
	clear(r.logOf)
	if err != nil {
		r.says = nil
		return fmt.Errorf("store: %w", err)
	}
	r.keepLast()
	for i := range r.says {
		r.say(&r.says[i])
	}
	r.takeBack()
	r.says = nil
	return nil
}

// write stores what was noted.
func (r *round) write() error {
	step := func(err error) error {
		if err == nil && r.batch.Full() {
			err = r.batch.Commit(r.ctx)
		}
		return err
	}
	for _, n := range r.notes {
		err := r.complete(n)
		if err == nil && n.noted {
			err = r.batch.PutState(ledger.Tenant(n.tenant), &n.state)
		}
		if err := step(err); err != nil {
			return err
		}
	}
	for _, l := range r.logs {
		if err := step(r.batch.Log(ledger.Tenant(l.tenant), l.device, l.lines...)); err != nil {
			return err
		}
	}
	for _, v := range r.violations {
		if err := step(r.batch.Violate(ledger.Tenant(v.tenant), v.by)); err != nil {
			return err
		}
	}
	return r.batch.Commit(r.ctx)
}

// note returns what is to be stored about a client.
func (r *round) note(who client) *note {
	n := r.of[who]
	if n == nil {
		n = &note{client: who}
		r.of[who] = n
		r.notes = append(r.notes, n)
	}
	return n
}

// complete takes what was not told in this round from what was stored before.
func (r *round) complete(n *note) error {
	if n.whole {
		return nil
	}
	before, _, err := r.batch.State(ledger.Tenant(n.tenant), string(n.id))
	if err != nil {
		return err
	}
	if s := &n.state; n.noted {
		s.DisconnectTime, s.CloseCode, s.Reason = before.DisconnectTime, before.CloseCode, before.Reason
		s.ReadBytes, s.ReadMessages = before.ReadBytes, before.ReadMessages
		s.WrittenBytes, s.WrittenMessages = before.WrittenBytes, before.WrittenMessages
	} else {
		n.state = before
	}
	n.whole = true
	return nil
}

// line adds to the connection log of a device that is registered.
func (r *round) line(t broker.Tenant, d ledger.Device, text string, at time.Time) {
	if d.Incarnation == 0 || d.Type == "" || d.ID == "" {
		return
	}
	key := logKey{t, d}
	l := r.logOf[key]
	if l == nil {
		l = &log{logKey: key}
		r.logOf[key] = l
		r.logs = append(r.logs, l)
	}
	l.lines = append(l.lines, ledger.Line{Message: text, Time: at})
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
		at := place{u.tenant, u.topic}
		if last[at] {
			u.keep = broker.KeepNothing
		}
		last[at] = true
	}
}

// say publishes one message. One that is not retained and that nobody subscribes
// to needs no words.
func (r *round) say(u *utterance) {
	name, err := topic.ParseName(u.topic)
	if err != nil || u.keep == broker.KeepNothing && !r.m.voice.Heard(u.tenant, name) {
		return
	}
	if u.visit != nil {
		u.message.client = new(ledger.State)
		describe(u.visit, u.message.client)
	}
	// The log has why it is refused; where the broker has shut down, the next start
	// puts it right.
	if err := r.m.voice.Say(r.ctx, u.tenant, name, u.message.render(), u.keep); errors.Is(err, broker.ErrUnsaid) {
		r.m.drops.Add(1)
	}
}

// takeBack removes what was retained of an organisation that was deleted in
// between. Of a device, forget does.
func (r *round) takeBack() {
	clear(r.tenants)
	for i := range r.says {
		u := &r.says[i]
		if u.keep == broker.KeepNothing || r.exists(u.tenant) {
			continue
		}
		if name, err := topic.ParseName(u.topic); err == nil {
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

// stands reports whether p is still who it was.
func (r *round) stands(t broker.Tenant, p *policy.Principal) bool {
	return r.exists(t) && (!isDevice(p) || r.sameDevice(t, deviceOf(p)))
}

// sameDevice reports whether d is still the one it was. One that was never
// registered is.
func (r *round) sameDevice(t broker.Tenant, d ledger.Device) bool {
	return d.Incarnation == 0 || r.incarnation(t, d.Type, d.ID) == d.Incarnation
}

func deviceOf(p *policy.Principal) ledger.Device {
	return ledger.Device{Type: p.Type, ID: p.ID, Incarnation: p.DeviceIncarnation}
}

// incarnation is that of a device; 0: it is not registered.
func (r *round) incarnation(t broker.Tenant, typ, id policy.ID) uint64 {
	key := deviceKey{t, typ, id}
	n, asked := r.devices[key]
	if !asked {
		if so, err := r.m.registry.DeviceIncarnation(r.ctx, t.Org, typ, id); err == nil {
			n = so
		}
		r.devices[key] = n
	}
	return n
}

// notice is one batch of what the broker told.
func (m *Monitor) notice(ctx context.Context, list []told) error {
	r := m.round(ctx)
	var errs []error
	for i := range list {
		t := &list[i]
		switch t.kind {
		case connect:
			r.online(t.visit)
		case disconnect:
			errs = append(errs, r.offline(t.visit, &t.leaving))
		case failedConnect:
			r.refused(t.visit, &t.leaving)
		}
	}
	return errors.Join(append(errs, r.end())...)
}

// online notes that a client is connected.
func (r *round) online(v *broker.Visit) {
	m := r.m
	if m.visits[v.Number].visit != nil {
		return // the correction was first
	}
	who, name := client{v.Tenant, v.Client.ID}, topicOf(v.Principal)
	m.visits[v.Number] = presence{v, name}
	m.clients[who]++
	m.places[place{v.Tenant, name}]++
	if !r.stands(v.Tenant, v.Principal) {
		return
	}
	n := r.note(who)
	s := &n.state
	describe(v, s)
	s.Connected, s.ConnectTime = true, v.Began
	s.ActivityEvent, s.ActivityTime = string(connect), v.Began
	n.noted = true
	r.line(v.Tenant, deviceOf(v.Principal), connectedLine(s), v.Began)
	r.tell(v, name, message{what: connect, began: v.Began}, broker.KeepThis)
}

// offline notes that a connection has ended.
func (r *round) offline(v *broker.Visit, l *broker.Leaving) error {
	m := r.m
	name := ""
	who := client{v.Tenant, v.Client.ID}
	if known := m.visits[v.Number]; known.visit != nil {
		name = known.topic
		delete(m.visits, v.Number)
		less(m.clients, who)
		less(m.places, place{v.Tenant, name})
	} else {
		name = topicOf(v.Principal)
	}
	if !r.stands(v.Tenant, v.Principal) {
		return nil
	}
	still := m.clients[who] > 0 || l.Code == broker.ClosedTakenOver
	n := r.note(who)
	s := &n.state
	if still {
		// The record goes on being that of the connection that there is.
		if err := r.complete(n); err != nil {
			return err
		}
		identify(v, s)
	} else {
		describe(v, s)
	}
	s.Connected = still
	if !still || s.ConnectTime.IsZero() {
		s.ConnectTime = v.Began
	}
	s.DisconnectTime, s.CloseCode, s.Reason = l.At, int(l.Code), l.Reason
	s.ReadBytes, s.ReadMessages, s.WrittenBytes, s.WrittenMessages = l.ReadBytes, l.ReadMessages, l.WrittenBytes, l.WrittenMessages
	s.ActivityEvent, s.ActivityTime = string(disconnect), l.At
	n.noted, n.whole = true, true
	keep := broker.KeepThis
	switch {
	case still || m.places[place{v.Tenant, name}] > 0:
		keep = broker.KeepNothing
	case !isDevice(v.Principal):
		keep = broker.KeepNoMore
	}
	r.line(v.Tenant, deviceOf(v.Principal), closedLine(v, l), l.At)
	r.tell(v, name, ending(disconnect, v, l), keep)
	return nil
}

// ending is the message about the end of v, or about why it never began.
func ending(what action, v *broker.Visit, l *broker.Leaving) message {
	return message{
		what: what, began: v.Began, ended: l.At, code: int(l.Code), reason: l.Reason,
		readBytes: l.ReadBytes, readMessages: l.ReadMessages, writtenBytes: l.WrittenBytes, writtenMessages: l.WrittenMessages,
	}
}

func less[K comparable](counts map[K]int, key K) {
	if counts[key]--; counts[key] <= 0 {
		delete(counts, key)
	}
}

// tell has a message said once everything is stored.
func (r *round) tell(v *broker.Visit, name string, msg message, keep broker.Keeping) {
	if name != "" {
		r.says = append(r.says, utterance{tenant: v.Tenant, topic: name, visit: v, message: msg, keep: keep})
	}
}

// refused tells of a connect that was, if its identity exists.
func (r *round) refused(v *broker.Visit, l *broker.Leaving) {
	p := v.Principal
	if p == nil {
		claimed, ok := guess(&v.Client)
		if !ok {
			return
		}
		p = &claimed
	}
	o, err := r.m.registry.Organisation(r.ctx, p.Org)
	if err != nil || !r.m.mayTell(p.Org) {
		return // an organisation that there is not is told nothing
	}
	attempt := *v
	attempt.Tenant = broker.Tenant{Org: p.Org, Incarnation: o.Incarnation}
	switch p.Kind {
	case policy.KindDevice, policy.KindGateway:
		named := *p
		if named.DeviceIncarnation = r.incarnation(attempt.Tenant, p.Type, p.ID); named.DeviceIncarnation == 0 {
			return
		}
		p = &named
	case policy.KindApplication:
		if _, err := r.m.registry.APIKey(r.ctx, p.Org, p.APIKey); err != nil && v.Principal == nil {
			return // nobody's
		}
	default:
		return
	}
	attempt.Principal = p
	r.line(attempt.Tenant, deviceOf(p), refusedLine(v, l), l.At)
	if l.Violation != "" && v.Principal != nil {
		r.violations = append(r.violations, violation{attempt.Tenant, ledger.Violator{
			Kind: l.Violation, ClientID: string(v.Client.ID), Device: deviceOf(p), Address: address(&v.Client),
			Listener: v.Client.Listener, Reason: l.Words, Last: l.At,
		}})
	}
	r.tell(&attempt, topicOf(p), ending(failedConnect, &attempt, l), broker.KeepNothing)
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
