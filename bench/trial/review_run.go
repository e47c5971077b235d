package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cordon-mq/cordon/bench/trial/client"
	"github.com/cordon-mq/cordon/broker/api"
	"github.com/cordon-mq/cordon/broker/api/control"
)

// reviewTrial is what the parts share.
type reviewTrial struct {
	reviewConfig
	program   *program
	broker    *broker
	door      *http.Client
	candidate api.Candidate
	ids       []string
	found     *reviewFound
}

// review runs the trial.
func review(ctx context.Context, c reviewConfig) (*reviewFound, error) {
	program, err := prepare(ctx, c.binary)
	defer program.remove()
	if err != nil {
		return nil, err
	}
	t := &reviewTrial{reviewConfig: c, program: program, found: &reviewFound{reviewConfig: c}}
	if err := t.chooseCandidate(ctx); err != nil {
		return nil, err
	}
	say("recording %d decisions", c.decisions)
	begin := time.Now()
	if t.ids, err = program.fill(ctx, c.decisions, c.explained); err != nil {
		return nil, fmt.Errorf("record decisions: %w", err)
	}
	t.found.filled = time.Since(begin)

	program.args = []string{"--max-pending", "20000", "--decision-log-size", "4096"}
	for _, part := range []func(context.Context) error{t.beside, t.cost} {
		if err := part(ctx); err != nil {
			return nil, err
		}
	}
	return t.found, nil
}

// serve runs the program for f.
func (t *reviewTrial) serve(ctx context.Context, f func(context.Context) error) error {
	b, err := t.program.run(ctx)
	if err != nil {
		return err
	}
	defer b.kill()
	t.broker = b
	if t.door, err = control.Dial(t.program.data); err != nil {
		return err
	}
	defer t.door.CloseIdleConnections()
	if err := f(ctx); err != nil {
		return fmt.Errorf("%w\n%s", err, b.log.tail())
	}
	faults, _ := b.log.faults()
	t.found.faults = append(t.found.faults, faults...)
	return b.stop()
}

// chooseCandidate takes the built-in policies, and one rule that takes one filter from
// each session.
func (t *reviewTrial) chooseCandidate(ctx context.Context) error {
	folder := filepath.Join(t.program.dir, "candidate")
	if out, err := exec.CommandContext(ctx, t.program.binary, "policy", "init", folder).CombinedOutput(); err != nil {
		return fmt.Errorf("policy init: %w\n%s", err, out)
	}
	rule := "package cordon.subscribe\n\ndeny contains \"closed\" if input.levels[6] == \"c0\"\n"
	if err := os.WriteFile(filepath.Join(folder, "cordon", "subscribe", "closed.rego"), []byte(rule), 0o600); err != nil {
		return err
	}
	t.candidate.Files = map[string]string{}
	files := os.DirFS(folder)
	return fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !slices.Contains([]string{".rego", ".json"}, path.Ext(name)) {
			return err
		}
		text, err := fs.ReadFile(files, name)
		t.candidate.Files[name] = string(text)
		return err
	})
}

// another is the candidate with other bytes: what was looked at before, the broker has
// compiled.
func (t *reviewTrial) another(i int) api.Candidate {
	files := maps.Clone(t.candidate.Files)
	files["cordon/subscribe/closed.rego"] += fmt.Sprintf("\n# %d\n", i)
	return api.Candidate{Files: files}
}

// beside measures reviews beside a load, and without.
func (t *reviewTrial) beside(ctx context.Context) error {
	return t.serve(ctx, func(ctx context.Context) error {
		if err := t.withSessions(ctx, t.measure); err != nil {
			return err
		}
		for i := range t.rounds {
			r, err := t.round(ctx, nil, "/policy/replay", api.ReplayRequest{Candidate: t.candidate, Since: new(int64)})
			if err != nil {
				return err
			}
			t.found.quiet = append(t.found.quiet, r)
			say("replay %d without load: %s", i+1, r.took.Round(time.Millisecond))
		}
		return t.explain(ctx)
	})
}

