package opa

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/audit"
)

// Rules of package system.log, as OPA has them. Both are asked with the event as
// input, so what was decided about is input.input.
//
//	mask contains "/input/principal/claims"
//	mask contains {"op": "upsert", "path": "/input/client/address", "value": "-"}
//	drop if input.custom.action == "receive"

// maskMost bounds the masks of one event.
const maskMost = 256

func logRef(rule string) ast.Ref {
	return ast.Ref{ast.DefaultRootDocument, ast.StringTerm("system"), ast.StringTerm("log"), ast.StringTerm(rule)}
}

// ruledOut asks whether the event is not to be recorded. Only a plain true drops it:
// a rule that fails must not hide what was decided.
func (rc *recorder) ruledOut(ctx context.Context, snap *snapshot, event ast.Value) bool {
	if snap.drop == nil {
		return false
	}
	v, cause, err := rc.engine.evaluate(ctx, snap.drop, event, rc.engine.now())
	if cause != policy.CauseNone && cause != policy.CauseUndefined {
		rc.complain(snap, "drop", err)
	}
	return cause == policy.CauseNone && ast.Boolean(true).Equal(v)
}

// masked applies the rule mask to input and to the result in ev. When it fails, both
// are taken away.
func (rc *recorder) masked(ctx context.Context, snap *snapshot, event ast.Value, ev *audit.Event, input ast.Value) (ast.Value, error) {
	if snap.mask == nil {
		return input, nil
	}
	v, cause, err := rc.engine.evaluate(ctx, snap.mask, event, rc.engine.now())
	if cause == policy.CauseUndefined {
		return input, nil
	}
	var masks []mask
	if cause == policy.CauseNone {
		masks, err = decodeMasks(v)
	}
	if err == nil {
		input, err = applyMasks(masks, ev, input)
	}
	if err != nil {
		rc.complain(snap, "mask", err)
		ev.Custom.MaskFailed = true
		ev.Erased, ev.Masked, ev.Result, input = []string{"/input", "/result"}, nil, nil, nil
	}
	conceal(ev)
	return input, nil
}

func (rc *recorder) complain(snap *snapshot, rule string, err error) {
	if rc.complained != snap.revision+rule {
		rc.complained = snap.revision + rule
		rc.engine.log.Error("decision log rule failed", "rule", logRef(rule).String(), "revision", snap.revision, "err", err)
	}
}

// mask is one change of an event.
type mask struct {
	path   string
	steps  []string // below input or result
	root   string   // "input" or "result"
	upsert bool
	value  any
}

var errMaskPath = errors.New("has to begin with /input or /result")

func newMask(path string) (m mask, err error) {
	steps := strings.Split(path, "/")
	if steps[0] != "" || len(steps) < 2 || steps[1] != "input" && steps[1] != "result" {
		return m, fmt.Errorf("the mask %q %w", shorten(path), errMaskPath)
	}
	for _, step := range steps {
		if _, err := url.PathUnescape(step); err != nil {
			return m, fmt.Errorf("the mask %q has a broken escape", shorten(path))
		}
	}
	return mask{path: path, root: steps[1], steps: steps[2:]}, nil
}

// decodeMasks reads the answer of the rule mask: paths, or objects as OPA has them.
func decodeMasks(v ast.Value) (masks []mask, err error) {
	err = each(v, maskMost, func(v ast.Value) error {
		m, err := maskOf(v)
		masks = append(masks, m)
		return err
	})
	return masks, err
}

func maskOf(v ast.Value) (m mask, err error) {
	if s, ok := v.(ast.String); ok {
		return newMask(string(s))
	}
	o, ok := v.(ast.Object)
	if !ok {
		return m, fmt.Errorf("a mask %w", want("a path or an object", v))
	}
	op, path := "", ""
	var value any
	err = eachField(o, "mask", func(name string, v ast.Value) (err error) {
		switch name {
		case "op":
			op, err = textOf(v, maxName)
		case "path":
			path, err = textOf(v, maxName)
		case "value":
			value, err = ast.JSON(v)
		default:
			err = errUnknownField
		}
		return err
	})
	if err != nil {
		return m, err
	}
	if op != "remove" && op != "upsert" {
		return m, fmt.Errorf("mask.op is %q; it has to be remove or upsert", shorten(op))
	}
	m, err = newMask(path)
	m.upsert, m.value = op == "upsert", value
	return m, err
}

