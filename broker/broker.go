package broker

import (
	"context"
	"errors"
	"hash/maphash"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cordon-mq/cordon/broker/listen"
	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
)

// Config holds what an operator may set. The zero value of a field takes its default.
type Config struct {
	// MaxPacket is the largest packet accepted, in bytes with its header.
	// Default 1 MiB. A CONNECT may have maxConnect at most.
	MaxPacket int
	// WriteStall is how long one write may make no progress before its
	// connection is cut. Default 20 s.
	WriteStall time.Duration
	// Linger is how long an ended connection may take to read its last packets.
	// Default 1 s; a revoked one gets revokeLinger.
	Linger time.Duration
	// Domain is the server's own: a TLS server name ORG.DOMAIN or
	// ORG.messaging.DOMAIN must agree with the credential's organisation.
	Domain string
	// Failures remembers addresses whose credentials were wrong; nil: none are.
	Failures *listen.Failures
	// Buffer is how many bytes of packets and waiting messages all clients
	// together may have in memory. Nobody may hold more than what is left of it.
	// Default 1 GiB.
	Buffer   int64
	Observer Observer // nil: nobody is told
	Monitor  Monitor  // likewise
	// Intake is handed what enters under IntakePrefix, which is one of routed topics,
	// ends in a slash and is never empty. Nil: nothing is.
	Intake       Intake
	IntakePrefix string
	Log          *slog.Logger // default: discard
}

// maxConnect bounds the one packet of a client that nobody knows yet, in bytes:
// a will of the default payload_max, and twice that for everything else.
const maxConnect = 384 << 10

// Deps is what a Broker stands on.
type Deps struct {
	Decider   policy.Decider
	Verifiers *plugins.Set
	Registry  Registry
	// Store is where sessions that outlive their connection are kept, and what is
	// retained. It is closed after Shutdown has returned.
	Store store.Store
}

// Registry is what the broker asks of the registry, about live sessions.
type Registry interface {
	// Refresh returns p as the registry knows it now, or a plugins.Refusal when
	// its organisation, subject or credential no longer stands.
	Refresh(ctx context.Context, p *policy.Principal) (policy.Principal, error)
	// OrganisationFacts returns what policies may know of the organisation.
	OrganisationFacts(ctx context.Context, org policy.OrgID) (*policy.Organisation, error)
	// DeviceFacts returns what the registry knows of a device; a device it does
	// not know has Registered false and is no error.
	DeviceFacts(ctx context.Context, org policy.OrgID, typ, id policy.ID) (*policy.Device, error)
	// Stands reports whether p's organisation and subject still exist and are in
	// service, whatever has become of the credential it was verified by.
	Stands(ctx context.Context, p *policy.Principal) (bool, error)
	// SessionQuotas returns the organisation's finite quotas.
	SessionQuotas(ctx context.Context, org policy.OrgID) (Quotas, error)
}

// Quotas bound what all clients of an organisation hold together. Each field is
// a finite number; zero allows none.
type Quotas struct {
	Connections   int
	Sessions      int
	Subscriptions int
	RetainedBytes int64
	PublishRate   float64 // messages a second
	StoredBytes   int64   // of messages that wait in sessions
	// EvaluationsRate is how many decisions a second may be evaluated that
	// nobody remembers.
	EvaluationsRate float64
}

// Broker is the enforcement point: it owns connections, sessions and delivery.
type Broker struct {
	cfg       Config
	log       *slog.Logger
	decider   policy.Decider
	verifiers *plugins.Set
	registry  Registry
	store     store.Store
	budget    budget
	seed      maphash.Seed // of hashes that stay in memory
	crew      crew
	short     atomic.Bool // free space is below the watermark
	callers   callers
	refused   refusals
	lines     refusedLines
	stats     stats
	changes   atomic.Uint64 // registry changes so far
	sweeps    atomic.Uint64 // begun so far
	visits    atomic.Uint64 // connections that were let in so far

	guarded struct {
		sync.Mutex
		spaces map[spaceKey]*space
		conns  map[*conn]struct{}
		closed bool

		listeners map[string]int // connections by the name of their listener
	}
	work sync.WaitGroup // timers, sweeps and connections
}

