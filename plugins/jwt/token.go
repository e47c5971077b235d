package main

import (
	"bytes"
	"strings"

	"github.com/cordon-mq/cordon/plugins/guest"
)

// Bounds of a token.
const (
	maxToken  = 16 << 10
	maxHeader = 2 << 10
)

// token is a JWS in compact form [RFC 7515 3.1], taken apart and not verified.
type token struct {
	algorithm string
	keyID     string
	hasKeyID  bool
	signed    []byte // what the signature is over
	payload   string // base64url; not read before the signature holds
	signature []byte
}

// refusal is why a token is refused. It says nothing of what is in the token.
type refusal string

// compact is a text of three parts of which the first looks like a JSON object:
// what somebody means for a JWT.
type compact struct {
	text                       []byte
	header, payload, signature string
}

// split finds the parts; false for a text of another form.
func split(text []byte) (compact, bool) {
	if !bytes.HasPrefix(text, []byte("ey")) {
		return compact{}, false
	}
	header, rest, _ := strings.Cut(string(text), ".")
	payload, signature, ok := strings.Cut(rest, ".")
	return compact{text, header, payload, signature}, ok && strings.IndexByte(signature, '.') < 0
}

// parse reads the header; the refusal is empty if it could.
func (c *compact) parse() (token, refusal) {
	if len(c.text) > maxToken {
		return token{}, "the token is longer than 16 KiB"
	}
	if len(c.header) > maxHeader {
		return token{}, "the token's header is longer than 2 KiB"
	}
	header, why := decodeObject("header", c.header)
	if why != "" {
		return token{}, why
	}
	t := token{signed: c.text[:len(c.header)+1+len(c.payload)], payload: c.payload}
	if why := t.readHeader(header); why != "" {
		return token{}, why
	}
	var err error
	if t.signature, err = guest.DecodeBase64URL(c.signature); err != nil {
		return token{}, "the token's signature is not base64url"
	}
	return t, ""
}

func (t *token) readHeader(header *guest.Object) refusal {
	var ok bool
	if t.algorithm, ok = header.String("alg"); !ok {
		return "the token's header names no algorithm"
	}
	if header.Has("kid") {
		if t.keyID, t.hasKeyID = header.String("kid"); !t.hasKeyID {
			return "the token's key ID is not text"
		}
	}
	// An extension that its issuer calls critical is one that this plugin would
	// have to understand [RFC 7515 4.1.11].
	if header.Has("crit") {
		return "the token's header has critical extensions"
	}
	if header.Has("typ") && !isAccessToken(header.String("typ")) {
		return "the token is of another type"
	}
	if header.Has("cty") {
		return "the token holds another token"
	}
	return ""
}

// isAccessToken reports whether typ is that of a JWT in general, or of an access
// token [RFC 9068]. Other types are made for other readers [RFC 8725 3.11].
func isAccessToken(kind string, ok bool) bool {
	if kind == "JWT" {
		return true // what nearly everybody writes
	}
	switch strings.TrimPrefix(strings.ToLower(kind), "application/") {
	case "jwt", "at+jwt":
		return ok
	default:
		return false
	}
}

// decodeObject reads one part of a token; what is what errors call it.
func decodeObject(what, text string) (*guest.Object, refusal) {
	object, err := guest.ReadObjectBase64URL(text)
	switch err {
	case nil:
		return object, ""
	case guest.ErrBase64: //nolint:errorlint // the very values
		return nil, refusal("the token's " + what + " is not base64url")
	case guest.ErrDuplicate:
		return nil, refusal("the token's " + what + " names a member twice")
	default:
		return nil, refusal("the token's " + what + " is not a JSON object")
	}
}
