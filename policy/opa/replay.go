package opa

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/util"

	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/audit"
)

// Replayed is what a bundle answers to what was recorded.
type Replayed struct {
	// Skipped says why the decision cannot be made again; empty: it was.
	Skipped string `json:"skipped,omitempty"`

	Allow  bool            `json:"allow"`
	Reason string          `json:"reason,omitempty"`
	Cause  policy.Cause    `json:"cause,omitempty"`
	Detail string          `json:"detail,omitempty"`
	Result json.RawMessage `json:"result,omitempty"` // absent where the rules gave no answer
	// Differences from what was recorded, by field; empty: none.
	Differences []Difference `json:"differences,omitempty"`
}

// Difference is one field of an answer: "allow", "cause", or one of the result.
type Difference struct {
	Field    string          `json:"field"`
	Recorded json.RawMessage `json:"recorded,omitempty"` // absent: it had none
	Now      json.RawMessage `json:"now,omitempty"`
}

// aside is where a bundle answers what is not asked by an enforcement point. It
// counts and logs nothing.
type aside struct {
	once    sync.Once
	engine  *Engine
	readers [policy.ActionAdminister + 1]*inputReader
}

func (b *Bundle) beside() *aside {
	b.aside.once.Do(func() {
		b.aside.engine = New(Options{Timeout: replayTime})
		for action := range packageOf {
			b.aside.readers[action] = newInputReader(b.shapes, action)
		}
	})
	return &b.aside
}

func (b *Bundle) replaying() *Engine { return b.beside().engine }

// replayTime bounds an evaluation that nobody waits for in the middle of a
// connection: a machine that replays is busy.
const replayTime = time.Second

// Replay decides again what ev records, at the time of the record and with the
// bundle's own data, and compares. The error is KindInvalid for a record that is none;
// a record that cannot be decided again is Skipped. It is safe for concurrent use.
func (b *Bundle) Replay(ctx context.Context, ev *audit.Event) (*Replayed, error) {
	action, entry, err := b.asked(ev)
	if err != nil {
		return nil, err
	}
	if why := skipped(ev, entry); why != "" {
		return &Replayed{Skipped: why}, nil
	}
	input, err := b.readInput(action, ev.Input)
	if err != nil {
		return nil, err
	}
	a, err := b.answerTo(ctx, action, entry, input, timeOf(ev))
	if err != nil {
		return nil, err
	}
	out := &Replayed{Allow: a.Allow, Reason: a.Reason, Cause: a.Cause, Detail: a.Detail}
	if a.Cause == policy.CauseNone || a.Cause == policy.CausePolicy {
		out.Result = resultOf(action, &a.Decision).encode()
	}
	out.Differences, err = differences(ev, out)
	return out, err
}

// errNoEvent is immutable: what a caller is told of a record that is none.
var errNoEvent = &policy.Error{Kind: policy.KindInvalid, Op: "read decision", Public: "this is no recorded decision of Cordon"}

// asked says what ev asked, and which rule of b answers it; nil: none.
func (b *Bundle) asked(ev *audit.Event) (policy.Action, *entryPoint, error) {
	for action, pkg := range packageOf {
		if ev.Path == "cordon/"+pkg+"/decision" {
			return action, b.entry(action), nil
		}
	}
	if ev.Path == "cordon/connect/verifiers" {
		return policy.ActionNone, nil, nil
	}
	return 0, nil, errNoEvent
}

// skipped says why ev cannot be decided again.
func skipped(ev *audit.Event, entry *entryPoint) string {
	switch c := ev.Custom.Cause; {
	case c == policy.CauseQuota:
		return "no rule was asked: the quota of the organisation was used up"
	case c == policy.CauseTimeout || c == policy.CausePanic:
		return "the evaluation did not end by itself"
	case c == policy.CauseInputSize:
		return "the input was too large to be recorded"
	}
	if ev.Path == "cordon/connect/verifiers" {
		return "it is a choice of verifiers and no decision"
	}
	if _, own := ev.Bundles[audit.BundleOrganisation]; own {
		return "a bundle of the organisation answered too"
	}
	for _, masked := range [][]string{ev.Erased, ev.Masked} {
		for _, path := range masked {
			below, ok := strings.CutPrefix(path, "/input")
			if ok && entry != nil && entry.paths.reads(below) {
				return path + " is masked, and the rules read it"
			}
			if path == "/result" {
				return "the result is masked"
			}
		}
	}
	if ev.Input == nil {
		return "the input is not recorded"
	}
	return ""
}

// readInput reads a recorded or described input strictly.
func (b *Bundle) readInput(action policy.Action, text json.RawMessage) (ast.Object, error) {
	if o, ok := b.beside().readers[action].read(text); ok {
		return o, nil
	}
	return b.readSlowly(action, text)
}

