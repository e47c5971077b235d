package ledger

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/broker/store/memstore"
	"github.com/cordon-mq/cordon/policy"
)

func someStates() []State {
	at := time.Date(2026, 1, 31, 12, 0, 0, 123456789, time.UTC)
	connected := State{
		ClientID: "d:acme01:sensor:d1", Kind: "device", Type: "sensor", ID: "d1", Device: 7, Connected: true, Address: "2001:db8::1", Port: 51234,
		Secure: true, Protocol: "mqtt5-ws", CertName: "CN=d1", Durable: true, ConnectTime: at, ActivityEvent: "Connect", ActivityTime: at,
	}
	gone := connected
	gone.Connected, gone.DisconnectTime, gone.CloseCode, gone.Reason = false, at.Add(time.Hour), 160, "The keep-alive time ran out."
	gone.ReadBytes, gone.ReadMessages, gone.WrittenBytes, gone.WrittenMessages = 1, 2, 1<<40, 1<<63
	gone.ActivityEvent, gone.ActivityTime = "Disconnect", gone.DisconnectTime
	odd := gone
	odd.ActivityEvent, odd.ActivityTime = "Else", at.Add(time.Minute)
	app := State{ClientID: "a:acme01:x", Kind: "application", App: "x", User: "a-acme01-0123456789", Reason: "\x00\x01odd\x1f"}
	return []State{connected, gone, odd, app, {ClientID: "nothing"}}
}

func TestStateKeepsEverything(t *testing.T) {
	t.Parallel()
	st := memstore.New()
	t.Cleanup(func() { _ = st.Close() })
	l, b := On(st), On(st).Batch()
	org, err := policy.ParseOrgID("acme01")
	if err != nil {
		t.Fatal(err)
	}
	tenant := Tenant{Org: org, Incarnation: 3}
	for _, want := range someStates() {
		if err := b.PutState(tenant, &want); err != nil {
			t.Fatal(err)
		}
		if err := b.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got, ok, err := l.State(tenant, want.ClientID); err != nil || !ok || !reflect.DeepEqual(got, want) {
			t.Errorf("read\n%+v, wrote\n%+v, %v", got, want, err)
		}
	}
	listed := 0
	err = l.States(tenant, "", func(s *State) bool {
		listed++
		return slices.ContainsFunc(someStates(), func(want State) bool { return reflect.DeepEqual(*s, want) })
	})
	if err != nil || listed != 3 { // three of them are of one client
		t.Errorf("%d clients are listed as they were, %v", listed, err)
	}
}

