package guest

import (
	"errors"
	"math/bits"
	"slices"
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
	p := parse(string(data))
	value := p.value(0)
	if err := p.end(); err != nil {
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

// parser reads a text once, from its beginning. Its first error stays; everything
// it reads afterwards is empty.
type parser struct {
	text string // which strings without escapes share
	at   int
	err  error
	// names are those of the members met so far, of all objects that are still open.
	names []string
	seen  map[int]map[string]bool // those of large objects, by where they begin in names
}

func parse(text string) parser {
	p := parser{text: text, names: make([]string, 0, 16)}
	if !utf8.ValidString(p.text) {
		p.fail(ErrSyntax)
	}
	return p
}

func (p *parser) fail(err error) {
	if p.err == nil {
		p.err = err
	}
	p.at = len(p.text)
}

// end is the error of everything that was read, and of anything after it.
func (p *parser) end() error {
	if p.next(); p.at != len(p.text) {
		p.fail(ErrSyntax)
	}
	return p.err
}

// next skips white space and returns the byte it stands on, 0 at the end.
func (p *parser) next() byte {
	if p.at < len(p.text) && p.text[p.at] > ' ' {
		return p.text[p.at]
	}
	return p.space()
}

func (p *parser) space() byte {
	for ; p.at < len(p.text); p.at++ {
		if c := p.text[p.at]; c != ' ' && c != '\t' && c != '\n' && c != '\r' {
			return c
		}
	}
	return 0
}

// value reads any value inside depth others.
func (p *parser) value(depth int) any {
	switch p.next() {
	case '{':
		object := map[string]any{}
		mark := p.enter(depth + 1)
		for p.member(mark) {
			name := p.name()
			object[name] = p.value(depth + 1)
		}
		return object
	case '[':
		array := []any{}
		for more := p.open(depth + 1); more; more = p.more() {
			array = append(array, p.value(depth+1))
		}
		return array
	case '"':
		return p.string()
	case 't', 'f':
		return p.bool()
	case 'n':
		p.word("null")
		return nil
	default:
		return p.number()
	}
}

// skip passes over any value inside depth others, as strict as value.
func (p *parser) skip(depth int) {
	switch p.next() {
	case '{':
		mark := p.enter(depth + 1)
		for p.member(mark) {
			p.skip(depth + 1)
		}
	case '[':
		for more := p.open(depth + 1); more; more = p.more() {
			p.skip(depth + 1)
		}
	case '"':
		p.string()
	case 't', 'f':
		p.bool()
	case 'n':
		p.word("null")
	default:
		p.number()
	}
}

func (p *parser) bool() bool {
	if p.next() == 't' {
		return p.word("true")
	}
	p.word("false")
	return false
}

func (p *parser) word(word string) bool {
	if len(p.text)-p.at < len(word) || p.text[p.at:p.at+len(word)] != word {
		p.fail(ErrSyntax)
		return false
	}
	p.at += len(word)
	return true
}

// enter passes the brace that opens an object, which is the depth-th of those it
// lies in. What it returns is for member.
func (p *parser) enter(depth int) (mark int) {
	switch {
	case p.next() != '{':
		p.fail(ErrSyntax)
	case depth > MaxDepth:
		p.fail(ErrDepth)
	default:
		p.at++
	}
	return len(p.names)
}

// member goes on to the next value of the object and reports whether there is one.
// Its name is the last of names. The caller read the value before.
func (p *parser) member(mark int) bool {
	c := p.next()
	switch {
	case p.err != nil:
		return false
	case c == '}':
		p.at++
		p.names = p.names[:mark]
		delete(p.seen, mark)
		return false
	case len(p.names) > mark && c == ',':
		p.at++
		c = p.next()
	case len(p.names) > mark:
		c = 0
	}
	if c != '"' {
		p.fail(ErrSyntax)
		return false
	}
	name := p.string()
	if p.next() != ':' {
		p.fail(ErrSyntax)
		return false
	}
	p.at++
	if p.twice(mark, name) {
		p.fail(ErrDuplicate)
		return false
	}
	p.names = append(p.names, name)
	return true
}

// manyMembers is from when on a set is quicker than a look at each name.
const manyMembers = 32

// twice reports whether the object that begins at mark has the member already.
func (p *parser) twice(mark int, name string) bool {
	if len(p.names)-mark < manyMembers {
		return slices.Contains(p.names[mark:], name)
	}
	seen := p.seen[mark]
	if seen == nil {
		seen = map[string]bool{}
		for _, earlier := range p.names[mark:] {
			seen[earlier] = true
		}
		if p.seen == nil {
			p.seen = map[int]map[string]bool{}
		}
		p.seen[mark] = seen
	}
	before := seen[name]
	seen[name] = true
	return before
}

// open passes the bracket that opens an array, and reports whether an element
// follows.
func (p *parser) open(depth int) bool {
	if depth > MaxDepth {
		p.fail(ErrDepth)
		return false
	}
	p.at++
	if p.next() == ']' {
		p.at++
		return false
	}
	return p.err == nil
}

// more passes the comma before another element, or the end of the array.
func (p *parser) more() bool {
	c := p.next()
	if p.err == nil && c != ',' && c != ']' {
		p.fail(ErrSyntax)
	}
	if p.err != nil {
		return false
	}
	p.at++
	return c == ','
}

// number reads one; anything that no value begins with is none.
func (p *parser) number() Number {
	start := p.at
	if p.is('-') {
		p.at++
	}
	zero := p.is('0')
	n := p.digits()
	good := n == 1 || n > 1 && !zero
	if p.is('.') {
		p.at++
		good = p.digits() > 0 && good
	}
	if p.is('e') || p.is('E') {
		p.at++
		if p.is('+') || p.is('-') {
			p.at++
		}
		good = p.digits() > 0 && good
	}
	if !good {
		p.fail(ErrSyntax)
		return ""
	}
	return Number(p.text[start:p.at])
}

func (p *parser) is(c byte) bool { return p.at < len(p.text) && p.text[p.at] == c }

func (p *parser) digits() (n int) {
	n = digits(p.text[p.at:])
	p.at += n
	return n
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// string reads a string, on whose opening quote it stands. One without escapes
// shares the text's memory.
func (p *parser) string() string {
	text, start := p.text, p.at+1
	at := start
	for {
		marked := special(word(text, at))
		if marked == 0 {
			at += 8
			continue
		}
		at += bits.TrailingZeros64(marked) / 8
		c := byte(0)
		if at < len(text) {
			c = text[at]
		}
		switch {
		case c == '"':
			p.at = at + 1
			return text[start:at]
		case c == '\\':
			p.at = at
			return p.escaped([]byte(text[start:at]))
		case c < ' ':
			p.fail(ErrSyntax)
			return ""
		}
		at++ // of a letter beyond ASCII
	}
}

// Text is looked at eight bytes at a time: a loop's turns are what costs most in a
// guest, for the host can stop it at each of them.
const (
	ones  = 0x0101010101010101
	highs = 0x80 * ones
)

// word is the eight bytes of s from n on, with zeros where it ends.
func word(s string, n int) uint64 {
	if len(s)-n < 8 {
		return tail(s, n)
	}
	b := s[n : n+8] // the compiler makes one load of it
	return uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16 | uint64(b[3])<<24 |
		uint64(b[4])<<32 | uint64(b[5])<<40 | uint64(b[6])<<48 | uint64(b[7])<<56
}

func tail(s string, n int) (w uint64) {
	for i := len(s) - 1; i >= n; i-- {
		w = w<<8 | uint64(s[i])
	}
	return w
}

// special marks, by their high bits, the bytes of w that are not ASCII which a
// string holds as it is. One too many can only be behind one that is marked rightly.
func special(w uint64) uint64 {
	const quotes, backslashes, spaces = ones * '"', ones * '\\', ones * ' '
	return (((w-spaces)|((w^quotes)-ones)|((w^backslashes)-ones))&^w | w) & highs
}

// plain is how many bytes at the beginning of s are not special.
func plain(s string) int {
	for n := 0; ; n += 8 {
		if marked := special(word(s, n)); marked != 0 {
			return n + bits.TrailingZeros64(marked)/8
		}
	}
}

// digits is how many bytes at the beginning of s are digits.
func digits(s string) int {
	for n := 0; ; n += 8 {
		w := word(s, n)
		// As above, for bytes below '0' and, by a carry into the high bit, above '9'.
		if marked := ((w-ones*'0')&^w | (w + ones*(0x7f-'9')) | w) & highs; marked != 0 {
			return n + bits.TrailingZeros64(marked)/8
		}
	}
}

// escaped reads the rest of a string from its first escape on.
func (p *parser) escaped(read []byte) string {
	for p.at < len(p.text) {
		c := p.text[p.at]
		p.at++
		switch {
		case c == '"':
			return string(read)
		case c < ' ':
			p.fail(ErrSyntax)
		case c != '\\':
			read = append(read, c)
		default:
			read = utf8.AppendRune(read, p.escape())
		}
	}
	p.fail(ErrSyntax)
	return ""
}

// escape reads what follows a backslash.
func (p *parser) escape() rune {
	var c byte
	if p.at < len(p.text) {
		c = p.text[p.at]
		p.at++
	}
	switch c {
	case '"', '\\', '/':
		return rune(c)
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	case 'u':
		return p.codeUnits()
	default:
		p.fail(ErrSyntax)
		return 0
	}
}

// codeUnits reads the digits of \u, and the second half of a surrogate pair.
func (p *parser) codeUnits() rune {
	first := p.hex()
	if !utf16.IsSurrogate(first) {
		return first
	}
	p.word(`\u`)
	r := utf16.DecodeRune(first, p.hex())
	if r == utf8.RuneError {
		p.fail(ErrSyntax)
	}
	return r
}

func (p *parser) hex() rune {
	if len(p.text)-p.at < 4 {
		p.fail(ErrSyntax)
		return 0
	}
	var r rune
	for _, c := range []byte(p.text[p.at : p.at+4]) {
		switch {
		case isDigit(c):
			r = r<<4 | rune(c-'0')
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			p.fail(ErrSyntax)
			return 0
		}
	}
	p.at += 4
	return r
}
