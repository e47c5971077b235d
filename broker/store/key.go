package store

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Layout of a key:
//
//	len(org)  org  incarnation        kind  { len(part)          part } …
//	1 byte         8 bytes big endian 1 byte  2 bytes big endian
//
// A global key has an organisation of length zero and incarnation zero. Since
// every variable field is preceded by its length, no key can be read in two
// ways, keys of different organisations differ before either ends, and a
// prefix ends on the boundary of a part. Keys sort by organisation (shorter
// names first), incarnation, kind, and then part by part, shorter parts first:
// numbers written with Uint64 sort as numbers.

const (
	// maxKey keeps a key below what the storage engines take.
	maxKey = 65000
	// maxOrganisation is what fits its length byte.
	maxOrganisation = math.MaxUint8
	// maxPart is what fits its length field.
	maxPart = math.MaxUint16

	scopeFixed = 1 + 8
	partFixed  = 2
)

// Scope is the part of the key space that belongs to one incarnation of one
// organisation, or the global one. The zero Scope is neither: every key made
// from it is invalid.
type Scope struct{ raw string }

// Global returns the scope that belongs to no organisation.
func Global() Scope { return Scope{raw: string(make([]byte, scopeFixed))} }

// In returns the scope of an organisation in one incarnation. The name is 1 to
// 255 bytes and incarnations count from 1; anything else gives the zero Scope.
func In[Org ~string](org Org, incarnation uint64) Scope {
	if len(org) == 0 || len(org) > maxOrganisation || incarnation == 0 {
		return Scope{}
	}
	raw := make([]byte, 0, scopeFixed+len(org))
	raw = append(raw, byte(len(org)))
	raw = append(raw, org...)
	raw = binary.BigEndian.AppendUint64(raw, incarnation)
	return Scope{raw: string(raw)}
}

// All returns the prefix of every key in the scope.
func (s Scope) All() Prefix { return Prefix(s) }

// Key returns the key of that kind with those parts, each at most 65535 bytes,
// the whole at most 65000. Beyond that, or with the zero Kind, the key is
// invalid, which the store reports when it is used.
func (s Scope) Key(kind Kind, parts ...string) Key { return Key{raw: s.encode(kind, parts)} }

// Prefix returns the prefix of every key of that kind whose first parts are
// exactly parts. The bounds are those of Key.
func (s Scope) Prefix(kind Kind, parts ...string) Prefix {
	return Prefix{raw: s.encode(kind, parts)}
}

// encode returns the raw key, or "" if it would be invalid.
func (s Scope) encode(kind Kind, parts []string) string {
	if s.raw == "" || kind == 0 {
		return ""
	}
	size := len(s.raw) + 1
	for _, part := range parts {
		if len(part) > maxPart {
			return ""
		}
		size += partFixed + len(part)
	}
	if size > maxKey {
		return ""
	}
	var b strings.Builder
	b.Grow(size)
	b.WriteString(s.raw)
	b.WriteByte(byte(kind))
	for _, part := range parts {
		b.WriteByte(byte(len(part) >> 8))
		b.WriteByte(byte(len(part)))
		b.WriteString(part)
	}
	return b.String()
}

// Uint64 returns n as a key part. Such parts sort as numbers.
func Uint64(n uint64) string {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], n)
	return string(b[:])
}

// ParseUint64 reads a part made by Uint64; ok says whether it is one.
func ParseUint64(part string) (n uint64, ok bool) {
	if len(part) != 8 {
		return 0, false
	}
	return binary.BigEndian.Uint64([]byte(part)), true
}

// Prefix is the beginning of keys. It ends after a scope, or after a part. The
// zero Prefix is invalid.
type Prefix struct{ raw string }

// Bytes returns the encoded prefix, for engines; the caller owns it.
func (p Prefix) Bytes() []byte { return []byte(p.raw) }

// Covers reports whether key begins with p. The zero Prefix covers every key;
// a store refuses it, an engine does not.
func (p Prefix) Covers(key Key) bool { return strings.HasPrefix(key.raw, p.raw) }

