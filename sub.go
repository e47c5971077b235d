package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"
	"time"

	"github.com/cordon-mq/cordon/broker/config"
	"github.com/cordon-mq/cordon/policy/topic"
)

// subCmd prints the messages that match its filters until it is told to stop.
type subCmd struct {
	connectFlags `embed:""`

	Topic   []string `short:"t" required:"" sep:"none" placeholder:"FILTER" help:"Filter to subscribe to; may be given several times."`
	Verbose bool     `short:"v" help:"Print the topic before each payload."`
	Count   uint32   `short:"C" placeholder:"N" help:"Stop after N messages."`
	Wait    uint32   `short:"W" placeholder:"SECONDS" help:"Stop after so many seconds; with -C it fails if messages are missing then."`

	Keep          bool    `name:"keep" short:"c" help:"Keep the session, so that the broker queues what comes meanwhile."`
	SessionExpiry *uint32 `placeholder:"SECONDS" help:"How long to keep it (default: as long as the broker permits)."`
}

// Validate looks at all flags together; kong calls it, and a problem is a usage
// error.
func (c *subCmd) Validate() error {
	switch {
	case c.Keep && c.ID == "":
		return errors.New("-c keeps the session of a client ID: it needs -i")
	case c.SessionExpiry != nil && !c.Keep:
		return errors.New("--session-expiry needs -c")
	case c.SessionExpiry != nil && c.Version != "5":
		return errors.New("--session-expiry is of MQTT 5")
	}
	for _, t := range c.Topic {
		if _, _, err := topic.ParseSubscription(t); err != nil {
			return fmt.Errorf("--topic: %q: %w", t, err)
		}
	}
	return c.check()
}

// Run prints until enough messages came, time is up, or ctx ends.
func (c *subCmd) Run(ctx context.Context, std *streams, lookup config.Lookup) error {
	s := session{keep: c.Keep, expiry: math.MaxUint32, inbox: newInbox(std.out, c.Verbose, int(c.Count))}
	if c.SessionExpiry != nil {
		s.expiry = *c.SessionExpiry
	}
	var timeUp <-chan time.Time
	if c.Wait > 0 {
		timeUp = time.After(time.Duration(c.Wait) * time.Second)
	}
	conn, err := c.connect(ctx, std, lookup, s)
	if err != nil {
		return err
	}
	defer conn.leave()
	refusals, err := conn.subscribe(ctx, c.Topic, c.QoS)
	if err != nil {
		return err
	}
	granted := 0
	for _, refusal := range refusals {
		if refusal == nil {
			granted++
			continue
		}
		report(std.err, exitFailed, refusal)
	}
	if granted == 0 {
		return errReported
	}
	select {
	case <-s.inbox.enough:
		return nil
	case err := <-s.inbox.failed:
		return err
	case err := <-conn.lost():
		return err
	case <-timeUp:
		if missing := s.inbox.missing(); missing > 0 {
			return fmt.Errorf("after %d s, %d of %d messages are missing", c.Wait, missing, c.Count)
		}
		return nil
	case <-ctx.Done():
		return nil
	}
}

// inbox prints messages, each with one write, and knows when it is enough. A
// nil inbox takes none.
type inbox struct {
	out     io.Writer
	verbose bool
	count   int           // 0: without end
	enough  chan struct{} // closed when count messages are settled
	failed  chan error    // why nothing more can be printed

	state struct {
		sync.Mutex
		printed, settled int
		closed           bool
	}
}

func newInbox(out io.Writer, verbose bool, count int) *inbox {
	return &inbox{out: out, verbose: verbose, count: count, enough: make(chan struct{}), failed: make(chan error, 1)}
}

// take prints m, and reports whether it did: not after close, not beyond the
// count, and not when the output takes nothing more. One goroutine calls it.
func (in *inbox) take(m publication) bool {
	if in == nil || !in.open() {
		return false
	}
	line := make([]byte, 0, len(m.topic)+len(m.payload)+2)
	if in.verbose {
		line = append(append(line, m.topic...), ' ')
	}
	line = append(append(line, m.payload...), '\n')
	if _, err := in.out.Write(line); err != nil {
		in.close()
		in.failed <- err // the first and only one: in is closed
		return false
	}
	in.state.Lock()
	defer in.state.Unlock()
	in.state.printed++
	return true
}

func (in *inbox) open() bool {
	in.state.Lock()
	defer in.state.Unlock()
	return !in.state.closed && (in.count == 0 || in.state.printed < in.count)
}

// settle notes that a message that was taken is acknowledged: only then it is
// done with, and the broker will not send it again.
func (in *inbox) settle() {
	in.state.Lock()
	defer in.state.Unlock()
	in.state.settled++
	if in.state.settled == in.count {
		close(in.enough)
	}
}

// missing is how many messages of the count did not come.
func (in *inbox) missing() int {
	in.state.Lock()
	defer in.state.Unlock()
	return max(0, in.count-in.state.printed)
}

// close takes no further message.
func (in *inbox) close() {
	if in == nil {
		return
	}
	in.state.Lock()
	defer in.state.Unlock()
	in.state.closed = true
}