// readSlowly takes whatever is right, and says what is not.
func (b *Bundle) readSlowly(action policy.Action, text json.RawMessage) (ast.Object, error) {
	v, err := decodeInput(text)
	if err != nil {
		return nil, err
	}
	if problems := b.shapes.checkInput(action, v); len(problems) > 0 {
		return nil, badInput(problems)
	}
	value, err := ast.InterfaceToValue(v)
	if err != nil {
		return nil, &policy.Error{Kind: policy.KindInvalid, Op: "read input", Field: "input", Public: "is no JSON", Err: err}
	}
	o, ok := value.(ast.Object)
	if !ok {
		return nil, &policy.Error{Kind: policy.KindInvalid, Op: "read input", Field: "input", Public: "has to be an object"}
	}
	return o, nil
}

// maxInputText bounds an input as text, and maxInputDepth what is in it.
const (
	maxInputText  = 1 << 20
	maxInputDepth = 200
)

func decodeInput(text json.RawMessage) (any, error) {
	if len(text) > maxInputText {
		return nil, &policy.Error{Kind: policy.KindTooLarge, Op: "read input", Field: "input", Public: "has more than 1 MiB"}
	}
	if tooDeep(text) {
		return nil, &policy.Error{Kind: policy.KindInvalid, Op: "read input", Field: "input", Public: "is nested too deep"}
	}
	var v any
	if err := util.UnmarshalJSON(text, &v); err != nil {
		return nil, &policy.Error{Kind: policy.KindInvalid, Op: "read input", Field: "input", Public: firstLine(err)}
	}
	if _, ok := v.(map[string]any); !ok {
		return nil, &policy.Error{Kind: policy.KindInvalid, Op: "read input", Field: "input", Public: "has to be an object"}
	}
	return v, nil
}

// tooDeep looks at the brackets alone: before anything recurses into them.
func tooDeep(text []byte) bool {
	depth, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > maxInputDepth {
				return true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return false
}

// answerTo decides as a judge does, without memory.
func (b *Bundle) answerTo(ctx context.Context, action policy.Action, entry *entryPoint, input ast.Value, at time.Time) (answer, error) {
	value, cause, err := b.replaying().evaluate(ctx, entry, input, at)
	if ctx.Err() != nil {
		return answer{}, context.Cause(ctx)
	}
	if cause != policy.CauseNone {
		return answer{Decision: policy.Decision{Cause: cause, Detail: err.Error()}}, nil
	}
	a, bad := decode(action, value)
	if bad != nil {
		a = answer{Decision: policy.Decision{Cause: policy.CauseMalformed, Detail: bad.Error()}}
	}
	return a, nil
}

// differences compares what was answered, but not for how long: that may depend on
// when it was remembered.
func differences(ev *audit.Event, now *Replayed) (all []Difference, err error) {
	note := func(field string, recorded, is any) {
		all = append(all, Difference{field, encodeJSON(recorded), encodeJSON(is)})
	}
	if ev.Custom.Allow != now.Allow {
		note("allow", ev.Custom.Allow, now.Allow)
	}
	if ev.Custom.Cause != now.Cause {
		note("cause", ev.Custom.Cause, now.Cause)
	}
	if bytes.Equal(ev.Result, now.Result) {
		return all, nil
	}
	recorded, err := fieldsIn(ev.Result)
	if err != nil {
		return nil, err
	}
	is, err := fieldsIn(now.Result)
	if err != nil {
		return nil, err
	}
	names := util.KeysSorted(recorded)
	for name := range is {
		if _, both := recorded[name]; !both {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		if name == "ttl" || name == "allow" || concealed(ev, "/result/"+name) {
			continue
		}
		a, b := recorded[name], is[name]
		if same, err := sameJSON(a, b); err != nil {
			return nil, err
		} else if !same {
			all = append(all, Difference{name, a, b})
		}
	}
	return all, nil
}

func fieldsIn(result json.RawMessage) (fields map[string]json.RawMessage, err error) {
	if result == nil {
		return nil, nil
	}
	if tooDeep(result) {
		return nil, errNoEvent
	}
	if err := json.Unmarshal(result, &fields); err != nil {
		return nil, errNoEvent
	}
	return fields, nil
}

func sameJSON(a, b json.RawMessage) (bool, error) {
	if bytes.Equal(a, b) {
		return true, nil
	}
	if a == nil || b == nil {
		return false, nil
	}
	var x, y any
	if err := errors.Join(json.Unmarshal(a, &x), json.Unmarshal(b, &y)); err != nil {
		return false, errNoEvent
	}
	return reflect.DeepEqual(x, y), nil
}

// String is for a person: "allow: false, was true".
func (d Difference) String() string {
	text := func(v json.RawMessage) string {
		if v == nil {
			return "nothing"
		}
		return string(v)
	}
	return fmt.Sprintf("%s: %s, was %s", d.Field, text(d.Now), text(d.Recorded))
}
