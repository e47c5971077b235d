package broker_test

import (
	"testing"

	"github.com/cordon-mq/cordon/broker/durable"
	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/broker/wire"
)

// record is what is stored of the only session there is; nil: nothing.
func (s scene) record() (found *durable.Session) {
	s.t.Helper()
	for _, scope := range s.w.scopes() {
		must(s.t, s.w.store.Scan(scope.Prefix(store.KindSession), store.Key{}, func(_ store.Key, value []byte) bool {
			record, err := durable.ParseSession(value)
			must(s.t, err)
			found = record
			return true
		}))
	}
	return found
}

// The end of one connection and the beginning of the next are stored in that
// order, however slow the first is on its way: else a crash would count the
// session's time from when it was left, while its client is there.
func TestDisconnectIsStoredBeforeTheReturn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rules{}.bundle(t))
	s := scene{t, w, w.org("acme01"), wire.V5}
	other := s.connect("d2")
	old := s.connect("d1", kept)
	w.store.delayed(func(op store.Op) bool {
		if op.Key().Kind() != store.KindSession || op.IsDelete() {
			return false
		}
		record, err := durable.ParseSession(op.Value())
		return err == nil && !record.Offline.IsZero()
	})
	old.Close()
	eventually(t, func() bool { return w.store.stalls() == 1 })
	judged := make(chan struct{})
	w.decider.afterNextConnect(func() { close(judged) })
	c := w.start(t, s.acme.device("d1"), wire.V5, kept)
	<-judged
	for range 100 { // it would have its answer by then, if it did not wait
		other.ping()
	}
	w.store.delayed(nil)
	c.Expect(wire.TypeConnack)
	eventually(t, func() bool { return len(w.log.find("msg", "connected")) == 3 })
	w.store.settle()
	if r := s.record(); r == nil || !r.Offline.IsZero() {
		t.Errorf("stored as left at %v, and its client is there", r.Offline)
	}
}

// A session that is purged while its connection ends stays purged.
func TestPurgeIsStoredAfterTheDisconnect(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rules{}.bundle(t))
	s := scene{t, w, w.org("acme01"), wire.V5}
	other := s.connect("d2")
	old := s.connect("d1", kept)
	w.store.delayed(func(op store.Op) bool { return op.Key().Kind() == store.KindSession && !op.IsDelete() })
	old.Close()
	eventually(t, func() bool { return w.store.stalls() == 1 })
	deleted := make(chan error, 1)
	go func() { deleted <- w.registry.DeleteDevice(ctx, s.acme.id, "sensor", "d1") }()
	eventually(t, func() bool {
		_, err := w.registry.Device(ctx, s.acme.id, "sensor", "d1")
		return err != nil
	})
	for range 100 {
		other.ping()
	}
	w.store.delayed(nil)
	must(t, <-deleted)
	w.store.settle()
	if r := s.record(); r != nil {
		t.Errorf("stored, left at %v", r.Offline)
	}
}
