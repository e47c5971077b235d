package opa

import (
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/cordon-mq/cordon/policy"
)

// Sizes are about what a value takes as JSON: the bytes of its strings, and this
// much for each value of any kind. They are counted down from a bound, and below
// zero means that there is more; nothing is walked further then.
const perValue = 8

func errInputSize(most int) error {
	return fmt.Errorf("the input is larger than %d bytes", most)
}

func sizeOf(list []string) int {
	n := 0
	for _, s := range list {
		n += perValue + len(s)
	}
	return n
}

// measureFacts counts what grows with what somebody outside wrote.
func measureFacts(f *policy.Facts, left int) int {
	if f == nil {
		return left
	}
	if p := f.Principal; p != nil {
		left -= sizeOf(p.Roles) + sizeOf(p.Permissions) + sizeOf(p.Groups) + sizeOf(p.MemberOf) + sizeOf(identity(p))
		left = measureJSON(p.Metadata, measureJSON(p.Claims, left))
	}
	if f.Org != nil {
		left = measureJSON(f.Org.Data, left)
	}
	if c := f.Client; c != nil {
		left -= len(c.ID) + len(c.Username)
		if c.TLS != nil {
			left -= len(c.TLS.SNI)
			if cert := c.TLS.Cert; cert != nil {
				left -= len(cert.Subject) + sizeOf(cert.SAN)
			}
		}
	}
	return left
}

// measureJSON counts a value as encoding/json makes it. Of any other it counts
// nothing: the conversion refuses it.
func measureJSON(v any, left int) int {
	if left -= perValue; left < 0 {
		return left
	}
	switch v := v.(type) {
	case string:
		left -= len(v)
	case []string:
		left -= sizeOf(v)
	case []any:
		for i := 0; i < len(v) && left >= 0; i++ {
			left = measureJSON(v[i], left)
		}
	case map[string]any:
		for k, x := range v {
			if left < 0 {
				break
			}
			left = measureJSON(x, left-perValue-len(k))
		}
	}
	return left
}

// measureValue counts an answer.
func measureValue(v ast.Value, left int) int {
	if left -= perValue; left < 0 {
		return left
	}
	switch v := v.(type) {
	case ast.String:
		return left - len(v)
	case ast.Number:
		return left - len(v)
	case *ast.Array:
		for i := 0; i < v.Len() && left >= 0; i++ {
			left = measureValue(v.Elem(i).Value, left)
		}
	case ast.Set:
		for _, t := range v.Slice() {
			if left < 0 {
				break
			}
			left = measureValue(t.Value, left)
		}
	case ast.Object:
		return measureObject(v, left)
	}
	return left
}

// measureObject is apart from measureValue so that only objects pay for it.
func measureObject(o ast.Object, left int) int {
	o.Until(func(k, v *ast.Term) bool {
		left = measureValue(v.Value, measureValue(k.Value, left))
		return left < 0
	})
	return left
}
