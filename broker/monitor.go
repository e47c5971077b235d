package broker

import (
	"time"

	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/topic"
)

// Monitor is told which clients come and go. Its methods are called by the
// goroutines of connections and must return at once: who has something to do
// about it, does it elsewhere.
type Monitor interface {
	// Online: a client was let in.
	Online(v *Visit)
	// Offline: the connection that v told of has ended.
	Offline(v *Visit, l Leaving)
	// Refused: a CONNECT was. The principal of v is nil where none was verified, and
	// then everything in v is what somebody says.
	Refused(v *Visit, l Leaving)
	// Admitted: a message entered, in an organisation that [Broker.Tap] named. The
	// payload may not be changed.
	Admitted(t Tenant, name topic.RoutedName, payload []byte)
}

type unmonitored struct{}

func (unmonitored) Online(*Visit)                             {}
func (unmonitored) Offline(*Visit, Leaving)                   {}
func (unmonitored) Refused(*Visit, Leaving)                   {}
func (unmonitored) Admitted(Tenant, topic.RoutedName, []byte) {}

// Visit is one connection of a client. It is immutable.
type Visit struct {
	Number    uint64 // of this run of the broker; 0 for a refused one
	Tenant    Tenant // zero where no principal was verified
	Client    policy.Client
	Port      uint16
	Principal *policy.Principal
	Began     time.Time
	Durable   bool // its session outlives it
}

// Leaving is how a connection ended, or why it never began.
type Leaving struct {
	At     time.Time
	Code   CloseCode
	Reason string // in words, public
	// Violation is what a refused CONNECT violates, as the policy calls it, and Words
	// is the policy's own reason; empty: nothing, none.
	Violation, Words string
	// What went over the connection. Messages are PUBLISH packets.
	ReadBytes, ReadMessages, WrittenBytes, WrittenMessages uint64
}

// CloseCode is what monitoring calls the end of a connection.
type CloseCode int

// The codes that are used, as the platform documented them.
const (
	ClosedNormally      CloseCode = 0
	ClosedByClient      CloseCode = 91
	ClosedByServer      CloseCode = 92
	ClosedForShutdown   CloseCode = 93
	ClosedByAdmin       CloseCode = 94
	ClosedForCapacity   CloseCode = 104
	ClosedBadData       CloseCode = 105
	ClosedTimeout       CloseCode = 160
	ClosedClientID      CloseCode = 166
	ClosedUnavailable   CloseCode = 167
	ClosedTooMany       CloseCode = 173 // connections in the organisation
	ClosedDelayed       CloseCode = 176 // too many wrong credentials
	ClosedNotAuthorised CloseCode = 180
	ClosedWill          CloseCode = 270
	ClosedTopic         CloseCode = 276
	ClosedTooLarge      CloseCode = 287
	ClosedTakenOver     CloseCode = 288
	ClosedQoS           CloseCode = 291
)

// String says it in words.
func (c CloseCode) String() string {
	switch c {
	case ClosedNormally:
		return "The connection has completed normally."
	case ClosedByClient:
		return "The connection was closed by the client."
	case ClosedByServer:
		return "The connection was closed by the server."
	case ClosedForShutdown:
		return "The connection was closed because the server was shut down."
	case ClosedByAdmin:
		return "The connection was closed by an administrator."
	case ClosedForCapacity:
		return "The limit of a resource was reached."
	case ClosedBadData:
		return "The data received from the client are not valid."
	case ClosedTimeout:
		return "The keep-alive time ran out."
	case ClosedClientID:
		return "The client ID is not valid."
	case ClosedUnavailable:
		return "The server is not available."
	case ClosedTooMany:
		return "There are too many connections in the organisation."
	case ClosedDelayed:
		return "Too many credentials were wrong."
	case ClosedNotAuthorised:
		return "The operation is not authorized."
	case ClosedWill:
		return "The will message is not allowed."
	case ClosedTopic:
		return "The topic is not valid."
	case ClosedTooLarge:
		return "The message size is too large for this endpoint."
	case ClosedTakenOver:
		return "The client ID was reused."
	case ClosedQoS:
		return "The quality of service is not allowed."
	default:
		return "The connection was closed."
	}
}

// closeCode is the one table from why a connection ends to its close code.
func closeCode(e *ending) CloseCode {
	switch e.code {
	case wire.SessionTakenOver:
		return ClosedTakenOver
	case wire.KeepAliveTimeout:
		return ClosedTimeout
	case wire.AdministrativeAction:
		return ClosedByAdmin
	case wire.PacketTooLarge:
		return ClosedTooLarge
	case wire.QoSNotSupported:
		return ClosedQoS
	case wire.ConnectionRateExceeded:
		return ClosedDelayed
	case wire.TopicNameInvalid, wire.TopicFilterInvalid:
		return ClosedTopic
	case wire.UnspecifiedError:
		return ClosedByServer
	}
	switch e.cause {
	case policy.CauseNone:
		if e.goodbye {
			return ClosedNormally
		}
		return ClosedByClient
	case policy.CauseShutdown:
		return ClosedForShutdown
	case policy.CauseDisabled, policy.CauseRevoked:
		return ClosedByAdmin
	case policy.CauseProtocol:
		return ClosedBadData
	case policy.CauseClientID:
		return ClosedClientID
	case policy.CauseUnavailable:
		return ClosedUnavailable
	case policy.CausePayloadSize:
		return ClosedTooLarge
	case policy.CauseTopic, policy.CauseSystemTopic, policy.CauseRetain:
		return ClosedTopic
	case policy.CauseQuota, policy.CauseLimit, policy.CauseStorage:
		return ClosedForCapacity
	case policy.CauseNotSupported:
		return ClosedByServer
	case policy.CausePolicy:
		if e.action == policy.ActionPublish || e.action == policy.ActionSubscribe {
			return ClosedTopic // a denied topic is one that there is not
		}
		return ClosedNotAuthorised
	default:
		return ClosedNotAuthorised
	}
}

