package management

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cordon-mq/cordon/broker"
	"github.com/cordon-mq/cordon/broker/ledger"
	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/topic"
)

// Prefix is that of the routed topics on which devices speak.
const Prefix = "iotdevice-1/"

// Bounds of what waits, and of requests.
const (
	// declinedMost is how many answers to messages without room may wait, and
	// declinedBytes how long such a message may be.
	declinedMost  = 1024
	declinedBytes = 4 << 10
	// deskMost is how many organisations are worked for at once.
	deskMost = 16
	// sweepEvery is how often requests whose time is over are ended.
	sweepEvery = 30 * time.Second

	// MaxDevices is how many devices one request may name.
	MaxDevices = 5000
	// MaxOpen is how many requests of an organisation may be open.
	MaxOpen = 100
	// MaxRequests is how many are kept.
	MaxRequests = 500
	// MaxTasks is for how many devices altogether.
	MaxTasks = 50_000
	// maxOpenOfDevice is how many open requests may name one device.
	maxOpenOfDevice = 16

	// Timeouts of a request.
	DefaultTimeout = time.Hour
	MinTimeout     = time.Minute
	MaxTimeout     = 7 * 24 * time.Hour

	// maxMessage is the longest message that is read, in bytes; maxDepth how deep it
	// may be nested; maxReqID the longest reqId.
	maxMessage = 64 << 10
	maxDepth   = 24
	maxReqID   = 256
)

// Registry is what management asks of the registry.
type Registry interface {
	Organisation(ctx context.Context, org policy.OrgID) (registry.Organisation, error)
	Device(ctx context.Context, org policy.OrgID, typ, id policy.ID) (registry.Device, error)
	DeviceIncarnation(ctx context.Context, org policy.OrgID, typ, id policy.ID) (uint64, error)
	ManageDevice(ctx context.Context, org policy.OrgID, typ, id policy.ID, edit func(*registry.Device, *registry.Managed) error) (registry.Managed, error)
	NoteDevice(ctx context.Context, org policy.OrgID, typ, id policy.ID, edit func(*registry.Device) error) error
	ManagedDevice(ctx context.Context, org policy.OrgID, typ, id policy.ID) (registry.Managed, error)
	UpdateManaged(ctx context.Context, org policy.OrgID, typ, id policy.ID, edit func(*registry.Managed) error) error
	UnmanageDevice(ctx context.Context, org policy.OrgID, typ, id policy.ID) error
	ActionBundle(ctx context.Context, org policy.OrgID, id string) (registry.ActionBundle, error)
}

// Broker is what it asks of the broker.
type Broker interface {
	Voice(mounts topic.Mounts) *broker.Voice
}

// Config may be zero.
type Config struct {
	Log *slog.Logger // nil: nothing is logged
	Now func() time.Time
}

// Management is a broker.Intake. It may be handed messages from the beginning, and
// does something about them once it is started.
type Management struct {
	log      *slog.Logger
	now      func() time.Time
	ledger   *ledger.Ledger
	registry Registry
	voice    *broker.Voice // since Start

	slots    chan struct{} // one for each desk that works
	declined chan declined
	drops    atomic.Uint64
	stop     chan struct{}
	work     sync.WaitGroup

	guarded struct {
		sync.Mutex
		desks   map[ledger.Tenant]*desk
		started bool
		stopped bool
	}
}

// declined is a message that found no room.
type declined struct {
	tenant  broker.Tenant
	name    topic.RoutedName
	payload []byte
}

var _ broker.Intake = (*Management)(nil)

// New makes a Management whose requests are in l.
func New(cfg Config, l *ledger.Ledger, r Registry) *Management {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	m := &Management{
		log: cfg.Log, now: cfg.Now, ledger: l, registry: r,
		slots: make(chan struct{}, deskMost), declined: make(chan declined, declinedMost), stop: make(chan struct{}),
	}
	m.guarded.desks = map[ledger.Tenant]*desk{}
	return m
}

