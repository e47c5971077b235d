package ledger

import (
	"errors"
	"time"

	"github.com/cordon-mq/cordon/broker/store"
)

// MaxEvents is how many events of different names are kept of a device.
const MaxEvents = 5

// Event is the last event of one name that a device sent.
type Event struct {
	Name    string    `json:"event"`
	Format  string    `json:"format"`
	Payload []byte    `json:"payload"`
	Time    time.Time `json:"time"`
}

// PutEvent keeps e. Where that makes too many names, the one that was heard least
// lately goes. It may be ErrFull.
func (b *Batch) PutEvent(t Tenant, d Device, e *Event) error {
	key := t.scope().Key(store.KindLastEvent, d.parts(e.Name)...)
	_, had, err := read[Event](b, key)
	if err != nil {
		return err
	}
	if err := b.note(t, key, e); err != nil || had {
		return err
	}
	return b.makeRoom(t, d)
}

func (b *Batch) makeRoom(t Tenant, d Device) error {
	prefix := t.scope().Prefix(store.KindLastEvent, d.parts()...)
	names := map[store.Key]time.Time{}
	look := func(key store.Key, value []byte) {
		e, err := decode[Event](value)
		if err != nil {
			e.Time = time.Time{}
		}
		names[key] = e.Time
	}
	err := b.store.Scan(prefix, store.Key{}, func(key store.Key, value []byte) bool {
		look(key, value)
		return true
	})
	if err != nil {
		return err
	}
	for _, op := range b.ops {
		switch {
		case !prefix.Covers(op.Key()):
		case op.IsDelete():
			delete(names, op.Key())
		default:
			look(op.Key(), op.Value())
		}
	}
	for len(names) > MaxEvents {
		var oldest store.Key
		for key, at := range names {
			if oldest.IsZero() || at.Before(names[oldest]) || at.Equal(names[oldest]) && key.Compare(oldest) < 0 {
				oldest = key
			}
		}
		delete(names, oldest)
		if err := b.drop(t, oldest); err != nil {
			return err
		}
	}
	return nil
}

// Event is the last event of that name; ok is false where there is none since a
// moment.
func (l *Ledger) Event(t Tenant, d Device, name string, since time.Time) (_ Event, ok bool, err error) {
	e, ok, err := read[Event](l.store, t.scope().Key(store.KindLastEvent, d.parts(name)...))
	return e, ok && !e.Time.Before(since), err
}

// Events are the last events of d since a moment, by name: shorter ones first.
func (l *Ledger) Events(t Tenant, d Device, since time.Time) (all []Event, err error) {
	err = l.store.Scan(t.scope().Prefix(store.KindLastEvent, d.parts()...), store.Key{}, func(_ store.Key, value []byte) bool {
		if e, err := decode[Event](value); err == nil && !e.Time.Before(since) {
			all = append(all, e)
		}
		return true
	})
	return all, err
}

// ForgetEvents removes, in steps, every event of the organisation from before a
// moment: all of them with a zero one.
func (b *Batch) ForgetEvents(t Tenant, before time.Time) error {
	var failure error
	err := b.store.Scan(t.scope().Prefix(store.KindLastEvent), store.Key{}, func(key store.Key, value []byte) bool {
		if e, err := decode[Event](value); err != nil || before.IsZero() || e.Time.Before(before) {
			failure = b.drop(t, key)
		}
		return failure == nil && !b.Full()
	})
	return errors.Join(err, failure)
}
