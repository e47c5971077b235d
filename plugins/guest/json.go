package guest

import (
	"encoding/binary"
	"errors"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// The ways in which [ParseJSON] refuses a text.
var (
	ErrSyntax    = errors.New("not JSON")
	ErrDuplicate = errors.New("an object names a member twice")
	ErrDepth     = errors.New("JSON is nested too deeply")
)

// MaxDepth is how many arrays and objects may lie inside one another. The host
// takes two levels more, so that what was read can be put into an answer.
const MaxDepth = 30

// Number is a JSON number as it was written, such as "1767225600" or "1e3".
type Number string

// Int64 is the number if it is written as an integer that fits.
func (n Number) Int64() (int64, bool) {
	i, err := strconv.ParseInt(string(n), 10, 64)
	return i, err == nil
}

// Float64 is the number, or false if it is too large.
func (n Number) Float64() (float64, bool) {
	f, err := strconv.ParseFloat(string(n), 64)
	return f, err == nil
}

// ParseJSON reads one JSON text: nil, bool, [Number], string, []any and
// map[string]any. It is stricter than encoding/json, because two readers of a
// signed text must not see two things: an object that names a member twice, bad
// UTF-8, half a surrogate pair and anything after the text are errors. It uses
// memory in proportion to data, whose size the caller bounds.
func ParseJSON(data []byte) (any, error) {
	if !utf8.Valid(data) {
		return nil, ErrSyntax
	}
	p := parser{data: data, text: string(data)}
	value, err := p.value(0)
	if err == nil {
		err = p.end()
	}
	if err != nil {
		return nil, err
	}
	return value, nil
}

// ParseObject is [ParseJSON] of a text that is an object.
func ParseObject(data []byte) (map[string]any, error) {
	value, err := ParseJSON(data)
	if err != nil {
		return nil, err
	}
	object, ok := value.(map[string]any)
	if !ok {
		return nil, ErrSyntax
	}
	return object, nil
}

type parser struct {
	data []byte // the text, to be read eight bytes at a time
	text string // a copy, which strings without escapes share
	at   int
}

func (p *parser) end() error {
	if p.next(); p.at != len(p.text) {
		return ErrSyntax
	}
	return nil
}

// next skips white space and returns the byte it stands on, 0 at the end.
func (p *parser) next() byte {
	for p.at < len(p.text) {
		switch c := p.text[p.at]; c {
		case ' ', '\t', '\n', '\r':
			p.at++
		default:
			return c
		}
	}
	return 0
}

func (p *parser) value(depth int) (any, error) {
	switch c := p.next(); {
	case c == '{':
		return p.object(depth + 1)
	case c == '[':
		return p.array(depth + 1)
	case c == '"':
		return p.string()
	case c == '-' || isDigit(c):
		return p.number()
	case c == 't':
		return true, p.word("true")
	case c == 'f':
		return false, p.word("false")
	default:
		return nil, p.word("null")
	}
}

func (p *parser) word(word string) error {
	if len(p.text)-p.at < len(word) || p.text[p.at:p.at+len(word)] != word {
		return ErrSyntax
	}
	p.at += len(word)
	return nil
}

func (p *parser) object(depth int) (any, error) {
	object := map[string]any{}
	err := p.members(depth, func(name string) (err error) {
		if _, twice := object[name]; twice {
			return ErrDuplicate
		}
		object[name], err = p.value(depth)
		return err
	})
	if err != nil {
		return nil, err
	}
	return object, nil
}

// members reads an object; read is called with each name and reads the value.
func (p *parser) members(depth int, read func(name string) error) error {
	if depth > MaxDepth {
		return ErrDepth
	}
	p.at++ // {
	if p.next() == '}' {
		p.at++
		return nil
	}
	for {
		if p.next() != '"' {
			return ErrSyntax
		}
		name, err := p.string()
		if err != nil {
			return err
		}
		if p.next() != ':' {
			return ErrSyntax
		}
		p.at++
		if err := read(name); err != nil {
			return err
		}
		if more, err := p.more('}'); !more {
			return err
		}
	}
}

func (p *parser) array(depth int) (any, error) {
	if depth > MaxDepth {
		return nil, ErrDepth
	}
	array := []any{}
	p.at++ // [
	if p.next() == ']' {
		p.at++
		return array, nil
	}
	for {
		value, err := p.value(depth)
		if err != nil {
			return nil, err
		}
		array = append(array, value)
		if more, err := p.more(']'); !more {
			return array, err
		}
	}
}

// more passes the comma before another member, or the end.
func (p *parser) more(end byte) (bool, error) {
	switch p.next() {
	case ',':
		p.at++
		return true, nil
	case end:
		p.at++
		return false, nil
	default:
		return false, ErrSyntax
	}
}

func (p *parser) number() (any, error) {
	start := p.at
	if p.at < len(p.text) && p.text[p.at] == '-' {
		p.at++
	}
	zero := p.at < len(p.text) && p.text[p.at] == '0'
	if n := p.digits(); n == 0 || zero && n > 1 {
		return nil, ErrSyntax
	}
	if p.at < len(p.text) && p.text[p.at] == '.' {
		p.at++
		if p.digits() == 0 {
			return nil, ErrSyntax
		}
	}
	if p.at < len(p.text) && (p.text[p.at] == 'e' || p.text[p.at] == 'E') {
		p.at++
		if p.at < len(p.text) && (p.text[p.at] == '+' || p.text[p.at] == '-') {
			p.at++
		}
		if p.digits() == 0 {
			return nil, ErrSyntax
		}
	}
	return Number(p.text[start:p.at]), nil
}

func (p *parser) digits() int {
	start := p.at
	for p.at < len(p.text) && isDigit(p.text[p.at]) {
		p.at++
	}
	return p.at - start
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// string reads a string. One without escapes shares the text's memory.
func (p *parser) string() (string, error) {
	p.at++ // the opening quote
	start := p.at
	for p.at += plain(p.data[p.at:]); p.at < len(p.text); p.at++ {
		switch c := p.text[p.at]; {
		case c == '"':
			p.at++
			return p.text[start : p.at-1], nil
		case c == '\\':
			return p.escaped([]byte(p.text[start:p.at]))
		case c < ' ':
			return "", ErrSyntax
		}
	}
	return "", ErrSyntax
}

// plain is how many bytes at the beginning of b are ASCII that a string holds as
// it is, rounded down to a multiple of eight. A loop's turns are what costs most
// in a guest, for the host can stop it at each of them.
func plain(b []byte) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	for n := 0; ; n += 8 {
		if len(b)-n < 8 {
			return n
		}
		w := binary.LittleEndian.Uint64(b[n:])
		// The high bit of each byte that is below ' ', or zero after the exclusive or.
		// A borrow can only mark a byte too many, after one that is marked rightly.
		control := (w - ones*' ') &^ w
		quote := w ^ ones*'"'
		backslash := w ^ ones*'\\'
		if (control|(quote-ones)&^quote|(backslash-ones)&^backslash|w)&highs != 0 {
			return n
		}
	}
}

// escaped reads the rest of a string from its first escape on.
func (p *parser) escaped(read []byte) (string, error) {
	for p.at < len(p.text) {
		c := p.text[p.at]
		p.at++
		switch {
		case c == '"':
			return string(read), nil
		case c < ' ':
			return "", ErrSyntax
		case c != '\\':
			read = append(read, c)
		default:
			r, err := p.escape()
			if err != nil {
				return "", err
			}
			read = utf8.AppendRune(read, r)
		}
	}
	return "", ErrSyntax
}

// escape reads what follows a backslash.
func (p *parser) escape() (rune, error) {
	if p.at == len(p.text) {
		return 0, ErrSyntax
	}
	c := p.text[p.at]
	p.at++
	switch c {
	case '"', '\\', '/':
		return rune(c), nil
	case 'b':
		return '\b', nil
	case 'f':
		return '\f', nil
	case 'n':
		return '\n', nil
	case 'r':
		return '\r', nil
	case 't':
		return '\t', nil
	case 'u':
		return p.codeUnits()
	default:
		return 0, ErrSyntax
	}
}

// codeUnits reads the digits of \u, and the second half of a surrogate pair.
func (p *parser) codeUnits() (rune, error) {
	first, err := p.hex()
	if err != nil || !utf16.IsSurrogate(first) {
		return first, err
	}
	if err := p.word(`\u`); err != nil {
		return 0, err
	}
	second, err := p.hex()
	if err != nil {
		return 0, err
	}
	if r := utf16.DecodeRune(first, second); r != utf8.RuneError {
		return r, nil
	}
	return 0, ErrSyntax
}

func (p *parser) hex() (rune, error) {
	if len(p.text)-p.at < 4 {
		return 0, ErrSyntax
	}
	var r rune
	for _, c := range []byte(p.text[p.at : p.at+4]) {
		switch {
		case isDigit(c):
			r = r<<4 | rune(c-'0')
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			return 0, ErrSyntax
		}
	}
	p.at += 4
	return r, nil
}
