package wire

import "fmt"

// CONNECT and AUTH carry secrets, so they print as no more than this whatever
// the verb, the encoder or the log handler. Read the fields to say more.

// String returns version and lengths, no secret.
func (c Connect) String() string {
	return fmt.Sprintf("CONNECT %s, client identifier of %d bytes, user name %t, password %t, will %t",
		c.Version, len(c.ClientID), c.HasUsername, c.HasPassword, c.Will != nil)
}

// GoString returns String.
func (c Connect) GoString() string { return c.String() }

// MarshalText returns String, also for JSON and log/slog.
func (c Connect) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// String returns code and lengths, no secret.
func (a Auth) String() string {
	return fmt.Sprintf("AUTH 0x%02X, method of %d bytes, data %t", byte(a.Code), len(a.Method), a.Data != nil)
}

// GoString returns String.
func (a Auth) GoString() string { return a.String() }

// MarshalText returns String, also for JSON and log/slog.
func (a Auth) MarshalText() ([]byte, error) { return []byte(a.String()), nil }
