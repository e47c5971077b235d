package opa

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/rego"

	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/audit"
	"github.com/cordon-mq/cordon/policy/topic"
)

// Explanation says why a decision is what it is.
type Explanation struct {
	DecisionID string    `json:"decision_id,omitempty"`
	Action     string    `json:"action"`
	Org        string    `json:"org,omitempty"`
	Client     string    `json:"client,omitempty"`
	Topic      string    `json:"topic,omitempty"` // or filter, or route
	Time       time.Time `json:"time"`
	Revision   string    `json:"revision"` // of the bundle that explains

	Replayed // its answer; Differences from the record, if there was one

	// Fired are the rules that gave a value, in the order of the evaluation.
	Fired []FiredRule `json:"fired,omitempty"`
	// Tried are, of a denial, the rules that would have allowed it, the one that got
	// furthest first.
	Tried []TriedRule `json:"tried,omitempty"`
	// Organisation is the part of the organisation's own bundle; nil: it was not asked.
	Organisation *OwnExplanation `json:"organisation,omitempty"`

	Credential *audit.Credential `json:"credential,omitempty"`
	Mount      json.RawMessage   `json:"mount,omitempty"`  // the one that the topic is under
	Mounts     json.RawMessage   `json:"mounts,omitempty"` // of its connect
	Limits     json.RawMessage   `json:"limits,omitempty"` // of its connect
	// Notes say what to keep in mind, such as that fields are masked.
	Notes []string `json:"notes,omitempty"`
}

// FiredRule is where a rule is and what its author calls it.
type FiredRule struct {
	Rule     string `json:"rule"`     // such as "data.cordon.publish.decision"
	Position string `json:"position"` // "file:line:col"
	Title    string `json:"title,omitempty"`
}

// TriedRule is a rule that gave no value.
type TriedRule struct {
	FiredRule
	Passed int               `json:"passed"` // expressions that held
	Of     int               `json:"of"`     // expressions there are
	Failed *FailedExpression `json:"failed,omitempty"`
}

// FailedExpression is the first that did not hold.
type FailedExpression struct {
	Position string      `json:"position"`
	Text     string      `json:"text"`
	Values   []SeenValue `json:"values,omitempty"`
	// Because are the rules it refers to that gave no value, the one that got
	// furthest first.
	Because []TriedRule `json:"because,omitempty"`
	// Since are, of a "not", the rules that gave one.
	Since []FiredRule `json:"since,omitempty"`
}

// SeenValue is what a reference or a variable stood for.
type SeenValue struct {
	Name  string `json:"name"`
	Value string `json:"value"` // JSON, shortened; "(masked)" or "undefined"
	Want  string `json:"want,omitempty"`
}

// Bounds of an explanation.
const (
	maxTried  = 16
	maxNested = 6
	maxValues = 12
	maxText   = 200
)

// Explaining says with what, and for whom, something is explained.
type Explaining struct {
	// Own is the bundle that the organisation has now; nil: none. It explains what was
	// answered by one of the organisation, and what comes from Describe.
	Own *Narrowing
	// Restricted leaves out what an organisation's administrator may not know: values of
	// the platform's data. Rules, where they are and what they say are shown.
	Restricted bool
}

// Explain answers ev again and says how. ev is a record, or comes from Describe. It is
// safe for concurrent use.
func (b *Bundle) Explain(ctx context.Context, ev *audit.Event, how Explaining) (*Explanation, error) {
	action, entry, err := b.asked(ev)
	if err != nil {
		return nil, err
	}
	x := &Explanation{
		DecisionID: ev.DecisionID, Action: ev.Custom.Action, Org: ev.Custom.Org, Client: ev.Custom.Client,
		Time: ev.Timestamp, Revision: b.revision, Credential: ev.Custom.Credential,
		Mounts: ev.Custom.Mounts, Limits: ev.Custom.Limits,
	}
	if recorded := ev.Bundles[audit.BundlePlatform].Revision; recorded != "" && recorded != b.revision {
		x.note("the decision was made under revision %s, and is explained with %s", recorded, b.revision)
	}
	platform := *ev
	platform.Bundles = nil
	if why := skipped(&platform, entry); why != "" {
		x.note("it cannot be decided again: %s", why)
		if ev.Input == nil || action == policy.ActionNone {
			x.Replayed = Replayed{Skipped: why, Allow: ev.Custom.Allow, Reason: ev.Custom.Reason, Cause: ev.Custom.Cause, Detail: ev.Custom.Detail, Result: ev.Result}
			x.restrict(how)
			return x, nil
		}
	}
	input, err := b.explainedInput(action, ev)
	if err != nil {
		return nil, err
	}
	a := answer{Decision: policy.Decision{Allow: true}}
	if _, narrowed := ev.Bundles[audit.BundleOrganisation]; entry != nil || action != policy.ActionReceive || !narrowed {
		if a, err = b.answerTo(ctx, action, entry, input, timeOf(ev)); err != nil {
			return nil, err
		}
	}
	if entry != nil {
		if err := b.trace(ctx, entry, ev, input, how, &a, x); err != nil {
			return nil, err
		}
	}
	if err := b.explainConnect(ctx, action, input, timeOf(ev), how, a.Allow, x); err != nil {
		return nil, err
	}
	alone, err := b.explainOwn(ctx, action, ev, input, how, &a, x)
	if err != nil {
		return nil, err
	}
	x.Replayed = Replayed{Allow: a.Allow, Reason: a.Reason, Cause: a.Cause, Detail: a.Detail}
	if a.Cause == policy.CauseNone || a.Cause == policy.CausePolicy {
		x.Result = resultOf(action, &a.Decision).encode()
	}
	if ev.DecisionID != "" && !alone { // an answer of both is no answer of one
		if x.Differences, err = differences(ev, &x.Replayed); err != nil {
			return nil, err
		}
	}
	x.restrict(how)
	return x, nil
}

