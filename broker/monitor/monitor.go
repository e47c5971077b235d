package monitor

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/cordon-mq/cordon/broker"
	"github.com/cordon-mq/cordon/broker/ledger"
	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/topic"
)

// Registry is what the monitor asks of the registry.
type Registry interface {
	Organisation(ctx context.Context, org policy.OrgID) (registry.Organisation, error)
	DeviceIncarnation(ctx context.Context, org policy.OrgID, typ, id policy.ID) (uint64, error)
	APIKey(ctx context.Context, org policy.OrgID, key string) (registry.APIKey, error)
}

// Broker is what it asks of the broker.
type Broker interface {
	Voice(mounts topic.Mounts) *broker.Voice
	Visits(fn func(*broker.Visit))
	Carried() map[broker.Tenant]uint64
	Tap(t broker.Tenant, on bool)
	// Short reports whether storage is: then no events are kept.
	Short() bool
}

// Config may be zero.
type Config struct {
	Log *slog.Logger // nil: nothing is logged
	Now func() time.Time
	// Queue is how many arrivals and departures may wait; 0: 16384.
	Queue int
}

// Bounds of what waits.
const (
	defaultQueue = 16384
	eventQueue   = 1024
	eventBytes   = 16 << 20
	// batchMost is how many arrivals and departures are written together.
	batchMost = 512
	// pace is how long what comes next waits after a batch: who comes and goes within
	// it is written once. The first after a quiet time does not wait.
	pace = 50 * time.Millisecond
	// countEvery is how often traffic is counted, and sweepEvery how often last
	// events that are too old are removed.
	countEvery = 30 * time.Second
	sweepEvery = time.Hour
)

// Bounds of what is told of refused connects.
const (
	refusedRate, refusedBurst       = 100, 200 // a second, of all organisations
	refusedOrgRate, refusedOrgBurst = 5, 20    // and of one
)

// Monitor is a broker.Monitor.
type Monitor struct {
	log      *slog.Logger
	now      func() time.Time
	ledger   *ledger.Ledger
	registry Registry

	queue  chan told
	events chan event
	held   atomic.Int64 // bytes in events
	lost   atomic.Bool  // something was dropped that changes who is connected
	drops  atomic.Uint64
	full   atomic.Uint64 // events for which there was no room
	all    *rate.Limiter

	forgotten struct {
		sync.Mutex
		list []registry.Change
	}
	wake chan struct{}
	// tapping makes who changes what is noted and who reads it wait for each other.
	tapping sync.Mutex

	stop    chan struct{}
	done    chan struct{}
	started bool

	// The goroutine's own.
	broker  Broker
	voice   *broker.Voice
	visits  map[uint64]presence
	clients map[client]int
	places  map[place]int
	rates   map[policy.OrgID]*rate.Limiter
	carried map[broker.Tenant]uint64
}

// presence is a connection that there is, and where it is told of.
type presence struct {
	visit *broker.Visit
	topic string
}

// client is a client ID in its organisation, and place what a mon topic is about.
type (
	client struct {
		tenant broker.Tenant
		id     policy.ClientID
	}
	place struct {
		tenant broker.Tenant
		topic  string
	}
)

// told is one thing that the broker told.
type told struct {
	visit   *broker.Visit
	leaving broker.Leaving
	kind    action
}

type action string

const (
	connect       action = "Connect"
	failedConnect action = "FailedConnect"
	disconnect    action = "Disconnect"
)

// event is a message that is to be kept as a device's last event.
type event struct {
	tenant  broker.Tenant
	name    topic.RoutedName
	payload []byte
	at      time.Time
}

var _ broker.Monitor = (*Monitor)(nil)

// New makes a Monitor on a ledger. It may be told things from now on, and does
// something about them once it is started.
func New(cfg Config, l *ledger.Ledger, r Registry) *Monitor {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Queue <= 0 {
		cfg.Queue = defaultQueue
	}
	return &Monitor{
		log: cfg.Log, now: cfg.Now, ledger: l, registry: r,
		queue: make(chan told, cfg.Queue), events: make(chan event, eventQueue),
		all: rate.NewLimiter(refusedRate, refusedBurst), wake: make(chan struct{}, 1),
		stop: make(chan struct{}), done: make(chan struct{}),
		visits: map[uint64]presence{}, clients: map[client]int{}, places: map[place]int{},
		rates: map[policy.OrgID]*rate.Limiter{}, carried: map[broker.Tenant]uint64{},
	}
}

// deviceLevels are where a mon topic of a device names it.
func mounts() (topic.Mounts, error) {
	return topic.NewMounts([]topic.Mount{{Device: &topic.DeviceLevels{Type: 2, ID: 4}}})
}

