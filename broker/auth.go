package broker

import (
	"context"
	"time"

	"golang.org/x/time/rate"

	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
)

// Enhanced authentication (MQTT 5 §4.12) comes in two places. Before CONNACK an
// exchange takes the place of the one question that a password is, and the
// deadline of the listener bounds it. On a session it renews who the client is,
// so that a proof which ends need not end the connection.

// Bounds of re-authentication: how long one may take, and how often a client may
// begin one.
const (
	renewalTime  = 30 * time.Second
	renewalEvery = time.Second
	renewalBurst = 8
)

// renewals are the re-authentications of a connection.
type renewals struct {
	method   string // of CONNECT
	often    *rate.Limiter
	exchange *plugins.Exchange // nil: none is under way
	until    time.Time         // when that is too late
}

// converse leads the exchange that begins with pk to CONNACK. The turns are taken
// on goroutines of the crew; whoever makes the broker wait for the next one
// holds none of them.
func (c *conn) converse(ctx context.Context, pk *wire.Connect) *refusal {
	var r *refusal
	var x *plugins.Exchange
	c.b.crew.do(func() {
		switch r = c.introduce(pk); {
		case r != nil:
		case pk.AuthMethod == "": // nothing could say it back
			r = c.b.wrong(&c.client, &plugins.Refusal{Cause: policy.CauseNotSupported, Err: plugins.ErrMethod})
		default:
			x, r = c.beginExchange(ctx, c.credential(pk), pk.AuthMethod)
		}
	})
	data, done := pk.AuthData, false
	for r == nil {
		var reply plugins.Reply
		c.b.crew.do(func() {
			if reply, r = c.turn(ctx, x, data); r != nil || !reply.Done {
				return
			}
			done = true
			pk.AuthData = reply.Data // accept says it
			principal, no := c.vouch(ctx, &reply.Principal)
			if r = no; r == nil {
				c.renewals = &renewals{method: pk.AuthMethod, often: rate.NewLimiter(rate.Every(renewalEvery), renewalBurst)}
				r = c.begin(ctx, pk, principal)
			}
		})
		if r != nil || done {
			return r
		}
		if !c.sendAuth(pk.AuthMethod, wire.ContinueAuthentication, reply.Data) {
			return refused(policy.CausePayloadSize, "the client cannot take the authentication data")
		}
		if data, r = c.nextData(pk.AuthMethod); data == nil && r == nil {
			return nil // it has ended
		}
	}
	return r
}

// nextData reads the client's next step before CONNACK. Data is nil when the
// connection has ended.
func (c *conn) nextData(method string) ([]byte, *refusal) {
	pk, err := c.reader.Next()
	if err != nil {
		c.readFailed(err, false)
		return nil, nil
	}
	switch pk := pk.(type) {
	case *wire.Auth:
		switch {
		case pk.Method != method:
			return nil, otherMethod()
		case pk.Code != wire.ContinueAuthentication:
			return nil, refused(policy.CauseProtocol, "re-authentication before CONNACK")
		case pk.Data == nil:
			return []byte{}, nil
		}
		return pk.Data, nil
	case *wire.Disconnect:
		c.end(ending{will: willNever, quiet: true})
		return nil, nil
	default:
		return nil, refused(policy.CauseProtocol, "neither AUTH nor DISCONNECT before CONNACK [MQTT-3.1.2-30]")
	}
}

// handleAuth takes one step of a re-authentication. What is refused closes the
// connection [MQTT-4.12.1-2].
func (c *conn) handleAuth(ctx context.Context, pk *wire.Auth) {
	if r := c.reauthenticate(ctx, pk); r != nil {
		c.b.logRefusal(c.org(), c.client.ID, r)
		c.end(ending{cause: r.cause, code: r.reasonCode(), reason: r.publicReason(), will: willFires})
	}
}

