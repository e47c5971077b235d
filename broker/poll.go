package broker

import (
	"context"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/cordon-mq/cordon/broker/listen"
	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/topic"
)

// poll is a session that a client without a connection asks for one message at a
// time. It has the subscriptions that its requests name, ends some time after the
// last one, and is never stored. Its conn has no socket: transmit hands what was cleared to take.
// Between requests nothing is cleared: messages wait in the session's queue, and
// are judged when they are asked for.
type poll struct {
	conn    *conn
	key     sessionKey
	filters []subscriptionKey // the first one has to be permitted
	ready   chan struct{}     // closed once begun, or failed
	failed  *refusal          // why it did not begin; read after ready
	turn    chan struct{}     // holds one: requests are served one after the other
	wake    chan struct{}     // holds one: look again

	users int       // requests under way; guarded by polls
	last  time.Time // the end of the last one; guarded by polls
	over  bool      // it is in polls no more; guarded by polls

	guarded struct {
		sync.Mutex
		waiting bool // a request waits and has no message yet
		message *Message
	}
}

// Message is one that a Caller received.
type Message struct {
	Topic   string // as this client writes it
	Payload []byte
	id      uint16 // 0: at QoS 0, nobody waits for an answer
}

// Bounds of polls.
const (
	pollKept      = 5 * time.Minute // after the last request
	pollsOfClient = 8               // of one subject
)

// polls are those of an organisation.
type polls struct {
	guarded struct {
		sync.Mutex
		byKey     map[sessionKey]*poll
		ofSubject map[policy.Subject]int
	}
}

// Receive asks for one message that matches one of filters, as this client writes
// them, and waits for it at most for wait, which may be nothing. The policy has to
// permit the first filter; what it denies of the others is as if nobody sent it, and
// calls with the same first filter have the same others. It hands the message
// to use; where that returns nil the message was received, and else, at QoS 1,
// the next request gets it. It answers false when there was none in time.
//
// What matches is kept for later requests from the first one on, and for pollKept
// after each. The error is a *Denial, or that of use.
func (c *Caller) Receive(ctx context.Context, filters []string, wait time.Duration, use func(*Message) error) (bool, error) {
	found, r, err := c.receive(ctx, filters, wait, use)
	if r != nil {
		c.b.logRefusal(c.known.space.key.org.String(), c.known.client.ID, r)
		return false, c.denial(r)
	}
	return found, err
}

func (c *Caller) receive(ctx context.Context, filters []string, wait time.Duration, use func(*Message) error) (bool, *refusal, error) {
	end := time.NewTimer(wait)
	defer end.Stop()
	st, r := c.known.current(ctx)
	if r != nil {
		return false, r, nil
	}
	p, r := c.join(st, filters)
	if r != nil {
		return false, r, nil
	}
	defer c.known.space.polls.leave(p)
	select {
	case <-p.ready:
	case <-ctx.Done():
		return false, nil, ctx.Err()
	}
	if p.failed != nil {
		return false, p.failed, nil
	}
	select {
	case p.turn <- struct{}{}: // first, because there may be no time to wait at all
	default:
		select {
		case p.turn <- struct{}{}:
		case <-end.C:
			return false, nil, nil
		case <-ctx.Done():
			return false, nil, ctx.Err()
		case <-p.conn.done:
			return false, p.ended(), nil
		}
	}
	defer func() { <-p.turn }()
	m, r := p.await(ctx, st, c.known.seen(), end.C)
	if m == nil {
		return false, r, ctx.Err()
	}
	if err := use(m); err != nil {
		return false, nil, err
	}
	if m.id != 0 {
		p.conn.handleAck(context.WithoutCancel(ctx), &wire.Ack{Kind: wire.TypePuback, PacketID: m.id})
	}
	return true, nil, nil
}

// join finds the poll of the caller and the first of filters, or begins it, and counts
// the request in.
func (c *Caller) join(st *standing, filters []string) (*poll, *refusal) {
	first := ""
	if len(filters) > 0 {
		first = filters[0]
	}
	no := func(cause policy.Cause, detail string) *refusal {
		return &refusal{action: policy.ActionSubscribe, cause: cause, topic: first, detail: detail}
	}
	parsed, ok := parseFilters(filters)
	if !ok {
		return nil, no(policy.CauseTopic, "no filter, or too long")
	}
	sp, seen := c.known.space, c.known.seen()
	key := sessionKey{st.principal.Subject(), c.known.client.ID + policy.ClientID(callerSuffix+"/"+first)}
	ps := &sp.polls
	ps.guarded.Lock()
	p := ps.guarded.byKey[key]
	if p != nil && !p.conn.closing.Load() {
		p.users++
		ps.guarded.Unlock()
		return p, nil
	}
	if p != nil {
		ps.removeLocked(p)
	}
	if ps.guarded.ofSubject[key.subject] >= pollsOfClient {
		ps.guarded.Unlock()
		return nil, no(policy.CauseLimit, "filters that one client asks for")
	}
	p = &poll{
		key: key, filters: parsed, users: 1,
		ready: make(chan struct{}), turn: make(chan struct{}, 1), wake: make(chan struct{}, 1),
	}
	p.conn = c.virtual(p, st, seen)
	ps.addLocked(p)
	ps.guarded.Unlock()

	if p.failed = p.begin(st); p.failed == nil {
		close(p.ready)
		return p, nil
	}
	close(p.ready)
	ps.leave(p)
	return nil, p.failed
}

