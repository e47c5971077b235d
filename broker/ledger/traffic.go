package ledger

import (
	"context"
	"time"

	"github.com/cordon-mq/cordon/broker/store"
)

// Day is a date in UTC, such as "2026-11-22".
const dayFormat = time.DateOnly

// Traffic is what went over the connections of an organisation on one day.
type Traffic struct {
	Date  string
	Bytes uint64
}

// AddTraffic counts n bytes more on the day of a moment.
func (b *Batch) AddTraffic(t Tenant, at time.Time, n uint64) error {
	key := t.scope().Key(store.KindTraffic, at.UTC().Format(dayFormat))
	so, _, err := read[uint64](b, key)
	if err != nil {
		return err
	}
	return b.put(key, so+n)
}

// Traffic is that of each day from one to another, both included, where there was
// any.
func (l *Ledger) Traffic(t Tenant, from, to time.Time) (days []Traffic, err error) {
	first, last := from.UTC().Format(dayFormat), to.UTC().Format(dayFormat)
	err = l.store.Scan(t.scope().Prefix(store.KindTraffic), store.Key{}, func(key store.Key, value []byte) bool {
		parts := key.Parts()
		if n, err := decode[uint64](value); err == nil && len(parts) == 1 && parts[0] >= first && parts[0] <= last {
			days = append(days, Traffic{parts[0], n})
		}
		return true
	})
	return days, err
}

// Noting is what an organisation wants noted.
type Noting struct {
	ClientState bool `json:"clientState"` // shown; it is kept for the monitoring messages anyway
	LastEvents  bool `json:"lastEvents"`
	TTLDays     int  `json:"ttlDays"` // of last events
}

// DefaultNoting is that of an organisation that said nothing.
func DefaultNoting() Noting { return Noting{ClientState: true, TTLDays: 7} }

// Noting is what the organisation wants.
func (l *Ledger) Noting(t Tenant) (Noting, error) {
	n, ok, err := read[Noting](l.store, notingKey(t))
	if err != nil || !ok {
		return DefaultNoting(), err
	}
	return n, nil
}

// SetNoting changes it.
func (l *Ledger) SetNoting(ctx context.Context, t Tenant, n Noting) error {
	b := l.Batch()
	if err := b.put(notingKey(t), n); err != nil {
		return err
	}
	return b.Commit(ctx)
}

func notingKey(t Tenant) store.Key { return t.scope().Key(store.KindNoting) }