func (c *conn) reauthenticate(ctx context.Context, pk *wire.Auth) *refusal {
	n := c.renewals
	switch {
	case n == nil || pk.Method != n.method:
		return otherMethod()
	case (pk.Code == wire.ReAuthenticate) != (n.exchange == nil):
		return refused(policy.CauseProtocol, "AUTH out of order")
	case n.exchange == nil && !n.often.Allow():
		return refused(policy.CauseLimit, "re-authenticates too often")
	case n.exchange == nil:
		// The password of CONNECT is not kept: the method has to do without it.
		x, r := c.beginExchange(ctx, c.credential(&wire.Connect{}), n.method)
		if r != nil {
			return r
		}
		n.exchange, n.until = x, time.Now().Add(renewalTime)
	case time.Now().After(n.until):
		return refused(policy.CauseExpired, "the re-authentication took too long")
	}
	reply, r := c.turn(ctx, n.exchange, pk.Data)
	if r != nil {
		return r
	}
	code := wire.ContinueAuthentication
	if reply.Done {
		code, n.exchange = wire.Success, nil
		if r := c.renew(ctx, &reply.Principal); r != nil {
			return r
		}
	}
	if !c.sendAuth(n.method, code, reply.Data) && !c.closing.Load() {
		return refused(policy.CausePayloadSize, "the client cannot take the authentication data")
	}
	return nil
}

// beginExchange asks the policy who may lead an exchange.
func (c *conn) beginExchange(ctx context.Context, credential *plugins.Credential, method string) (*plugins.Exchange, *refusal) {
	refs, r := c.b.chooseVerifiers(ctx, &c.client)
	if r != nil {
		return nil, r
	}
	return c.b.verifiers.Begin(refs, credential, method), nil
}

func (c *conn) turn(ctx context.Context, x *plugins.Exchange, data []byte) (plugins.Reply, *refusal) {
	reply, err := x.Next(ctx, data)
	if err != nil {
		return plugins.Reply{}, c.b.wrong(&c.client, err)
	}
	return reply, nil
}

// sendAuth reports whether the packet could be sent: data that is too large for
// the client cannot be left out.
func (c *conn) sendAuth(method string, code wire.Code, data []byte) bool {
	buf, ok := c.out.begin(0)
	if !ok {
		return false
	}
	before := len(buf)
	buf = wire.AppendAuth(buf, c.version, &wire.Auth{Code: code, Method: method, Data: data, MaxSize: c.maxOut})
	sent := len(buf) > before
	c.out.commit(buf, c)
	return sent
}

func otherMethod() *refusal {
	r := refused(policy.CauseProtocol, "another authentication method than in CONNECT [MQTT-4.12.0-5]")
	r.code = wire.BadAuthenticationMethod
	return r
}

// renew puts p, fresh from its verifier, in the place of the principal that the
// connection has. It has to be the same identity, proved in the same way.
func (c *conn) renew(ctx context.Context, p *policy.Principal) *refusal {
	if !c.serverNameAgrees(ctx, p.Org) {
		return refused(policy.CauseMismatch, "the TLS server name names another organisation")
	}
	// Revocations find this connection by who it is already. One that comes from
	// here on is seen at the end.
	changes := c.b.changes.Load()
	generation := c.session.standing.Load().judge.Generation()
	now, err := c.b.registry.Refresh(ctx, p)
	if err != nil {
		return refused(plugins.CauseOf(err), err.Error())
	}
	if r := c.session.renew(ctx, c, &now, generation); r != nil {
		return r
	}
	if c.b.changes.Load() != changes {
		c.session.rejudge(ctx, true)
	}
	return nil
}

// renew judges all that the session holds for p, and takes away what is no longer
// allowed, as rejudge does. A connection that another one took over is left alone.
func (s *session) renew(ctx context.Context, c *conn, p *policy.Principal, generation policy.Generation) *refusal {
	var w writes
	s.connectMu.Lock()
	defer s.connectMu.Unlock()
	if s.isDead() || s.conn.Load() != c {
		return nil
	}
	old := s.standing.Load()
	if !sameIdentity(old.principal, p) {
		return refused(policy.CauseBad, "re-authenticated as somebody else")
	}
	c.principal.Store(p)
	st := s.standAs(ctx, &w, old, p, generation)
	if st.connect.Allow {
		s.guarded.Lock()
		if record, err := st.record(s.guarded.expiry, time.Time{}); err == nil && record != nil {
			s.storeLocked(&w, record) // or the session would come back as the old proof
		}
		s.guarded.Unlock()
	}
	s.space.b.commitAny(&w)
	return nil
}

// sameIdentity reports whether whoever was a is b now: nothing that a session or a
// count is kept under may change with a proof.
func sameIdentity(a, b *policy.Principal) bool {
	return a.Org == b.Org && a.Incarnation == b.Incarnation && a.Subject() == b.Subject() &&
		a.Verifier == b.Verifier && a.Credential.ID == b.Credential.ID && a.Unnamed == b.Unnamed
}
