package policy

import "errors"

// Kind is the closed set of failure classes. One table turns it into an MQTT
// reason code and one into an HTTP status; nothing else interprets errors.
type Kind uint8

// The zero Kind is an internal fault, whose text reaches nobody outside.
const (
	KindInternal        Kind = iota
	KindInvalid              // the request is ill-formed; Field says where
	KindUnauthenticated      // no or a bad credential
	KindForbidden            // a policy denies
	KindNotFound             //
	KindExists               // the name is taken
	KindConflict             // the state does not allow it
	KindTooLarge             //
	KindLimit                // a limit or quota
	KindUnavailable          // try again later
)

func (k Kind) String() string {
	return [...]string{
		"internal", "invalid", "unauthenticated", "forbidden", "not_found",
		"exists", "conflict", "too_large", "limit", "unavailable",
	}[k]
}

// Error is a failure at a boundary.
type Error struct {
	Kind   Kind
	Op     string // what was being done, such as "create device"
	Field  string // the field of the request that is wrong; empty when none is
	Public string // what the caller is told, in its words
	Err    error  // the cause, for the log; may be nil
}

func (e *Error) Error() string {
	s := e.Public
	if e.Field != "" {
		s = e.Field + ": " + s
	}
	if e.Op != "" {
		s = e.Op + ": " + s
	}
	switch {
	case e.Err == nil:
		return s
	case s == "":
		return e.Err.Error()
	default:
		return s + ": " + e.Err.Error()
	}
}

func (e *Error) Unwrap() error { return e.Err }

// KindOf finds the Kind in err's chain; KindInternal when there is none.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return KindInternal
}
