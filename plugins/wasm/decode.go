package wasm

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

const depthMost = 32 // of an answer's JSON

// Why an answer is malformed. None quotes it: it may repeat the credential.
var (
	errUTF8      = errors.New("not UTF-8")
	errNoObject  = errors.New("not a JSON object")
	errUnknown   = errors.New("a member that auth_abi v1 does not have")
	errTwice     = errors.New("a member twice")
	errNull      = errors.New("null where auth_abi v1 has a value")
	errDepth     = fmt.Errorf("deeper than %d levels", depthMost)
	errMore      = errors.New("more than one JSON value")
	errSurrogate = errors.New("half a surrogate pair")
)

// decoder reads an answer once, from its beginning. It is stricter than
// encoding/json, which takes a member in another case, the last of two, null for
// anything and half a surrogate pair for a letter. Its first error stays;
// everything it reads afterwards is empty.
type decoder struct {
	text string // which strings without escapes share
	at   int
	err  error
}

// decodeAnswer is strict: what a guest of another version, or a broken one, says
// must not be half understood.
func decodeAnswer(text string) (*answer, error) {
	d := &decoder{text: text}
	if !utf8.ValidString(text) {
		d.fail(errUTF8)
	}
	if d.next() != '{' {
		d.fail(errNoObject)
	}
	a := &answer{}
	d.answer(a)
	if d.next(); d.at != len(d.text) {
		d.fail(errMore)
	}
	switch {
	case d.err != nil:
		return nil, d.err
	case a.OK && (a.NotMine || a.Continue != nil || a.UnknownKID != ""):
		return nil, errors.New("ok beside what says otherwise")
	case a.NotMine && a.Continue != nil:
		return nil, errors.New("not_mine beside continue")
	case len(a.State) > stateBytes:
		return nil, fmt.Errorf("state of %d bytes, at most %d", len(a.State), stateBytes)
	case a.ExpiresAtMS < 0 || a.CacheTTLMS < 0:
		return nil, errors.New("a negative time")
	}
	return a, nil
}

func (d *decoder) answer(a *answer) {
	seen := make([]string, 0, 12)
	for name, ok := d.first(); ok; name, ok = d.following() {
		seen = d.once(seen, name)
		d.typed()
		switch name {
		case "ok":
			a.OK = d.truth(name)
		case "not_mine":
			a.NotMine = d.truth(name)
		case "org":
			a.Org = d.textOf(name)
		case "subject":
			d.subject(&a.Subject)
		case "claims":
			if d.next() != '{' {
				d.wrong(name)
			}
			a.Claims = d.object(2)
		case "expires_at_ms":
			a.ExpiresAtMS = d.integer(name)
		case "cache_ttl_ms":
			a.CacheTTLMS = d.integer(name)
		case "reason":
			a.Reason = d.textOf(name)
		case "unknown_kid":
			a.UnknownKID = d.textOf(name)
		case "continue":
			data := d.octets(name)
			a.Continue = &data
		case "state":
			a.State = d.octets(name)
		case "data":
			a.Data = d.octets(name)
		default:
			d.fail(errUnknown)
		}
	}
}

func (d *decoder) subject(s *answerSubject) {
	if d.next() != '{' {
		d.wrong("subject")
	}
	seen := make([]string, 0, 4)
	for name, ok := d.first(); ok; name, ok = d.following() {
		seen = d.once(seen, name)
		d.typed()
		switch name {
		case "kind":
			s.Kind = d.textOf("subject.kind")
		case "type":
			s.Type = d.textOf("subject.type")
		case "id":
			s.ID = d.textOf("subject.id")
		case "app":
			s.App = d.textOf("subject.app")
		default:
			d.fail(errUnknown)
		}
	}
}

// once refuses a name that is among those seen.
func (d *decoder) once(seen []string, name string) []string {
	for _, s := range seen {
		if s == name {
			d.fail(errTwice)
		}
	}
	return append(seen, name)
}

// typed refuses null for a member of the answer itself, where it has no meaning.
func (d *decoder) typed() {
	if d.next() == 'n' {
		d.fail(errNull)
	}
}

func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
	d.at = len(d.text)
}

// malformed says where.
func (d *decoder) malformed() {
	if d.err == nil {
		d.fail(fmt.Errorf("not JSON, at byte %d", d.at))
	}
}

func (d *decoder) wrong(name string) {
	if d.err == nil {
		d.fail(fmt.Errorf("%s has the wrong type", name))
	}
}

// next skips white space and returns the byte it stands on, 0 at the end.
func (d *decoder) next() byte {
	for ; d.at < len(d.text); d.at++ {
		if c := d.text[d.at]; c != ' ' && c != '\t' && c != '\n' && c != '\r' {
			return c
		}
	}
	return 0
}

// first passes the brace it stands on and reads the name of the first member; no
// more of it where the object is empty.
func (d *decoder) first() (name string, ok bool) {
	d.at = min(d.at+1, len(d.text))
	if d.next() == '}' {
		d.at++
		return "", false
	}
	return d.name()
}

// following goes on to the next member. The value before was read.
func (d *decoder) following() (name string, ok bool) {
	switch d.next() {
	case ',':
		d.at++
		return d.name()
	case '}':
		d.at++
	default:
		d.malformed()
	}
	return "", false
}

func (d *decoder) name() (string, bool) {
	if d.next() != '"' {
		d.malformed()
		return "", false
	}
	name := d.string()
	if d.next() != ':' {
		d.malformed()
		return "", false
	}
	d.at++
	return name, d.err == nil
}

func (d *decoder) truth(name string) bool {
	switch d.next() {
	case 't':
		return d.word("true")
	case 'f':
		d.word("false")
	default:
		d.wrong(name)
	}
	return false
}

