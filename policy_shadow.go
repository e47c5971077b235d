package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cordon-mq/cordon/broker/api"
	"github.com/cordon-mq/cordon/broker/api/control"
)

// errNoBroker ends a command about a running broker where there is none.
var errNoBroker = errors.New("no broker runs on this data folder")

// withBroker is withOperator for what only a running broker can answer.
func withBroker(data string, f func(*operator) error) error {
	client, err := control.Dial(data)
	switch {
	case errors.Is(err, control.ErrNotRunning):
		return fmt.Errorf("%w: %s", errNoBroker, data)
	case err != nil:
		return err
	}
	defer client.CloseIdleConnections()
	return f(&operator{client: client})
}

// policyShadowCmd has a policy judge beside the live one.
type policyShadowCmd struct {
	Start  shadowStartCmd  `cmd:"" help:"Begin to judge beside the live policy."`
	Status shadowStatusCmd `cmd:"" help:"Print how the shadow stands."`
	Watch  shadowWatchCmd  `cmd:"" help:"Print each difference as it is found."`
	Stop   shadowStopCmd   `cmd:"" help:"End the shadow."`
}

type shadowStartCmd struct {
	Candidate    candidate  `embed:""`
	Folder       dataFolder `embed:""`
	StopAfter    *int64     `name:"stop-after" placeholder:"N" help:"End after so many differences; one of a sample counts for all of it."`
	PromoteAfter *int64     `name:"promote-after" placeholder:"N" help:"Make it live, and pin it, after so many decisions were compared without that."`
	Why          string     `name:"why" placeholder:"TEXT" help:"Reason, for the log, if it is made live."`
	JSON         bool       `name:"json" help:"Print one JSON object and nothing else."`
}

// Run starts a shadow.
func (c *shadowStartCmd) Run(ctx context.Context, std *streams) error {
	sent, err := c.Candidate.load(ctx, std)
	if err != nil {
		return err
	}
	who := userName()
	request := api.ShadowRequest{Candidate: sent, StopAfter: c.StopAfter, PromoteAfter: c.PromoteAfter, Who: &who, Why: optional(c.Why)}
	return withBroker(c.Folder.Data, func(o *operator) error {
		return reportRefused(std, shadowCall(ctx, o, std, "PUT", &request, c.JSON))
	})
}

func shadowCall(ctx context.Context, o *operator, std *streams, method string, in any, asJSON bool) error {
	var r api.ShadowReport
	if err := o.call(ctx, method, "/policy/shadow", in, &r); err != nil {
		return err
	}
	if asJSON {
		return json.NewEncoder(std.out).Encode(&r)
	}
	p := printer{to: std.out}
	p.printf("shadow %s: %s, began %s", r.Revision, r.State, r.Since.UTC().Format(time.RFC3339))
	if r.Problem != "" {
		p.printf("problem: %s", r.Problem)
	}
	for _, action := range slices.Sorted(maps.Keys(r.Actions)) {
		n := r.Actions[action]
		p.printf("%s: %d compared, %d denied, %d allowed, %d otherwise different", action, n.Compared, n.Denied, n.Allowed, n.Changed)
	}
	p.printf("in all: %d compared, %d denied, %d allowed, %d otherwise different, %d dropped",
		r.Total.Compared, r.Total.Denied, r.Total.Allowed, r.Total.Changed, r.Dropped)
	for _, d := range r.Differences {
		p.printf("  %s", differenceLine(&d))
	}
	return p.err
}

type shadowStatusCmd struct {
	Folder dataFolder `embed:""`
	JSON   bool       `name:"json" help:"Print one JSON object and nothing else."`
}

// Run prints the report.
func (c *shadowStatusCmd) Run(ctx context.Context, std *streams) error {
	return withBroker(c.Folder.Data, func(o *operator) error { return shadowCall(ctx, o, std, "GET", nil, c.JSON) })
}

type shadowStopCmd shadowStatusCmd

// Run ends the shadow and prints its last report.
func (c *shadowStopCmd) Run(ctx context.Context, std *streams) error {
	return withBroker(c.Folder.Data, func(o *operator) error { return shadowCall(ctx, o, std, "DELETE", nil, c.JSON) })
}

type shadowWatchCmd shadowStatusCmd

// Run prints differences until the shadow ends or the command is interrupted.
func (c *shadowWatchCmd) Run(ctx context.Context, std *streams) error {
	return withBroker(c.Folder.Data, func(o *operator) error {
		return o.stream(ctx, "GET", "/policy/shadow/events", nil, func(_ string, data []byte) error {
			if c.JSON {
				_, err := fmt.Fprintf(std.out, "%s\n", data)
				return err
			}
			var d api.DecisionDifference
			if err := json.Unmarshal(data, &d); err != nil {
				return err
			}
			_, err := fmt.Fprintln(std.out, differenceLine(&d))
			return err
		})
	})
}

