package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/cordon-mq/cordon/bench/report"
)

func itoa(i int) string { return strconv.Itoa(i) }

// crashUp is the longest run under load, where nobody says otherwise.
const crashUp = 800 * time.Millisecond

// crashConfig is what the crash trial is run with.
type crashConfig struct {
	binary              string
	kills               int
	seed                uint64
	publishers, readers int
	window              int
	up                  time.Duration // the longest run under load
	durability          string
}

func crashCommand(ctx context.Context, args []string, out io.Writer) error {
	var c crashConfig
	flags := flag.NewFlagSet("crash", flag.ContinueOnError)
	flags.StringVar(&c.binary, "cordon", "", "program to run (default: it is built)")
	flags.IntVar(&c.kills, "kills", 200, "how often the broker is killed")
	flags.Uint64Var(&c.seed, "seed", uint64(time.Now().UnixNano()), "of everything that is random (default: the time)")
	flags.IntVar(&c.publishers, "publishers", 8, "clients that publish, at QoS 1 and 2, in MQTT 3.1.1 and 5")
	flags.IntVar(&c.readers, "readers", 4, "clients that subscribe, likewise")
	flags.IntVar(&c.window, "window", 20, "messages in flight of each publisher")
	flags.DurationVar(&c.up, "up", crashUp, "longest time under load before a kill")
	flags.StringVar(&c.durability, "durability", "process", "process or power, as serve takes it")
	if err := errors.Join(parse(flags, args), atLeast(1, c.kills, "kills"), atLeast(1, c.publishers, "publishers"),
		atLeast(1, c.readers, "readers"), atLeast(1, c.window, "window"), atLeast(1, int(c.up/time.Millisecond), "up")); err != nil {
		return err
	}
	found, err := crash(ctx, c)
	if err != nil {
		return err
	}
	if _, err := found.summary().WriteTo(out); err != nil {
		return err
	}
	return found.verdict()
}

// chance is random numbers that a seed repeats, another row for each stream.
func chance(seed, stream uint64) *rand.Rand {
	return rand.New(rand.NewPCG(seed, stream)) //nolint:gosec // nothing here is secret, and a run is to be repeatable
}

// crashFound is what the crash trial found.
type crashFound struct {
	crashConfig
	balance
	took                        time.Duration
	killedStarting, killedReady int
	slowestStart                time.Duration
	connects, resumes, cuts     int64
	refusals, lostSessions      int64
	failedStarts                int // or runs that ended by themselves
	dropped                     int // records that starts found of nobody
	faults                      []string
	missed                      []string
}

// verdict is errBroken unless every promise was kept.
func (f *crashFound) verdict() error {
	for _, broken := range []int{
		f.missing, f.twice, f.disordered, f.strange, f.refused, int(f.refusals), int(f.lostSessions), f.failedStarts, len(f.faults),
	} {
		if broken != 0 {
			return errBroken
		}
	}
	if f.acknowledged == 0 || f.wanted == 0 {
		return fmt.Errorf("%w: nothing was acknowledged", errBroken)
	}
	return nil
}

// summary is the page.
func (f *crashFound) summary() *summary {
	s := &summary{}
	s.title("Killed %d times under load", f.kills)
	s.text("%d publishers, %d readers, QoS 1 and 2, MQTT 3.1.1 and 5, window %d, durability %s, seed %d; took %s.",
		f.publishers, f.readers, f.window, f.durability, f.seed, f.took.Round(time.Second))
	s.table([]string{"", "count", "promised"}, [][]string{
		{"kills while starting / under load", fmt.Sprintf("%d / %d", f.killedStarting, f.killedReady), ""},
		{"connections, of which resumed", fmt.Sprintf("%d, %d", f.connects, f.resumes), ""},
		{"connections cut by the client", fmt.Sprint(f.cuts), ""},
		{"slowest start", f.slowestStart.Round(time.Millisecond).String(), ""},
		{"starts that failed", count(f.failedStarts), "0"},
		{"messages sent", count(f.sent), ""},
		{"messages acknowledged", count(f.acknowledged), ""},
		{"deliveries they call for", count(f.wanted), ""},
		{"**missing**", count(f.missing), "0"},
		{"**duplicated at QoS 2**", count(f.twice), "0"},
		{"**out of order**", count(f.disordered), "0"},
		{"duplicated where QoS 1 has a part", count(f.repeated), "allowed"},
		{"strange (never sent, wrong QoS, not subscribed to)", count(f.strange), "0"},
		{"publishes refused", count(f.refused), "0"},
		{"connects refused", fmt.Sprint(f.refusals), "0"},
		{"kept sessions lost", fmt.Sprint(f.lostSessions), "0"},
		{"records of unfinished writes that starts removed", count(f.dropped), "allowed"},
		{"errors logged, faults of the protocol", count(len(f.faults)), "0"},
	})
	s.list("First of what is missing", f.missed)
	s.list("Errors and faults", f.faults)
	return s
}