// Start brings what earlier runs left up to date, and begins to work. It is
// called once, after Restore of the broker and before it serves.
func (m *Monitor) Start(ctx context.Context, b Broker, tenants []broker.Tenant) error {
	spelling, err := mounts()
	if err != nil {
		return err
	}
	m.broker, m.voice = b, b.Voice(spelling)
	for _, t := range tenants {
		if err := m.recover(ctx, t); err != nil {
			return err
		}
		noting, err := m.ledger.Noting(ledger.Tenant(t))
		if err != nil {
			return err
		}
		b.Tap(t, noting.LastEvents)
	}
	m.started = true
	go m.run() //nolint:contextcheck,gosec // its work is the broker's; Stop ends it
	return nil
}

// Stop does what waits still, and ends, if it was started. The broker has shut down
// before.
func (m *Monitor) Stop() {
	if !m.started {
		return
	}
	close(m.stop)
	<-m.done
}

// Dropped is how many arrivals, departures and events did not fit the queues.
func (m *Monitor) Dropped() uint64 { return m.drops.Load() }

// Full is how many events were not kept, because their organisation has no room for
// more; see ledger.MaxNoted.
func (m *Monitor) Full() uint64 { return m.full.Load() }

// Online implements broker.Monitor.
func (m *Monitor) Online(v *broker.Visit) { m.tell(told{visit: v, kind: connect}) }

// Offline implements broker.Monitor.
func (m *Monitor) Offline(v *broker.Visit, l broker.Leaving) {
	m.tell(told{visit: v, leaving: l, kind: disconnect})
}

// Refused implements broker.Monitor. It takes half of the queue at most: whoever
// guesses must not push out who comes and goes.
func (m *Monitor) Refused(v *broker.Visit, l broker.Leaving) {
	if len(m.queue) > cap(m.queue)/2 || !m.all.Allow() {
		return
	}
	select {
	case m.queue <- told{visit: v, leaving: l, kind: failedConnect}:
	default:
	}
}

func (m *Monitor) tell(t told) {
	select {
	case m.queue <- t:
	default:
		m.drops.Add(1)
		m.lost.Store(true)
	}
}

// Admitted implements broker.Monitor.
func (m *Monitor) Admitted(t broker.Tenant, name topic.RoutedName, payload []byte) {
	size := int64(len(payload))
	if m.held.Add(size) > eventBytes {
		m.held.Add(-size)
		m.drops.Add(1)
		return
	}
	select {
	case m.events <- event{t, name, payload, m.now()}:
	default:
		m.held.Add(-size)
		m.drops.Add(1)
	}
}

// Changed takes what changed in the registry, from a watch on it.
func (m *Monitor) Changed(list []registry.Change) {
	var gone []registry.Change
	for _, ch := range list {
		if ch.Kind == registry.SubjectDeleted && ch.Type != "" || ch.Kind == registry.OrganisationChanged {
			gone = append(gone, ch)
		}
	}
	if len(gone) == 0 {
		return
	}
	m.forgotten.Lock()
	m.forgotten.list = append(m.forgotten.list, gone...)
	m.forgotten.Unlock()
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// run is the goroutine.
func (m *Monitor) run() {
	defer close(m.done)
	ctx := context.Background()
	count, sweep := time.NewTicker(countEvery), time.NewTicker(sweepEvery)
	defer count.Stop()
	defer sweep.Stop()
	queue := m.queue // nil while there is a pause
	pause := time.NewTimer(pace)
	defer pause.Stop()
	for {
		var err error
		select {
		case <-pause.C:
			queue = m.queue
		case first := <-queue:
			err = m.notice(ctx, m.gather(first))
			if len(m.queue) < batchMost {
				queue = nil
				pause.Reset(pace)
			}
		case first := <-m.events:
			err = m.keep(ctx, first)
		case <-m.wake:
			err = m.forget(ctx)
		case <-count.C:
			err = m.count(ctx)
		case <-sweep.C:
			err = m.sweep(ctx)
		case <-m.stop:
			m.finish(ctx)
			return
		}
		if len(m.queue) == 0 && m.lost.Swap(false) {
			m.log.Warn("monitoring was behind and is put right", "dropped", m.drops.Load())
			err = errors.Join(err, m.correct(ctx))
		}
		if err != nil {
			m.log.Error("monitoring", "err", err)
		}
	}
}

// gather takes what waits, up to a batch.
func (m *Monitor) gather(first told) []told {
	batch := []told{first}
	for len(batch) < batchMost {
		select {
		case next := <-m.queue:
			batch = append(batch, next)
		default:
			return batch
		}
	}
	return batch
}

// finish does what waits; nobody tells anything any more.
func (m *Monitor) finish(ctx context.Context) {
	var errs []error
	for len(m.queue) > 0 {
		errs = append(errs, m.notice(ctx, m.gather(<-m.queue)))
	}
	for len(m.events) > 0 {
		errs = append(errs, m.keep(ctx, <-m.events))
	}
	errs = append(errs, m.forget(ctx), m.count(ctx))
	if err := errors.Join(errs...); err != nil {
		m.log.Error("monitoring, at the end", "err", err)
	}
}
