package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/cordon-mq/cordon/bench/trial/client"
	"github.com/cordon-mq/cordon/broker/api"
	"github.com/cordon-mq/cordon/broker/api/control"
	"github.com/cordon-mq/cordon/broker/wire"
)

// sweep runs the trial.
func sweep(ctx context.Context, c sweepConfig) (*sweepFound, error) {
	program, err := prepare(ctx, c.binary)
	defer program.remove()
	if err != nil {
		return nil, err
	}
	t := &sweepTrial{sweepConfig: c, program: program, found: &sweepFound{sweepConfig: c}, zero: time.Now()}
	t.lost = newLosses()
	program.watch = t.lost.line
	t.folder = filepath.Join(program.dir, "policy")
	if out, err := exec.CommandContext(ctx, program.binary, "policy", "init", t.folder).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("policy init: %w\n%s", err, out)
	}
	program.args = []string{"--policy", t.folder, "--max-pending", "20000"}
	b, err := program.run(ctx)
	if err != nil {
		return nil, err
	}
	defer b.kill()
	t.broker = b
	if t.door, err = control.Dial(program.data); err != nil {
		return nil, err
	}
	defer t.door.CloseIdleConnections()
	for _, step := range []func(context.Context) error{t.storeRevisions, t.judgeAgain, t.switchOver} {
		if err := step(ctx); err != nil {
			return nil, fmt.Errorf("%w\n%s", err, b.log.tail())
		}
	}
	t.found.faults, _ = b.log.faults()
	return t.found, b.stop()
}

// sweepTrial is what the parts share.
type sweepTrial struct {
	sweepConfig
	program *program
	broker  *broker
	door    *http.Client
	folder  string
	lost    *losses
	zero    time.Time
	found   *sweepFound

	open, shut string   // revisions that allow what is switched, and refuse it
	narrower   []string // each takes one filter more away
}

// storeRevisions lets every revision be live once, so that it is kept.
func (t *sweepTrial) storeRevisions(ctx context.Context) error {
	now, err := t.status(ctx)
	if err != nil {
		return err
	}
	t.open = now.Revision
	edit := func(pkg, text string) (string, error) {
		name := filepath.Join(t.folder, "cordon", pkg, "closed.rego")
		if text == "" {
			err = os.Remove(name)
		} else {
			err = os.WriteFile(name, []byte("package cordon."+pkg+"\n\n"+text+"\n"), 0o600)
		}
		if err != nil {
			return "", err
		}
		before := now.Revision
		for deadline := time.Now().Add(patience); now.Revision == before; {
			if time.Now().After(deadline) {
				return "", errors.New("an edit of the policy folder did not go live")
			}
			if err := pause(ctx, lookEvery); err != nil {
				return "", err
			}
			if now, err = t.status(ctx); err != nil {
				return "", err
			}
		}
		return now.Revision, nil
	}
	if t.shut, err = edit("publish", `deny contains "closed" if input.levels[6] == "switched"`); err != nil {
		return err
	}
	if _, err = edit("publish", ""); err != nil {
		return err
	}
	for i := range t.rounds {
		rule := fmt.Sprintf("deny contains \"closed\" if input.levels[6] in {%s}", closedFilters(i+1))
		revision, err := edit("subscribe", rule)
		if err != nil {
			return err
		}
		t.narrower = append(t.narrower, revision)
	}
	_, err = edit("subscribe", "")
	return err
}

func closedFilters(n int) string {
	var b bytes.Buffer
	for i := range n {
		fmt.Fprintf(&b, "%q, ", "c"+itoa(i))
	}
	return string(bytes.TrimSuffix(b.Bytes(), []byte(", ")))
}

// call asks the operator's door.
func (t *sweepTrial) call(ctx context.Context, method, path string, in any) (now api.PolicyStatus, err error) {
	text, err := json.Marshal(in)
	if err != nil {
		return now, err
	}
	rq, err := http.NewRequestWithContext(ctx, method, control.BaseURL+path, bytes.NewReader(text))
	if err != nil {
		return now, err
	}
	rq.Header.Set("Content-Type", "application/json")
	rs, err := t.door.Do(rq)
	if err != nil {
		return now, err
	}
	answer, err := io.ReadAll(rs.Body)
	if err := errors.Join(err, rs.Body.Close()); err != nil {
		return now, err
	}
	if rs.StatusCode != http.StatusOK {
		return now, fmt.Errorf("%s %s: %s: %s", method, path, rs.Status, answer)
	}
	return now, json.Unmarshal(answer, &now)
}

