package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"text/tabwriter"
	"time"

	"github.com/cordon-mq/cordon/broker/api"
	"github.com/cordon-mq/cordon/policy/opa"
	"github.com/cordon-mq/cordon/policy/revision"
)

// dataFolder names the broker that a command is about.
type dataFolder struct {
	Data string `placeholder:"DIR" default:"./cordon-data" help:"Folder for everything Cordon keeps."`
}

type policyListCmd struct {
	Folder dataFolder `embed:""`
	JSON   bool       `name:"json" help:"Print one JSON array and nothing else."`
}

// Run prints the revisions, the latest brought first.
func (c *policyListCmd) Run(ctx context.Context, std *streams) error {
	return withOperator(c.Folder.Data, func(o *operator) error {
		list, err := everyPage[api.PolicyRevision](ctx, o, "/policy/revisions")
		if err != nil {
			return err
		}
		if c.JSON {
			return json.NewEncoder(std.out).Encode(list)
		}
		t := newTable(std.out, "REVISION", "STATE", "STORED", "WHO", "WHY")
		for _, r := range list {
			state := "-"
			switch {
			case r.Pinned:
				state = "pinned"
			case r.Live:
				state = "live"
			}
			t.row(r.Revision, state, r.Stored.UTC().Format(time.RFC3339), r.Who, r.Why)
		}
		return t.Flush()
	})
}

type policyDiffCmd struct {
	From   string     `arg:"" placeholder:"REV" help:"Revision to begin with."`
	To     string     `arg:"" optional:"" placeholder:"REV" help:"Revision to end with (default: the live one)."`
	Folder dataFolder `embed:""`
}

// Run prints the differences, file by file.
func (c *policyDiffCmd) Run(ctx context.Context, std *streams) error {
	return withOperator(c.Folder.Data, func(o *operator) error {
		var d api.PolicyDiff
		query := url.Values{}
		if c.To != "" {
			query.Set("to", c.To)
		}
		if err := o.call(ctx, "GET", "/policy/revisions/"+url.PathEscape(c.From)+"/diff?"+query.Encode(), nil, &d); err != nil {
			return err
		}
		_, err := io.WriteString(std.out, d.Diff)
		return err
	})
}

type policyActivateCmd struct {
	Revision string     `arg:"" optional:"" placeholder:"REV" help:"Revision to make live. It stays, whatever its source offers."`
	Unpin    bool       `name:"unpin" help:"It stays only until its source offers another; without REV, what the source offered last goes live."`
	Why      string     `name:"why" placeholder:"TEXT" help:"Reason, for the log."`
	Folder   dataFolder `embed:""`
}

// Validate asks for something to do; kong calls it.
func (c *policyActivateCmd) Validate() error {
	if c.Revision == "" && !c.Unpin {
		return errors.New("name a revision, or --unpin")
	}
	return nil
}

// Run makes the revision live.
func (c *policyActivateCmd) Run(ctx context.Context, std *streams) error {
	return changePolicy(ctx, std, c.Folder.Data, "/policy/activate", api.PolicyChange{Revision: &c.Revision, Unpin: &c.Unpin, Why: &c.Why})
}

type policyRollbackCmd struct {
	Why    string     `name:"why" placeholder:"TEXT" help:"Reason, for the log."`
	Folder dataFolder `embed:""`
}

// Run makes the revision live that was live before; again, the one before that.
func (c *policyRollbackCmd) Run(ctx context.Context, std *streams) error {
	return changePolicy(ctx, std, c.Folder.Data, "/policy/rollback", api.PolicyChange{Why: &c.Why})
}

func changePolicy(ctx context.Context, std *streams, data, path string, change api.PolicyChange) error {
	return withOperator(data, func(o *operator) error {
		who := userName()
		change.Who = &who
		var now api.PolicyStatus
		if err := o.call(ctx, "POST", path, change, &now); err != nil {
			var refused refusedPolicy
			if errors.As(err, &refused) {
				_, _ = refused.report().WriteTo(std.err)
			}
			return err
		}
		line := "live: " + now.Revision
		if now.Pinned {
			line += ", pinned"
		}
		if o.alone {
			line += "; from the next start, since no broker is running"
		}
		_, err := fmt.Fprintln(std.out, line)
		return err
	})
}

// refusedPolicy is the error of a revision that does not pass the gate: what is
// wrong with it.
type refusedPolicy []api.PolicyProblem

func (p refusedPolicy) Error() string {
	if len(p) == 1 {
		return "the revision does not pass the gate: 1 problem"
	}
	return fmt.Sprintf("the revision does not pass the gate: %d problems", len(p))
}

func (p refusedPolicy) report() *opa.Report {
	r := &opa.Report{}
	for _, q := range p {
		r.Problems = append(r.Problems, opa.Problem{Position: q.Position, Line: q.Line, Code: q.Code, Message: q.Message, Hint: q.Hint})
	}
	return r
}

type policyLogCmd struct {
	Verify bool       `name:"verify" help:"Say whether the log and every revision are what was written."`
	JSON   bool       `name:"json" help:"Print JSON and nothing else."`
	Folder dataFolder `embed:""`
}

// Run prints the log, the last entry first.
func (c *policyLogCmd) Run(ctx context.Context, std *streams) error {
	if c.Verify {
		return c.verify(ctx, std)
	}
	return withOperator(c.Folder.Data, func(o *operator) error {
		entries, err := everyPage[api.PolicyLogEntry](ctx, o, "/policy/log")
		if err != nil {
			return err
		}
		if c.JSON {
			return json.NewEncoder(std.out).Encode(entries)
		}
		t := newTable(std.out, "ENTRY", "AT", "ACTION", "REVISION", "WHO", "WHY")
		for _, e := range entries {
			t.row(fmt.Sprint(e.Number), e.At.UTC().Format(time.RFC3339), e.Action, e.Revision, e.Who, e.Why)
		}
		return t.Flush()
	})
}

// verify fails when the log is not what was written. A log that cannot even be
// opened says so itself.
func (c *policyLogCmd) verify(ctx context.Context, std *streams) error {
	var v api.PolicyLogVerdict
	err := withOperator(c.Folder.Data, func(o *operator) error {
		return o.call(ctx, "GET", "/policy/log/verify", nil, &v)
	})
	var bad *revision.BadEntry
	if errors.As(err, &bad) {
		v, err = api.PolicyLogVerdict{Problem: err.Error()}, nil
	}
	switch {
	case err != nil:
	case c.JSON:
		err = json.NewEncoder(std.out).Encode(v)
	case v.Valid:
		_, err = fmt.Fprintf(std.out, "ok: %d entries, the last one is %s\n", v.Log.Number, v.Log.Hash)
	default:
		_, err = fmt.Fprintln(std.out, v.Problem)
	}
	if err == nil && !v.Valid {
		err = errReported
	}
	return err
}

// table writes columns.
type table struct{ *tabwriter.Writer }

func newTable(w io.Writer, head ...string) table {
	t := table{tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	t.row(head...)
	return t
}

// row leaves an error to Flush.
func (t table) row(cells ...string) {
	for i, cell := range cells {
		if i > 0 {
			_, _ = io.WriteString(t, "\t")
		}
		_, _ = io.WriteString(t, cell)
	}
	_, _ = io.WriteString(t, "\n")
}
