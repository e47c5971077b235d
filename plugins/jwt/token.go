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
	payload   []byte // base64url; not read before the signature holds
	signature []byte
}

// refusal is why a token is refused. It says nothing of what is in the token.
type refusal string

// compact is a text of three parts of which the first looks like a JSON object:
// what somebody means for a JWT.
type compact struct {
	text                       []byte
	header, payload, signature []byte
}

// split finds the parts; false for a text of another form.
func split(text []byte) (compact, bool) {
	header, rest, _ := cutDot(text)
	payload, signature, ok := cutDot(rest)
	_, _, more := cutDot(signature)
	return compact{text, header, payload, signature}, ok && !more && bytes.HasPrefix(header, []byte("ey"))
}

func cutDot(text []byte) (before, after []byte, ok bool) {
	if at := bytes.IndexByte(text, '.'); at >= 0 {
		return text[:at], text[at+1:], true
	}
	return text, nil, false
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
	if t.signature, err = guest.DecodeBase64URL(string(c.signature)); err != nil {
		return token{}, "the token's signature is not base64url"
	}
	return t, ""
}

func (t *token) readHeader(header map[string]any) refusal {
	var ok bool
	if t.algorithm, ok = header["alg"].(string); !ok {
		return "the token's header names no algorithm"
	}
	if kid, present := header["kid"]; present {
		if t.keyID, t.hasKeyID = kid.(string); !t.hasKeyID {
			return "the token's key ID is not text"
		}
	}
	// An extension that its issuer calls critical is one that this plugin would
	// have to understand [RFC 7515 4.1.11].
	if _, present := header["crit"]; present {
		return "the token's header has critical extensions"
	}
	if kind, present := header["typ"]; present && !isAccessToken(kind) {
		return "the token is of another type"
	}
	if _, present := header["cty"]; present {
		return "the token holds another token"
	}
	return ""
}

// isAccessToken reports whether typ is that of a JWT in general, or of an access
// token [RFC 9068]. Other types are made for other readers [RFC 8725 3.11].
func isAccessToken(kind any) bool {
	name, _ := kind.(string)
	switch strings.TrimPrefix(strings.ToLower(name), "application/") {
	case "jwt", "at+jwt":
		return true
	default:
		return false
	}
}

// decodeObject reads one part of a token; what is what errors call it.
func decodeObject(what string, text []byte) (map[string]any, refusal) {
	data, err := guest.DecodeBase64URL(string(text))
	if err != nil {
		return nil, refusal("the token's " + what + " is not base64url")
	}
	object, err := guest.ParseObject(data)
	switch err {
	case nil:
		return object, ""
	case guest.ErrDuplicate: //nolint:errorlint // the very values
		return nil, refusal("the token's " + what + " names a member twice")
	default:
		return nil, refusal("the token's " + what + " is not a JSON object")
	}
}
