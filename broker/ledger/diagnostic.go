package ledger

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/cordon-mq/cordon/broker/store"
)

// MaxDiagnostics is how many entries a device's diagnostic log, and its list of
// error codes, has at most.
const MaxDiagnostics = 50

// Diagnosis says which of the two.
type Diagnosis string

// The closed set of them.
const (
	DiagnosticLog Diagnosis = "log"
	ErrorCodes    Diagnosis = "code"
)

// Diagnostic is one entry.
type Diagnostic struct {
	ID       string    `json:"id"` // unique in the organisation
	Message  string    `json:"message,omitempty"`
	Data     string    `json:"data,omitempty"`
	Severity int       `json:"severity,omitempty"`
	Code     int64     `json:"code,omitempty"`
	Time     time.Time `json:"time"`
	Number   uint64    `json:"number"` // in the order of entry
}

// Diagnostics are the entries of d, the first one first.
func (l *Ledger) Diagnostics(t Tenant, d Device, of Diagnosis) (all []Diagnostic, err error) {
	err = l.store.Scan(t.scope().Prefix(store.KindDiagnostic, d.parts(string(of))...), store.Key{}, func(_ store.Key, value []byte) bool {
		if e, err := decode[Diagnostic](value); err == nil {
			all = append(all, e)
		}
		return true
	})
	slices.SortFunc(all, func(a, b Diagnostic) int {
		switch {
		case a.Number < b.Number:
			return -1
		case a.Number > b.Number:
			return 1
		default:
			return strings.Compare(a.ID, b.ID)
		}
	})
	return all, err
}

// AddDiagnostic adds e, in the place of the first one where there are too many. It may
// be ErrFull.
func (l *Ledger) AddDiagnostic(ctx context.Context, t Tenant, d Device, of Diagnosis, e Diagnostic) error {
	l.diagnosing.Lock()
	defer l.diagnosing.Unlock()
	all, err := l.Diagnostics(t, d, of)
	if err != nil {
		return err
	}
	b := l.Batch()
	for len(all) >= MaxDiagnostics {
		if err := b.drop(t, diagnosticKey(t, d, of, all[0].ID)); err != nil {
			return err
		}
		all = all[1:]
	}
	if len(all) > 0 {
		e.Number = all[len(all)-1].Number + 1
	}
	if err := b.note(t, diagnosticKey(t, d, of, e.ID), e); err != nil {
		return err
	}
	return b.Commit(ctx)
}

// ClearDiagnostics removes all entries of d.
func (l *Ledger) ClearDiagnostics(ctx context.Context, t Tenant, d Device, of Diagnosis) error {
	b := l.Batch()
	if err := b.dropAll(t, t.scope().Prefix(store.KindDiagnostic, d.parts(string(of))...)); err != nil {
		return err
	}
	return b.Commit(ctx)
}

// Diagnostic is one entry of d.
func (l *Ledger) Diagnostic(t Tenant, d Device, of Diagnosis, id string) (_ Diagnostic, ok bool, err error) {
	return read[Diagnostic](l.store, diagnosticKey(t, d, of, id))
}

// DropDiagnostic removes one entry, and reports whether there was one.
func (l *Ledger) DropDiagnostic(ctx context.Context, t Tenant, d Device, of Diagnosis, id string) (bool, error) {
	_, ok, err := l.Diagnostic(t, d, of, id)
	if err != nil || !ok {
		return false, err
	}
	b := l.Batch()
	if err := b.drop(t, diagnosticKey(t, d, of, id)); err != nil {
		return false, err
	}
	return true, b.Commit(ctx)
}

func diagnosticKey(t Tenant, d Device, of Diagnosis, id string) store.Key {
	return t.scope().Key(store.KindDiagnostic, d.parts(string(of), id)...)
}