// applyMasks changes ev.Result and returns the input as it is then. What a mask
// names and is not there, is not there: that is no error.
func applyMasks(masks []mask, ev *audit.Event, input ast.Value) (ast.Value, error) {
	if len(masks) == 0 {
		return input, nil
	}
	roots := map[string]any{}
	if input != nil {
		v, err := ast.JSON(input)
		if err != nil {
			return nil, err
		}
		roots["input"] = v
	}
	if ev.Result != nil {
		d := json.NewDecoder(bytes.NewReader(ev.Result))
		d.UseNumber()
		var v any
		if err := d.Decode(&v); err != nil {
			return nil, err
		}
		roots["result"] = v
	}
	for _, m := range masks {
		switch {
		case m.upsert && m.set(roots):
			ev.Masked = append(ev.Masked, m.path)
		case !m.upsert && m.remove(roots):
			ev.Erased = append(ev.Erased, m.path)
		}
	}
	ev.Result = nil
	if v, ok := roots["result"]; ok {
		text, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		ev.Result = text
	}
	v, ok := roots["input"]
	if !ok {
		return nil, nil
	}
	return ast.InterfaceToValue(v)
}

// stepIn finds the key or index of a step in node. A key is written as it is, or
// with the escapes of a URL where it has a slash.
func stepIn(node any, step string) (key string, index int, ok bool) {
	switch node := node.(type) {
	case map[string]any:
		if _, ok := node[step]; ok {
			return step, 0, true
		}
		plain, err := url.PathUnescape(step)
		if err != nil {
			return "", 0, false
		}
		_, ok := node[plain]
		return plain, 0, ok
	case []any:
		i, err := strconv.Atoi(step)
		return "", i, err == nil && i >= 0 && i < len(node)
	}
	return "", 0, false
}

// remove deletes what m names from roots; false: it is not there.
func (m mask) remove(roots map[string]any) bool {
	if _, ok := roots[m.root]; !ok {
		return false
	}
	if len(m.steps) == 0 {
		delete(roots, m.root)
		return true
	}
	var changed bool
	roots[m.root], changed = removeIn(roots[m.root], m.steps)
	return changed
}

// removeIn returns node without what steps lead to.
func removeIn(node any, steps []string) (any, bool) {
	key, index, ok := stepIn(node, steps[0])
	if !ok {
		return node, false
	}
	last := len(steps) == 1
	switch node := node.(type) {
	case map[string]any:
		if last {
			delete(node, key)
			return node, true
		}
		var changed bool
		node[key], changed = removeIn(node[key], steps[1:])
		return node, changed
	case []any:
		if last {
			return slices.Delete(node, index, index+1), true
		}
		var changed bool
		node[index], changed = removeIn(node[index], steps[1:])
		return node, changed
	}
	return node, false
}

// set puts the value of m where it says, and makes the objects on the way. false: the
// way leads through something that is neither object nor array.
func (m mask) set(roots map[string]any) bool {
	if _, ok := roots[m.root]; !ok {
		return false
	}
	if len(m.steps) == 0 {
		roots[m.root] = m.value
		return true
	}
	node := roots[m.root]
	for i, step := range m.steps {
		last := i == len(m.steps)-1
		key, index, found := stepIn(node, step)
		switch at := node.(type) {
		case map[string]any:
			switch {
			case last:
				at[key] = m.value
			case !found:
				at[key] = map[string]any{}
			}
			node = at[key]
		case []any:
			if !found {
				return false
			}
			if last {
				at[index] = m.value
			}
			node = at[index]
		default:
			return false
		}
	}
	return true
}

// concealed reports whether a mask of ev touches path: something at, above or below.
func concealed(ev *audit.Event, path string) bool {
	touches := func(masked string) bool {
		return masked == path || strings.HasPrefix(path, masked+"/") || strings.HasPrefix(masked, path+"/")
	}
	return slices.ContainsFunc(ev.Erased, touches) || slices.ContainsFunc(ev.Masked, touches)
}

// conceal takes out of ev what its own fields repeat of something that is masked.
func conceal(ev *audit.Event) {
	if len(ev.Erased)+len(ev.Masked) == 0 {
		return
	}
	c := &ev.Custom
	hit := func(paths ...string) bool {
		return slices.ContainsFunc(paths, func(p string) bool { return concealed(ev, p) })
	}
	if hit("/input/client/id", "/input/principal/api_key", "/input/principal/id") {
		c.Client = ""
	}
	if hit("/input/client/address") {
		ev.RequestedBy = ""
	}
	if c.Credential != nil && hit("/input/principal/type", "/input/principal/id", "/input/principal/api_key", "/input/principal/app") {
		c.Credential = &audit.Credential{Verifier: c.Credential.Verifier}
	}
	if c.Credential != nil && hit("/input/principal/verifier") {
		c.Credential = nil
	}
	if hit("/result/reason") {
		c.Reason = ""
	}
	if hit("/result/mounts") {
		c.Mounts = nil
	}
	if hit("/result/limits") {
		c.Limits = nil
	}
	if c.Cause != policy.CauseNone && c.Cause != policy.CausePolicy {
		c.Detail = "" // an error may have the value in it that it is about
	}
}
