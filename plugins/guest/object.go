package guest

import (
	"slices"
	"unsafe"
)

// Object is a JSON object as it was written, such as the claims of a token. It is
// read without taking it apart: that is several times quicker in a module than
// [ParseObject], and what is handed on is the text itself, to the last digit.
type Object struct {
	text    string
	members []entry
	few     [8]entry // room for them, as long as there are no more
}

// entry is a member of an Object: its name, and where its value is in the text.
type entry struct {
	name     string
	from, to int
}

// ReadObject reads a text that is one JSON object, as strictly as [ParseObject].
func ReadObject(data []byte) (*Object, error) {
	return readObject(string(data))
}

// ReadObjectBase64URL is [ReadObject] of a text in base64url, as the parts of a
// token are. The error is [ErrBase64] where it is not that.
func ReadObjectBase64URL(text string) (*Object, error) {
	data, err := DecodeBase64URL(text)
	if err != nil {
		return nil, err
	}
	return readObject(unsafe.String(unsafe.SliceData(data), len(data))) // #nosec G103 -- nobody else has data
}

func readObject(text string) (*Object, error) {
	p := parse(text)
	return p.readObject()
}

func (p *parser) readObject() (*Object, error) {
	o := &Object{text: p.text}
	o.members = o.few[:0]
	mark := p.enter(1)
	for p.member(mark) {
		m := entry{name: p.name()}
		p.next()
		m.from = p.at
		p.skip(1)
		m.to = p.at
		o.members = append(o.members, m)
	}
	if err := p.end(); err != nil {
		return nil, err
	}
	return o, nil
}

// Text is the object as it was written.
func (o *Object) Text() string {
	if o == nil {
		return "{}"
	}
	return o.text
}

// Has reports whether there is such a member.
func (o *Object) Has(name string) bool { return o.value(name) != "" }

// String is a member of text.
func (o *Object) String(name string) (string, bool) { return textOf(o.value(name)) }

// Number is a member that is a number.
func (o *Object) Number(name string) (Number, bool) {
	v := o.value(name)
	if v == "" || v[0] != '-' && !isDigit(v[0]) {
		return "", false
	}
	return Number(v), true
}

// Object is a member that is an object.
func (o *Object) Object(name string) (*Object, bool) {
	v := o.value(name)
	if v == "" || v[0] != '{' {
		return nil, false
	}
	p := parser{text: v}
	below, err := p.readObject()
	return below, err == nil
}

// Strings are the elements of a list that are text, or one text alone.
func (o *Object) Strings(name string) []string {
	v := o.value(name)
	if one, ok := textOf(v); ok {
		return []string{one}
	}
	if v == "" || v[0] != '[' {
		return nil
	}
	var all []string
	p := parser{text: v}
	for more := p.open(1); more; more = p.more() {
		if p.next() == '"' {
			all = append(all, p.string())
		} else {
			p.skip(1)
		}
	}
	return all
}

// Pick is the object without its other members.
func (o *Object) Pick(names ...string) *Object {
	picked, text := &Object{}, []byte{'{'}
	for i := range o.all() {
		m := &o.members[i]
		if !slices.Contains(names, m.name) {
			continue
		}
		if len(text) > 1 {
			text = append(text, ',')
		}
		text = append(appendString(text, m.name), ':')
		from := len(text)
		text = append(text, o.text[m.from:m.to]...)
		picked.members = append(picked.members, entry{m.name, from, len(text)})
	}
	picked.text = string(append(text, '}'))
	return picked
}

// value is the text of a member, "" where there is none.
func (o *Object) value(name string) string {
	for i := range o.all() {
		if m := &o.members[i]; m.name == name {
			return o.text[m.from:m.to]
		}
	}
	return ""
}

// all is how many members there are; none of nil.
func (o *Object) all() int {
	if o == nil {
		return 0
	}
	return len(o.members)
}

// textOf is what a value says that is a string. It was read before.
func textOf(value string) (string, bool) {
	if value == "" || value[0] != '"' {
		return "", false
	}
	p := parser{text: value}
	return p.string(), true
}