// New makes a Broker. It serves nothing until Serve is called.
func New(cfg Config, deps Deps) *Broker {
	if cfg.MaxPacket == 0 {
		cfg.MaxPacket = 1 << 20
	}
	if cfg.WriteStall == 0 {
		cfg.WriteStall = 20 * time.Second
	}
	if cfg.Linger == 0 {
		cfg.Linger = time.Second
	}
	if cfg.Buffer == 0 {
		cfg.Buffer = 1 << 30
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Observer == nil {
		cfg.Observer = unobserved{}
	}
	if cfg.Monitor == nil {
		cfg.Monitor = unmonitored{}
	}
	b := &Broker{cfg: cfg, log: cfg.Log, decider: deps.Decider, verifiers: deps.Verifiers, registry: deps.Registry, store: deps.Store, seed: maphash.MakeSeed()}
	b.budget.total = cfg.Buffer
	b.guarded.spaces = make(map[spaceKey]*space)
	b.guarded.conns = make(map[*conn]struct{})
	b.guarded.listeners = make(map[string]int)
	return b
}

// Serve carries one accepted connection from its first packet to its last; the
// listener calls it in a goroutine of its own.
func (b *Broker) Serve(nc *listen.Conn) {
	c := newConn(b, nc)
	if !b.addConn(c) {
		nc.Abort()
		return
	}
	defer b.removeConn(c)
	c.serve()
}

// Shutdown says goodbye to every client and waits until all connections,
// timers and sweeps have ended, or ctx has. Sessions end with the process; a
// will is not fired, because the client did nothing wrong and will be back.
func (b *Broker) Shutdown(ctx context.Context) error {
	b.guarded.Lock()
	b.guarded.closed = true
	b.sweeps.Add(1) // ends the one that is under way
	conns := make([]*conn, 0, len(b.guarded.conns))
	for c := range b.guarded.conns {
		conns = append(conns, c)
	}
	spaces := make([]*space, 0, len(b.guarded.spaces))
	for _, sp := range b.guarded.spaces {
		spaces = append(spaces, sp)
	}
	b.guarded.Unlock()

	for _, c := range conns {
		c.end(ending{cause: policy.CauseShutdown, will: willNever})
	}
	for _, sp := range spaces {
		for _, s := range sp.list() {
			s.stopTimers()
		}
	}
	done := make(chan struct{})
	go func() { b.work.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
		for _, c := range conns {
			c.nc.Abort()
		}
		<-done
	}
	b.crew.close()
	b.endRefused() //nolint:contextcheck // what is logged has no caller
	return ctx.Err()
}

// SetShort says whether storage is short. As long as it is, messages at QoS 1
// and 2 are refused, because a full disk would take the whole store with it;
// everything else goes on.
func (b *Broker) SetShort(short bool) { b.short.Store(short) }

// Short reports what SetShort said last.
func (b *Broker) Short() bool { return b.short.Load() }

// errClosed is what begins after Shutdown began.
var errClosed = errors.New("broker is shut down")

// enter counts one piece of background work in; the caller calls b.work.Done.
func (b *Broker) enter() bool {
	b.guarded.Lock()
	defer b.guarded.Unlock()
	if b.guarded.closed {
		return false
	}
	b.work.Add(1)
	return true
}

// background runs f in a goroutine that Shutdown waits for; not at all once it began.
func (b *Broker) background(f func()) {
	if b.enter() {
		go func() {
			defer b.work.Done()
			f()
		}()
	}
}

func (b *Broker) addConn(c *conn) bool {
	b.guarded.Lock()
	defer b.guarded.Unlock()
	if b.guarded.closed {
		return false
	}
	b.work.Add(1)
	b.guarded.conns[c] = struct{}{}
	b.guarded.listeners[c.nc.Listener]++
	return true
}

func (b *Broker) removeConn(c *conn) {
	b.guarded.Lock()
	delete(b.guarded.conns, c)
	b.guarded.listeners[c.nc.Listener]--
	b.guarded.Unlock()
	b.work.Done()
}

// space returns the space of an organisation's incarnation, making it on first use.
func (b *Broker) space(org policy.OrgID, incarnation uint64) (*space, error) {
	b.guarded.Lock()
	defer b.guarded.Unlock()
	if b.guarded.closed {
		return nil, errClosed
	}
	key := spaceKey{org, incarnation}
	sp := b.guarded.spaces[key]
	if sp == nil {
		sp = newSpace(b, key)
		b.guarded.spaces[key] = sp
	}
	return sp, nil
}

func (b *Broker) listSpaces() []*space {
	b.guarded.Lock()
	defer b.guarded.Unlock()
	spaces := make([]*space, 0, len(b.guarded.spaces))
	for _, sp := range b.guarded.spaces {
		spaces = append(spaces, sp)
	}
	return spaces
}