// crash runs the trial.
func crash(ctx context.Context, c crashConfig) (*crashFound, error) {
	program, err := prepare(ctx, c.binary)
	defer program.remove()
	if err != nil {
		return nil, err
	}
	program.args = []string{"--durability", c.durability}
	t := &crashTrial{program: program, ledger: newLedger(c.publishers, c.readers), window: c.window, closing: make(chan struct{})}
	k := &killer{crashConfig: c, program: program, rng: chance(c.seed, 0), found: &crashFound{crashConfig: c}}
	started := time.Now()
	if err := k.start(ctx); err != nil {
		return nil, err
	}
	defer func() { k.broker.kill() }()

	living, end := context.WithCancel(ctx)
	var readers, publishers sync.WaitGroup
	defer readers.Wait()
	defer publishers.Wait()
	defer end() // first: everybody hears of it
	t.subscribed.Add(c.readers)
	for i := range c.readers {
		readers.Go(func() { t.read(living, i, c.seed) })
	}
	// A reader that never subscribes must not hold up the end.
	subscribed := make(chan struct{})
	go func() { t.subscribed.Wait(); close(subscribed) }()
	select {
	case <-subscribed:
	case <-time.After(patience):
		return nil, fmt.Errorf("readers could not subscribe: %v\n%s", t.faults(), k.broker.log.tail())
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	for i := range c.publishers {
		publishers.Go(func() { t.publish(living, i, c.seed) })
	}

	if err := k.killAll(ctx, t); err != nil {
		return nil, err
	}
	say("draining")
	close(t.closing)
	done := make(chan struct{})
	go func() { publishers.Wait(); close(done) }()
	if err := t.drain(ctx, done); err != nil {
		return nil, err
	}
	// Whatever is still owed, or owed once too often, comes after one more start.
	k.note()
	k.broker.kill()
	if err := k.start(ctx); err != nil {
		return nil, err
	}
	if err := t.settle(ctx); err != nil {
		return nil, err
	}
	end()
	readers.Wait()
	if err := k.broker.stop(); err != nil {
		return nil, err
	}
	k.note()
	k.found.took = time.Since(started)
	return t.result(k.found), nil
}

// result adds what the clients know.
func (t *crashTrial) result(f *crashFound) *crashFound {
	f.balance, f.missed = t.ledger.balance(), t.ledger.missing(faultLines)
	f.connects, f.resumes, f.cuts = t.connects.Load(), t.resumes.Load(), t.cuts.Load()
	f.refusals, f.lostSessions = t.refusals.Load(), t.lostSessions.Load()
	f.faults = append(f.faults, t.faults()...)
	return f
}

const (
	patience  = 20 * time.Second       // without any progress
	lookEvery = 100 * time.Millisecond // while waiting for it
	quietTime = time.Second            // after which nobody says more
)

// drain waits until publishers are through and everything has arrived, or
// nothing arrives any more.
func (t *crashTrial) drain(ctx context.Context, published <-chan struct{}) error {
	last, since := -1, time.Now()
	for time.Since(since) < patience {
		select {
		case <-published:
			if t.ledger.balance().missing == 0 {
				return nil
			}
		default:
		}
		if now := t.ledger.progress(); now != last {
			last, since = now, time.Now()
		}
		if err := pause(ctx, lookEvery); err != nil {
			return err
		}
	}
	say("nothing arrives any more")
	return nil
}

// settle waits until nothing arrives for a while.
func (t *crashTrial) settle(ctx context.Context) error {
	last, since := t.ledger.progress(), time.Now()
	for time.Since(since) < quietTime {
		if err := pause(ctx, lookEvery); err != nil {
			return err
		}
		if now := t.ledger.progress(); now != last {
			last, since = now, time.Now()
		}
	}
	return nil
}

// killer owns the broker's process.
type killer struct {
	crashConfig
	program *program
	rng     *rand.Rand
	found   *crashFound
	broker  *broker
	usual   time.Duration // how long the last whole start took
}

// start runs the broker until it is ready.
func (k *killer) start(ctx context.Context) error {
	b, err := k.program.start()
	if err != nil {
		return err
	}
	k.broker = b
	return k.awaitReady(ctx)
}

// awaitReady waits for a start. One that fails is noted and tried again, so that
// the rest of the run tells what it does to the messages.
func (k *killer) awaitReady(ctx context.Context) error {
	for try := 0; ; try++ {
		took, err := k.broker.ready(ctx)
		if err == nil {
			k.usual = took
			k.found.slowestStart = max(k.found.slowestStart, took)
			return nil
		}
		died := k.broker.died()
		k.broker.kill()
		if died == nil || try == mostTries {
			return err
		}
		if err := k.startAgain(died); err != nil {
			return err
		}
	}
}

// mostTries is how often a start that fails is tried again.
const mostTries = 3

// startAgain notes that the broker has ended by itself.
func (k *killer) startAgain(died error) (err error) {
	say("%v", died)
	k.note()
	k.found.failedStarts++
	k.found.faults = append(k.found.faults, died.Error())
	k.broker, err = k.program.start()
	return err
}

// note keeps what the log of this run said.
func (k *killer) note() {
	lines, all := k.broker.log.faults()
	k.found.faults = append(k.found.faults, lines...)
	if all > len(lines) {
		k.found.faults = append(k.found.faults, fmt.Sprintf("and %d more", all-len(lines)))
	}
	k.found.dropped += k.broker.log.found().dropped
}

// killAll kills and starts, one time in four before the start is over.
func (k *killer) killAll(ctx context.Context, t *crashTrial) error {
	for i := range k.kills {
		if i > 0 && k.rng.IntN(4) == 0 {
			if err := pause(ctx, k.random(k.usual)); err != nil {
				return err
			}
			k.found.killedStarting++
		} else {
			if i > 0 {
				if err := k.awaitReady(ctx); err != nil {
					return err
				}
			}
			if err := pause(ctx, k.random(k.up)); err != nil {
				return err
			}
			k.found.killedReady++
		}
		if died := k.broker.died(); died != nil {
			if err := k.startAgain(died); err != nil {
				return err
			}
		}
		k.broker.kill()
		k.note()
		if (i+1)%10 == 0 || i+1 == k.kills {
			b := t.ledger.balance()
			say("%d of %d kills: %d acknowledged, %d received, %d duplicated at QoS 2, %d out of order",
				i+1, k.kills, b.acknowledged, b.received, b.twice, b.disordered)
		}
		b, err := k.program.start()
		if err != nil {
			return err
		}
		k.broker = b
	}
	return k.awaitReady(ctx)
}

func (k *killer) random(most time.Duration) time.Duration {
	return time.Duration(k.rng.Int64N(int64(most) + 1))
}

// count writes a number with its thousands apart.
func count(n int) string {
	if n < 1000 {
		return strconv.Itoa(n)
	}
	return count(n/1000) + fmt.Sprintf("\u202f%03d", n%1000)
}

// megabytes writes a number of bytes.
func megabytes(n int64) string { return report.Number(float64(n)/(1<<20)) + " MiB" }