func (d *decoder) textOf(name string) string {
	if d.next() != '"' {
		d.wrong(name)
		return ""
	}
	return d.string()
}

// integer is a number written as one that fits.
func (d *decoder) integer(name string) int64 {
	if c := d.next(); c != '-' && (c < '0' || c > '9') {
		d.wrong(name)
		return 0
	}
	n, err := strconv.ParseInt(d.literal(), 10, 64)
	if err != nil {
		d.wrong(name)
	}
	return n
}

// octets is base64 in its one spelling.
func (d *decoder) octets(name string) octets {
	text := d.textOf(name)
	b, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || strings.ContainsAny(text, "\r\n") { // which the decoder would skip
		d.wrong(name)
		return nil
	}
	return b
}

// object reads one that is the depth-th of those it lies in.
func (d *decoder) object(depth int) map[string]any {
	if depth > depthMost {
		d.fail(errDepth)
	}
	all := map[string]any{}
	for name, ok := d.first(); ok; name, ok = d.following() {
		if _, twice := all[name]; twice {
			d.fail(errTwice)
			return nil
		}
		all[name] = d.value(depth)
	}
	return all
}

func (d *decoder) array(depth int) []any {
	if depth > depthMost {
		d.fail(errDepth)
		return nil
	}
	all := []any{}
	d.at++
	if d.next() == ']' {
		d.at++
		return all
	}
	for d.err == nil {
		all = append(all, d.value(depth))
		switch d.next() {
		case ',':
			d.at++
			continue
		case ']':
			d.at++
		default:
			d.malformed()
		}
		break
	}
	return all
}

// value reads any value inside depth others.
func (d *decoder) value(depth int) any {
	switch d.next() {
	case '{':
		return d.object(depth + 1)
	case '[':
		return d.array(depth + 1)
	case '"':
		return d.string()
	case 't':
		return d.word("true")
	case 'f':
		return !d.word("false")
	case 'n':
		d.word("null")
		return nil
	default:
		return d.number()
	}
}

func (d *decoder) word(word string) bool {
	if !strings.HasPrefix(d.text[d.at:], word) {
		d.malformed()
		return false
	}
	d.at += len(word)
	return true
}

// number keeps an integer as it was written, so that two of more digits than a
// float64 tells apart stay two.
func (d *decoder) number() any {
	text := d.literal()
	if d.err != nil {
		return nil
	}
	if strings.IndexByte(text, '.') < 0 && strings.IndexByte(text, 'e') < 0 && strings.IndexByte(text, 'E') < 0 && len(text) <= integerMost {
		return json.Number(text)
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		d.fail(errors.New("a number that is too large"))
		return nil
	}
	return f
}

const integerMost = 40 // letters of an integer that is kept

// literal reads a number as it is written.
func (d *decoder) literal() string {
	start := d.at
	if d.is("-") {
		d.at++
	}
	zero := d.is("0")
	n := d.digits()
	good := n == 1 || n > 1 && !zero
	if d.is(".") {
		d.at++
		good = d.digits() > 0 && good
	}
	if d.is("eE") {
		d.at++
		if d.is("+-") {
			d.at++
		}
		good = d.digits() > 0 && good
	}
	if !good {
		d.malformed()
		return ""
	}
	return d.text[start:d.at]
}

func (d *decoder) is(any string) bool {
	return d.at < len(d.text) && strings.IndexByte(any, d.text[d.at]) >= 0
}

func (d *decoder) digits() int {
	start := d.at
	for d.at < len(d.text) && d.text[d.at] >= '0' && d.text[d.at] <= '9' {
		d.at++
	}
	return d.at - start
}

// string reads a string, on whose opening quote it stands.
func (d *decoder) string() string {
	d.at++
	for start := d.at; d.at < len(d.text); d.at++ {
		switch c := d.text[d.at]; {
		case c == '"':
			d.at++
			return d.text[start : d.at-1]
		case c == '\\':
			return d.escaped([]byte(d.text[start:d.at]))
		case c < ' ':
			d.malformed()
			return ""
		}
	}
	d.malformed()
	return ""
}

// escaped reads the rest of a string from its first escape on.
func (d *decoder) escaped(read []byte) string {
	for d.at < len(d.text) {
		c := d.text[d.at]
		d.at++
		switch {
		case c == '"':
			return string(read)
		case c < ' ':
			d.malformed()
		case c != '\\':
			read = append(read, c)
		default:
			read = utf8.AppendRune(read, d.escape())
		}
	}
	d.malformed()
	return ""
}

// escape reads what follows a backslash.
func (d *decoder) escape() rune {
	if d.is("u") {
		d.at++
		return d.codeUnits()
	}
	const letters, meaning = `"\/bfnrt`, "\"\\/\b\f\n\r\t"
	if d.at < len(d.text) {
		if i := strings.IndexByte(letters, d.text[d.at]); i >= 0 {
			d.at++
			return rune(meaning[i])
		}
	}
	d.malformed()
	return 0
}

// codeUnits reads the digits of \u, and the second half of a surrogate pair.
func (d *decoder) codeUnits() rune {
	first := d.hex()
	if !utf16.IsSurrogate(first) {
		return first
	}
	if !strings.HasPrefix(d.text[d.at:], `\u`) {
		d.fail(errSurrogate)
		return 0
	}
	d.at += len(`\u`)
	r := utf16.DecodeRune(first, d.hex())
	if r == utf8.RuneError {
		d.fail(errSurrogate)
	}
	return r
}

func (d *decoder) hex() rune {
	if len(d.text)-d.at < 4 {
		d.malformed()
		return 0
	}
	n, err := strconv.ParseUint(d.text[d.at:d.at+4], 16, 16)
	if err != nil {
		d.malformed()
		return 0
	}
	d.at += 4
	return rune(n)
}