// What an earlier version wrote is JSON, and a slot of the log had one line.
func TestEarlierRecordsAreRead(t *testing.T) {
	t.Parallel()
	st := memstore.New()
	t.Cleanup(func() { _ = st.Close() })
	l := On(st)
	org, err := policy.ParseOrgID("acme01")
	if err != nil {
		t.Fatal(err)
	}
	tenant, d := Tenant{Org: org, Incarnation: 3}, Device{Type: "sensor", ID: "d1", Incarnation: 7}
	old := func(record any) []byte {
		text, err := json.Marshal(record)
		if err != nil {
			t.Fatal(err)
		}
		return append([]byte{formatJSON}, text...)
	}
	at := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	was := State{ClientID: "d:acme01:sensor:d1", Kind: "device", ConnectTime: at, ActivityEvent: "Connect", ActivityTime: at}
	ops := []store.Op{
		store.Put(stateKey(tenant, was.ClientID), old(was)),
		store.Put(tenant.scope().Key(store.KindConnectionLog, d.parts()...), old(uint64(13))),
	}
	for i := range 13 {
		line := Line{Message: "old", Time: at.Add(time.Duration(i) * time.Second)}
		ops = append(ops, store.Put(tenant.scope().Key(store.KindConnectionLog, d.parts(slot(uint64(i)))...), old(line)))
	}
	if err := store.CommitWait(t.Context(), st, ops...); err != nil {
		t.Fatal(err)
	}
	if got, ok, err := l.State(tenant, was.ClientID); err != nil || !ok || !reflect.DeepEqual(got, was) {
		t.Errorf("the state is %+v, %v", got, err)
	}
	b := l.Batch()
	if err := b.Log(tenant, d, Line{Message: "new", Time: at.Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	if err := b.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	lines, err := l.Lines(tenant, d, time.Time{})
	if err != nil || len(lines) != 14 || lines[0].Message != "new" || lines[13].Message != "old" {
		t.Errorf("the log is %v, %v", lines, err)
	}
}

// A batch that was not stored leaves nothing in memory that the store has not.
func TestFailedBatchIsForgotten(t *testing.T) {
	t.Parallel()
	disk := memstore.NewDisk()
	st, err := disk.Open(store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	l, b := On(st), On(st).Batch()
	b.recent = &l.recent
	tenant, d := Tenant{Incarnation: 3}, Device{Type: "sensor", ID: "d1", Incarnation: 7}
	if tenant.Org, err = policy.ParseOrgID("acme01"); err != nil {
		t.Fatal(err)
	}
	head := tenant.scope().Key(store.KindConnectionLog, d.parts()...)
	write := func(text string) error {
		if err := b.Log(tenant, d, Line{Message: text, Time: time.Unix(1, 0)}); err != nil {
			t.Fatal(err)
		}
		return b.Commit(t.Context())
	}
	if err := write("kept"); err != nil {
		t.Fatal(err)
	}
	if p, ok := l.recent.get(head); !ok || p.written != 1 {
		t.Errorf("remembered: %v, %+v", ok, p)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	if err := write("lost"); err == nil {
		t.Fatal("a closed store takes a batch")
	}
	if p, ok := l.recent.get(head); ok {
		t.Errorf("still remembered: %+v", p)
	}
}

func TestRecentPagesAreFew(t *testing.T) {
	t.Parallel()
	var r recent
	tenant := Tenant{Incarnation: 1}
	var err error
	if tenant.Org, err = policy.ParseOrgID("acme01"); err != nil {
		t.Fatal(err)
	}
	for i := range recentMost + 100 {
		key := tenant.scope().Key(store.KindConnectionLog, store.Uint64(uint64(i)))
		r.put(map[store.Key]page{key: {written: 1}}, true)
		if _, ok := r.get(key); !ok {
			t.Fatalf("page %d is not remembered", i)
		}
	}
	if n := len(r.guarded.pages); n != recentMost {
		t.Errorf("%d pages are remembered, want %d", n, recentMost)
	}
	key := tenant.scope().Key(store.KindConnectionLog, "long")
	r.put(map[store.Key]page{key: {lines: make([]byte, recentLines+1)}}, true)
	if _, ok := r.get(key); ok {
		t.Error("a long page is remembered")
	}
}

func TestPhrasesAreShort(t *testing.T) {
	t.Parallel()
	const line = "Closed connection from 127.0.0.1 (code 0). The connection has completed normally."
	if packed := appendPacked(nil, line); len(packed) > 16 {
		t.Errorf("%q takes %d bytes: %q", line, len(packed), packed)
	}
	for code := byte(1); code <= lastPhrase; code++ {
		if got := phraseAt(phrase(code)); got != code {
			t.Errorf("phrase %d is found as %d", code, got)
		}
	}
}

func FuzzPacked(f *testing.F) {
	f.Add("Connected: ClientID='d:a:b:c', ClientIP=::1, protocol mqtt5")
	f.Add("\x00\x01\x1f\x7f")
	f.Add(strings.Repeat("C'", 200))
	f.Fuzz(func(t *testing.T, s string) {
		r := reader{rest: appendPacked(nil, s)}
		if got := r.packed(); got != s || r.finish() != nil {
			t.Errorf("%q came back as %q", s, got)
		}
	})
}

// Whatever lies in the store is read or refused, and what is read is written as
// it was understood.
func FuzzRecords(f *testing.F) {
	for _, s := range someStates() {
		f.Add(s.appendTo(nil))
	}
	p := page{}
	p.add(Line{Message: "x", Time: time.Unix(1, 2)})
	f.Add(p.appendTo(nil))
	f.Fuzz(func(t *testing.T, value []byte) {
		var s, again State
		if s.parse(value) == nil && (again.parse(s.appendTo(nil)) != nil || !reflect.DeepEqual(s, again)) {
			t.Errorf("%+v came back as %+v", s, again)
		}
		var p page
		if p.parse(value) == nil {
			_ = p.each(func(l Line) {
				if len(l.Message) > 64*len(value) {
					t.Errorf("a message of %d bytes in %d", len(l.Message), len(value))
				}
			})
		}
	})
}
