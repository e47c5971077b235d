package plugins

import (
	"crypto/subtle"
	"crypto/x509"
	"fmt"
	"log/slog"

	"github.com/cordon-mq/cordon/policy"
)

// Secret is a password or token on its way to a verifier. It prints, logs and
// encodes as "[redacted]"; only Reveal and Equal look inside.
type Secret struct{ b []byte }

const redacted = "[redacted]"

// NewSecret takes ownership of b.
func NewSecret(b []byte) Secret { return Secret{b} }

// Reveal returns the bytes themselves. The caller may not keep, change or print them.
func (s Secret) Reveal() []byte { return s.b }

// Len is the length in bytes.
func (s Secret) Len() int { return len(s.b) }

// Equal compares in constant time for equal lengths.
func (s Secret) Equal(b []byte) bool { return subtle.ConstantTimeCompare(s.b, b) == 1 }

// String hides the secret.
func (s Secret) String() string { return redacted }

// GoString hides the secret from %#v.
func (s Secret) GoString() string { return redacted }

// Format hides the secret from every other verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// LogValue hides the secret from slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText hides the secret from encoders.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Credential is what a CONNECT or an HTTP request carried: unverified.
type Credential struct {
	Client   policy.Client // the username is in here
	Password Secret
	// HasPassword tells an empty password from none.
	HasPassword bool
	// Chain is what the TLS client presented and proved to have the key of, its own
	// certificate first; nothing of it is verified. Empty: none. It is shared and not
	// to be changed.
	Chain []*x509.Certificate
}

// String names the listener alone: a username may be a token somebody pasted
// into the wrong field.
func (c Credential) String() string { return "credential(" + c.Client.Listener + ", " + redacted + ")" }

// GoString is String.
func (c Credential) GoString() string { return c.String() }

// LogValue is String.
func (c Credential) LogValue() slog.Value { return slog.StringValue(c.String()) }
