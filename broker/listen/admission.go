package listen

import (
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"time"
)

// AdmissionConfig bounds what peers may hold and do while nobody knows who they
// are. Values that are zero or negative get their default.
type AdmissionConfig struct {
	// MaxConns bounds the connections held at one time. Default 100 000; the
	// limit on open files must allow it. At the limit, listeners wait.
	MaxConns int

	// MaxPending bounds the connections that are not authenticated yet. Default
	// 8 192, which take about 250 MB while they shake hands. More are closed.
	MaxPending int

	// MaxPendingPerAddress is the share of one address. Default 256.
	MaxPendingPerAddress int

	// ConnectRate is how many connections per second one address may open.
	// Default 100, with a burst of five seconds' worth: a site behind one address
	// reconnects within moments, and a single host cannot keep the processors
	// busy with handshakes. More are closed.
	ConnectRate float64

	Log *slog.Logger // default: discard
}

const (
	defaultMaxPending           = 8192
	defaultMaxPendingPerAddress = 256
	defaultConnectRate          = 100
	connectBurstTime            = 5 // seconds

	refusalLogPeriod = time.Second // refusals of one kind are logged no more often
)

func (c AdmissionConfig) withDefaults() AdmissionConfig {
	if c.MaxConns <= 0 {
		c.MaxConns = defaultMaxConns
	}
	if c.MaxPending <= 0 {
		c.MaxPending = defaultMaxPending
	}
	if c.MaxPendingPerAddress <= 0 {
		c.MaxPendingPerAddress = defaultMaxPendingPerAddress
	}
	if c.ConnectRate <= 0 {
		c.ConnectRate = defaultConnectRate
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// Admission counts connections over all listeners that share it. Make one with
// NewAdmission. Limits per address leave the loopback interface alone, where
// everybody has the same address.
type Admission struct {
	cfg      AdmissionConfig
	conns    limit
	connects *buckets
	pending  struct {
		sync.Mutex
		total     int
		byAddress map[netip.Prefix]int // no zero entries, so never more than total
	}
	refusals struct {
		sync.Mutex
		counts map[refusal]*refusalCount
	}
}

// refusal is why a connection is closed at once.
type refusal string

const (
	tooManyPending    refusal = "too many connections that are not authenticated"
	tooManyOfAddress  refusal = "too many connections of one address that are not authenticated"
	addressTooOften   refusal = "one address connects too often"
	tooManyWebSockets refusal = "too many WebSocket connections"
)

func (r refusal) Error() string { return string(r) }

// refusalCount is how many of one kind were not logged yet.
type refusalCount struct {
	count int
	last  time.Time // of the log line
}

// NewAdmission returns an Admission that nobody has entered.
func NewAdmission(cfg AdmissionConfig) *Admission {
	cfg = cfg.withDefaults()
	a := &Admission{
		cfg:      cfg,
		conns:    make(limit, cfg.MaxConns),
		connects: newBuckets(cfg.ConnectRate, max(1, int(cfg.ConnectRate*connectBurstTime)), maxAddresses),
	}
	a.pending.byAddress = make(map[netip.Prefix]int)
	a.refusals.counts = make(map[refusal]*refusalCount)
	return a
}

// place is one connection among those not authenticated. Its owner calls leave.
type place struct {
	admission *Admission
	state     struct {
		sync.Mutex
		key   netip.Prefix
		named bool // counted under key
		left  bool
	}
}

// enter counts a connection whose address may still be unknown.
func (a *Admission) enter() (*place, error) {
	a.pending.Lock()
	defer a.pending.Unlock()
	if a.pending.total >= a.cfg.MaxPending {
		return nil, tooManyPending
	}
	a.pending.total++
	return &place{admission: a}, nil
}

// name says whose connection it is, once, and judges the address.
func (p *place) name(addr netip.Addr) error {
	if exempt(addr) {
		return nil
	}
	a, key := p.admission, addressKey(addr)
	if !a.connects.take(key) {
		return addressTooOften
	}
	p.state.Lock()
	defer p.state.Unlock()
	a.pending.Lock()
	defer a.pending.Unlock()
	if a.pending.byAddress[key] >= a.cfg.MaxPendingPerAddress {
		return tooManyOfAddress
	}
	a.pending.byAddress[key]++
	p.state.key, p.state.named = key, true
	return nil
}

// leave gives the place up. Later calls do nothing.
func (p *place) leave() {
	p.state.Lock()
	defer p.state.Unlock()
	if p.state.left {
		return
	}
	p.state.left = true
	a := p.admission
	a.pending.Lock()
	defer a.pending.Unlock()
	a.pending.total--
	if !p.state.named {
		return
	}
	if a.pending.byAddress[p.state.key]--; a.pending.byAddress[p.state.key] == 0 {
		delete(a.pending.byAddress, p.state.key)
	}
}

// refused reports whether err is a refusal, and says so in the log: at once,
// then at most once a second for each kind, with how many there were.
func (a *Admission) refused(err error, from netip.AddrPort) bool {
	var kind refusal
	if !errors.As(err, &kind) {
		return false
	}
	if count := a.toLog(kind); count > 0 {
		a.cfg.Log.Warn("connections refused", "reason", string(kind), "count", count, "last", from)
	}
	return true
}

// toLog counts a refusal and returns how many a line of the log is now about; 0
// if it has to wait.
func (a *Admission) toLog(kind refusal) int {
	a.refusals.Lock()
	defer a.refusals.Unlock()
	unlogged := a.refusals.counts[kind]
	if unlogged == nil {
		unlogged = new(refusalCount)
		a.refusals.counts[kind] = unlogged
	}
	unlogged.count++
	now := time.Now()
	if !unlogged.last.IsZero() && now.Sub(unlogged.last) < refusalLogPeriod {
		return 0
	}
	count := unlogged.count
	unlogged.count, unlogged.last = 0, now
	return count
}