func (t *reviewTrial) withSessions(ctx context.Context, f func(context.Context, *timing) error) error {
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
			filters[k] = fmt.Sprintf("iot-2/type/review/id/s%d/cmd/c%d/fmt/+", i, k)
		}
		return conns[i].Subscribe(1, nil, filters...)
	})
	if err != nil {
		return err
	}
	load := sweepTrial{sweepConfig: sweepConfig{pairs: t.pairs, rate: t.rate}, program: t.program}
	times, err := load.startTiming(ctx)
	defer times.stop()
	if err != nil {
		return err
	}
	if err := f(ctx, times); err != nil {
		return err
	}
	return times.failure()
}

// measure takes the time of messages alone, and beside each kind of review.
func (t *reviewTrial) measure(ctx context.Context, times *timing) error {
	if err := pause(ctx, t.lead); err != nil {
		return err
	}
	begin := time.Now()
	if err := pause(ctx, t.span); err != nil {
		return err
	}
	t.found.alone = times.between(begin, time.Now())
	slices.Sort(t.found.alone)
	for i := range t.rounds {
		now, ever := time.Now().UnixMilli(), int64(0)
		for _, one := range []struct {
			name, path string
			request    any
			into       *[]reviewRound
		}{
			{"impact on sessions", "/policy/impact", api.ImpactRequest{Candidate: t.another(i), Since: &now}, &t.found.sessions},
			{"impact", "/policy/impact", api.ImpactRequest{Candidate: t.candidate, Since: &ever}, &t.found.both},
			{"replay", "/policy/replay", api.ReplayRequest{Candidate: t.candidate, Since: &ever}, &t.found.replays},
		} {
			r, err := t.round(ctx, times, one.path, one.request)
			if err != nil {
				return err
			}
			if one.into == &t.found.sessions {
				r.replayed = 0
			}
			*one.into = append(*one.into, r)
			say("%s %d: %s", one.name, i+1, r.took.Round(time.Millisecond))
			if err := pause(ctx, t.lead); err != nil {
				return err
			}
		}
	}
	return nil
}

// round runs one review. The time has all of it: the candidate is sent, compiled,
// tested, and then asked.
func (t *reviewTrial) round(ctx context.Context, times *timing, path string, in any) (r reviewRound, err error) {
	var result struct {
		Total     api.ImpactCount `json:"total"`
		Decisions api.ReplayCount `json:"decisions"`
		Count     api.ReplayCount `json:"count"`
	}
	before, err := usageOf(t.broker.pid())
	if err != nil {
		return r, err
	}
	begin := time.Now()
	err = t.stream(ctx, path, in, func(event string, data []byte) error {
		var p api.ReviewProgress
		switch event {
		case "progress":
			if err := json.Unmarshal(data, &p); err != nil {
				return err
			}
			if p.Phase == "sessions" && p.Done == p.Total {
				r.sessions = time.Since(begin)
			}
		case "result":
			return json.Unmarshal(data, &result)
		}
		return nil
	})
	if err != nil {
		return r, err
	}
	end := time.Now()
	after, err := usageOf(t.broker.pid())
	if err != nil {
		return r, err
	}
	r.took, r.cpu = end.Sub(begin), after.cpu-before.cpu
	r.removed = result.Total.SubscriptionsRemoved
	r.replayed = result.Decisions.Replayed + result.Count.Replayed
	if times != nil {
		if err := pause(ctx, lookEvery); err != nil { // what was sent until then arrives
			return r, err
		}
		r.beside = times.between(begin, end)
	}
	return r, nil
}

