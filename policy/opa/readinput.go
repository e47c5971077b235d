package opa

import (
	"unicode/utf8"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/cordon-mq/cordon/policy"
)

// inputReader reads recorded inputs of one action as the rules get them.
//
// Problem: a replay reads a great many, and decoding, checking and converting each
// takes several times as long as the rules do.
//
// Outline: one pass makes the values and holds them against the schema. It takes only
// what this program writes: no escapes, no name twice, nothing that the schema does not
// have. Anything else it leaves to the slow way, which says what is wrong.
type inputReader struct{ shape *inputShape }

// inputShape is a schema, ready to be asked. nil: anything.
type inputShape struct {
	kind   byte // first letter of the JSON type: o, a, s, n, b; 0: any
	enum   map[string]*ast.Term
	fields map[string]*inputField
	typed  bool        // it has no other fields
	values *inputShape // of other fields
	items  *inputShape
}

type inputField struct {
	name  *ast.Term
	shape *inputShape
}

// newInputReader is nil where there is no schema.
func newInputReader(s *shapes, action policy.Action) *inputReader {
	if s == nil || s.input[packageOf[action]] == nil {
		return nil
	}
	return &inputReader{shapeOf(s.input[packageOf[action]])}
}

func shapeOf(schema map[string]any) *inputShape {
	s := &inputShape{}
	if kind, _ := schema["type"].(string); kind != "" {
		s.kind = kind[0]
		if kind == "null" {
			s.kind = 'z' // the slow way
		}
	}
	if words, ok := schema["enum"].([]any); ok {
		s.enum = make(map[string]*ast.Term, len(words))
		for _, w := range words {
			if text, ok := w.(string); ok {
				s.enum[text] = ast.StringTerm(text)
			}
		}
	}
	properties, typed := schema["properties"].(map[string]any)
	s.typed, s.fields = typed, make(map[string]*inputField, len(properties))
	for name, v := range properties {
		if below, ok := v.(map[string]any); ok {
			s.fields[name] = &inputField{ast.StringTerm(name), shapeOf(below)}
		}
	}
	if values, ok := schema["additionalProperties"].(map[string]any); ok {
		s.values = shapeOf(values)
	}
	if items, ok := schema["items"].(map[string]any); ok {
		s.items = shapeOf(items)
	}
	return s
}

// read is false where the slow way has to look.
func (r *inputReader) read(text []byte) (ast.Object, bool) {
	if r == nil || len(text) > maxInputText || !utf8.Valid(text) {
		return nil, false
	}
	p := inputText{text: text}
	v := p.value(r.shape, 0)
	if v == nil || p.at != len(text) {
		return nil, false
	}
	o, ok := v.Value.(ast.Object)
	return o, ok
}

// inputText is a text that is being read. Each method returns nil, or false, where it
// is not what is expected.
type inputText struct {
	text []byte
	at   int
}

func (p *inputText) take(c byte) bool {
	if p.at < len(p.text) && p.text[p.at] == c {
		p.at++
		return true
	}
	return false
}

func (p *inputText) word(w string) bool {
	if len(p.text)-p.at >= len(w) && string(p.text[p.at:p.at+len(w)]) == w {
		p.at += len(w)
		return true
	}
	return false
}

func (p *inputText) value(s *inputShape, depth int) *ast.Term {
	if p.at == len(p.text) || depth > maxInputDepth {
		return nil
	}
	kind := byte(0)
	if s != nil {
		kind = s.kind
	}
	is := func(k byte) bool { return kind == 0 || kind == k }
	if s != nil && s.enum != nil && p.text[p.at] != '"' {
		return nil
	}
	switch c := p.text[p.at]; {
	case c == '{' && is('o'):
		return p.object(s, depth)
	case c == '[' && is('a'):
		return p.array(s, depth)
	case c == '"' && is('s'):
		text, ok := p.string()
		if !ok {
			return nil
		}
		if s != nil && s.enum != nil {
			return s.enum[string(text)]
		}
		return ast.StringTerm(string(text))
	case c == 't' && is('b') && p.word("true"):
		return ast.InternedTerm(true)
	case c == 'f' && is('b') && p.word("false"):
		return ast.InternedTerm(false)
	case c == 'n' && is(0) && p.word("null"):
		return ast.InternedNullTerm
	case (c == '-' || c >= '0' && c <= '9') && is('n'):
		return p.number()
	}
	return nil
}

// string is one without escapes.
func (p *inputText) string() ([]byte, bool) {
	if !p.take('"') {
		return nil, false
	}
	for i := p.at; i < len(p.text); i++ {
		switch c := p.text[i]; {
		case c == '"':
			text := p.text[p.at:i]
			p.at = i + 1
			return text, true
		case c == '\\' || c < ' ':
			return nil, false
		}
	}
	return nil, false
}

// number is a whole one without an exponent, as most are.
func (p *inputText) number() *ast.Term {
	begin := p.at
	p.take('-')
	digits := p.at
	for p.at < len(p.text) && p.text[p.at] >= '0' && p.text[p.at] <= '9' {
		p.at++
	}
	if p.at == digits || p.text[digits] == '0' && (p.at > digits+1 || digits > begin) ||
		p.at < len(p.text) && (p.text[p.at] == '.' || p.text[p.at] == 'e' || p.text[p.at] == 'E') {
		return nil
	}
	return ast.NewTerm(ast.Number(p.text[begin:p.at]))
}

func (p *inputText) array(s *inputShape, depth int) *ast.Term {
	var items *inputShape
	if s != nil {
		items = s.items
	}
	p.take('[')
	var all []*ast.Term
	for !p.take(']') {
		if len(all) > 0 && !p.take(',') {
			return nil
		}
		v := p.value(items, depth+1)
		if v == nil {
			return nil
		}
		all = append(all, v)
	}
	return ast.ArrayTerm(all...)
}

func (p *inputText) object(s *inputShape, depth int) *ast.Term {
	p.take('{')
	all := make([][2]*ast.Term, 0, 8)
	for !p.take('}') {
		if len(all) > 0 && !p.take(',') {
			return nil
		}
		name, ok := p.string()
		if !ok || !p.take(':') {
			return nil
		}
		key, below, ok := s.field(name)
		if !ok {
			return nil
		}
		for _, before := range all {
			if string(before[0].Value.(ast.String)) == string(name) {
				return nil
			}
		}
		v := p.value(below, depth+1)
		if v == nil {
			return nil
		}
		all = append(all, [2]*ast.Term{key, v})
	}
	return ast.ObjectTerm(all...)
}

// field is the key and the shape of what is below it; false: the schema has no such
// field.
func (s *inputShape) field(name []byte) (*ast.Term, *inputShape, bool) {
	if s == nil {
		return ast.StringTerm(string(name)), nil, true
	}
	if f := s.fields[string(name)]; f != nil {
		return f.name, f.shape, true
	}
	return ast.StringTerm(string(name)), s.values, s.values != nil || !s.typed
}