// Start begins to work, first on what an earlier run left. It is called once, after
// Restore of the broker and before it serves.
func (m *Management) Start(b Broker, tenants []broker.Tenant) error {
	spelling, err := topic.NewMounts([]topic.Mount{{Device: &topic.DeviceLevels{Type: 2, ID: 4}}})
	if err != nil {
		return err
	}
	m.voice = b.Voice(spelling)
	m.guarded.Lock()
	m.guarded.started = true
	m.guarded.Unlock()
	for _, t := range tenants {
		m.desk(ledger.Tenant(t)).put(job{resume: true})
	}
	m.work.Go(m.run)
	return nil
}

// Stop ends the work, and waits for what is under way. What waits still is dealt
// with after the next start, as far as it was acknowledged. The broker shuts down
// after that.
func (m *Management) Stop() {
	m.guarded.Lock()
	began := m.guarded.started && !m.guarded.stopped
	m.guarded.stopped = true
	m.guarded.Unlock()
	if began {
		close(m.stop)
	}
	m.work.Wait()
}

// stopping reports whether Stop was called.
func (m *Management) stopping() bool {
	m.guarded.Lock()
	defer m.guarded.Unlock()
	return m.guarded.stopped
}

// Dropped is how many messages found no room.
func (m *Management) Dropped() uint64 { return m.drops.Load() }

// Take implements broker.Intake.
func (m *Management) Take(a *broker.Arrival) {
	m.desk(ledger.Tenant(a.Tenant)).put(job{arrival: a})
}

// Full implements broker.Intake: whoever asks is told to try again. What is
// no question cannot be answered, so its sender is refused.
func (m *Management) Full(t broker.Tenant, name topic.RoutedName, payload []byte) bool {
	m.drops.Add(1)
	s, ok := speakerOf(name)
	if !ok || s.what == "response" || len(payload) > declinedBytes {
		return false
	}
	select {
	case m.declined <- declined{t, name, payload}:
		return true
	default:
		return false
	}
}

// Changed takes what changed in the registry, from a watch on it. A message that a
// deleted device left is not for its namesake.
func (m *Management) Changed(list []registry.Change) {
	for i := range list {
		ch := &list[i]
		t := ledger.Tenant{Org: ch.Org, Incarnation: ch.Incarnation}
		switch {
		case ch.Kind == registry.OrganisationDeleted:
			m.guarded.Lock()
			d := m.guarded.desks[t]
			delete(m.guarded.desks, t)
			m.guarded.Unlock()
			if d != nil {
				d.close()
			}
		case ch.Kind == registry.SubjectDeleted && ch.Type != "":
			d := m.desk(t)
			d.forget(ch.Type, ch.ID)
			d.put(job{gone: &goneDevice{ch.Type, ch.ID, ch.DeviceIncarnation}})
		}
	}
}

// desk is that of an organisation, which is made with the first use.
func (m *Management) desk(t ledger.Tenant) *desk {
	m.guarded.Lock()
	defer m.guarded.Unlock()
	d := m.guarded.desks[t]
	if d == nil {
		d = &desk{m: m, tenant: t}
		m.guarded.desks[t] = d
	}
	return d
}

// run answers what found no room, and looks after time.
func (m *Management) run() {
	ctx := context.Background()
	sweep := time.NewTicker(sweepEvery)
	defer sweep.Stop()
	for {
		select {
		case d := <-m.declined:
			if s, ok := speakerOf(d.name); ok {
				said, _ := parseMessage(d.payload)
				m.answer(ctx, ledger.Tenant(d.tenant), s, said.ReqID, &refusal{conflict, "the server is busy; try again later"})
			}
		case <-sweep.C:
			m.sweep()
		case <-m.stop:
			return
		}
	}
}

// sweep has every desk end the requests whose time is over.
func (m *Management) sweep() {
	m.guarded.Lock()
	defer m.guarded.Unlock()
	for _, d := range m.guarded.desks {
		if d.due(m.now()) {
			d.putLocked(job{expire: true}, m.guarded.started && !m.guarded.stopped)
		}
	}
}
