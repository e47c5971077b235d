package broker

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"time"

	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
)

// connect takes a CONNECT through credential, principal, decision and will to a
// session and its CONNACK. A refusal on the way has touched no session.
func (c *conn) connect(ctx context.Context, pk *wire.Connect) *refusal {
	if r := c.introduce(pk); r != nil {
		return r
	}
	principal, r := c.verify(ctx, pk)
	if r != nil {
		return r
	}
	return c.begin(ctx, pk, principal)
}

// introduce takes down who a CONNECT says it is from.
func (c *conn) introduce(pk *wire.Connect) *refusal {
	c.maxOut, c.problem, c.aliasMax = pk.MaximumPacketSize, pk.RequestProblemInfo, outboundAliases(pk)
	id, err := policy.ParseClientID(pk.ClientID)
	if err != nil {
		return refused(policy.CauseClientID, err.Error())
	}
	c.client = c.describe(id, pk)
	if id == "" && (pk.Version == wire.V31 || pk.Version == wire.V311 && !pk.CleanStart) {
		return refused(policy.CauseClientID, "an empty client ID needs a clean session") // [MQTT-3.1.3-8]
	}
	return nil
}

// begin takes a verified principal through decision and will to its session.
func (c *conn) begin(ctx context.Context, pk *wire.Connect, principal *policy.Principal) *refusal {
	c.nc.Authenticated()
	assigned := ""
	if c.client.ID == "" {
		assigned = "auto-" + strings.ToLower(rand.Text())
		c.client.ID = policy.ClientID(assigned)
	}

	sp, err := c.b.space(principal.Org, principal.Incarnation)
	if err != nil {
		return refused(policy.CauseShutdown, "")
	}
	c.sessionID = c.client.ID
	if principal.Unnamed {
		if !pk.CleanStart {
			r := refused(policy.CauseClientID, "without an instance a session has to be clean")
			r.code = wire.NotAuthorized
			return r
		}
		pk.SessionExpiry = 0
		c.sessionID += policy.ClientID("/" + strings.ToLower(rand.Text()))
	}
	takesOver := sp.online(sessionKey{principal.Subject(), c.sessionID})
	if !sp.enter(ctx, takesOver) {
		return refused(policy.CauseQuota, "connections of the organisation")
	}
	c.space = sp

	client := c.client
	st, r := c.b.admitted(ctx, sp, principal, &client)
	if r != nil {
		return r
	}
	if st.principal != principal {
		c.principal.Store(st.principal) // it is registered since it was verified
	}
	if !st.connect.Allow {
		return denied(policy.ActionConnect, st.connect, "")
	}
	if st.expired(time.Now()) {
		return refused(policy.CauseExpired, "")
	}
	w, r := c.judgeWill(ctx, st, pk.Will)
	if r != nil {
		return r
	}
	if c.usage = sp.usages.acquire(credentialOf(principal, c.client.ID), st.limits(), takesOver); c.usage == nil {
		return refused(policy.CauseLimit, "connections of the credential")
	}
	if c.handover = c.b.handover(st.principal); c.handover != nil {
		pk.CleanStart = true // nothing of it is kept; see fleeting
	}
	if r := c.attach(ctx, st, pk, w, assigned); r != nil {
		return r
	}
	c.handOver(ctx)
	return nil
}

// refused is a connect refused for cause; detail is for the log alone.
func refused(cause policy.Cause, detail string) *refusal {
	return &refusal{action: policy.ActionConnect, cause: cause, detail: detail}
}

// describe collects what is known of the connection beside who it is.
func (c *conn) describe(id policy.ClientID, pk *wire.Connect) policy.Client {
	return policy.Client{
		ID: id, Username: pk.Username, Protocol: pk.Version.String(),
		Listener: c.nc.Listener, Address: c.nc.Remote.Addr().Unmap(), TLS: policy.DescribeTLS(c.nc.TLS),
	}
}

// verify turns the credential into a principal that stands at this moment.
func (c *conn) verify(ctx context.Context, pk *wire.Connect) (*policy.Principal, *refusal) {
	refs, r := c.b.chooseVerifiers(ctx, &c.client)
	if r != nil {
		return nil, r
	}
	p, err := c.b.verifiers.Verify(ctx, refs, c.credential(pk))
	if err != nil {
		return nil, c.b.wrong(&c.client, err)
	}
	return c.vouch(ctx, &p)
}

func (c *conn) credential(pk *wire.Connect) *plugins.Credential {
	credential := &plugins.Credential{Client: c.client, Password: plugins.NewSecret(pk.Password), HasPassword: pk.HasPassword}
	if c.nc.TLS != nil {
		credential.Chain = c.nc.TLS.PeerCertificates // those of the first handshake, where TLS was resumed
	}
	return credential
}

// chooseVerifiers asks the policy who is to check a credential, unless too many
// from this address were wrong.
func (b *Broker) chooseVerifiers(ctx context.Context, client *policy.Client) ([]policy.VerifierRef, *refusal) {
	if failures := b.cfg.Failures; failures != nil && !failures.Allowed(client.Address) {
		r := refused(policy.CauseLimit, "too many wrong credentials from this address")
		r.code = wire.ConnectionRateExceeded
		return nil, r
	}
	org, err := b.claimed(ctx, client)
	if err != nil {
		return nil, refused(policy.CauseUnavailable, err.Error())
	}
	refs, err := b.decider.Verifiers(ctx, client, org)
	if err != nil {
		return nil, refused(policy.CauseError, err.Error())
	}
	return refs, nil
}

