package ledger

import (
	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/policy"
)

// What follows is for whoever moves whole organisations: settings and diagnostics go
// along, in the form that they are stored in.

// MaxDiagnosticText is the longest message, and the longest data, of an entry of a
// diagnostic log, in bytes.
const MaxDiagnosticText = 8 << 10

// ParseNoting reads a stored value of store.KindNoting whose key has no parts.
func ParseNoting(value []byte) (Noting, error) { return decode[Noting](value) }

// Value is how n is stored.
func (n Noting) Value() ([]byte, error) { return encode(n) }

// ParseDiagnostic reads a stored value of store.KindDiagnostic.
func ParseDiagnostic(value []byte) (Diagnostic, error) { return decode[Diagnostic](value) }

// Value is how e is stored.
func (e Diagnostic) Value() ([]byte, error) { return encode(e) }

// DiagnosticParts are the parts of the key of an entry.
func DiagnosticParts(d Device, of Diagnosis, id string) []string { return d.parts(string(of), id) }

// ParseDiagnosticParts is the reverse; ok is false for parts that are none of an
// entry's.
func ParseDiagnosticParts(parts []string) (d Device, of Diagnosis, id string, ok bool) {
	if len(parts) != 5 {
		return Device{}, "", "", false
	}
	d.Type, d.ID = policy.ID(parts[0]), policy.ID(parts[1])
	d.Incarnation, ok = store.ParseUint64(parts[2])
	of, id = Diagnosis(parts[3]), parts[4]
	return d, of, id, ok && (of == DiagnosticLog || of == ErrorCodes)
}

// SizeKey is where the sum of an organisation's last events and diagnostics is kept.
// Whoever adds to them by another way than a Batch removes it, and it is added up anew.
func SizeKey(t Tenant) store.Key { return sizeKey(t) }
