package opa

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/audit"
)

// Recorder renders entries of the decision log, masked and dropped as the live
// bundle says. labels are those of every event: the node and the version.
func (e *Engine) Recorder(labels map[string]string) audit.Renderer {
	return &recorder{engine: e, labels: maps.Clone(labels)}
}

// recorder is used by one goroutine.
type recorder struct {
	engine *Engine
	labels map[string]string

	// facts and constant are those of the last entry: one holder often has several
	// entries in a row.
	facts    *policy.Facts
	constant *constant

	complained string // revision whose mask or drop failed, so that it is logged once
}

// Render makes the event of en: the whole input, also what the rules do not read,
// and the answer as it was understood.
func (rc *recorder) Render(ctx context.Context, en *audit.Entry) (*audit.Event, error) {
	ev, input := rc.describe(en)
	snap := rc.engine.live.Load()
	if snap.drop != nil || snap.mask != nil {
		whole, err := eventValue(ev, input)
		if err != nil {
			return nil, err
		}
		if rc.ruledOut(ctx, snap, whole) {
			return nil, audit.ErrDropped
		}
		if input, err = rc.masked(ctx, snap, whole, ev, input); err != nil {
			return nil, err
		}
	}
	if input != nil {
		var b bytes.Buffer
		if err := writeJSON(&b, input); err != nil {
			return nil, fmt.Errorf("record decision %s: %w", ev.DecisionID, err)
		}
		ev.Input = b.Bytes()
	}
	return ev, nil
}

// describe is the event without its input, which is nil where it was too large for
// the rules too.
func (rc *recorder) describe(en *audit.Entry) (*audit.Event, ast.Value) {
	d, r := en.Decision, &en.Request
	ev := &audit.Event{
		Labels: rc.labels, DecisionID: d.ID, Timestamp: en.Time.UTC(),
		Path: "cordon/" + packageOf[r.Action] + "/decision",
		Custom: audit.Custom{
			Action: r.Action.String(), Allow: d.Allow, Reason: d.Reason, Cause: d.Cause, Detail: d.Detail,
			Count: en.Count, Weight: en.Weight,
		},
	}
	if en.Verifiers {
		ev.Path, ev.Custom.Action = "cordon/connect/verifiers", audit.ActionVerifiers
	}
	if d.Revision != "" {
		ev.Bundles = map[string]audit.BundleInfo{audit.BundlePlatform: {Revision: d.Revision}}
		if d.OrgRevision != "" {
			ev.Bundles[audit.BundleOrganisation] = audit.BundleInfo{Revision: d.OrgRevision}
		}
	}
	if d.Took > 0 {
		ev.Metrics = map[string]int64{audit.MetricEval: d.Took.Nanoseconds()}
	}
	if !d.At.IsZero() {
		at := d.At.UTC()
		ev.Custom.DecidedAt = &at
	}
	rc.describeHolder(ev, en.Facts)
	switch d.Cause {
	case policy.CauseNone, policy.CausePolicy:
		result := resultOf(r.Action, d)
		ev.Result = result.encode()
		if r.Action == policy.ActionConnect && d.Allow {
			ev.Custom.Mounts, ev.Custom.Limits = encodeJSON(result.Mounts), encodeJSON(result.Limits)
		}
	default: // the rules gave no answer
	}
	facts := en.Facts
	if en.Verifiers {
		// Nobody was verified: what stands in the place of a username may be a token.
		facts, ev.Erased = withoutUsername(facts)
	}
	c := rc.constantOf(facts)
	if c == nil || c.bytes+readAll.size(r) > rc.engine.inputMax {
		ev.Erased = []string{"/input"} // of which everything else is a part
		return ev, nil
	}
	return ev, c.input(r, readAll)
}

// withoutUsername leaves out a username that is none of those with a meaning here.
func withoutUsername(f *policy.Facts) (*policy.Facts, []string) {
	if f == nil || f.Client == nil || f.Client.Username == "" || strings.HasPrefix(f.Client.Username, "use-") {
		return f, nil
	}
	client := *f.Client
	client.Username = ""
	return &policy.Facts{Client: &client}, []string{"/input/client/username"}
}

// withoutQuoted leaves out what an error quotes: of a client that nobody has verified,
// the value that a built-in failed on may be a token in the wrong place.
func withoutQuoted(err error) error {
	if text := err.Error(); strings.Contains(text, `"`) {
		return errors.New(withoutQuotes(text))
	}
	return err
}

