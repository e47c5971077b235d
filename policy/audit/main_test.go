package audit

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/topic"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func factsOf(t testing.TB, name string) *policy.Facts {
	t.Helper()
	org, err := policy.ParseOrgID(name)
	if err != nil {
		t.Fatal(err)
	}
	return &policy.Facts{
		Principal: &policy.Principal{Org: org, Incarnation: 1, Kind: policy.KindDevice, Type: "sensor", ID: "d1", Verifier: "token"},
		Client:    &policy.Client{ID: policy.ClientID("d:" + name + ":sensor:d1")},
	}
}

func publishTo(t testing.TB, name string) *policy.Request {
	t.Helper()
	n, err := topic.ParseName(name)
	if err != nil {
		t.Fatal(err)
	}
	return &policy.Request{Action: policy.ActionPublish, Topic: n, Levels: strings.Split(name, "/"), QoS: 1}
}

// scripted decides what a test says, the same decision each time for one topic.
type scripted struct {
	decide func(r *policy.Request) *policy.Decision
	failed error // of Verifiers
}

func (s scripted) Verifiers(context.Context, *policy.Client, *policy.Organisation) ([]policy.VerifierRef, error) {
	return nil, s.failed
}

func (s scripted) Judge(*policy.Facts) policy.Judge { return scriptedJudge(s) }

type scriptedJudge scripted

func (j scriptedJudge) Decide(_ context.Context, r *policy.Request) *policy.Decision {
	return j.decide(r)
}
func (scriptedJudge) Generation() policy.Generation { return 7 }
func (scriptedJudge) Decides(policy.Action) bool    { return true }

// always answers d.
func always(d policy.Decision) scripted {
	return scripted{decide: func(*policy.Request) *policy.Decision { return &d }}
}

// plain renders what tests look at, and drops what goes to the topic "drop".
type plain struct{}

func (plain) Render(_ context.Context, e *Entry) (*Event, error) {
	if e.Request.Topic.String() == "drop" {
		return nil, ErrDropped
	}
	if e.Request.Topic.String() == "broken" {
		return nil, errors.New("cannot be rendered")
	}
	ev := &Event{
		DecisionID: e.Decision.ID, Timestamp: e.Time.UTC(), Path: "cordon/publish/decision",
		Input: json.RawMessage(`{"topic":"` + e.Request.Topic.String() + `"}`),
		Custom: Custom{
			Action: e.Request.Action.String(), Allow: e.Decision.Allow, Cause: e.Decision.Cause, Detail: e.Decision.Detail,
			Count: e.Count, Weight: e.Weight,
		},
	}
	if p := e.Facts.Principal; p != nil {
		ev.Custom.Org, ev.Custom.Incarnation = p.Org.String(), p.Incarnation
	}
	if e.Verifiers {
		ev.Custom.Action = ActionVerifiers
	}
	return ev, nil
}

// kept is a sink that remembers, and waits for gate before each write if there is one.
type kept struct {
	gate  chan struct{}
	state struct {
		sync.Mutex
		events []*Event
		closed bool
	}
}

func (*kept) Name() string { return "kept" }

func (k *kept) Write(ctx context.Context, events []*Event) (int, error) {
	if k.gate != nil {
		select {
		case <-k.gate:
		case <-ctx.Done():
			return len(events), context.Cause(ctx)
		}
	}
	k.state.Lock()
	defer k.state.Unlock()
	k.state.events = append(k.state.events, events...)
	return 0, nil
}

func (k *kept) Close() error {
	k.state.Lock()
	defer k.state.Unlock()
	k.state.closed = true
	return nil
}

func (k *kept) all() []*Event {
	k.state.Lock()
	defer k.state.Unlock()
	return slices.Clone(k.state.events)
}

func closeLog(t testing.TB, l *Log) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := l.Close(ctx); err != nil {
		t.Errorf("close: %v", err)
	}
}

func flush(t testing.TB, l *Log) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := l.Flush(ctx); err != nil {
		t.Fatalf("flush: %v", err)
	}
}

// memory is a Storage. It can be told to fail.
type memory struct {
	state struct {
		sync.Mutex
		values map[string][]byte
		failed error
		most   int // operations of the largest commit
	}
}

func newMemory() *memory {
	m := &memory{}
	m.state.values = map[string][]byte{}
	return m
}

// encode keeps the order of parts of one length, as the broker's store does.
func encode(k Key) string {
	var b strings.Builder
	for _, part := range k {
		b.WriteByte(byte(len(part) >> 8))
		b.WriteByte(byte(len(part)))
		b.WriteString(part)
	}
	return b.String()
}

func decode(s string) (k Key) {
	for s != "" {
		n := 2 + int(s[0])<<8 + int(s[1])
		k, s = append(k, s[2:n]), s[n:]
	}
	return k
}

func (m *memory) Scan(prefix, after Key, fn func(Key, []byte) bool) error {
	begin, later := encode(prefix), encode(after)
	m.state.Lock()
	var keys []string
	for k := range m.state.values {
		if strings.HasPrefix(k, begin) && k > later {
			keys = append(keys, k)
		}
	}
	m.state.Unlock()
	slices.Sort(keys)
	for _, k := range keys {
		m.state.Lock()
		v, ok := m.state.values[k]
		m.state.Unlock()
		if ok && !fn(decode(k), slices.Clone(v)) {
			return nil
		}
	}
	return nil
}

func (m *memory) Commit(ops []Op, done func(error)) {
	m.state.Lock()
	err := m.state.failed
	m.state.most = max(m.state.most, len(ops))
	if err == nil {
		for _, op := range ops {
			if op.Value == nil {
				delete(m.state.values, encode(op.Key))
			} else {
				m.state.values[encode(op.Key)] = slices.Clone(op.Value)
			}
		}
	}
	m.state.Unlock()
	done(err)
}

func (m *memory) fail(err error) {
	m.state.Lock()
	defer m.state.Unlock()
	m.state.failed = err
}

func (m *memory) len() int {
	m.state.Lock()
	defer m.state.Unlock()
	return len(m.state.values)
}
