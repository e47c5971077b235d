package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cordon-mq/cordon/broker/api"
)

type policyReplayCmd struct {
	Candidate   candidate  `embed:""`
	Folder      dataFolder `embed:""`
	Since       ago        `placeholder:"TIME" help:"Decisions from then on: a duration such as 2h, or a time (default: 1h)."`
	Until       ago        `placeholder:"TIME" help:"Decisions until then (default: now)."`
	Org         string     `placeholder:"ORG" help:"Look at one organisation."`
	Differences int        `default:"20" help:"Differences to print, at most 1000."`
	JSON        bool       `name:"json" help:"Print one JSON object and nothing else on standard output."`
	MaxFlips    int        `name:"max-flips" default:"-1" placeholder:"N" help:"Fail when more decisions would be the opposite."`
}

// Validate bounds what is asked for; kong calls it.
func (c *policyReplayCmd) Validate() error {
	if c.Differences < 0 || c.Differences > 1000 {
		return errors.New("--differences is 0 to 1000")
	}
	return nil
}

// Run has recorded decisions made again.
func (c *policyReplayCmd) Run(ctx context.Context, std *streams) error {
	sent, err := c.Candidate.load(ctx, std)
	if err != nil {
		return err
	}
	return withBroker(c.Folder.Data, func(o *operator) error {
		var found api.Replay
		request := api.ReplayRequest{
			Candidate: sent, Org: optional(c.Org), Since: c.Since.milliseconds(), Until: c.Until.milliseconds(), Differences: &c.Differences,
		}
		if err := review(ctx, o, std, "/policy/replay", &request, &found); err != nil {
			return reportRefused(std, err)
		}
		if c.JSON {
			err = json.NewEncoder(std.out).Encode(&found)
		} else {
			p := printer{to: std.out}
			p.printf("candidate %s, decisions of %s to %s", found.Revision, found.Since.Format(time.RFC3339), found.Until.Format(time.RFC3339))
			printReplayed(&p, &found.Count, found.Reasons, found.Differences)
			err = p.err
		}
		if err == nil && c.MaxFlips >= 0 && found.Count.Denied+found.Count.Allowed > c.MaxFlips {
			err = errTooMuch
		}
		return err
	})
}

func printReplayed(p *printer, n *api.ReplayCount, reasons map[string]int, differences []api.DecisionDifference) {
	p.printf("recorded decisions: %d replayed, %d now denied, %d now allowed, %d otherwise different, %d not replayable",
		n.Replayed, n.Denied, n.Allowed, n.Changed, n.NotReplayable)
	if n.WeighedTotal > uint64(n.Replayed) {
		p.printf("  they stand for %d: %d now denied, %d now allowed, %d otherwise different", n.WeighedTotal, n.WeighedDenied, n.WeighedGiven, n.WeighedOther)
	}
	for _, why := range slices.SortedFunc(maps.Keys(reasons), func(a, b string) int {
		return cmp.Or(cmp.Compare(reasons[b], reasons[a]), cmp.Compare(a, b))
	}) {
		p.printf("  not replayable: %d, %s", reasons[why], why)
	}
	for _, d := range differences {
		p.printf("  %s", differenceLine(&d))
	}
}

func differenceLine(d *api.DecisionDifference) string {
	line := d.At.UTC().Format(time.RFC3339) + " " + d.Org + " " + d.Client + " " + d.Action
	if d.Topic != "" {
		line += " " + d.Topic
	}
	line += ": " + d.Before
	if d.After != d.Before {
		line += " -> " + d.After
	}
	if len(d.Fields) > 0 {
		line += " with another " + strings.Join(d.Fields, ", ")
	}
	if d.Reason != "" {
		line += ", " + d.Reason
	}
	if d.Decision != "" {
		line += " (decision " + d.Decision + ")"
	}
	return line
}
