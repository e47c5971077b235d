package guest

import "encoding/base64"

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

// encode writes the answer as the host reads it. To accept nobody in particular
// is to refuse: a token may well hold a name that is none.
func (a Answer) encode() ([]byte, error) {
	if a.OK && a.Challenge == nil && !a.Subject.Valid() {
		a = Refuse("the token does not name a subject")
	}
	w := &writer{text: make([]byte, 0, 512)}
	w.open()
	w.value("ok", a.OK && a.Challenge == nil)
	switch {
	case a.Challenge != nil:
		w.value("continue", base64.StdEncoding.EncodeToString(a.Challenge))
		w.string("state", base64.StdEncoding.EncodeToString(a.State))
	case a.OK:
		w.name("subject")
		w.open()
		w.string("kind", a.Subject.Kind)
		w.string("type", a.Subject.Type)
		w.string("id", a.Subject.ID)
		w.string("app", a.Subject.App)
		w.close()
		w.string("org", a.Org)
		if a.Claims != nil {
			w.value("claims", a.Claims)
		}
		if a.ExpiresAtMS != 0 {
			w.value("expires_at_ms", a.ExpiresAtMS)
		}
		if a.CacheTTLMS != 0 {
			w.value("cache_ttl_ms", a.CacheTTLMS)
		}
		w.string("data", base64.StdEncoding.EncodeToString(a.Data))
	case a.NotMine:
		w.value("not_mine", true)
	default:
		w.string("reason", a.Reason)
		w.string("unknown_kid", a.UnknownKID)
	}
	w.close()
	return w.text, w.err
}

// writer writes an object member by member.
type writer struct {
	text []byte
	err  error
}

func (w *writer) open()  { w.text = append(w.text, '{') }
func (w *writer) close() { w.text = append(w.text, '}') }

func (w *writer) name(name string) {
	if w.text[len(w.text)-1] != '{' {
		w.text = append(w.text, ',')
	}
	w.text = append(append(append(w.text, '"'), name...), '"', ':')
}

// string writes a member unless it is empty.
func (w *writer) string(name, s string) {
	if s != "" {
		w.name(name)
		w.text = appendString(w.text, s)
	}
}

// value writes a member. After an error the text is of no use.
func (w *writer) value(name string, v any) {
	w.name(name)
	text, err := appendJSON(w.text, v, 1)
	if err != nil {
		w.err = err
		return
	}
	w.text = text
}
