package guest

import (
	"encoding/base64"
	"strconv"
)

// Kinds of subjects.
const (
	Device      = "device"
	Gateway     = "gateway"
	Application = "application"
	User        = "user"
)

// Subject is who the client is. Type, ID and App are 1 to 36 of a-z, A-Z, 0-9,
// '_', '.' and '-'. An answer with another subject is a refusal.
type Subject struct {
	Kind string
	Type string // device type; devices and gateways only
	ID   string // device, gateway or user
	App  string // applications only
}

// Valid reports whether Cordon can name the subject: its kind is known, and it
// has the parts of that kind and no others.
func (s Subject) Valid() bool {
	switch s.Kind {
	case Device, Gateway:
		return isID(s.Type) && isID(s.ID) && s.App == ""
	case Application:
		return isID(s.App) && s.Type == "" && s.ID == ""
	case User:
		return isID(s.ID) && s.Type == "" && s.App == ""
	default:
		return false
	}
}

func isID(s string) bool {
	for i := range len(s) {
		c := s[i]
		if lower := c | 0x20; (lower < 'a' || lower > 'z') && !isDigit(c) && c != '_' && c != '.' && c != '-' {
			return false
		}
	}
	return len(s) >= 1 && len(s) <= 36
}

// Answer is a plugin's verdict. The zero Answer refuses.
type Answer struct {
	// OK says that the token is genuine and the client is Subject.
	OK      bool
	Subject Subject
	// Org is the organisation the subject belongs to, from a plugin that serves
	// several. Others leave it empty.
	Org string
	// Claims are for the policy, as input.principal.claims: JSON as ParseJSON
	// makes it.
	Claims map[string]any
	// Signed are the claims as they were written, instead of Claims.
	Signed *Object
	// ExpiresAtMS is when the identity ends, in Unix milliseconds; 0 for never.
	ExpiresAtMS int64
	// CacheTTLMS is how long the host may give the same answer to the same request
	// without asking again; 0 for not at all.
	CacheTTLMS int64
	// Reason says why not, for the operator's log. It never holds the token or a
	// part of it.
	Reason string
	// NotMine says that the token is of a form this plugin does not check: the
	// policy's next verifier is asked.
	NotMine bool
	// UnknownKID names a key that the token asks for and the key sets lack, at most
	// 256 bytes: the host may fetch them again.
	UnknownKID string
	// Data, with OK at the end of an AUTH exchange, goes to the client in CONNACK.
	Data []byte
	// Challenge, if not nil, goes to the client of an MQTT 5 AUTH exchange, and
	// State, up to 4 KiB, comes back with what the client says to it.
	Challenge, State []byte
}

// Accept answers that the client is subject.
func Accept(subject Subject) Answer { return Answer{OK: true, Subject: subject} }

// Refuse answers that the token does not hold.
func Refuse(reason string) Answer { return Answer{Reason: reason} }

// Pass answers that the token is of a form this plugin does not check.
func Pass() Answer { return Answer{NotMine: true} }

// Continue answers with a challenge; state comes back with the response to it.
func Continue(challenge, state []byte) Answer {
	if challenge == nil {
		challenge = []byte{}
	}
	return Answer{Challenge: challenge, State: state}
}

// append writes the answer as the host reads it. To accept nobody in particular
// is to refuse: a token may well hold a name that is none. After an error the text
// is of no use.
func (a *Answer) append(dst []byte) (_ []byte, err error) {
	switch {
	case a.Challenge != nil:
		dst = append(dst, `{"ok":false,"continue":"`...)
		dst = append(base64.StdEncoding.AppendEncode(dst, a.Challenge), '"')
		dst = appendBytes(dst, `,"state":`, a.State)
	case a.OK && a.Subject.Valid():
		dst = append(dst, `{"ok":true,"subject":{"kind":"`...)
		dst = append(append(dst, a.Subject.Kind...), '"')
		dst = appendText(dst, `,"type":`, a.Subject.Type)
		dst = appendText(dst, `,"id":`, a.Subject.ID)
		dst = append(appendText(dst, `,"app":`, a.Subject.App), '}')
		dst = appendText(dst, `,"org":`, a.Org)
		switch {
		case a.Signed != nil:
			dst = append(append(dst, `,"claims":`...), a.Signed.Text()...)
		case a.Claims != nil:
			if dst, err = appendJSON(append(dst, `,"claims":`...), a.Claims, 1); err != nil {
				return nil, err
			}
		}
		dst = appendInt(dst, `,"expires_at_ms":`, a.ExpiresAtMS)
		dst = appendInt(dst, `,"cache_ttl_ms":`, a.CacheTTLMS)
		dst = appendBytes(dst, `,"data":`, a.Data)
	case a.OK:
		dst = append(dst, `{"ok":false,"reason":"the token does not name a subject"`...)
	case a.NotMine:
		dst = append(dst, `{"ok":false,"not_mine":true`...)
	default:
		dst = appendText(append(dst, `{"ok":false`...), `,"reason":`, a.Reason)
		dst = appendText(dst, `,"unknown_kid":`, a.UnknownKID)
	}
	return append(dst, '}'), nil
}

// appendText writes a member unless it is empty.
func appendText(dst []byte, name, s string) []byte {
	if s == "" {
		return dst
	}
	return appendString(append(dst, name...), s)
}

// appendInt writes a member unless it is zero.
func appendInt(dst []byte, name string, n int64) []byte {
	if n == 0 {
		return dst
	}
	return strconv.AppendInt(append(dst, name...), n, 10)
}

// appendBytes writes a member in base64 unless it is empty.
func appendBytes(dst []byte, name string, b []byte) []byte {
	if len(b) == 0 {
		return dst
	}
	dst = append(append(dst, name...), '"')
	return append(base64.StdEncoding.AppendEncode(dst, b), '"')
}