func (t *sweepTrial) status(ctx context.Context) (api.PolicyStatus, error) {
	return t.call(ctx, "GET", "/policy", nil)
}

func (t *sweepTrial) activate(ctx context.Context, revision string) error {
	why := "trial"
	_, err := t.call(ctx, "POST", "/policy/activate", api.PolicyChange{Revision: &revision, Why: &why})
	return err
}

// losses are the filters that the log says sessions lost.
type losses struct {
	pattern *regexp.Regexp
	state   struct {
		sync.Mutex
		filter int // that is waited for
		seen   map[int]bool
		want   int
		half   time.Time
		done   chan time.Time
	}
}

func newLosses() *losses {
	return &losses{pattern: regexp.MustCompile(`msg=refused action=subscribe .*topic=iot-2/type/sweep/id/s(\d+)/cmd/c(\d+)/`)}
}

// await begins to wait until want sessions lost a filter. The channel gets the time.
func (l *losses) await(filter, want int) <-chan time.Time {
	l.state.Lock()
	defer l.state.Unlock()
	l.state.filter, l.state.want, l.state.seen = filter, want, map[int]bool{}
	l.state.done = make(chan time.Time, 1)
	return l.state.done
}

func (l *losses) line(line string) {
	found := l.pattern.FindStringSubmatch(line)
	if found == nil {
		return
	}
	session, _ := strconv.Atoi(found[1])
	filter, _ := strconv.Atoi(found[2])
	l.state.Lock()
	defer l.state.Unlock()
	if filter != l.state.filter || l.state.seen == nil || l.state.seen[session] {
		return
	}
	l.state.seen[session] = true
	switch len(l.state.seen) {
	case (l.state.want + 1) / 2:
		l.state.half = time.Now()
		if l.state.want > 1 {
			return
		}
		fallthrough
	case l.state.want:
		l.state.done <- time.Now()
	}
}

func (l *losses) halfAt() time.Time {
	l.state.Lock()
	defer l.state.Unlock()
	return l.state.half
}

// judgeAgain connects the sessions, takes the time of messages, and activates.
func (t *sweepTrial) judgeAgain(ctx context.Context) error {
	say("connecting %d sessions", t.sessions)
	conns := make([]*client.Conn, t.sessions)
	defer func() {
		for _, conn := range conns {
			if conn != nil {
				_ = conn.Close()
			}
		}
	}()
	err := each(ctx, t.sessions, connecting, func(i int) (err error) {
		who := t.program.application("s"+itoa(i), versionOf(i), true)
		who.Local, who.ReadBuffer = loopback(i), 4096
		if conns[i], err = client.Dial(ctx, who); err != nil {
			return err
		}
		filters := make([]string, t.filters)
		for k := range filters {
			filters[k] = fmt.Sprintf("iot-2/type/sweep/id/s%d/cmd/c%d/fmt/+", i, k)
		}
		return conns[i].Subscribe(1, nil, filters...)
	})
	if err != nil {
		return err
	}
	u, err := usageOf(t.broker.pid())
	if err != nil {
		return err
	}
	t.found.resident = u.resident

	times, err := t.startTiming(ctx)
	defer times.stop()
	if err != nil {
		return err
	}
	if err := pause(ctx, t.lead); err != nil {
		return err
	}
	begin := time.Now()
	if err := pause(ctx, t.span); err != nil {
		return err
	}
	t.found.alone = times.between(begin, time.Now())
	slices.Sort(t.found.alone)
	for k, revision := range t.narrower {
		r, err := t.round(ctx, times, k, revision)
		if err != nil {
			return err
		}
		t.found.rounds = append(t.found.rounds, r)
		say("activation %d: the call %s, all judged after %s", k+1, r.call.Round(time.Millisecond), r.judged.Round(time.Millisecond))
		if err := pause(ctx, t.lead); err != nil {
			return err
		}
	}
	return times.failure()
}

