package guest

import (
	"errors"
	"maps"
	"slices"
	"strconv"
)

// Fields reads the members of a JSON object one by one and remembers the first
// that is wrong, so that a plugin's settings are read top to bottom and checked
// once, by [Fields.Err]. A member that nobody asked for is wrong too.
type Fields struct {
	path   string
	object map[string]any
	asked  map[string]bool
	below  []*Fields
	first  *error // shared with everything below
}

// NewFields reads object; nil is an empty one. Errors call it name.
func NewFields(name string, object map[string]any) *Fields {
	return &Fields{path: name, object: object, asked: map[string]bool{}, first: new(error)}
}

// Has reports whether the object has the member, without asking for it.
func (f *Fields) Has(name string) bool {
	_, ok := f.object[name]
	return ok
}

// HasObject reports whether a member is an object, for one that may also be
// something simpler.
func (f *Fields) HasObject(name string) bool {
	_, ok := f.object[name].(map[string]any)
	return ok
}

// String is a member of text; "" if there is none.
func (f *Fields) String(name string) string {
	s, _ := member[string](f, name, "text")
	return s
}

// Bool is a member of true or false; false if there is none.
func (f *Fields) Bool(name string) bool {
	b, _ := member[bool](f, name, "true or false")
	return b
}

// Int is an integer from low to high; otherwise if there is none.
func (f *Fields) Int(name string, low, high, otherwise int64) int64 {
	n, ok := member[Number](f, name, "a number")
	if !ok {
		return otherwise
	}
	i, ok := n.Int64()
	if !ok || i < low || i > high {
		f.Fail(name, "has to be "+strconv.FormatInt(low, 10)+" to "+strconv.FormatInt(high, 10))
		return otherwise
	}
	return i
}

// Strings is a list of text, or one text alone; nil if there is none.
func (f *Fields) Strings(name string) []string {
	if s, ok := f.object[name].(string); ok {
		f.asked[name] = true
		return []string{s}
	}
	list, _ := member[[]any](f, name, "a list of text")
	var texts []string
	for _, v := range list {
		s, ok := v.(string)
		if !ok {
			f.Fail(name, "has to be a list of text")
			return nil
		}
		texts = append(texts, s)
	}
	return texts
}

// Fields is a member that is an object; an empty one if there is none.
func (f *Fields) Fields(name string) *Fields {
	object, _ := member[map[string]any](f, name, "an object")
	return f.child(name, object)
}

// List is a member that is a list of objects; nil if there is none.
func (f *Fields) List(name string) []*Fields {
	list, _ := member[[]any](f, name, "a list of objects")
	var all []*Fields
	for i, v := range list {
		object, ok := v.(map[string]any)
		if !ok {
			f.Fail(name, "has to be a list of objects")
			return nil
		}
		all = append(all, f.child(name+"["+strconv.Itoa(i)+"]", object))
	}
	return all
}

// Ignore asks for every member, for a reader who does not mind more of them.
func (f *Fields) Ignore() {
	for name := range f.object {
		f.asked[name] = true
	}
}

// Err is the first error that was met in f or below it, or else the first member
// there that nobody asked for.
func (f *Fields) Err() error {
	for _, name := range slices.Sorted(maps.Keys(f.object)) {
		if !f.asked[name] {
			f.Fail(name, "is not known")
		}
	}
	for _, below := range f.below {
		_ = below.Err() // it fills first
	}
	return *f.first
}

func (f *Fields) child(name string, object map[string]any) *Fields {
	child := &Fields{path: f.path + "." + name, object: object, asked: map[string]bool{}, first: f.first}
	f.below = append(f.below, child)
	return child
}

// Fail makes a member wrong for a reason of the caller's, such as "has to be a
// key ID". The reason does not repeat the value: it may be a secret.
func (f *Fields) Fail(name, why string) {
	if *f.first == nil {
		*f.first = errors.New(f.path + "." + name + " " + why)
	}
}

// member is the value of a member of one type; false where it is absent or
// wrong.
func member[T any](f *Fields, name, what string) (T, bool) {
	f.asked[name] = true
	value, present := f.object[name]
	typed, ok := value.(T)
	if present && !ok {
		f.Fail(name, "has to be "+what)
	}
	return typed, ok
}
