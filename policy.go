package main

import (
	"fmt"

	"github.com/cordon-mq/cordon/policy/opa"
	"github.com/cordon-mq/cordon/rego"
)

// policyCmd is about policy bundles. The first commands work on a folder and need
// no broker; the others are about what a broker keeps in its data folder.
type policyCmd struct {
	Init  policyInitCmd  `cmd:"" help:"Write the built-in policies into a folder for editing."`
	Check policyCheckCmd `cmd:"" help:"Say whether a bundle of policies may go live."`
	Test  policyTestCmd  `cmd:"" help:"Run the tests of a bundle of policies."`
	Fmt   policyFmtCmd   `cmd:"" help:"Write the policies of a folder in the canonical form."`

	List     policyListCmd     `cmd:"" help:"List the revisions that are kept."`
	Diff     policyDiffCmd     `cmd:"" help:"Print what leads from one revision to another."`
	Activate policyActivateCmd `cmd:"" help:"Make a revision live and pin it, or end that."`
	Rollback policyRollbackCmd `cmd:"" help:"Make the revision live that was live before, and pin it."`
	Log      policyLogCmd      `cmd:"" help:"Print who changed the live revision, when and why."`

	Decisions policyDecisionsCmd `cmd:"" help:"List or follow recorded decisions."`
	Explain   policyExplainCmd   `cmd:"" help:"Say how a decision came about: which rules fired, and what was missing."`
	Impact    policyImpactCmd    `cmd:"" help:"Say what a policy would change for who is connected, before it is live."`
	Replay    policyReplayCmd    `cmd:"" help:"Have a policy make recorded decisions again, and list the differences."`
	Shadow    policyShadowCmd    `cmd:"" help:"Have a policy judge beside the live one."`
	Canary    policyCanaryCmd    `cmd:"" help:"Make a policy live for some of the principals."`
}

type policyInitCmd struct {
	Dir string `arg:"" help:"Folder to write; new or empty."`
}

// Run writes the built-in bundle.
func (c *policyInitCmd) Run(std *streams) error {
	if err := opa.Init(c.Dir, rego.Bundle()); err != nil {
		return err
	}
	_, err := fmt.Fprintf(std.out, "wrote the built-in policies to %[1]s\nuse them with: cordon serve --policy %[1]s\n", c.Dir)
	return err
}
