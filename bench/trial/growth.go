package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"time"
)

// growthConfig is what the growth trial is run with.
type growthConfig struct {
	binary     string
	messages   int
	pairs      int
	window     int
	payload    int
	durability string
}

func growthCommand(ctx context.Context, args []string, out io.Writer) error {
	var c growthConfig
	flags := flag.NewFlagSet("growth", flag.ContinueOnError)
	flags.StringVar(&c.binary, "cordon", "", "program to run (default: it is built)")
	flags.IntVar(&c.messages, "messages", 10_000_000, "messages in all")
	flags.IntVar(&c.pairs, "pairs", 50, "publishers, each with a reader of its own; both have kept sessions")
	flags.IntVar(&c.window, "window", 100, "messages in flight of each publisher")
	flags.IntVar(&c.payload, "payload", 64, "bytes of each message")
	flags.StringVar(&c.durability, "durability", "process", "process or power, as serve takes it")
	if err := errors.Join(parse(flags, args), atLeast(10, c.messages, "messages"), atLeast(1, c.pairs, "pairs"),
		atLeast(1, c.window, "window")); err != nil {
		return err
	}
	found, err := growth(ctx, c)
	if err != nil {
		return err
	}
	if _, err := found.summary().WriteTo(out); err != nil {
		return err
	}
	return found.verdict()
}

// growthFound is what the growth trial found.
type growthFound struct {
	growthConfig
	before  int64 // bytes of the data folder
	stages  []stage
	missing int
	faults  []string
}

// stage is one tenth of the messages, or the rest after the last.
type stage struct {
	messages int // delivered so far
	folder   int64
	usage    usage
	took     time.Duration // since the stage before
	count    int           // of this stage
	cpu      time.Duration // of this stage
}

// growthFactor is how much larger the folder may become in the second half of
// the messages than it was in the first: compaction comes in steps.
const (
	growthFactor = 1.5
	growthSlack  = 128 << 20 // bytes; below, steps of one memtable are all there is to see
)

// largest are the largest folders of both halves.
func (f *growthFound) largest() (first, second int64) {
	for i, s := range f.stages {
		if i < len(f.stages)/2 {
			first = max(first, s.folder)
		} else {
			second = max(second, s.folder)
		}
	}
	return first, second
}

func (f *growthFound) verdict() error {
	first, second := f.largest()
	if f.missing > 0 || len(f.faults) > 0 || float64(second) > growthFactor*float64(first)+growthSlack {
		return errBroken
	}
	return nil
}

// summary is the page.
func (f *growthFound) summary() *summary {
	s := &summary{}
	s.title("%s messages through kept sessions", count(f.messages))
	s.text("%d pairs, QoS 1, window %d, %d bytes, durability %s. The data folder had %s before.",
		f.pairs, f.window, f.payload, f.durability, megabytes(f.before))
	var rows [][]string
	for _, stage := range f.stages {
		rate, each := "–", "–"
		if stage.count > 0 {
			rate = count(int(float64(stage.count) / stage.took.Seconds()))
			each = fmt.Sprintf("%.1f", float64(stage.cpu.Microseconds())/float64(stage.count))
		}
		rows = append(rows, []string{count(stage.messages), megabytes(stage.folder), megabytes(stage.usage.resident), rate, each})
	}
	s.table([]string{"messages delivered", "data folder", "RSS", "messages/s", "CPU µs each"}, rows)
	first, second := f.largest()
	s.text("Missing: %d. Largest folder in the first half %s, in the second %s. The last line is after %s without load.",
		f.missing, megabytes(first), megabytes(second), growthRest)
	s.list("Errors logged", f.faults)
	return s
}

// growthRest is how long the broker is left alone before the last look.
const growthRest = 10 * time.Second

// growth runs the trial.
func growth(ctx context.Context, c growthConfig) (found *growthFound, err error) {
	program, err := prepare(ctx, c.binary)
	defer program.remove()
	if err != nil {
		return nil, err
	}
	program.args = []string{"--durability", c.durability}
	b, err := program.run(ctx)
	if err != nil {
		return nil, err
	}
	defer b.kill()
	found = &growthFound{growthConfig: c}
	if found.before, err = folderSize(program.data); err != nil {
		return nil, err
	}
	each := c.messages / c.pairs
	pairs := newPairs(program, pairsConfig{pairs: c.pairs, qos: 1, window: c.window, payload: c.payload, kept: true, messages: each})
	if err := pairs.start(ctx); err != nil {
		return nil, errors.Join(err, pairs.stop())
	}
	watch := &growthWatch{found: found, program: program, broker: b, at: time.Now()}
	if watch.last.usage, err = usageOf(b.pid()); err != nil {
		return nil, errors.Join(err, pairs.stop())
	}
	err = watch.run(ctx, pairs, each*c.pairs)
	if err = errors.Join(err, pairs.stop()); err != nil {
		return nil, err
	}
	found.missing = each*c.pairs - pairs.delivered()
	if err := pause(ctx, growthRest); err != nil {
		return nil, err
	}
	if err := watch.look(pairs.delivered()); err != nil {
		return nil, err
	}
	if err := b.stop(); err != nil {
		return nil, err
	}
	found.faults, _ = b.log.faults()
	return found, nil
}

// growthWatch looks at the broker while messages pass.
type growthWatch struct {
	found   *growthFound
	program *program
	broker  *broker
	at      time.Time
	last    stage
}

// run looks at every tenth until all messages are delivered.
func (w *growthWatch) run(ctx context.Context, p *pairs, messages int) error {
	since, before := time.Now(), 0
	for tenth := 1; tenth <= 10; {
		if err := errors.Join(pauseBriefly(ctx), w.broker.died(), p.failure()); err != nil {
			return err
		}
		now := p.delivered()
		if now > before {
			before, since = now, time.Now()
		} else if time.Since(since) > patience {
			say("nothing arrives any more")
			return nil
		}
		if now < messages/10*tenth && now < messages {
			continue
		}
		if err := w.look(now); err != nil {
			return err
		}
		say("%d messages: folder %s, RSS %s", now, megabytes(w.last.folder), megabytes(w.last.usage.resident))
		tenth++
	}
	return nil
}

func pauseBriefly(ctx context.Context) error { return pause(ctx, lookEvery/5) }

// look adds a stage.
func (w *growthWatch) look(messages int) (err error) {
	now := stage{messages: messages, count: messages - w.last.messages, took: time.Since(w.at)}
	if now.folder, err = folderSize(w.program.data); err != nil {
		return err
	}
	if now.usage, err = usageOf(w.broker.pid()); err != nil {
		return err
	}
	now.cpu = now.usage.cpu - w.last.usage.cpu
	w.last, w.at = now, time.Now()
	w.found.stages = append(w.found.stages, now)
	return nil
}