func (t *sweepTrial) round(ctx context.Context, times *timing, filter int, revision string) (r sweepRound, err error) {
	before, err := usageOf(t.broker.pid())
	if err != nil {
		return r, err
	}
	judged := t.lost.await(filter, t.sessions)
	begin := time.Now()
	if err := t.activate(ctx, revision); err != nil {
		return r, err
	}
	r.call = time.Since(begin)
	timer := time.NewTimer(sweepPatience)
	defer timer.Stop()
	var end time.Time
	select {
	case end = <-judged:
	case <-timer.C:
		return r, fmt.Errorf("not every session was judged in %s", sweepPatience)
	case <-ctx.Done():
		return r, context.Cause(ctx)
	}
	after, err := usageOf(t.broker.pid())
	if err != nil {
		return r, err
	}
	r.judged, r.half, r.cpu = end.Sub(begin), t.lost.halfAt().Sub(begin), after.cpu-before.cpu
	if err := pause(ctx, lookEvery); err != nil { // what was sent until then arrives
		return r, err
	}
	r.beside = times.between(begin, end)
	return r, nil
}

// timing are pairs whose messages are timed from the moment at which each was due.
type timing struct {
	end   context.CancelFunc
	conns []*client.Conn
	work  sync.WaitGroup

	guarded struct {
		sync.Mutex
		samples []timed
		err     error
	}
}

type timed struct {
	due  time.Time
	took time.Duration
}

func (m *timing) between(begin, end time.Time) (list []time.Duration) {
	m.guarded.Lock()
	defer m.guarded.Unlock()
	for _, s := range m.guarded.samples {
		if !s.due.Before(begin) && !s.due.After(end) {
			list = append(list, s.took)
		}
	}
	return list
}

func (m *timing) failure() error {
	m.guarded.Lock()
	defer m.guarded.Unlock()
	return m.guarded.err
}

func (m *timing) fail(ctx context.Context, err error) {
	m.guarded.Lock()
	defer m.guarded.Unlock()
	if ctx.Err() == nil && m.guarded.err == nil {
		m.guarded.err = err
	}
}

func (m *timing) stop() {
	m.end()
	for _, conn := range m.conns {
		_ = conn.Close()
	}
	m.work.Wait()
}

// startTiming begins. The caller calls stop, also after an error.
func (t *sweepTrial) startTiming(ctx context.Context) (*timing, error) {
	ctx, cancel := context.WithCancel(ctx)
	m := &timing{end: cancel}
	topic := func(i int) string { return fmt.Sprintf("iot-2/type/sweep/id/t%d/evt/steady/fmt/bin", i) }
	dial := func(name string) (*client.Conn, error) {
		conn, err := client.Dial(ctx, t.program.application(name, wire.V311, true))
		if err == nil {
			m.conns = append(m.conns, conn)
		}
		return conn, err
	}
	zero := time.Now().Add(lookEvery)
	every := time.Second / time.Duration(t.rate)
	for i := range t.pairs {
		reader, err := dial("tr" + itoa(i))
		if err != nil {
			return m, err
		}
		if err := reader.Subscribe(0, nil, topic(i)); err != nil {
			return m, err
		}
		publisher, err := dial("tp" + itoa(i))
		if err != nil {
			return m, err
		}
		m.work.Go(func() {
			for {
				p, err := reader.Next()
				if err != nil {
					m.fail(ctx, err)
					return
				}
				stamp, err := client.ParseStamp(p.Payload)
				if err != nil {
					m.fail(ctx, err)
					return
				}
				due := zero.Add(time.Duration(stamp.Sent))
				m.guarded.Lock()
				m.guarded.samples = append(m.guarded.samples, timed{due, time.Since(due)})
				m.guarded.Unlock()
			}
		})
		m.work.Go(func() {
			due := func(n uint64) time.Duration {
				return every*time.Duration(n) + every*time.Duration(i)/time.Duration(t.pairs)
			}
			sender := client.Sender{Version: wire.V311, Message: func(n uint64) client.Message {
				return client.Message{Topic: topic(i), Payload: client.Stamp{Number: n, Sent: int64(due(n))}.Payload(64)}
			}}
			for n := uint64(0); ; n++ {
				if pause(ctx, time.Until(zero.Add(due(n)))) != nil {
					return
				}
				if err := publisher.Write(sender.Publish(nil)); err != nil {
					m.fail(ctx, err)
					return
				}
			}
		})
	}
	return m, nil
}
