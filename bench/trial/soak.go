package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// soakConfig is what the soak trial is run with.
type soakConfig struct {
	binary string
	length time.Duration
	every  time.Duration
	rate   int
	pairs  int
	open   bool
	out    string
}

func soakCommand(ctx context.Context, args []string, out io.Writer) error {
	var c soakConfig
	flags := flag.NewFlagSet("soak", flag.ContinueOnError)
	flags.StringVar(&c.binary, "cordon", "", "program to run (default: it is built)")
	flags.DurationVar(&c.length, "for", 10*time.Minute, "how long")
	flags.DurationVar(&c.every, "every", 5*time.Second, "time between two looks at the broker")
	flags.IntVar(&c.rate, "rate", 2000, "messages a second in all")
	flags.IntVar(&c.pairs, "pairs", 10, "publishers and readers of each kind")
	flags.BoolVar(&c.open, "open", false, "with a bundle that keeps the retain flag, and retained messages")
	flags.StringVar(&c.out, "out", "", "folder for the page and its graph (default: bench/results)")
	if err := errors.Join(parse(flags, args), atLeast(1, c.rate, "rate"), atLeast(1, c.pairs, "pairs")); err != nil {
		return err
	}
	if c.every <= 0 || c.length < 6*c.every {
		say("-for has to be at least six times -every")
		return errUsage
	}
	found, err := soak(ctx, c)
	if err != nil {
		return err
	}
	name, err := found.save(ctx)
	if err != nil {
		return err
	}
	say("written: %s", name)
	if _, err := found.summary("").WriteTo(out); err != nil {
		return err
	}
	return found.verdict()
}

// sample is one look at the broker.
type sample struct {
	at        time.Duration // since the load began
	resident  int64
	heap      int64 // alive after the last collection
	threads   int64
	folder    int64
	delivered int // so far
	cpu       time.Duration
}

// soak runs the trial.
func soak(ctx context.Context, c soakConfig) (*soakFound, error) {
	program, err := prepare(ctx, c.binary)
	defer program.remove()
	if err != nil {
		return nil, err
	}
	program.env = []string{"GODEBUG=gctrace=1"} // which is how the heap is seen from outside
	if c.open {
		bundle, err := program.openBundle(ctx)
		if err != nil {
			return nil, err
		}
		program.args = []string{"--policy", bundle}
	}
	b, err := program.run(ctx)
	if err != nil {
		return nil, err
	}
	defer b.kill()
	load := newSoakLoad(program, c)
	defer func() { _ = load.stop() }()
	if err := load.start(ctx); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, b.log.tail())
	}
	found := &soakFound{soakConfig: c}
	if err := found.watch(ctx, program, b, load); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, b.log.tail())
	}
	if err := load.stop(); err != nil {
		return nil, err
	}
	found.faults, _ = b.log.faults()
	return found, b.stop()
}

// watch looks at the broker until the time is over.
func (f *soakFound) watch(ctx context.Context, program *program, b *broker, load *soakLoad) error {
	started := time.Now()
	for next := f.every; next <= f.length; next += f.every {
		if err := pause(ctx, time.Until(started.Add(next))); err != nil {
			return err
		}
		if err := errors.Join(b.died(), load.failure()); err != nil {
			return err
		}
		u, err := usageOf(b.pid())
		if err != nil {
			return err
		}
		folder, err := folderSize(program.data)
		if err != nil {
			return err
		}
		s := sample{
			at: time.Since(started), resident: u.resident, heap: b.log.heap(), threads: u.threads,
			folder: folder, delivered: load.delivered(), cpu: u.cpu,
		}
		f.samples = append(f.samples, s)
		say("%s: RSS %s, heap %s, folder %s, %d delivered", s.at.Round(time.Second), megabytes(s.resident), megabytes(s.heap), megabytes(s.folder), s.delivered)
	}
	return nil
}

// openBundle writes the built-in bundle out and lets it keep the retain flag.
// The bundle's own tests say otherwise, so they are left out.
func (p *program) openBundle(ctx context.Context) (string, error) {
	dir := filepath.Join(p.dir, "policy")
	if out, err := exec.CommandContext(ctx, p.binary, "policy", "init", dir).CombinedOutput(); err != nil {
		return "", fmt.Errorf("policy init: %w\n%s", err, out)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", err
	}
	defer func() { _ = root.Close() }()
	err = fs.WalkDir(root.FS(), ".", func(path string, _ fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, "_test.rego") {
			err = root.Remove(path)
		}
		return err
	})
	if err != nil {
		return "", err
	}
	const file, strip, keep = "cordon/publish/publish.rego", `"retain": "strip"`, `"retain": "keep"`
	text, err := root.ReadFile(file)
	if err != nil {
		return "", err
	}
	if !bytes.Contains(text, []byte(strip)) {
		return "", errors.New("the built-in bundle does not strip the retain flag")
	}
	return dir, root.WriteFile(file, bytes.Replace(text, []byte(strip), []byte(keep), 1), 0o600)
}
