package opa

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// WriteTree writes x for a person: the answer, what gave it, and what would have given
// another.
func (x *Explanation) WriteTree(out io.Writer) error {
	w := &tree{}
	verdict := "denied"
	if x.Allow {
		verdict = "allowed"
	}
	w.line(0, "%s %s%s", x.Action, verdict, prefixed(": ", x.Reason))
	if x.DecisionID != "" {
		w.line(1, "decision %s at %s", x.DecisionID, x.Time.Format(time.RFC3339Nano))
	}
	w.field("organisation", x.Org)
	w.field("client", x.Client)
	w.field("topic", x.Topic)
	if c := x.Credential; c != nil {
		w.field("credential", strings.TrimSpace(c.Verifier+" "+c.ID))
	}
	w.field("mount", string(x.Mount))
	if x.Mount == nil {
		w.field("mounts", string(x.Mounts))
	}
	w.field("limits", string(x.Limits))
	w.field("revision", x.Revision)
	if x.Cause != "" && x.Cause != "policy" {
		w.field("cause", string(x.Cause))
	}
	w.field("detail", x.Detail)
	for _, d := range x.Differences {
		w.field("differs", d.String())
	}
	for _, n := range x.Notes {
		w.field("note", n)
	}
	if len(x.Fired) > 0 {
		w.line(0, "rules that gave a value")
		for _, r := range x.Fired {
			w.rule(1, r, "")
		}
	}
	if len(x.Tried) > 0 {
		w.line(0, "rules that would have allowed it, the one that got furthest first")
		for _, r := range x.Tried {
			w.tried(1, r)
		}
	}
	if o := x.Organisation; o != nil {
		verdict := "denied"
		if o.Allow {
			verdict = "allowed"
		}
		w.line(0, "the organisation's own policy, revision %s: %s%s", o.Revision, verdict, prefixed(": ", o.Reason))
		for _, r := range o.Fired {
			w.rule(1, r, "  gave a value")
		}
		if len(o.Tried) > 0 {
			w.line(0, "the organisation's rules that would have allowed it, the one that got furthest first")
			for _, r := range o.Tried {
				w.tried(1, r)
			}
		}
	}
	_, err := io.WriteString(out, w.String())
	return err
}

func prefixed(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}

type tree struct{ strings.Builder }

func (w *tree) line(depth int, format string, args ...any) {
	w.WriteString(strings.Repeat("  ", depth))
	fmt.Fprintf(w, format, args...)
	w.WriteByte('\n')
}

func (w *tree) field(name, value string) {
	if value != "" {
		w.line(1, "%-13s%s", name, value)
	}
}

func (w *tree) rule(depth int, r FiredRule, more string) {
	w.line(depth, "%s  %s%s%s", strings.TrimPrefix(r.Rule, "data."), r.Position, more, prefixed("  # ", r.Title))
}

func (w *tree) tried(depth int, r TriedRule) {
	w.rule(depth, r.FiredRule, fmt.Sprintf("  (%d of %d held)", r.Passed, r.Of))
	f := r.Failed
	if f == nil {
		return
	}
	w.line(depth+1, "failed: %s  %s", f.Text, f.Position)
	for _, v := range f.Values {
		w.line(depth+2, "%s = %s%s", v.Name, v.Value, prefixed(", wanted ", v.Want))
	}
	for _, s := range f.Since {
		w.rule(depth+2, s, "  gave a value")
	}
	for _, b := range f.Because {
		w.tried(depth+2, b)
	}
}
