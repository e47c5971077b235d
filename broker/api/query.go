package api

import (
	"crypto/sha256"
	"encoding/base64"
	"net/url"
	"slices"
	"strings"
)

// parameter is one of the query of an operation, as the OpenAPI document has it. A
// name that ends in ".{name}" stands for every one that begins as it does.
type parameter struct{ name, doc string }

const anyName = "{name}"

// is reports whether p describes a name.
func (p *parameter) is(name string) bool {
	if family, ok := strings.CutSuffix(p.name, anyName); ok {
		return len(name) > len(family) && strings.HasPrefix(name, family)
	}
	return p.name == name
}

// query is the query of a call, as far as its operation describes it: any other
// parameter is not there, whoever asks for it. So no handler can read one that the
// document does not have.
type query struct {
	values url.Values
	op     *operation
	// missed is told of a name that was asked for and is not described; nil: nobody
	// is.
	missed func(op *operation, name string)
}

func (a *API) query(op *operation, u *url.URL) query { return query{u.Query(), op, a.undescribed} }

// describes reports whether the operation has the parameter.
func (q query) describes(name string) bool {
	return q.op.list && (name == "_limit" || name == "_bookmark") ||
		slices.ContainsFunc(q.op.queries, func(p parameter) bool { return p.is(name) })
}

// Has reports whether the parameter is there, if only as an empty text.
func (q query) Has(name string) bool {
	if !q.describes(name) {
		if q.missed != nil {
			q.missed(q.op, name)
		}
		return false
	}
	return q.values.Has(name)
}

// Get is the first value of the parameter, empty where it is not there.
func (q query) Get(name string) string {
	if !q.Has(name) {
		return ""
	}
	return q.values.Get(name)
}

// family are the names that are there and begin with prefix, which a parameter of
// that family describes, in order.
func (q query) family(prefix string) (names []string) {
	for name := range q.values {
		if strings.HasPrefix(name, prefix) && q.describes(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// stray is a name that the operation does not describe, if there is one: the first
// in the alphabet.
func (q query) stray() (name string, found bool) {
	for given := range q.values {
		if !q.describes(given) && (!found || given < name) {
			name, found = given, true
		}
	}
	return name, found
}

// mark stands for the values of some parameters, and words.
func (q query) mark(names []string, words ...string) string {
	chosen := url.Values{"": words}
	for _, name := range names {
		chosen[name] = []string{q.values.Get(name)}
	}
	sum := sha256.Sum256([]byte(chosen.Encode()))
	return base64.RawURLEncoding.EncodeToString(sum[:9])
}