// wrong is what becomes of a verifier's error, and is remembered of the address.
// An Authentication Method that nobody speaks is a question and no guess.
func (b *Broker) wrong(client *policy.Client, err error) *refusal {
	r := refused(plugins.CauseOf(err), err.Error())
	switch failures := b.cfg.Failures; {
	case errors.Is(err, plugins.ErrMethod):
		r.code = wire.BadAuthenticationMethod // [MQTT-4.12.0-1]
	case failures != nil && errors.Is(err, plugins.ErrBad):
		failures.Record(client.Address)
	}
	return r
}

// vouch holds a principal fresh from its verifier against everything else that
// is known, and lets revocations find this connection by it.
func (c *conn) vouch(ctx context.Context, p *policy.Principal) (*policy.Principal, *refusal) {
	if !c.serverNameAgrees(ctx, p.Org) {
		return nil, refused(policy.CauseMismatch, "the TLS server name names another organisation")
	}
	// From the store on, a revocation finds this connection; one that came before
	// it is seen by Refresh. So none can slip between the two.
	c.principal.Store(p)
	c.changes = c.b.changes.Load()
	now, err := c.b.registry.Refresh(ctx, p) // not into p: others read it by now
	if err != nil {
		return nil, refused(plugins.CauseOf(err), err.Error())
	}
	c.principal.Store(&now)
	return &now, nil
}

func (c *conn) serverNameAgrees(ctx context.Context, org policy.OrgID) bool {
	return c.client.TLS == nil || c.b.nameAgrees(ctx, c.client.TLS.SNI, org)
}

// nameAgrees checks a server name of the form ORG.DOMAIN or ORG.messaging.DOMAIN
// against the credential's organisation. The name is only a claim: it can
// contradict the credential and never replace it. A label that is no
// organisation's, such as "mqtt", claims nothing.
func (b *Broker) nameAgrees(ctx context.Context, name string, org policy.OrgID) bool {
	named, ok := policy.OrgOfHost(name, b.cfg.Domain)
	if !ok || named == org {
		return true
	}
	_, err := b.registry.OrganisationFacts(ctx, named)
	return policy.KindOf(err) == policy.KindNotFound
}

// refuseConnect answers a CONNECT that was refused, and ends the connection.
func (c *conn) refuseConnect(r *refusal) {
	c.b.logRefusal(c.org(), c.client.ID, r)
	if buf, ok := c.out.begin(0); ok {
		ack := wire.Connack{Code: r.reasonCode(), ReasonString: r.publicReason(), MaxSize: c.maxOut}
		c.out.commit(wire.AppendConnack(buf, c.version, &ack), nil)
	}
	c.end(ending{cause: r.cause, will: willNever, quiet: true})
}

// Bounds the broker states in CONNACK.
const (
	receiveMaximum    = 1024 // QoS 2 messages a client may have open towards the broker
	topicAliasMaximum = 64   // inbound aliases per connection
)

// accept builds the CONNACK that states exactly what this session gets. After an
// exchange it repeats the method [MQTT-4.12.0-5].
func accept(st *standing, pk *wire.Connect, present bool, assigned string, maxPacket int, expiry, keepAlive time.Duration) *wire.Connack {
	ack := &wire.Connack{
		SessionPresent: present, AssignedClientID: assigned,
		ReceiveMaximum: receiveMaximum, TopicAliasMaximum: topicAliasMaximum,
		MaximumPacketSize: uint32(maxPacket),
		MaxSize:           pk.MaximumPacketSize,
		AuthMethod:        pk.AuthMethod, AuthData: pk.AuthData, // the verifier's last word: see converse
	}
	if most := st.connect.Limits.QoSMax; most < 2 {
		ack.HasMaximumQoS, ack.MaximumQoS = true, most
	}
	if granted := seconds(expiry); granted != pk.SessionExpiry {
		ack.HasSessionExpiry, ack.SessionExpiry = true, granted
	}
	if granted := seconds(keepAlive); granted != uint32(pk.KeepAlive) {
		ack.HasServerKeepAlive, ack.ServerKeepAlive = true, uint16(granted)
	}
	return ack
}

func seconds(d time.Duration) uint32 { return uint32(d / time.Second) }

// keepAliveFor is the client's keep-alive, lowered to the limit of its connect decision.
func keepAliveFor(wanted uint16, most time.Duration) time.Duration {
	d := time.Duration(wanted) * time.Second
	if most > 0 && (d == 0 || d > most) {
		d = min(most, 65535*time.Second)
	}
	return d
}

// expiryFor is how long the session outlives its connection: what MQTT 5 asks
// for, or for a kept 3.x session the most it may have; never more than that.
func expiryFor(pk *wire.Connect, most time.Duration) time.Duration {
	switch {
	case pk.Version == wire.V5:
		return min(time.Duration(pk.SessionExpiry)*time.Second, most)
	case pk.CleanStart:
		return 0
	default:
		return most
	}
}