// parseFilters reads at least one filter.
func parseFilters(filters []string) (parsed []subscriptionKey, ok bool) {
	for _, filter := range filters {
		share, f, err := topic.ParseSubscription(filter)
		if err != nil || len(filter) > topic.MaxRoutedBytes {
			return nil, false
		}
		parsed = append(parsed, subscriptionKey{share, f})
	}
	return parsed, len(parsed) > 0
}

// virtual is a connection without a socket.
func (c *Caller) virtual(p *poll, st *standing, seen uint64) *conn {
	client := c.known.client
	remote := netip.AddrPortFrom(client.Address, 0)
	v := newConn(c.b, &listen.Conn{Conn: nowhere{}, Listener: client.Listener, Remote: remote})
	v.version, v.client, v.sessionID, v.space, v.poll = wire.V5, *client, p.key.client, c.known.space, p
	// Its requests are counted where they enter.
	v.usage = &usage{}
	// A revocation finds it by its principal from addConn on. One that came after
	// the principal was read and before that is noticed by finish.
	v.changes = seen
	v.principal.Store(st.principal)
	return v
}

// begin gives the connection its session. From then on serve owns both.
func (p *poll) begin(st *standing) *refusal {
	c := p.conn
	if !c.b.addConn(c) {
		return refused(policy.CauseShutdown, "")
	}
	pk := &wire.Connect{Version: wire.V5, ClientID: string(p.key.client), CleanStart: true, ReceiveMaximum: 1}
	r := c.attach(context.Background(), st, pk, nil, "")
	if r != nil {
		c.end(ending{cause: r.cause, will: willNever, quiet: true})
	}
	go p.serve() // addConn counted it in, and Shutdown waits for it
	return r
}

// serve keeps the session until it has not been asked for a while, or was ended.
func (p *poll) serve() {
	c := p.conn
	defer c.b.removeConn(c)
	ps := &c.space.polls
	idle := time.NewTimer(pollKept)
	defer idle.Stop()
	for more := true; more; {
		select {
		case <-c.done:
			more = false
		case <-idle.C:
			if left := ps.rest(p); left > 0 {
				idle.Reset(left)
				continue
			}
			c.end(ending{will: willNever, quiet: true})
		}
	}
	ps.remove(p)
	if c.session != nil {
		c.session.detach(c, willNever)
	}
	<-c.flushed
	c.stopLinger()
}

// await takes one message that the session has or gets.
func (p *poll) await(ctx context.Context, st *standing, seen uint64, end <-chan time.Time) (*Message, *refusal) {
	// What is judged and sent here is the session's; this request may go away.
	lasting := context.WithoutCancel(ctx)
	if r := p.stand(lasting, st, seen); r != nil {
		return nil, r
	}
	p.open()
	defer p.close()
	// What an earlier request did not take for good is sent again, first.
	s := p.conn.session
	s.guarded.Lock()
	for _, e := range s.guarded.out.inflight {
		e.conn = nil
	}
	s.guarded.Unlock()
	s.drain(lasting, nil)
	for {
		if m := p.taken(); m != nil {
			return m, nil
		}
		select {
		case <-p.wake:
			if m := p.taken(); m != nil {
				return m, nil
			}
			if r := p.subscribe(lasting); r != nil {
				return nil, r
			}
		case <-end:
			return p.taken(), nil // both may be true
		case <-ctx.Done():
			return nil, nil
		case <-p.conn.done:
			return nil, p.ended()
		}
	}
}

// stand sees that the session stands as the caller does, and has its
// subscriptions.
func (p *poll) stand(ctx context.Context, st *standing, seen uint64) *refusal {
	c := p.conn
	s := c.session
	if old := s.standing.Load(); old.facts.Client != st.facts.Client {
		s.adopt(ctx, c, st)
		if c.b.changes.Load() != seen {
			s.rejudge(ctx, true)
		}
	}
	if !s.current(ctx).connect.Allow || c.closing.Load() {
		return p.ended()
	}
	return p.subscribe(ctx)
}

// adopt puts the standing of another request in the place of the one that the
// session has: of the same subject, with another proof or from another place.
func (s *session) adopt(ctx context.Context, c *conn, st *standing) {
	var w writes
	s.connectMu.Lock()
	defer s.connectMu.Unlock()
	if s.isDead() || s.conn.Load() != c {
		return
	}
	c.principal.Store(st.principal)
	s.rejudgeSubscriptions(ctx, &w, s.standing.Load(), st)
	s.standing.Store(st)
	s.space.b.commitAny(&w)
	s.schedule()
}

