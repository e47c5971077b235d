package confined

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// guard looks at the operands of one call before it is made. left is what the
// evaluation may still spend.
type guard func(operands []*ast.Term, left int) error

// allowed are the built-ins that untrusted rules may call. Each takes time and
// gives a result that is linear in its operands, but for sorting. Those that could
// do otherwise have a guard. Read only.
var allowed = map[string]guard{
	// Assignment and comparison; print is erased by the compiler.
	"assign": nil, "eq": nil, "equal": nil, "neq": nil, "lt": nil, "lte": nil, "gt": nil, "gte": nil, "print": nil,
	"internal.member_2": nil, "internal.member_3": nil,

	// Numbers. A result has at most as many digits as both operands together.
	"plus": plainNumbers, "minus": plainNumbers, "mul": plainNumbers, "div": plainNumbers, "rem": plainNumbers,
	"abs": plainNumbers, "ceil": plainNumbers, "floor": plainNumbers, "round": plainNumbers, "sum": plainNumbers,
	"to_number": plainNumbers, "format_int": plainNumbers,

	// Collections.
	"count": nil, "max": nil, "min": nil, "sort": nil,
	"array.concat": nil, "array.slice": nil, "array.reverse": nil,
	"and": nil, "or": nil, "intersection": nil, "union": nil,
	"object.get": nil, "object.keys": nil, "object.union": nil, "object.filter": nil, "object.remove": nil,

	// Text.
	"startswith": nil, "endswith": nil, "contains": shortText, "indexof": shortText, "lower": shortText, "upper": shortText,
	"split": shortText, "substring": shortText, "trim_prefix": nil, "trim_suffix": nil, "trim_space": nil,
	"concat": boundedConcat, "sprintf": boundedFormat,

	// Types.
	"is_array": nil, "is_boolean": nil, "is_null": nil, "is_number": nil, "is_object": nil, "is_set": nil, "is_string": nil,
	"type_name": nil,

	// Time and addresses: of one moment, of one address.
	"time.now_ns": nil, "time.clock": plainNumbers, "time.date": plainNumbers, "time.weekday": plainNumbers,
	"time.parse_rfc3339_ns": shortText,
	"net.cidr_contains":     shortText, "net.cidr_intersects": shortText, "net.cidr_is_valid": shortText,
}

// refused says why the others are not allowed, for the hint of a compile error. A
// name that ends in a dot stands for all that begin with it. Read only.
var refused = map[string]string{
	"regex.": "compiles a pattern, which may take far more memory than it is long", "re_match": "compiles a pattern, which may take far more memory than it is long",
	"glob.": "compiles a pattern, which may take far more memory than it is long",
	"bits.": "can make a number of any size", "product": "can make a number of any size",
	"numbers.": "can make a list of any length", "net.cidr_expand": "can make a list of any length",
	"array.flatten": "is not needed to narrow", "object.union_n": "is not needed to narrow; there is object.union",
	"object.subset": "can take time that grows with the product of its operands", "net.cidr_": "can take time that grows with the product of its operands",
	"replace": "can make a text of any length", "strings.": "can make a text of any length, or take time that grows with the product of its operands",
	"trim": "can take time that grows with the product of its operands; there are trim_space, trim_prefix and trim_suffix", "trim_left": "can take time that grows with the product of its operands", "trim_right": "can take time that grows with the product of its operands",
	"indexof_n": "is not needed to narrow", "internal.template_string": "can make a text of any length; there is concat", "walk": "can visit a value in more ways than it is long",
	"graph.": "can make a list of any length", "json.": "reads or writes formats", "yaml.": "reads or writes formats", "graphql.": "reads or writes formats",
	"base64.": "reads or writes formats", "base64url.": "reads or writes formats", "hex.": "reads or writes formats", "urlquery.": "reads or writes formats",
	"uri.": "reads or writes formats", "uuid.": "reads or writes formats", "semver.": "reads or writes formats", "units.": "reads or writes formats", "rego.": "reads or writes formats",
	"crypto.": "is left to verifiers", "io.jwt.": "is left to verifiers", "providers.": "reaches outside", "http.": "reaches outside", "net.lookup_ip_addr": "reaches outside", "opa.": "shows the environment of the broker",
	"rand.": "is random", "time.add_date": "is not needed to narrow", "time.diff": "is not needed to narrow", "time.format": "is not needed to narrow",
	"time.parse_ns": "is not needed to narrow; there is time.parse_rfc3339_ns", "time.parse_duration_ns": "is not needed to narrow",
	"cast_array": "is deprecated", "cast_boolean": "is deprecated", "cast_null": "is deprecated", "cast_object": "is deprecated", "cast_set": "is deprecated", "cast_string": "is deprecated",
	"all": "is deprecated", "any": "is deprecated", "set_diff": "is deprecated",
	"trace": "is for debugging", "internal.print": "is for debugging", "internal.test_case": "is for debugging",
}