// policyCanaryCmd makes a policy live for some.
type policyCanaryCmd struct {
	Start   canaryStartCmd   `cmd:"" help:"Make a policy live for a share of the principals."`
	Status  canaryStatusCmd  `cmd:"" help:"Print how the canary stands."`
	Promote canaryPromoteCmd `cmd:"" help:"Make the canary's policy live for everybody."`
	Stop    canaryStopCmd    `cmd:"" help:"Have everybody judged by the live policy again."`
}

type canaryStartCmd struct {
	Candidate candidate  `embed:""`
	Folder    dataFolder `embed:""`
	Percent   float64    `placeholder:"N" help:"Share of all principals, 0 to 100: always the same ones, and a larger share holds the smaller."`
	Org       []string   `placeholder:"ORG" help:"Everybody of an organisation."`
	Type      []string   `placeholder:"TYPE" help:"Devices and gateways of a type."`
	Group     []string   `placeholder:"GROUP" help:"Members of a group."`
	Why       string     `name:"why" placeholder:"TEXT" help:"Reason, for the log."`
	JSON      bool       `name:"json" help:"Print one JSON object and nothing else."`
}

// Validate asks for somebody to be chosen; kong calls it.
func (c *canaryStartCmd) Validate() error {
	switch {
	case !(c.Percent >= 0 && c.Percent <= 100):
		return errors.New("--percent is 0 to 100")
	case c.Percent == 0 && len(c.Org)+len(c.Type)+len(c.Group) == 0:
		return errors.New("choose somebody with --percent, --org, --type or --group")
	}
	return nil
}

// Run starts a canary.
func (c *canaryStartCmd) Run(ctx context.Context, std *streams) error {
	sent, err := c.Candidate.load(ctx, std)
	if err != nil {
		return err
	}
	who := userName()
	request := api.CanaryRequest{
		Candidate: sent, Percent: &c.Percent, Orgs: c.Org, Types: c.Type, Groups: c.Group, Who: &who, Why: optional(c.Why),
	}
	return withBroker(c.Folder.Data, func(o *operator) error {
		return reportRefused(std, canaryCall(ctx, o, std, "PUT", "/policy/canary", &request, c.JSON))
	})
}

func canaryCall(ctx context.Context, o *operator, std *streams, method, path string, in any, asJSON bool) error {
	var r api.CanaryReport
	if err := o.call(ctx, method, path, in, &r); err != nil {
		return err
	}
	if asJSON {
		return json.NewEncoder(std.out).Encode(&r)
	}
	p := printer{to: std.out}
	p.printf("canary %s: %s, began %s; live %s", r.Revision, r.State, r.Since.UTC().Format(time.RFC3339), r.Live)
	p.printf("for %v %% of all%s%s%s", r.Percent, named("organisations", r.Orgs), named("types", r.Types), named("groups", r.Groups))
	p.printf("canary: %s", canaryLine(&r.Canary))
	p.printf("rest:   %s", canaryLine(&r.Rest))
	return p.err
}

func named(what string, names []string) string {
	if len(names) == 0 {
		return ""
	}
	return ", " + what + " " + strings.Join(names, " ")
}

func canaryLine(n *api.CanaryCount) string {
	share := 0.0
	if n.Allowed+n.Denied > 0 {
		share = 100 * float64(n.Denied) / float64(n.Allowed+n.Denied)
	}
	line := fmt.Sprintf("%d allowed, %d denied (%.1f %%)", n.Allowed, n.Denied, share)
	for _, cause := range slices.Sorted(maps.Keys(n.Causes)) {
		line += fmt.Sprintf(", %s %d", cause, n.Causes[cause])
	}
	return line
}

type canaryStatusCmd struct {
	Folder dataFolder `embed:""`
	JSON   bool       `name:"json" help:"Print one JSON object and nothing else."`
}

// Run prints the report.
func (c *canaryStatusCmd) Run(ctx context.Context, std *streams) error {
	return withBroker(c.Folder.Data, func(o *operator) error {
		return canaryCall(ctx, o, std, "GET", "/policy/canary", nil, c.JSON)
	})
}

type canaryStopCmd canaryStatusCmd

// Run ends the canary.
func (c *canaryStopCmd) Run(ctx context.Context, std *streams) error {
	return withBroker(c.Folder.Data, func(o *operator) error {
		return canaryCall(ctx, o, std, "DELETE", "/policy/canary", nil, c.JSON)
	})
}

type canaryPromoteCmd struct {
	Folder dataFolder `embed:""`
	Why    string     `name:"why" placeholder:"TEXT" help:"Reason, for the log."`
	JSON   bool       `name:"json" help:"Print one JSON object and nothing else."`
}

// Run makes the canary's policy live, and pins it.
func (c *canaryPromoteCmd) Run(ctx context.Context, std *streams) error {
	who := userName()
	return withBroker(c.Folder.Data, func(o *operator) error {
		return canaryCall(ctx, o, std, "POST", "/policy/canary/promote", &api.PolicyChange{Who: &who, Why: optional(c.Why)}, c.JSON)
	})
}
