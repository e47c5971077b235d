package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// trial is one command.
type trial struct {
	name, about string
	// run does it, prints its summary and returns an error where a promise was
	// broken or it could not be done.
	run func(ctx context.Context, args []string, out io.Writer) error
}

func trials() []trial {
	return []trial{
		{"crash", "kill -9 under load, again and again", crashCommand},
		{"soak", "mixed load for a long time", soakCommand},
		{"growth", "many messages through few sessions", growthCommand},
		{"startup", "a start with many kept sessions", startupCommand},
		{"storm", "everybody reconnects at once", stormCommand},
		{"registry", "many devices in one organisation", registryCommand},
		{"stall", "readers that stop, beside others that do not", stallCommand},
		{"plugins", "connects beside hostile plugins", pluginsCommand},
		{"sweep", "activations of policies under load", sweepCommand},
		{"certificates", "connects while certificates are replaced", certificatesCommand},
		{"review", "policies that are looked at before they are live, under load", reviewCommand},
	}
}

// errUsage is a command line that is not understood; flag has said why.
var errUsage = errors.New("usage")

// errBroken is a promise that was not kept. The summary says which.
var errBroken = errors.New("a promise was broken")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	switch {
	case errors.Is(err, errUsage):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "trial:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	for _, t := range trials() {
		if len(args) > 0 && args[0] == t.name {
			return t.run(ctx, args[1:], os.Stdout)
		}
	}
	var text strings.Builder
	text.WriteString("usage: trial COMMAND [flags]\n\n")
	for _, t := range trials() {
		fmt.Fprintf(&text, "  %-8s %s\n", t.name, t.about)
	}
	_, _ = io.WriteString(os.Stderr, text.String())
	return errUsage
}

// parse reads the flags of a command and refuses what is left over.
func parse(flags *flag.FlagSet, args []string) error {
	if err := flags.Parse(args); err != nil {
		return errUsage
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "trial: %s takes no arguments\n", flags.Name())
		return errUsage
	}
	return nil
}

// atLeast refuses a number that makes no sense; name is that of its flag.
func atLeast(least, value int, name string) error {
	if value >= least {
		return nil
	}
	fmt.Fprintf(os.Stderr, "trial: -%s has to be at least %d\n", name, least)
	return errUsage
}

// say shows progress.
func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05 ")+format+"\n", args...)
}

// pause waits for d, or until ctx is done.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