func (p Prefix) valid() bool  { return p.raw != "" }
func (p Prefix) global() bool { return p.raw[0] == 0 }

// Key is the name of a stored value, immutable and comparable. It is built by
// Scope.Key or read by ParseKey; the zero Key is invalid.
type Key struct{ raw string }

// ParseKey reads an encoded key. It accepts exactly what Scope.Key makes.
func ParseKey(raw []byte) (Key, error) {
	if len(raw) > maxKey {
		return Key{}, fmt.Errorf("%w: %d bytes", ErrInvalidKey, len(raw))
	}
	if len(raw) < scopeFixed+1 || len(raw) < scopeFixed+int(raw[0])+1 {
		return Key{}, fmt.Errorf("%w: cut short", ErrInvalidKey)
	}
	scope := scopeFixed + int(raw[0])
	global := raw[0] == 0
	incarnation := binary.BigEndian.Uint64(raw[scope-8 : scope])
	if global != (incarnation == 0) {
		return Key{}, fmt.Errorf("%w: organisation and incarnation disagree", ErrInvalidKey)
	}
	if raw[scope] == 0 {
		return Key{}, fmt.Errorf("%w: no kind", ErrInvalidKey)
	}
	for rest := raw[scope+1:]; len(rest) > 0; {
		if len(rest) < partFixed {
			return Key{}, fmt.Errorf("%w: cut short", ErrInvalidKey)
		}
		end := partFixed + int(binary.BigEndian.Uint16(rest))
		if len(rest) < end {
			return Key{}, fmt.Errorf("%w: cut short", ErrInvalidKey)
		}
		rest = rest[end:]
	}
	return Key{raw: string(raw)}, nil
}

// IsZero reports whether the key is invalid.
func (k Key) IsZero() bool { return k.raw == "" }

// Bytes returns the encoded key, for engines; the caller owns it.
func (k Key) Bytes() []byte { return []byte(k.raw) }

// Compare returns -1, 0 or +1 as k sorts before, with or after other.
func (k Key) Compare(other Key) int { return strings.Compare(k.raw, other.raw) }

// Scope returns the scope the key was built in.
func (k Key) Scope() Scope {
	if k.IsZero() {
		return Scope{}
	}
	return Scope{raw: k.raw[:k.scopeLen()]}
}

// Org returns the name of the organisation, empty for a global key.
func (k Key) Org() string {
	if k.IsZero() {
		return ""
	}
	return k.raw[1 : k.scopeLen()-8]
}

// Incarnation returns the incarnation of the organisation, zero for a global
// key.
func (k Key) Incarnation() uint64 {
	if k.IsZero() {
		return 0
	}
	end := k.scopeLen()
	n, _ := ParseUint64(k.raw[end-8 : end])
	return n
}

// Kind returns what the key is about, zero for an invalid key.
func (k Key) Kind() Kind {
	if k.IsZero() {
		return 0
	}
	return Kind(k.raw[k.scopeLen()])
}

// Parts returns the parts of the key in a new slice.
func (k Key) Parts() []string {
	if k.IsZero() {
		return nil
	}
	var parts []string
	for rest := k.raw[k.scopeLen()+1:]; rest != ""; {
		end := partFixed + (int(rest[0])<<8 | int(rest[1]))
		parts = append(parts, rest[partFixed:end])
		rest = rest[end:]
	}
	return parts
}

// String spells the key for logs and test failures, such as
// org1x3@7/device/"sensor"/"d1". It cannot be parsed back.
func (k Key) String() string {
	if k.IsZero() {
		return "invalid key"
	}
	var b strings.Builder
	if org := k.Org(); org != "" {
		fmt.Fprintf(&b, "%s@%d/", org, k.Incarnation())
	} else {
		b.WriteString("global/")
	}
	b.WriteString(k.Kind().String())
	for _, part := range k.Parts() {
		b.WriteByte('/')
		b.WriteString(strconv.Quote(part))
	}
	return b.String()
}

func (k Key) scopeLen() int { return scopeFixed + int(k.raw[0]) }
