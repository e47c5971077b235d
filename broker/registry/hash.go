package registry

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"
)

// scheme says how a secret was hashed. The zero scheme matches nothing.
type scheme uint8

const (
	// fast is a salted SHA-256, for generated secrets: guessing one of 62^24
	// is hopeless at any speed.
	fast scheme = iota + 1
	// slow is argon2id, for self-chosen tokens, which may be guessable.
	slow
)

const (
	saltBytes = 16
	sumBytes  = sha256.Size
)

// slowCost is what one slow hash costs.
type slowCost struct {
	memory  uint32 // KiB
	passes  uint32
	threads uint8
}

// defaultSlowCost is the smallest cost that OWASP's password storage advice
// still recommends for argon2id: every device of a fleet may need one after a
// restart, on a small machine, so it is not more. A stored hash carries the
// cost it was made with, so another default leaves it valid.
func defaultSlowCost() slowCost { return slowCost{memory: 19 << 10, passes: 2, threads: 1} }

// valid bounds what a stored hash may make a check cost.
func (c slowCost) valid() bool {
	return c.memory >= 8 && c.memory <= 64<<10 && c.passes >= 1 && c.passes <= 8 && c.threads == 1
}

// hash is a salted, hashed secret with its parameters. Its text form is
// "$sha256$SALT$SUM" or "$argon2id$v=19$m=KIB,t=PASSES,p=1$SALT$SUM".
type hash struct {
	scheme scheme
	cost   slowCost // of slow
	salt   [saltBytes]byte
	sum    [sumBytes]byte
}

func fastHash(secret []byte) hash {
	h := hash{scheme: fast}
	fill(h.salt[:])
	h.sum = h.compute(secret)
	return h
}

// slowHash takes tens of milliseconds; go through the gate.
func slowHash(secret []byte, cost slowCost) hash {
	h := hash{scheme: slow, cost: cost}
	fill(h.salt[:])
	h.sum = h.compute(secret)
	return h
}

// dummies cost what a real hash costs and match nothing.
type dummies struct{ fast, slow hash }

func newDummies(cost slowCost) dummies {
	d := dummies{fast: hash{scheme: fast}, slow: hash{scheme: slow, cost: cost}}
	fill(d.fast.salt[:])
	fill(d.fast.sum[:])
	fill(d.slow.salt[:])
	fill(d.slow.sum[:])
	return d
}

// holds reports whether h was made of secret.
func (h hash) holds(secret []byte) bool {
	sum := h.compute(secret)
	return subtle.ConstantTimeCompare(sum[:], h.sum[:]) == 1 && h.scheme != 0
}

func (h hash) compute(secret []byte) (sum [sumBytes]byte) {
	switch h.scheme {
	case fast:
		d := sha256.New()
		d.Write(h.salt[:])
		d.Write(secret)
		d.Sum(sum[:0])
	case slow:
		copy(sum[:], argon2.IDKey(secret, h.salt[:], h.cost.passes, h.cost.memory, h.cost.threads, sumBytes))
	}
	return sum
}

// MarshalText writes the text form, which is not secret but not public either.
func (h hash) MarshalText() ([]byte, error) {
	code := base64.RawStdEncoding
	switch h.scheme {
	case fast:
		return fmt.Appendf(nil, "$sha256$%s$%s", code.EncodeToString(h.salt[:]), code.EncodeToString(h.sum[:])), nil
	case slow:
		return fmt.Appendf(nil, "$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version,
			h.cost.memory, h.cost.passes, h.cost.threads, code.EncodeToString(h.salt[:]), code.EncodeToString(h.sum[:])), nil
	default:
		return nil, errors.New("encode hash: unknown scheme")
	}
}

// UnmarshalText reads exactly what MarshalText writes.
func (h *hash) UnmarshalText(text []byte) error {
	parsed, err := parseHash(string(text))
	if err != nil {
		return err
	}
	if back, err := parsed.MarshalText(); err != nil || string(back) != string(text) {
		return errors.New("decode hash: not in its canonical form")
	}
	*h = parsed
	return nil
}

// parseHash never quotes its input in an error.
func parseHash(text string) (hash, error) {
	var h hash
	fields := strings.Split(text, "$")
	switch {
	case len(fields) == 4 && fields[1] == "sha256":
		h.scheme = fast
	case len(fields) == 6 && fields[1] == "argon2id" && len(fields[3]) <= 32:
		h.scheme = slow
		n, err := fmt.Sscanf(fields[3], "m=%d,t=%d,p=%d", &h.cost.memory, &h.cost.passes, &h.cost.threads)
		if n != 3 || err != nil || !h.cost.valid() {
			return hash{}, errors.New("decode hash: parameters not valid")
		}
	default:
		return hash{}, errors.New("decode hash: unknown scheme")
	}
	if !decodeExactly(h.salt[:], fields[len(fields)-2]) || !decodeExactly(h.sum[:], fields[len(fields)-1]) {
		return hash{}, errors.New("decode hash: salt or sum not valid")
	}
	return h, nil
}

func decodeExactly(into []byte, text string) bool {
	code := base64.RawStdEncoding.Strict()
	if len(text) != code.EncodedLen(len(into)) {
		return false
	}
	n, err := code.Decode(into, []byte(text))
	return err == nil && n == len(into)
}

// fill reads randomness, which crypto/rand never fails to give.
func fill(b []byte) { _, _ = rand.Read(b) }
