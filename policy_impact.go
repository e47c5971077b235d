package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"time"

	"github.com/cordon-mq/cordon/broker/api"
	"github.com/cordon-mq/cordon/policy/opa"
	"github.com/cordon-mq/cordon/rego"
)

// errTooMuch ends a command whose limits were exceeded; what exceeds them has been
// printed.
var errTooMuch = errors.New("more would change than the limits allow")

// candidate names a policy that is not live: a folder, an archive or a revision.
type candidate struct {
	Policy string `arg:"" placeholder:"DIR|REV" help:"Folder of policies, .tar.gz archive, or a stored revision."`
	Key    string `name:"key" placeholder:"FILE" help:"PEM public key that has to have signed the archive."`
}

// load checks a folder or archive here, where its problems can be mended; the
// broker checks it again. What is no folder or file is a revision's name.
func (c *candidate) load(ctx context.Context, std *streams) (api.Candidate, error) {
	if _, err := os.Stat(c.Policy); err != nil && !strings.ContainsAny(c.Policy, `/\.`) {
		return api.Candidate{Revision: &c.Policy}, nil
	}
	source := policySource{Dir: c.Policy, Key: c.Key}
	files, err := source.open()
	if err != nil {
		return api.Candidate{}, err
	}
	bundle, report := opa.Load(ctx, files, rego.Schemas())
	if bundle == nil {
		_, _ = report.WriteTo(std.err)
		return api.Candidate{}, errReported
	}
	sent := api.Candidate{Files: map[string]string{}}
	for _, f := range bundle.Files() {
		sent.Files[f.Path] = string(f.Text)
	}
	return sent, nil
}

// ago is a moment: so long ago, or a time.
type ago struct{ time.Time }

// UnmarshalText reads "2h", "90m" or a time in RFC 3339.
func (a *ago) UnmarshalText(text []byte) error {
	if d, err := time.ParseDuration(string(text)); err == nil && d >= 0 {
		a.Time = time.Now().Add(-d)
		return nil
	}
	t, err := time.Parse(time.RFC3339, string(text))
	if err != nil {
		return errors.New("is neither a duration such as 2h nor a time such as 2026-11-22T21:30:00Z")
	}
	a.Time = t
	return nil
}

func (a *ago) milliseconds() *int64 {
	if a.IsZero() {
		return nil
	}
	ms := a.UnixMilli()
	return &ms
}

// optional is nil for nothing.
func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

type policyImpactCmd struct {
	Candidate candidate  `embed:""`
	Folder    dataFolder `embed:""`
	Org       string     `placeholder:"ORG" help:"Look at one organisation."`
	Since     ago        `placeholder:"TIME" help:"Recorded decisions from then on: a duration such as 2h, or a time (default: 1h)."`
	Examples  int        `default:"3" help:"Changes of each organisation to print."`
	JSON      bool       `name:"json" help:"Print one JSON object and nothing else on standard output."`

	MaxCut     int `name:"max-cut" default:"-1" placeholder:"N" help:"Fail when more sessions would be cut."`
	MaxRemoved int `name:"max-removed" default:"-1" placeholder:"N" help:"Fail when more subscriptions would be removed."`
	MaxFlips   int `name:"max-flips" default:"-1" placeholder:"N" help:"Fail when more recorded decisions would be the opposite."`
}

// Validate bounds what is asked for; kong calls it.
func (c *policyImpactCmd) Validate() error {
	if c.Examples < 0 || c.Examples > 100 {
		return errors.New("--examples is 0 to 100")
	}
	return nil
}

// Run asks the running broker what the candidate would change.
func (c *policyImpactCmd) Run(ctx context.Context, std *streams) error {
	sent, err := c.Candidate.load(ctx, std)
	if err != nil {
		return err
	}
	return withBroker(c.Folder.Data, func(o *operator) error {
		var found api.Impact
		request := api.ImpactRequest{Candidate: sent, Org: optional(c.Org), Since: c.Since.milliseconds(), Examples: &c.Examples}
		if err := review(ctx, o, std, "/policy/impact", &request, &found); err != nil {
			return reportRefused(std, err)
		}
		if c.JSON {
			err = json.NewEncoder(std.out).Encode(&found)
		} else {
			err = printImpact(std.out, &found)
		}
		if err == nil && c.exceeded(&found) {
			err = errTooMuch
		}
		return err
	})
}

func (c *policyImpactCmd) exceeded(found *api.Impact) bool {
	over := func(n, most int) bool { return most >= 0 && n > most }
	return over(found.Total.SessionsCut, c.MaxCut) || over(found.Total.SubscriptionsRemoved, c.MaxRemoved) ||
		over(found.Decisions.Denied+found.Decisions.Allowed, c.MaxFlips)
}

// reportRefused prints all problems of a candidate that does not pass the gate.
func reportRefused(std *streams, err error) error {
	var refused refusedPolicy
	if errors.As(err, &refused) {
		_, _ = refused.report().WriteTo(std.err)
	}
	return err
}

func printImpact(w io.Writer, found *api.Impact) error {
	p := printer{to: w}
	p.printf("candidate %s, live %s", found.Revision, found.Live)
	p.printf("live sessions: %d judged, %d cut, %d altered", found.Total.Sessions, found.Total.SessionsCut, found.Total.SessionsAltered)
	p.printf("subscriptions: %d judged, %d removed, %d with another QoS", found.Total.Subscriptions, found.Total.SubscriptionsRemoved, found.Total.SubscriptionsLowered)
	p.printf("wills: %d judged, %d dropped", found.Total.Wills, found.Total.WillsDropped)
	for _, o := range found.Organisations {
		p.printf("")
		p.printf("%s: %d of %d sessions cut, %d subscriptions removed, %d wills dropped, %d sessions altered",
			o.Org, o.SessionsCut, o.Sessions, o.SubscriptionsRemoved, o.WillsDropped, o.SessionsAltered)
		for _, e := range o.Examples {
			p.printf("  %s", impactLine(&e))
		}
	}
	p.printf("")
	printReplayed(&p, &found.Decisions, nil, found.Differences)
	return p.err
}

func impactLine(e *api.ImpactExample) string {
	line := e.Client + " " + e.Action
	if e.Topic != "" {
		line += " " + e.Topic
	}
	line += ": " + e.Reason
	if e.Detail != "" {
		line += " (" + e.Detail + ")"
	}
	return line
}
