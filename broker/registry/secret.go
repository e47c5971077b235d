package registry

import (
	"context"
	"crypto/rand"
	"strings"

	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
)

const (
	lowerAlphanumerics = "abcdefghijklmnopqrstuvwxyz0123456789"
	alphanumerics      = "ABCDEFGHIJKLMNOPQRSTUVWXYZ" + lowerAlphanumerics

	// generatedToken is the length of generated tokens and passwords: 24 of 62
	// characters are 142 bits.
	generatedToken = 24

	// Self-chosen device tokens are minToken to maxToken of the alphanumerics
	// and ownPunctuation; nothing else is checked.
	minToken       = 8
	maxToken       = 36
	ownPunctuation = "-_!&@?*+.()"
)

// secret is a new secret: its text, shown once, and what is stored of it.
type secret struct {
	text string
	hash hash
	own  bool // self-chosen
}

// String hides the text from every verb but a look at the field itself.
func (s secret) String() string { return "[redacted]" }

func (r *Registry) generate(length int) secret {
	text := randomText(length, alphanumerics)
	return secret{text: text, hash: fastHash([]byte(text))}
}

// newSecret hashes the token that somebody chose, or generates one if it is
// zero. ctx ends the wait for a slow hash.
func (r *Registry) newSecret(ctx context.Context, org policy.OrgID, token plugins.Secret) (secret, error) {
	if token.Len() == 0 {
		return r.generate(generatedToken), nil
	}
	text := string(token.Reveal())
	if len(text) < minToken || len(text) > maxToken || strings.Trim(text, alphanumerics+ownPunctuation) != "" {
		return secret{}, invalid("authToken", "must be 8 to 36 of a-z, A-Z, 0-9 and - _ ! & @ ? * + . ( )")
	}
	leave, err := r.gate.enter(ctx, org)
	if err != nil {
		return secret{}, &policy.Error{Kind: policy.KindUnavailable, Public: "the token cannot be hashed now", Err: err}
	}
	defer leave()
	return secret{text: text, hash: slowHash([]byte(text), r.cost), own: true}, nil
}

// randomText draws length characters of alphabet, each equally likely: a byte
// beyond the last whole multiple of the alphabet is thrown away.
func randomText(length int, alphabet string) string {
	text := make([]byte, 0, length)
	limit := 256 - 256%len(alphabet)
	var drawn [64]byte
	for len(text) < length {
		_, _ = rand.Read(drawn[:])
		for _, b := range drawn {
			if int(b) < limit && len(text) < length {
				text = append(text, alphabet[int(b)%len(alphabet)])
			}
		}
	}
	return string(text)
}