// refusedCode is closeCode for a CONNECT that was refused.
func refusedCode(r *refusal) CloseCode {
	switch {
	case r.action == policy.ActionPublish && r.code != wire.QoSNotSupported:
		return ClosedWill
	case r.cause == policy.CauseQuota:
		return ClosedTooMany
	case r.cause == policy.CauseDisabled || r.cause == policy.CauseRevoked:
		return ClosedNotAuthorised
	default:
		return closeCode(&ending{cause: r.cause, code: r.code, action: r.action})
	}
}

// arrive tells the monitor that c was let in.
func (c *conn) arrive(began time.Time) {
	v := c.describeVisit(began)
	v.Number = c.b.visits.Add(1)
	v.Durable = c.session.kept()
	c.visit.Store(v)
	c.b.cfg.Monitor.Online(v)
}

// turnedAway tells the monitor that c was not.
func (c *conn) turnedAway(began time.Time, r *refusal) {
	l := turnedAwayFor(r)
	l.ReadBytes = c.read.bytes.Load()
	c.b.cfg.Monitor.Refused(c.describeVisit(began), l)
}

func turnedAwayFor(r *refusal) Leaving {
	code := refusedCode(r)
	l := Leaving{At: time.Now(), Code: code, Reason: code.String()}
	if r.decision != nil {
		l.Violation, l.Words = r.decision.Violation, r.decision.Reason
	}
	return l
}

// violated tells the monitor of a caller that violates what is demanded of
// connections. Any other refusal of a call is its own affair.
func (c *Caller) violated(r *refusal) {
	if c.known == nil || r.decision == nil || r.decision.Violation == "" {
		return
	}
	c.b.cfg.Monitor.Refused(&Visit{
		Tenant: c.known.space.tenant(), Client: *c.known.client, Principal: c.known.standing().principal, Began: time.Now(),
	}, turnedAwayFor(r))
}

func (c *conn) describeVisit(began time.Time) *Visit {
	v := &Visit{Client: c.client, Port: c.nc.Remote.Port(), Principal: c.principal.Load(), Began: began}
	if c.space != nil {
		v.Tenant = c.space.tenant()
	}
	return v
}

// leave tells the monitor that c, which was let in, has ended and all that could
// be written was.
func (c *conn) leave() {
	if c.space != nil {
		c.space.traffic.Add(c.read.bytes.Load() + c.wrote.bytes.Load())
	}
	v := c.visit.Swap(nil)
	if v == nil {
		return
	}
	c.guarded.Lock()
	e := c.guarded.ending
	c.guarded.Unlock()
	code := closeCode(&e)
	reason := e.reason
	if reason == "" {
		reason = code.String()
	}
	c.b.cfg.Monitor.Offline(v, Leaving{
		At: time.Now(), Code: code, Reason: reason,
		ReadBytes: c.read.bytes.Load(), ReadMessages: c.read.messages,
		WrittenBytes: c.wrote.bytes.Load(), WrittenMessages: c.wrote.messages,
	})
}

// Visits calls fn with each connection that a client has now and the monitor was
// told of.
func (b *Broker) Visits(fn func(*Visit)) {
	b.guarded.Lock()
	list := make([]*Visit, 0, len(b.guarded.conns))
	for c := range b.guarded.conns {
		if v := c.visit.Load(); v != nil {
			list = append(list, v)
		}
	}
	b.guarded.Unlock()
	for _, v := range list {
		fn(v)
	}
}

// Carried is how many bytes went over the connections of each organisation, since
// this run of the broker began, in both directions.
func (b *Broker) Carried() map[Tenant]uint64 {
	carried := map[Tenant]uint64{}
	for _, sp := range b.listSpaces() {
		carried[sp.tenant()] = sp.traffic.Load()
	}
	b.guarded.Lock()
	defer b.guarded.Unlock()
	for c := range b.guarded.conns {
		// One that is about to leave may count twice in this sum and is right in the
		// next one; what is reported never shrinks.
		if v := c.visit.Load(); v != nil {
			carried[v.Tenant] += c.read.bytes.Load() + c.wrote.bytes.Load()
		}
	}
	return carried
}

// Tap says whether the monitor is shown what enters in an organisation.
func (b *Broker) Tap(t Tenant, on bool) {
	if sp, err := b.space(t.Org, t.Incarnation); err == nil {
		sp.tapped.Store(on)
	}
}

// Disconnect ends every connection that a client of this ID has in the
// organisation, whoever it belongs to, and says how many there were. Sessions stay.
func (b *Broker) Disconnect(t Tenant, id policy.ClientID) int {
	sp, err := b.space(t.Org, t.Incarnation)
	if err != nil {
		return 0
	}
	n := 0
	for _, s := range sp.list() {
		st, c := s.standing.Load(), s.conn.Load()
		if st == nil || c == nil || st.facts.Client.ID != id {
			continue
		}
		n++
		c.end(ending{code: wire.AdministrativeAction, reason: "disconnected by an administrator", will: willFires, linger: revokeLinger})
	}
	return n
}

func (sp *space) tenant() Tenant { return Tenant{sp.key.org, sp.key.incarnation} }