// Allowed lists the built-ins that rules may call, in order.
func Allowed() []string {
	names := make([]string, 0, len(allowed))
	for name := range allowed {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// WhyNot completes the sentence "NAME is not available here: it …"; empty for a
// name that is allowed or that nobody knows.
func WhyNot(name string) string {
	if _, ok := allowed[name]; ok {
		return ""
	}
	if why := refused[name]; why != "" {
		return why
	}
	best := ""
	for prefix := range refused {
		if strings.HasSuffix(prefix, ".") || strings.HasSuffix(prefix, "_") {
			if strings.HasPrefix(name, prefix) && len(prefix) > len(best) {
				best = prefix
			}
		}
	}
	return refused[best]
}

// Capabilities are what OPA's compiler is told there is.
func Capabilities() *ast.Capabilities {
	c := ast.CapabilitiesForThisVersion()
	c.Builtins = slices.DeleteFunc(c.Builtins, func(b *ast.Builtin) bool {
		_, ok := allowed[b.Name]
		return !ok
	})
	c.Builtins = OwnTypes(c.Builtins)
	c.AllowNet = []string{}
	return c
}

const (
	maxText   = 64 << 10 // bytes of a text that a built-in works on
	maxDigits = 64       // characters of a number that arithmetic is done on
	maxPower  = 308      // of ten, in such a number
)

// PlainNumber reports whether n is one that arithmetic can be done on.
func PlainNumber(n string) bool {
	if len(n) > maxDigits {
		return false
	}
	at := strings.IndexAny(n, "eE")
	if at < 0 {
		return true
	}
	power := strings.TrimLeft(n[at+1:], "+-0")
	return len(power) <= 3 && (len(power) < 3 || power <= fmt.Sprint(maxPower))
}

func plainNumbers(operands []*ast.Term, _ int) error {
	for _, t := range operands {
		if !plainIn(t.Value) {
			return beyond("a number has more than %d digits, or an exponent beyond %d", maxDigits, maxPower)
		}
	}
	return shortText(operands, 0)
}

// plainIn looks at what a built-in for numbers is given: a number, a text that is
// one, or a list of them.
func plainIn(v ast.Value) bool {
	plain := func(t *ast.Term) bool {
		n, ok := t.Value.(ast.Number)
		return !ok || PlainNumber(string(n))
	}
	all := func(list interface {
		Until(func(*ast.Term) bool) bool
	},
	) bool {
		return !list.Until(func(t *ast.Term) bool { return !plain(t) })
	}
	switch v := v.(type) {
	case ast.Number:
		return PlainNumber(string(v))
	case ast.String:
		return len(v) > maxDigits || PlainNumber(string(v)) // a longer text is a zone, or no number
	case *ast.Array:
		return all(v)
	case ast.Set:
		return all(v)
	}
	return true
}

func shortText(operands []*ast.Term, _ int) error {
	for _, t := range operands {
		if s, ok := t.Value.(ast.String); ok && len(s) > maxText {
			return beyond("a text has more than %d bytes", maxText)
		}
	}
	return nil
}

// boundedConcat knows how long the result will be.
func boundedConcat(operands []*ast.Term, _ int) error {
	separator, ok := operands[0].Value.(ast.String)
	list, sized := operands[1].Value.(interface {
		Len() int
		Foreach(func(*ast.Term))
	})
	if !ok || !sized {
		return nil // the built-in says what is wrong
	}
	total := 0
	if n := list.Len(); n > 0 {
		if len(separator) > maxText/n {
			return beyond("a text has more than %d bytes", maxText)
		}
		total = len(separator) * (n - 1)
	}
	list.Foreach(func(t *ast.Term) {
		if s, ok := t.Value.(ast.String); ok {
			total += len(s)
		}
	})
	if total > maxText {
		return beyond("a text has more than %d bytes", maxText)
	}
	return nil
}

// boundedFormat takes verbs without width, precision or index: each operand is
// written once.
func boundedFormat(operands []*ast.Term, _ int) error {
	format, ok := operands[0].Value.(ast.String)
	if !ok {
		return nil
	}
	for rest := string(format); ; {
		_, after, found := strings.Cut(rest, "%")
		if !found {
			break
		}
		if after == "" || !strings.Contains("sdvtq%", after[:1]) {
			return errors.New("sprintf takes %s, %d, %v, %t, %q and %% here, without width or index")
		}
		rest = after[1:]
	}
	if measure(operands[1].Value, maxText-len(format)) < 0 {
		return beyond("a text has more than %d bytes", maxText)
	}
	return plainDeep(operands[1].Value)
}

// plainDeep refuses numbers that take long to write, wherever they are. What it is
// given was measured.
func plainDeep(v ast.Value) (err error) {
	ast.WalkTerms(v, func(t *ast.Term) bool {
		if n, ok := t.Value.(ast.Number); ok && !PlainNumber(string(n)) {
			err = beyond("a number has more than %d digits, or an exponent beyond %d", maxDigits, maxPower)
		}
		return err != nil
	})
	return err
}