func withoutQuotes(text string) string {
	var b strings.Builder
	quoted := false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			if quoted = !quoted; quoted {
				b.WriteString(`"…"`)
			}
		case quoted && c == '\\':
			i++
		case !quoted:
			b.WriteByte(c)
		}
	}
	return b.String()
}

func (rc *recorder) describeHolder(ev *audit.Event, f *policy.Facts) {
	if f == nil {
		return
	}
	if c := f.Client; c != nil {
		ev.Custom.Client = string(c.ID)
		if c.Address.IsValid() {
			ev.RequestedBy = c.Address.Unmap().String()
		}
	}
	if p := f.Principal; p != nil {
		ev.Custom.Org, ev.Custom.Incarnation = p.Org.String(), p.Incarnation
		ev.Custom.Credential = &audit.Credential{Verifier: p.Verifier, ID: p.Credential.ID, Version: p.Credential.Version}
		if ev.Custom.Client == "" { // over HTTP
			ev.Custom.Client = p.APIKey
			if p.Kind == policy.KindUser {
				ev.Custom.Client = string(p.ID)
			}
		}
	}
}

// constantOf is nil for facts that are too large, or no JSON.
func (rc *recorder) constantOf(f *policy.Facts) *constant {
	if f != rc.facts || rc.constant == nil {
		c, cause, _ := rc.engine.newConstant(f)
		if cause != policy.CauseNone {
			c = nil
		}
		rc.facts, rc.constant = f, c
	}
	return rc.constant
}

