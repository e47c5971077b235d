// Command cordon is an MQTT broker for fleets that belong to many
// organisations; every connect, publish and subscribe is decided by a Rego
// policy.
//
// This package is the only one that sees all the others. Each command is one
// field of commandLine and one file beside this one; a command's Run method
// builds what it needs, passes it on, and waits for it to end.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/cordon-mq/cordon/broker/config"
)

// Exit statuses of every command.
const (
	exitOK     = 0
	exitFailed = 1 // the command was understood and did not succeed
	exitUsage  = 2 // the command line, the environment or the configuration file is wrong
)

// commandLine is the grammar: one field per command.
type commandLine struct {
	Serve   serveCmd   `cmd:"" help:"Run the broker."`
	Init    initCmd    `cmd:"" help:"Make an organisation and print its first credentials."`
	Pub     pubCmd     `cmd:"" help:"Publish messages."`
	Sub     subCmd     `cmd:"" help:"Print the messages of a subscription."`
	Export  exportCmd  `cmd:"" help:"Write a whole organisation to a file."`
	Import  importCmd  `cmd:"" help:"Make an organisation from such a file."`
	Policy  policyCmd  `cmd:"" help:"Write, check and test policy bundles."`
	Plugin  pluginCmd  `cmd:"" help:"Write, check and try token verifiers."`
	Version versionCmd `cmd:"" help:"Print the version."`

	Help helpFlag `help:"Show help of the command."`
}

// helpFlag is kong's own help flag but for its letter: -h is the host of pub and
// sub.
type helpFlag bool

// IgnoreDefault keeps kong from setting it from anything but the command line.
func (helpFlag) IgnoreDefault() {}

// BeforeReset prints help, whatever else is missing; kong calls it.
func (helpFlag) BeforeReset(ctx *kong.Context) error {
	if err := ctx.PrintUsage(false); err != nil {
		return err
	}
	ctx.Kong.Exit(0)
	return nil
}

// BeforeResolve lets the environment and the configuration file fill the flags
// that were not given. kong calls it.
func (*commandLine) BeforeResolve(ctx *kong.Context, lookup config.Lookup) error {
	return config.AddSources(ctx, lookup)
}

// streams is where a command writes: results to out, everything else to err.
type streams struct{ out, err io.Writer }

// errReported ends a command that has already said what is wrong: the exit
// status is 1 and nothing more is printed.
var errReported = errors.New("failed, as reported")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := run(ctx, os.Args[1:], os.Stdout, os.Stderr, os.LookupEnv)
	stop()
	os.Exit(status)
}

// run executes one command line and returns the exit status. It touches
// nothing of the process but what the command does: tests call it too. When
// ctx ends, the command ends in good order.
func run(ctx context.Context, args []string, stdout, stderr io.Writer, lookup config.Lookup) int {
	helped := false
	parser, err := kong.New(&commandLine{},
		kong.Name("cordon"),
		kong.Description("An MQTT broker for fleets that belong to many organisations."),
		kong.NoDefaultHelp(),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.Writers(stdout, stderr),
		kong.Exit(func(int) { helped = true }),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(&streams{out: stdout, err: stderr}, lookup),
	)
	if err != nil {
		return report(stderr, exitFailed, err)
	}
	selected, err := parser.Parse(args)
	if helped { // --help has printed, and would have left here
		return exitOK
	}
	if err != nil {
		status := report(stderr, exitUsage, err)
		fmt.Fprintf(stderr, "Run \"%s --help\" for usage.\n", usageOf(err))
		return status
	}
	switch err := selected.Run(); {
	case err == nil:
		return exitOK
	case errors.Is(err, errReported):
		return exitFailed
	default:
		return report(stderr, exitFailed, err)
	}
}

// report prints err in the form of all of cordon's errors.
func report(stderr io.Writer, status int, err error) int {
	fmt.Fprintf(stderr, "cordon: %v\n", err)
	return status
}

// usageOf names the command whose help explains a usage error.
func usageOf(err error) string {
	var parse *kong.ParseError
	if errors.As(err, &parse) && parse.Context != nil {
		if node := parse.Context.Selected(); node != nil {
			return node.FullPath()
		}
	}
	return "cordon"
}
