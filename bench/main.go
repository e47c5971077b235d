package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/cordon-mq/cordon/bench/peers"
)

// settings are the flags.
type settings struct {
	rounds int
	scale  float64
	only   *regexp.Regexp
	peers  []string
	out    string
	binary string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	set, err := parse(args)
	if err != nil {
		return err
	}
	root, err := moduleRoot(ctx)
	if err != nil {
		return err
	}
	if set.out == "" {
		set.out = filepath.Join(root, "bench", "results")
	}
	size := sizes(set.scale)
	lab, err := peers.Open(ctx, peers.Config{
		Root: root, Names: set.peers, Devices: size.devices(), Binary: set.binary, Say: say,
	})
	defer func() { _ = lab.Close() }()
	if err != nil {
		return err
	}
	machine := machineFacts(ctx, root)
	b := &bench{settings: set, size: size, root: root, lab: lab, found: newResults(), open: map[byte]float64{}}
	failed := b.rounds(ctx)
	if len(b.found) == 0 {
		return errors.Join(failed, errors.New("nothing was measured"))
	}
	page, err := b.write(machine)
	if err == nil {
		say("written: %s", page)
	}
	return errors.Join(failed, err)
}

func parse(args []string) (set settings, err error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.IntVar(&set.rounds, "rounds", 3, "how often each case runs; the median is printed")
	flags.Float64Var(&set.scale, "scale", 1, "multiplies durations and crowds")
	only := flags.String("only", "", "run the cases whose name matches this expression")
	names := flags.String("peers", strings.Join(peers.Names(), ","), "whom to run")
	flags.StringVar(&set.out, "out", "", "folder for the results (default: bench/results)")
	flags.StringVar(&set.binary, "cordon", "", "program to run as Cordon (default: it is built)")
	if err := flags.Parse(args); err != nil {
		return set, err
	}
	if set.rounds < 1 || set.scale <= 0 || flags.NArg() > 0 {
		return set, errors.New("want at least one round, a scale above 0, and no arguments")
	}
	if set.only, err = regexp.Compile(*only); err != nil {
		return set, fmt.Errorf("-only: %w", err)
	}
	set.peers = strings.Split(*names, ",")
	for _, name := range set.peers {
		if !slices.Contains(peers.Names(), name) {
			return set, fmt.Errorf("-peers: no peer %q; there are %s", name, strings.Join(peers.Names(), ", "))
		}
	}
	return set, nil
}

func moduleRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/cordon-mq/cordon").Output()
	if err != nil {
		return "", fmt.Errorf("not in Cordon's module: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// say shows progress.
func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05 ")+format+"\n", args...)
}

// bench is one run of the command.
type bench struct {
	settings
	size  size
	root  string
	lab   *peers.Lab
	found results
	open  map[byte]float64 // rates of open arrival, by QoS; set when first needed
	notes []string
}

// rounds runs every case against every peer, again and again, the peers in
// turn: a slower hour is everybody's. A trial that fails is a remark and part of
// the error, and the others go on.
func (b *bench) rounds(ctx context.Context) (failed error) {
	for round := range b.settings.rounds {
		for _, c := range cases() {
			if !b.only.MatchString(c.id) {
				continue
			}
			for _, p := range b.lab.Peers {
				if !slices.Contains(c.peers, p.Name) {
					continue
				}
				err := b.once(ctx, c, p, round)
				if ctx.Err() != nil {
					return errors.Join(failed, ctx.Err())
				}
				if err != nil {
					err = fmt.Errorf("%s, %s: %w", c.id, p.Name, err)
					failed = errors.Join(failed, err)
					line, _, _ := strings.Cut(err.Error(), "\n")
					b.note("failed: " + line)
				}
			}
		}
	}
	return failed
}

// once runs one case against one peer, which is started for it.
func (b *bench) once(ctx context.Context, c benchCase, p *peers.Peer, round int) (err error) {
	if reason := c.missing(); reason != "" {
		b.note(fmt.Sprintf("%s: left out, %s", c.id, reason))
		return nil
	}
	t := trial{bench: b, benchCase: c, peer: p}
	if !c.alone {
		if t.process, err = p.Start(ctx, c.keep); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, t.process.Stop()) }()
	}
	s, err := c.run(ctx, &t)
	if err != nil {
		return err
	}
	b.found.add(c.id, p.Name, s)
	say("%d/%d  %-18s %-10s %s", round+1, b.settings.rounds, c.id, p.Name, s.line(c.metrics))
	return nil
}

// note keeps a remark for the results, once.
func (b *bench) note(text string) {
	if !slices.Contains(b.notes, text) {
		b.notes = append(b.notes, text)
		say("%s", text)
	}
}
