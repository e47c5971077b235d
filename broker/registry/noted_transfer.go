package registry

import (
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/cordon-mq/cordon/broker/ledger"
	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/policy"
)

// What is noted beside the registry and goes along with an organisation: what it wants
// noted, and the diagnostics of its devices. Who is connected, connection logs, last
// events and traffic are of the place where they came about, and stay there.

// notedKinds are those, in order.
func notedKinds() []store.Kind { return []store.Kind{store.KindNoting, store.KindDiagnostic} }

// noted writes what is noted. The registry was written before, at another moment:
// until is the last write that it surely has. What is noted of a device that came
// later is left out, since that device is not in the file.
func (x *exporting) noted(s store.Reader, scope store.Scope, until uint64) error {
	var failure error
	known, standing := ledger.Device{}, false
	for _, kind := range notedKinds() {
		err := s.Scan(scope.Prefix(kind), store.Key{}, func(key store.Key, value []byte) bool {
			if kind == store.KindNoting {
				if len(key.Parts()) == 0 {
					failure = x.record(key, value)
				}
				return failure == nil
			}
			d, _, _, ok := ledger.ParseDiagnosticParts(key.Parts())
			if ok && d != known {
				known = d
				found, err := load[Device](s, deviceKey(scope, d.Type, d.ID))
				standing = err == nil && found.Record.Incarnation == d.Incarnation && d.Incarnation <= until
				if err != nil && !errors.Is(err, store.ErrNotFound) {
					failure = err
				}
			}
			if ok && standing && failure == nil {
				failure = x.record(key, value)
			}
			return failure == nil
		})
		if err := errors.Join(err, failure); err != nil {
			return err
		}
	}
	return nil
}

func showNoting(value []byte) (any, error) { return ledger.ParseNoting(value) }

func showDiagnostic(value []byte) (any, error) { return ledger.ParseDiagnostic(value) }

// ownerOf says whose record it is, for the kinds of lines that do.
func ownerOf(key store.Key) string {
	switch key.Kind() {
	case store.KindCredential:
		return credentialName(key.Parts())
	case store.KindDiagnostic:
		d, of, _, _ := ledger.ParseDiagnosticParts(key.Parts())
		return string(d.Type) + "/" + string(d.ID) + "/" + string(of)
	default:
		return ""
	}
}

// owned reports whether lines of a kind say whose their records are.
func owned(kind store.Kind) bool { return kind == store.KindCredential || kind == store.KindDiagnostic }

func takeNoting(_ *staging, l *exportLine) (placed, error) {
	n, err := taken[ledger.Noting](l)
	if err != nil {
		return placed{}, err
	}
	if n.TTLDays < 1 || n.TTLDays > 45 {
		return placed{}, invalid("ttlDays", "must be 1 to 45")
	}
	value, err := n.Value()
	return placed{store: func(w *writing, key store.Key) error { w.add(store.Put(key, value)); return nil }}, err
}

func takeDiagnostic(s *staging, l *exportLine) (placed, error) {
	e, err := taken[ledger.Diagnostic](l)
	if err != nil {
		return placed{}, err
	}
	of := strings.Split(l.Of, "/")
	if len(of) != 3 || of[2] != string(ledger.DiagnosticLog) && of[2] != string(ledger.ErrorCodes) {
		return placed{}, invalid("of", "must be TYPE/ID/log or TYPE/ID/code")
	}
	typ, typErr := policy.ParseID("of", of[0])
	id, idErr := policy.ParseID("of", of[1])
	_, nameErr := policy.ParseID("id", e.ID)
	if err := errors.Join(typErr, idErr, nameErr, checkDiagnostic(&e)); err != nil {
		return placed{}, err
	}
	if s.diagnosed.of != l.Of {
		s.diagnosed.of, s.diagnosed.entries = l.Of, 0
	}
	if s.diagnosed.entries++; s.diagnosed.entries > ledger.MaxDiagnostics {
		return placed{}, invalid("of", "must have at most "+strconv.Itoa(ledger.MaxDiagnostics)+" entries")
	}
	found, err := load[Device](s.registry.store, deviceKey(s.scope, typ, id))
	if errors.Is(err, store.ErrNotFound) {
		return placed{}, invalid("of", "must be a device of the file")
	}
	value, encodeErr := e.Value()
	d := ledger.Device{Type: typ, ID: id, Incarnation: found.Record.Incarnation}
	return placed{ledger.DiagnosticParts(d, ledger.Diagnosis(of[2]), e.ID), func(w *writing, key store.Key) error {
		w.add(store.Put(key, value))
		return nil
	}}, errors.Join(err, encodeErr)
}

func checkDiagnostic(e *ledger.Diagnostic) error {
	for _, text := range []string{e.Message, e.Data} {
		if len(text) > ledger.MaxDiagnosticText || !utf8.ValidString(text) {
			return invalid("message", "and data must each be UTF-8 of at most "+strconv.Itoa(ledger.MaxDiagnosticText)+" bytes")
		}
	}
	if e.Severity < 0 || e.Severity > 2 {
		return invalid("severity", "must be 0, 1 or 2")
	}
	at := e.Time // as exact as it was noted
	return checkTime("time", &at)
}

// adoptDiagnostic adds an entry to the device that it was about: one of the same name
// that was registered at another moment is another device.
func adoptDiagnostic(w *writing, s *staging, h home, name []string) (bool, error) {
	d, of, id, ok := ledger.ParseDiagnosticParts(name)
	if !ok {
		return false, nil
	}
	staged, err := load[Device](s.registry.store, deviceKey(s.scope, d.Type, d.ID))
	if err != nil {
		return false, err
	}
	live, err := load[Device](w, deviceKey(h.scope, d.Type, d.ID))
	if err != nil || !live.Record.Created.Equal(staged.Record.Created) {
		return false, missing(err, "device")
	}
	there := ledger.Device{Type: d.Type, ID: d.ID, Incarnation: live.Record.Incarnation}
	key := h.scope.Key(store.KindDiagnostic, ledger.DiagnosticParts(there, of, id)...)
	if _, err := w.Get(key); !errors.Is(err, store.ErrNotFound) {
		return false, err
	}
	parts := ledger.DiagnosticParts(there, of, id)
	entries, err := w.countUnder(h.scope.Prefix(store.KindDiagnostic, parts[:len(parts)-1]...))
	if err != nil || entries >= ledger.MaxDiagnostics {
		return false, err
	}
	value, err := s.registry.store.Get(s.scope.Key(store.KindDiagnostic, name...))
	if err != nil {
		return false, err
	}
	w.add(store.Put(key, value))
	sum := ledger.SizeKey(ledger.Tenant{Org: h.Record.ID, Incarnation: h.Record.Incarnation})
	if _, gone := w.pending[sum]; !gone {
		w.delete(sum)
	}
	return true, nil
}

// countUnder is how many records there will be under a prefix after w, which only
// adds to them.
func (w *writing) countUnder(under store.Prefix) (count int, err error) {
	err = w.registry.store.Scan(under, store.Key{}, func(store.Key, []byte) bool {
		count++
		return true
	})
	for key := range w.pending {
		if under.Covers(key) {
			count++
		}
	}
	return count, err
}
