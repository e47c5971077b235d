package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cordon-mq/cordon/broker/api"
	"github.com/cordon-mq/cordon/policy/opa"
)

type policyDecisionsCmd struct {
	Folder dataFolder `embed:""`
	Org    string     `placeholder:"ORG" help:"Of one organisation."`
	Action string     `placeholder:"ACTION" help:"connect, publish, subscribe, receive or administer."`
	Client string     `placeholder:"ID" help:"Of one client ID."`
	Denied bool       `help:"Only refusals."`
	Since  ago        `placeholder:"TIME" help:"From then on: a duration such as 2h, or a time."`
	Limit  int        `default:"25" help:"At most so many."`
	Follow bool       `short:"f" help:"Print decisions as they are recorded, until interrupted."`
	JSON   bool       `name:"json" help:"Print each as one line of JSON, as it is recorded."`
}

// Run lists recorded decisions, the newest first, or follows them.
func (c *policyDecisionsCmd) Run(ctx context.Context, std *streams) error {
	query := url.Values{}
	for name, value := range map[string]string{"org": c.Org, "action": c.Action, "client": c.Client} {
		if value != "" {
			query.Set(name, value)
		}
	}
	if c.Denied {
		query.Set("allow", "false")
	}
	if ms := c.Since.milliseconds(); ms != nil {
		query.Set("since", strconv.FormatInt(*ms, 10))
	}
	return withBroker(c.Folder.Data, func(o *operator) error {
		if err := sayLost(ctx, o, std.err); err != nil {
			return err
		}
		if c.Follow {
			return o.stream(ctx, "GET", "/policy/decisions/stream?"+query.Encode(), nil, func(_ string, data []byte) error {
				return printDecision(std.out, data, c.JSON)
			})
		}
		for printed := 0; printed < c.Limit; {
			query.Set("_limit", strconv.Itoa(min(c.Limit-printed, 100)))
			var page api.List[api.DecisionEvent]
			if err := o.call(ctx, "GET", "/policy/decisions?"+query.Encode(), nil, &page); err != nil {
				return err
			}
			for _, d := range page.Results {
				if err := printDecision(std.out, d, c.JSON); err != nil {
					return err
				}
			}
			printed += len(page.Results)
			if page.Bookmark == "" {
				return nil
			}
			query.Set("_bookmark", page.Bookmark)
		}
		return nil
	})
}

// sayLost tells the reader of a log that it is not whole. What is counted is in the
// metrics.
func sayLost(ctx context.Context, o *operator, w io.Writer) error {
	text, err := o.metrics(ctx)
	if err != nil {
		return err
	}
	if where := lostIn(text); where != "" {
		_, err = fmt.Fprintf(w, "not all is recorded: since the broker started, decisions were lost at: %s\n", where)
	}
	return err
}

// lostIn is what metrics count of decisions that were to be recorded and are not:
// "rate 12, ring 3", or nothing.
func lostIn(metrics string) string {
	var all []string
	for line := range strings.Lines(metrics) {
		rest, ok := strings.CutPrefix(line, `cordon_decision_log_lost_total{where="`)
		where, number, cut := strings.Cut(rest, `"} `)
		if n, err := strconv.ParseFloat(strings.TrimSpace(number), 64); ok && cut && err == nil && n > 0 {
			all = append(all, fmt.Sprintf("%s %.0f", where, n))
		}
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// printDecision prints one event: as it is, or what a person looks for in it.
func printDecision(w io.Writer, event []byte, asJSON bool) error {
	if asJSON {
		var line bytes.Buffer
		if err := json.Compact(&line, event); err != nil {
			return err
		}
		line.WriteByte('\n')
		_, err := line.WriteTo(w)
		return err
	}
	var d struct {
		ID        string    `json:"decision_id"`
		Timestamp time.Time `json:"timestamp"`
		Custom    struct {
			Org    string `json:"org"`
			Action string `json:"action"`
			Client string `json:"client"`
			Allow  bool   `json:"allow"`
			Reason string `json:"reason"`
			Cause  string `json:"cause"`
			Count  uint64 `json:"count"`
		} `json:"custom"`
		Input struct {
			Topic  string `json:"topic"`
			Filter string `json:"filter"`
			Route  string `json:"route"`
		} `json:"input"`
	}
	if err := json.Unmarshal(event, &d); err != nil {
		return err
	}
	line := d.Timestamp.UTC().Format("2006-01-02T15:04:05.000Z") + " "
	if d.Custom.Allow {
		line += "allowed "
	} else {
		line += "refused "
	}
	line += d.Custom.Org + " " + d.Custom.Client + " " + d.Custom.Action
	if about := cmp.Or(d.Input.Topic, d.Input.Filter, d.Input.Route); about != "" {
		line += " " + about
	}
	if reason := d.Custom.Reason; reason != "" {
		line += ": " + reason
	} else if d.Custom.Cause != "" {
		line += ": " + d.Custom.Cause
	}
	if d.Custom.Count > 1 {
		line += fmt.Sprintf(" (%d times)", d.Custom.Count)
	}
	_, err := fmt.Fprintf(w, "%s (decision %s)\n", line, d.ID)
	return err
}

type policyExplainCmd struct {
	Decision string     `arg:"" optional:"" placeholder:"ID" help:"Decision to explain, as a refusal names it."`
	Input    string     `placeholder:"FILE" help:"Explain a request instead: its input as JSON."`
	Folder   dataFolder `embed:""`
	JSON     bool       `name:"json" help:"Print one JSON object and nothing else."`
}

// Validate asks for one of the two; kong calls it.
func (c *policyExplainCmd) Validate() error {
	if (c.Decision == "") == (c.Input == "") {
		return errors.New("name a decision, or --input")
	}
	return nil
}

// Run prints how the decision came about.
func (c *policyExplainCmd) Run(ctx context.Context, std *streams) error {
	return withBroker(c.Folder.Data, func(o *operator) error {
		var found api.Explanation
		if c.Decision != "" {
			if err := o.call(ctx, "GET", "/policy/decisions/"+url.PathEscape(c.Decision)+"/explain", nil, &found); err != nil {
				return err
			}
			return printExplanation(std.out, found, c.JSON)
		}
		input, err := readInput(c.Input)
		if err != nil {
			return err
		}
		if err := o.call(ctx, "POST", "/policy/explain", &api.ExplainRequest{Input: input}, &found); err != nil {
			return err
		}
		return printExplanation(std.out, found, c.JSON)
	})
}

// readInput reads the input of a request, of at most 1 MiB.
func readInput(path string) (json.RawMessage, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, 1<<20))
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if !json.Valid(text) {
		return nil, fmt.Errorf("%s is not JSON of at most 1 MiB", path)
	}
	return text, nil
}

// printExplanation prints it as a tree, or as it is.
func printExplanation(w io.Writer, found api.Explanation, asJSON bool) error {
	if asJSON {
		_, err := fmt.Fprintf(w, "%s\n", found)
		return err
	}
	var x opa.Explanation
	if err := json.Unmarshal(found, &x); err != nil {
		return err
	}
	return x.WriteTree(w)
}