// subscribe enters the subscriptions that are not there. The first one has to be: its
// refusal is the answer.
func (p *poll) subscribe(ctx context.Context) *refusal {
	s := p.conn.session
	for i, filter := range p.filters {
		s.guarded.Lock()
		there := s.guarded.subs[filter] != nil
		s.guarded.Unlock()
		if there {
			continue
		}
		if r := p.enter(ctx, filter); r != nil && i == 0 {
			return r
		}
	}
	return nil
}

// enter enters one subscription.
func (p *poll) enter(ctx context.Context, filter subscriptionKey) (r *refusal) {
	s := p.conn.session
	p.conn.change(func(w *writes) { // of a session that is not stored, so nothing waits
		option := wire.Subscription{Filter: filter.filter.String(), QoS: 1}
		if filter.share != "" {
			option.Filter = "$share/" + filter.share + "/" + option.Filter
		}
		_, _, r = s.subscribe(ctx, w, option, 0)
	})
	s.schedule()
	return r
}

// ended is why the session was.
func (p *poll) ended() *refusal {
	c := p.conn
	c.guarded.Lock()
	cause, reason := c.guarded.ending.cause, c.guarded.ending.reason
	c.guarded.Unlock()
	if st := c.session.standing.Load(); cause == policy.CauseRejudged && !st.connect.Allow && st.connect.Cause != policy.CauseNone {
		cause = st.connect.Cause
	}
	if cause == policy.CauseNone {
		cause = policy.CauseShutdown // another one of its name took its place
	}
	r := &refusal{action: policy.ActionSubscribe, cause: cause, topic: p.filters[0].filter.String()}
	if reason != "" {
		r.decision = &policy.Decision{Cause: cause, Reason: reason} // the ID is in the words already
	}
	return r
}

// waits reports whether a message may be sent now.
func (p *poll) waits() bool {
	p.guarded.Lock()
	defer p.guarded.Unlock()
	return p.guarded.waiting
}

func (p *poll) open() {
	p.guarded.Lock()
	defer p.guarded.Unlock()
	p.guarded.waiting, p.guarded.message = true, nil
}

// close lets nothing more in. A message that was not taken is forgotten here; at
// QoS 1 the session has it.
func (p *poll) close() {
	p.guarded.Lock()
	defer p.guarded.Unlock()
	p.guarded.waiting, p.guarded.message = false, nil
}

// take is the end of transmit: the message waits for the request that is here.
func (p *poll) take(out *cleared, payload []byte, id uint16) sending {
	p.guarded.Lock()
	defer p.guarded.Unlock()
	if !p.guarded.waiting {
		return unsent
	}
	p.guarded.waiting = false
	p.guarded.message = &Message{Topic: out.name.String(), Payload: append([]byte(nil), payload...), id: id}
	p.conn.lane.out.messages[min(out.qos, 1)].Add(1)
	p.notify()
	return sent
}

func (p *poll) taken() *Message {
	p.guarded.Lock()
	defer p.guarded.Unlock()
	m := p.guarded.message
	p.guarded.message = nil
	return m
}

// notify has a request that waits look again.
func (p *poll) notify() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (ps *polls) addLocked(p *poll) {
	if ps.guarded.byKey == nil {
		ps.guarded.byKey, ps.guarded.ofSubject = make(map[sessionKey]*poll), make(map[policy.Subject]int)
	}
	ps.guarded.byKey[p.key] = p
	ps.guarded.ofSubject[p.key.subject]++
}

func (ps *polls) removeLocked(p *poll) {
	if p.over {
		return
	}
	p.over = true
	delete(ps.guarded.byKey, p.key)
	if ps.guarded.ofSubject[p.key.subject]--; ps.guarded.ofSubject[p.key.subject] == 0 {
		delete(ps.guarded.ofSubject, p.key.subject)
	}
}

func (ps *polls) remove(p *poll) {
	ps.guarded.Lock()
	defer ps.guarded.Unlock()
	ps.removeLocked(p)
}

// leave counts a request out.
func (ps *polls) leave(p *poll) {
	ps.guarded.Lock()
	defer ps.guarded.Unlock()
	p.users--
	p.last = time.Now()
	if p.failed != nil {
		ps.removeLocked(p)
	}
}

// rest is how long p is still to be kept; nothing is left of one that is over,
// and nobody joins it from here on.
func (ps *polls) rest(p *poll) time.Duration {
	ps.guarded.Lock()
	defer ps.guarded.Unlock()
	if p.users > 0 {
		return pollKept
	}
	if left := pollKept - time.Since(p.last); left > 0 {
		return left
	}
	ps.removeLocked(p)
	return 0
}

// nowhere takes what a connection without a socket says, and says nothing.
type nowhere struct{}

var _ net.Conn = nowhere{}

func (nowhere) Read([]byte) (int, error)         { return 0, os.ErrDeadlineExceeded }
func (nowhere) Write(b []byte) (int, error)      { return len(b), nil }
func (nowhere) Close() error                     { return nil }
func (nowhere) LocalAddr() net.Addr              { return nil }
func (nowhere) RemoteAddr() net.Addr             { return nil }
func (nowhere) SetDeadline(time.Time) error      { return nil }
func (nowhere) SetReadDeadline(time.Time) error  { return nil }
func (nowhere) SetWriteDeadline(time.Time) error { return nil }