// eventValue is what the rules of system.log are asked: the whole event.
func eventValue(ev *audit.Event, input ast.Value) (ast.Object, error) {
	text, err := ev.JSON()
	if err != nil {
		return nil, err
	}
	v, err := ast.ValueFromReader(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	o, ok := v.(ast.Object)
	if !ok {
		return nil, fmt.Errorf("decision %s is no object", ev.DecisionID)
	}
	if input != nil {
		o.Insert(ast.StringTerm("input"), ast.NewTerm(input))
	}
	return o, nil
}

// result is a decision as a policy would have answered it, with what it left out
// filled in.
type result struct {
	Allow     bool     `json:"allow"`
	Reason    string   `json:"reason,omitempty"`
	TTL       float64  `json:"ttl,omitempty"`     // seconds
	OnDeny    string   `json:"on_deny,omitempty"` // of a denial
	Mounts    []mount  `json:"mounts,omitempty"`
	Roles     []string `json:"roles,omitempty"`
	Groups    []string `json:"groups,omitzero"`
	Limits    *limits  `json:"limits,omitempty"`
	ExpiresAt int64    `json:"expires_at,omitempty"` // Unix milliseconds
	Share     string   `json:"share,omitempty"`
	Retain    string   `json:"retain,omitempty"`
	Covers    []string `json:"covers,omitempty"`
	QoS       *int     `json:"qos,omitempty"`
	Register  bool     `json:"register,omitempty"`
	Notify    *notice  `json:"notify,omitempty"`
	Violation string   `json:"violation,omitempty"`
}

type notice struct {
	Topic string `json:"topic"`
	Code  int    `json:"code"`
}

type mount struct {
	Client string        `json:"client"`
	Org    string        `json:"org"`
	Device *deviceLevels `json:"device,omitempty"`
}

type deviceLevels struct {
	Type int `json:"type"`
	ID   int `json:"id"`
}

// limits has all limits but those that are unlimited.
type limits struct {
	PublishRate      float64 `json:"publish_rate,omitempty"`
	PublishBurst     int     `json:"publish_burst,omitempty"`
	BytesRate        float64 `json:"bytes_rate,omitempty"`
	ConnectionsMax   int     `json:"connections_max,omitempty"`
	PayloadMax       int     `json:"payload_max"`
	InflightMax      int     `json:"inflight_max"`
	QueueMessages    int     `json:"queue_messages"`
	QueueBytes       int     `json:"queue_bytes"`
	QueueOverflow    string  `json:"queue_overflow"`
	SubscriptionsMax int     `json:"subscriptions_max"`
	SessionExpiryMax float64 `json:"session_expiry_max"`
	KeepAliveMax     float64 `json:"keepalive_max,omitempty"`
	QoSMax           int     `json:"qos_max"`
}

func resultOf(action policy.Action, d *policy.Decision) *result {
	r := &result{Allow: d.Allow, Reason: d.Reason}
	for _, f := range d.Covers {
		r.Covers = append(r.Covers, f.String())
	}
	if !d.Until.IsZero() && !d.At.IsZero() {
		r.TTL = d.Until.Sub(d.At).Seconds()
	}
	if !d.Allow {
		r.OnDeny, r.Register, r.Violation = d.OnDeny.String(), d.Register, d.Violation
		if n := d.Notify; !n.IsZero() {
			r.Notify = &notice{n.Topic.String(), n.Code}
		}
		return r
	}
	switch action {
	case policy.ActionConnect:
		for _, m := range d.Mounts.List() {
			one := mount{Client: m.Client, Org: m.Org}
			if m.Device != nil {
				one.Device = &deviceLevels{m.Device.Type, m.Device.ID}
			}
			r.Mounts = append(r.Mounts, one)
		}
		r.Roles, r.Groups, r.Share, r.Limits = d.Roles, d.Groups, d.Share, limitsOf(&d.Limits)
		if !d.ExpiresAt.IsZero() {
			r.ExpiresAt = d.ExpiresAt.UnixMilli()
		}
	case policy.ActionPublish:
		r.Retain = d.Retain.String()
	case policy.ActionSubscribe:
		qos := int(d.MaxQoS)
		r.QoS = &qos
	case policy.ActionAdminister:
		r.Groups = d.Groups
	case policy.ActionNone, policy.ActionReceive: // nothing more
	}
	return r
}

func limitsOf(l *policy.Limits) *limits {
	return &limits{
		PublishRate: l.PublishRate, PublishBurst: l.PublishBurst, BytesRate: l.BytesRate, ConnectionsMax: l.ConnectionsMax,
		PayloadMax: l.PayloadMax, InflightMax: l.InflightMax, QueueMessages: l.QueueMessages, QueueBytes: l.QueueBytes,
		QueueOverflow: l.QueueOverflow.String(), SubscriptionsMax: l.SubscriptionsMax,
		SessionExpiryMax: l.SessionExpiryMax.Seconds(), KeepAliveMax: l.KeepAliveMax.Seconds(), QoSMax: int(l.QoSMax),
	}
}

func (r *result) encode() json.RawMessage { return encodeJSON(r) }

// encodeJSON is for values of this package, which always are JSON.
func encodeJSON(v any) json.RawMessage {
	text, err := json.Marshal(v)
	if err != nil {
		return nil
	}
	return text
}

// writeJSON writes v as JSON, the keys of objects in order. A set is an array.
func writeJSON(b *bytes.Buffer, v ast.Value) error {
	switch v := v.(type) {
	case ast.Null:
		b.WriteString("null")
	case ast.Boolean:
		if v {
			b.WriteString("true")
		} else {
			b.WriteString("false")
		}
	case ast.Number:
		b.WriteString(string(v))
	case ast.String:
		return writeString(b, string(v))
	case *ast.Array:
		return writeList(b, v.Iter)
	case ast.Set:
		return writeList(b, v.Iter)
	case ast.Object:
		b.WriteByte('{')
		first := true
		err := v.Iter(func(k, v *ast.Term) error {
			if !first {
				b.WriteByte(',')
			}
			first = false
			name, ok := k.Value.(ast.String)
			if !ok {
				name = ast.String(k.Value.String())
			}
			if err := writeString(b, string(name)); err != nil {
				return err
			}
			b.WriteByte(':')
			return writeJSON(b, v.Value)
		})
		b.WriteByte('}')
		return err
	default:
		return fmt.Errorf("%s is no JSON", ast.ValueName(v))
	}
	return nil
}

func writeList(b *bytes.Buffer, iterate func(func(*ast.Term) error) error) error {
	b.WriteByte('[')
	first := true
	err := iterate(func(t *ast.Term) error {
		if !first {
			b.WriteByte(',')
		}
		first = false
		return writeJSON(b, t.Value)
	})
	b.WriteByte(']')
	return err
}

func writeString(b *bytes.Buffer, s string) error {
	plain := func(r rune) bool {
		return r < ' ' || r > '~' || r == '"' || r == '\\' || r == '<' || r == '>' || r == '&'
	}
	if !strings.ContainsFunc(s, plain) {
		b.WriteByte('"')
		b.WriteString(s)
		b.WriteByte('"')
		return nil
	}
	text, err := json.Marshal(s)
	b.Write(text)
	return err
}

// timeOf is when the rules of ev were asked.
func timeOf(ev *audit.Event) time.Time {
	if ev.Custom.DecidedAt != nil {
		return *ev.Custom.DecidedAt
	}
	return ev.Timestamp
}
