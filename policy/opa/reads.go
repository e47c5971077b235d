package opa

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
)

// fields is a set of what may differ between two requests of one Judge. The
// principal, the organisation and the client never do.
type fields uint32

const (
	readTopic fields = 1 << iota
	readLevels
	readQoS
	readRetain
	readSize
	readWill
	readContentType
	readResponseTopic
	readMessageExpiry
	readUser
	readDevice
	readFilter
	readShare
	readMethod
	readRoute
	readTarget

	readProperties = readContentType | readResponseTopic | readMessageExpiry | readUser
	readAll        = readTarget<<1 - 1
)

// fieldNames maps the names below input to what reading them reads. A name that
// is not here, such as "principal", is constant. Read only.
var fieldNames = map[string]fields{
	"topic":        readTopic,
	"levels":       readLevels,
	"qos":          readQoS,
	"retain":       readRetain,
	"size":         readSize,
	"will":         readWill,
	"properties":   readProperties,
	"device":       readDevice,
	"on_behalf_of": readDevice, // it follows from that, and from who asks
	"filter":       readFilter,
	"share":        readShare,
	"method":       readMethod,
	"route":        readRoute,
	"target":       readTarget,
}

// propertyNames does the same below input.properties. Read only.
var propertyNames = map[string]fields{
	"content_type":   readContentType,
	"response_topic": readResponseTopic,
	"message_expiry": readMessageExpiry,
	"user":           readUser,
}

// fieldsOf says what one reference that starts at input can read. Where a
// position is no constant, it can read everything below.
func fieldsOf(ref ast.Ref) fields {
	if len(ref) < 2 {
		return readAll
	}
	name, ok := ref[1].Value.(ast.String)
	if !ok {
		return readAll
	}
	if name == "properties" && len(ref) > 2 {
		if property, ok := ref[2].Value.(ast.String); ok {
			return propertyNames[string(property)]
		}
	}
	return fieldNames[string(name)]
}

// readsOf finds what the rules and everything they can reach may read of a
// request and of the client, and whether they can read the clock. It errs to the side of more.
func readsOf(c *ast.Compiler, rules []*ast.Rule) (reads fields, client clientFields, clock bool) {
	visitReads(c, rules, func(ref ast.Ref) {
		reads |= fieldsOf(ref)
		client |= clientFieldsOf(ref)
	}, func(name string) { clock = clock || clockBuiltins[name] })
	return reads, client, clock
}

// visitReads calls input with each reference into input that the rules have, and
// everything that they can reach: input alone where it is a value. It calls other with
// what refers neither to input nor to data, such as a built-in.
func visitReads(c *ast.Compiler, rules []*ast.Rule, input func(ast.Ref), other func(name string)) {
	reached := map[*ast.Rule]bool{}
	queue := slices.Clone(rules)

	var visit func(x any) bool
	visit = func(x any) bool {
		switch x := x.(type) {
		case ast.Var:
			if x == ast.InputRootDocument.Value {
				input(ast.InputRootRef) // the whole of it, as a value
			}
		case ast.Ref:
			switch {
			case x.HasPrefix(ast.InputRootRef):
				input(x)
			case x.HasPrefix(ast.DefaultRootRef):
				// The graph knows these, but for what was added after it was built.
				queue = append(queue, c.GetRulesDynamicWithOpts(x, ast.RulesOptions{IncludeHiddenModules: true})...)
			default:
				other(x.String())
				ast.NewGenericVisitor(visit).Walk(x[0])
			}
			for _, t := range x[1:] {
				ast.NewGenericVisitor(visit).Walk(t)
			}
			return true
		}
		return false
	}

	for len(queue) > 0 {
		rule := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		if reached[rule] {
			continue
		}
		reached[rule] = true
		for dependency := range c.Graph.Dependencies(rule) {
			if r, ok := dependency.(*ast.Rule); ok {
				queue = append(queue, r)
			}
		}
		ast.NewGenericVisitor(visit).Walk(rule)
	}
}