func (x *Explanation) note(format string, args ...any) {
	x.Notes = append(x.Notes, fmt.Sprintf(format, args...))
}

func (x *Explanation) restrict(how Explaining) {
	if how.Restricted {
		x.Detail = PublicDetail(x.Cause, x.Detail)
	}
}

// explainedInput is lenient with what masks made of an input.
func (b *Bundle) explainedInput(action policy.Action, ev *audit.Event) (ast.Object, error) {
	if len(ev.Masked) == 0 {
		return b.readInput(action, ev.Input)
	}
	v, err := decodeInput(ev.Input)
	if err != nil {
		return nil, err
	}
	value, err := ast.InterfaceToValue(v)
	if err != nil {
		return nil, errNoEvent
	}
	return value.(ast.Object), nil
}

// trace evaluates once more with somebody who looks on.
func (b *Bundle) trace(ctx context.Context, entry *entryPoint, ev *audit.Event, input ast.Object, how Explaining, a *answer, x *Explanation) error {
	cancel := new(stop)
	timer := time.AfterFunc(replayTime, cancel.Cancel)
	defer timer.Stop()
	if ctx.Done() != nil {
		defer context.AfterFunc(ctx, cancel.Cancel)()
	}
	t := newTracer()
	_, err := entry.query.Eval(ctx,
		rego.EvalParsedInput(input), rego.EvalTime(timeOf(ev)), rego.EvalMetrics(metrics.NoOp()), rego.EvalExternalCancel(cancel),
		rego.EvalQueryTracer(t),
		// The index would pass over rules that cannot hold, and they are what is asked about.
		rego.EvalRuleIndexing(false), rego.EvalEarlyExit(false),
	)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil && a.Cause == policy.CauseNone {
		return err
	}
	if t.full {
		x.note("the evaluation has too many steps to show all")
	}
	w := explainer{bundle: b, trace: t, event: ev, input: input, restricted: how.Restricted}
	for _, rule := range t.fired() {
		if f := w.rule(rule); f.Position != "" {
			x.Fired = append(x.Fired, f)
		}
	}
	if !a.Allow {
		x.Tried = w.tried(w.candidates(entry.ref), 0)
	}
	return nil
}

// explainConnect adds the mounts and limits that the holder has, from its connect.
func (b *Bundle) explainConnect(ctx context.Context, action policy.Action, input ast.Object, at time.Time, how Explaining, allowed bool, x *Explanation) error {
	if x.Mounts == nil && action != policy.ActionAdminister && (action != policy.ActionConnect || allowed) {
		a, err := b.connectOf(ctx, input, at)
		if err != nil {
			return err
		}
		if own := how.Own.decides(policy.ActionConnect); own != nil && a.Allow {
			a = own.replay(ctx, policy.ActionConnect, connectInput(input), &a, at)
		}
		if a.Allow {
			r := resultOf(policy.ActionConnect, &a.Decision)
			x.Mounts, x.Limits = encodeJSON(r.Mounts), encodeJSON(r.Limits)
		}
	}
	x.Topic = firstText(input, "topic", "filter", "route")
	var mounts []mount
	if x.Mounts == nil || x.Topic == "" {
		return nil
	}
	if err := json.Unmarshal(x.Mounts, &mounts); err != nil {
		return errNoEvent
	}
	slices.SortStableFunc(mounts, func(a, b mount) int { return len(b.Client) - len(a.Client) })
	for _, m := range mounts {
		if strings.HasPrefix(x.Topic, m.Client) {
			x.Mount = encodeJSON(m)
			break
		}
	}
	return nil
}

// connectOf asks what connect would answer whom input is about.
func (b *Bundle) connectOf(ctx context.Context, input ast.Object, at time.Time) (answer, error) {
	return b.answerTo(ctx, policy.ActionConnect, b.entry(policy.ActionConnect), connectInput(input), at)
}

func connectInput(input ast.Object) ast.Object {
	all := items{{key.action, ast.StringTerm(policy.ActionConnect.String())}}
	for _, k := range []*ast.Term{key.principal, key.org, key.client} {
		if v := input.Get(k); v != nil {
			all = append(all, [2]*ast.Term{k, v})
		}
	}
	return ast.NewObject(all...)
}

