package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/cordon-mq/cordon/policy/opa"
	"github.com/cordon-mq/cordon/rego"
)

type policyCheckCmd struct {
	Source policySource `embed:""`
	// Narrowing is about the bundle of an organisation, which only narrows.
	Narrowing bool `name:"narrowing" help:"Check the bundle of an organisation, which narrows the platform's."`
	JSON      bool `name:"json" help:"Print one JSON object and nothing else."`
}

// checked is what check prints as JSON.
type checked struct {
	OK       bool      `json:"ok"`
	Revision string    `json:"revision,omitempty"` // where it is OK
	Passed   int       `json:"tests_passed"`
	Problems []finding `json:"problems"`
	Warnings []finding `json:"warnings"`
}

// finding is one problem or warning.
type finding struct {
	Position string `json:"position,omitempty"` // file:line:col
	Code     string `json:"code"`
	Message  string `json:"message"`
	Line     string `json:"line,omitempty"` // the source line
	Hint     string `json:"hint,omitempty"`
}

func findings(problems []opa.Problem) []finding {
	all := make([]finding, len(problems))
	for i, p := range problems {
		all[i] = finding{p.Position, p.Code, p.Message, p.Line, p.Hint}
	}
	return all
}

// Run prints what activation would say about the bundle, all of it, and whether
// its answers cover more than they should: that, a broker finds out later.
func (c *policyCheckCmd) Run(ctx context.Context, std *streams) error {
	source, err := c.Source.open()
	if err != nil {
		return err
	}
	var loaded interface{ Revision() string }
	var report *opa.Report
	if c.Narrowing {
		loaded, report = opa.LoadNarrowing(ctx, source, rego.Schemas())
	} else {
		var bundle *opa.Bundle
		if bundle, report = opa.Load(ctx, source, rego.Schemas()); bundle != nil {
			report.Problems = opa.CheckCovers(ctx, source, rego.Schemas())
		}
		loaded = bundle
	}
	ok := len(report.Problems) == 0
	if c.JSON {
		said := checked{OK: ok, Passed: count(report.Tests, passed), Problems: findings(report.Problems), Warnings: findings(report.Warnings)}
		if ok {
			said.Revision = loaded.Revision()
		}
		err = json.NewEncoder(std.out).Encode(said)
	} else {
		_, err = report.WriteTo(std.out)
	}
	switch {
	case err != nil:
		return err
	case !ok:
		return errReported
	case c.JSON:
		return nil
	}
	_, err = fmt.Fprintf(std.out, "ok: revision %s, tests passed: %d\n", loaded.Revision(), count(report.Tests, passed))
	return err
}