// stream asks the operator's door and hands on each event.
func (t *reviewTrial) stream(ctx context.Context, path string, in any, tell func(event string, data []byte) error) (err error) {
	text, err := json.Marshal(in)
	if err != nil {
		return err
	}
	rq, err := http.NewRequestWithContext(ctx, http.MethodPost, control.BaseURL+path, bytes.NewReader(text))
	if err != nil {
		return err
	}
	rq.Header.Set("Content-Type", "application/json")
	rs, err := t.door.Do(rq)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rs.Body.Close()) }()
	lines, event := bufio.NewScanner(rs.Body), ""
	lines.Buffer(nil, 16<<20)
	last := ""
	for lines.Scan() {
		last = lines.Text()
		if name, ok := strings.CutPrefix(last, "event: "); ok {
			event = name
		}
		if data, ok := strings.CutPrefix(last, "data: "); ok {
			if err := tell(event, []byte(data)); err != nil {
				return err
			}
		}
	}
	if rs.StatusCode != http.StatusOK || event != "result" {
		return fmt.Errorf("%s: %s: %s", path, rs.Status, last)
	}
	return lines.Err()
}

// explain asks about decisions one after the other, at the door and by the command.
func (t *reviewTrial) explain(ctx context.Context) error {
	for i, id := range t.ids {
		begin := time.Now()
		rq, err := http.NewRequestWithContext(ctx, http.MethodGet, control.BaseURL+"/policy/decisions/"+id+"/explain", nil)
		if err != nil {
			return err
		}
		rs, err := t.door.Do(rq)
		if err != nil {
			return err
		}
		text, err := io.ReadAll(rs.Body)
		if err := errors.Join(err, rs.Body.Close()); err != nil {
			return err
		}
		if rs.StatusCode != http.StatusOK {
			return fmt.Errorf("explain %s: %s: %s", id, rs.Status, text)
		}
		t.found.door = append(t.found.door, time.Since(begin))
		if i%10 != 0 {
			continue
		}
		begin = time.Now()
		if out, err := exec.CommandContext(ctx, t.program.binary, "policy", "explain", id, "--data", t.program.data).CombinedOutput(); err != nil {
			return fmt.Errorf("explain %s: %w\n%s", id, err, out)
		}
		t.found.command = append(t.found.command, time.Since(begin))
	}
	slices.Sort(t.found.door)
	slices.Sort(t.found.command)
	return nil
}

// cost runs messages through the program with the decision log and without, in turn.
func (t *reviewTrial) cost(ctx context.Context) error {
	if t.costMessages == 0 {
		return nil
	}
	args := t.program.args
	defer func() { t.program.args = args }()
	for i := range t.rounds {
		for _, one := range []struct {
			args []string
			into *[]costRound
		}{{nil, &t.found.with}, {[]string{"--decision-log-size", "0"}, &t.found.without}} {
			t.program.args = one.args
			err := t.serve(ctx, func(ctx context.Context) error {
				r, err := t.messages(ctx, i)
				*one.into = append(*one.into, r)
				return err
			})
			if err != nil {
				return err
			}
		}
		say("round %d of the log's cost: %s with it, %s without", i+1, t.found.with[i].text(), t.found.without[i].text())
	}
	return nil
}

func (t *reviewTrial) messages(ctx context.Context, round int) (r costRound, err error) {
	pairs := newPairs(t.program, pairsConfig{name: "c" + itoa(round), pairs: t.pairs, qos: 1, window: 64, payload: 64, messages: t.costMessages / t.pairs})
	before, err := usageOf(t.broker.pid())
	if err != nil {
		return r, err
	}
	begin := time.Now()
	if err := pairs.start(ctx); err != nil {
		return r, errors.Join(err, pairs.stop())
	}
	want := t.costMessages / t.pairs * t.pairs
	last, since := 0, begin
	for pairs.delivered() < want && pairs.failure() == nil {
		if got := pairs.delivered(); got > last {
			last, since = got, time.Now()
		} else if time.Since(since) > patience {
			return r, errors.Join(fmt.Errorf("%d of %d messages were delivered, and no more came", got, want), pairs.stop())
		}
		if err := pause(ctx, lookEvery/10); err != nil {
			return r, errors.Join(err, pairs.stop())
		}
	}
	took := time.Since(begin)
	after, err := usageOf(t.broker.pid())
	r = costRound{float64(want) / took.Seconds(), float64((after.cpu - before.cpu).Microseconds()) / float64(want)}
	return r, errors.Join(err, pairs.stop())
}