func firstText(o ast.Object, names ...string) string {
	for _, name := range names {
		if v := o.Get(ast.StringTerm(name)); v != nil {
			if s, ok := v.Value.(ast.String); ok {
				return string(s)
			}
		}
	}
	return ""
}

// Describe makes an event of an input that a person wrote, for Explain. Where a topic
// or filter has no levels beside it, they are those that its connect would give it.
// The error is KindInvalid and names everything that is wrong.
func (b *Bundle) Describe(ctx context.Context, text []byte, at time.Time) (*audit.Event, error) {
	v, err := decodeInput(text)
	if err != nil {
		return nil, err
	}
	fields := v.(map[string]any)
	word, _ := fields["action"].(string)
	action := policy.ActionNone
	words := make([]string, 0, len(packageOf))
	for a := policy.ActionConnect; a <= policy.ActionAdminister; a++ {
		words = append(words, a.String())
		if a.String() == word {
			action = a
		}
	}
	if action == policy.ActionNone {
		return nil, badInput([]string{fmt.Sprintf("input.action is %q; %s", shorten(word), nearest(word, words))})
	}
	if problems := b.shapes.checkInput(action, v); len(problems) > 0 {
		return nil, badInput(problems)
	}
	complete(action, fields)
	value, err := ast.InterfaceToValue(v)
	if err != nil {
		return nil, badInput([]string{err.Error()})
	}
	input := value.(ast.Object)
	if name := firstText(input, "topic", "filter"); name != "" && fields["levels"] == nil {
		levels, err := b.levelsOf(ctx, action, input, name, at)
		if err != nil {
			return nil, err
		}
		input.Insert(key.levels, texts(levels))
	}
	var whole bytes.Buffer
	if err := writeJSON(&whole, input); err != nil {
		return nil, err
	}
	ev := &audit.Event{Path: "cordon/" + packageOf[action] + "/decision", Input: whole.Bytes(), Timestamp: at.UTC()}
	ev.Custom = audit.Custom{Action: action.String(), Count: 1, Weight: 1}
	if client := input.Get(key.client); client != nil {
		if o, ok := client.Value.(ast.Object); ok {
			ev.Custom.Client = firstText(o, "id")
		}
	}
	if p := input.Get(key.principal); p != nil {
		if o, ok := p.Value.(ast.Object); ok {
			ev.Custom.Org = firstText(o, "org")
			if v := firstText(o, "verifier"); v != "" {
				ev.Custom.Credential = &audit.Credential{Verifier: v}
			}
		}
	}
	return ev, nil
}

// complete adds what every input has, where the person left it out.
func complete(action policy.Action, input map[string]any) {
	object := func(name string) map[string]any {
		o, ok := input[name].(map[string]any)
		if !ok {
			o = map[string]any{}
			input[name] = o
		}
		return o
	}
	principal, org, client := object("principal"), object("org"), object("client")
	for _, list := range []string{"roles", "permissions", "groups", "member_of"} {
		supply(principal, list, []any{})
	}
	supply(principal, "registered", false)
	supply(principal, "restricted", false)
	if name, ok := principal["org"]; ok {
		supply(org, "id", name)
	}
	supply(client, "id", "")
	supply(client, "username", "")
	switch action {
	case policy.ActionPublish, policy.ActionReceive:
		supply(input, "qos", json.Number("0"))
		supply(input, "retain", false)
		supply(input, "size", json.Number("0"))
		supply(input, "will", false)
	case policy.ActionSubscribe:
		supply(input, "qos", json.Number("0"))
	case policy.ActionAdminister:
		supply(input, "target", map[string]any{})
	case policy.ActionNone, policy.ActionConnect: // nothing but the facts
	}
}

func supply(o map[string]any, name string, v any) {
	if _, there := o[name]; !there {
		o[name] = v
	}
}

// levelsOf maps a topic or filter into the organisation.
func (b *Bundle) levelsOf(ctx context.Context, action policy.Action, input ast.Object, name string, at time.Time) ([]string, error) {
	a, err := b.connectOf(ctx, input, at)
	if err != nil {
		return nil, err
	}
	if !a.Allow {
		return nil, badInput([]string{"input.levels is missing, and connect does not allow this principal, which would give it mounts: " + cmp.Or(a.Reason, a.Detail)})
	}
	if action == policy.ActionSubscribe {
		f, err := topic.ParseFilter(name)
		if err != nil {
			return nil, badInput([]string{"input.filter: " + err.Error()})
		}
		routed, _, err := a.Mounts.InFilter(f)
		if err != nil {
			return nil, badInput([]string{"input.filter: " + err.Error()})
		}
		return routed.Levels(), nil
	}
	n, err := topic.ParseName(name)
	if err != nil {
		return nil, badInput([]string{"input.topic: " + err.Error()})
	}
	routed, _, err := a.Mounts.In(n)
	if err != nil {
		return nil, badInput([]string{"input.topic: " + err.Error()})
	}
	return routed.Levels(), nil
}
