package ledger_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/broker/ledger"
	"github.com/cordon-mq/cordon/broker/store/memstore"
	"github.com/cordon-mq/cordon/policy"
)

var (
	noon = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	d1   = ledger.Device{Type: "sensor", ID: "d1", Incarnation: 7}
	next = ledger.Device{Type: "sensor", ID: "d1", Incarnation: 8} // a namesake
	d12  = ledger.Device{Type: "sensor", ID: "d12", Incarnation: 7}
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T) (l *ledger.Ledger, acme, rival ledger.Tenant) {
	t.Helper()
	st := memstore.New()
	t.Cleanup(func() { _ = st.Close() })
	tenant := func(name string) ledger.Tenant {
		org, err := policy.ParseOrgID(name)
		must(t, err)
		return ledger.Tenant{Org: org, Incarnation: 3}
	}
	return ledger.On(st), tenant("acme01"), tenant("rival1")
}

func TestLogIsARing(t *testing.T) {
	t.Parallel()
	l, acme, rival := open(t)
	b := l.Batch()
	for i := range ledger.LogLines + 10 {
		must(t, b.Log(acme, d1, ledger.Line{Message: fmt.Sprint(i), Time: noon.Add(time.Duration(i) * time.Minute)}))
		if i%7 == 0 {
			must(t, b.Commit(t.Context()))
		}
	}
	must(t, b.Commit(t.Context()))
	lines, err := l.Lines(acme, d1, noon)
	if err != nil || len(lines) != ledger.LogLines || lines[0].Message != fmt.Sprint(ledger.LogLines+9) || lines[len(lines)-1].Message != "10" {
		t.Errorf("%d lines: %v, %v", len(lines), lines, err)
	}
	if lines, err := l.Lines(acme, d1, noon.Add((ledger.LogLines+8)*time.Minute)); err != nil || len(lines) != 2 {
		t.Errorf("the newest lines are %v, %v", lines, err)
	}
	for _, other := range []struct {
		t ledger.Tenant
		d ledger.Device
	}{{acme, next}, {acme, d12}, {rival, d1}} {
		if lines, err := l.Lines(other.t, other.d, time.Time{}); err != nil || len(lines) != 0 {
			t.Errorf("%v has lines of another one: %v, %v", other, lines, err)
		}
	}
}

func TestLastEventsMakeRoom(t *testing.T) {
	t.Parallel()
	l, acme, _ := open(t)
	b := l.Batch()
	for i, name := range []string{"a", "b", "c", "d", "e", "a", "f", "g"} {
		must(t, b.PutEvent(acme, d1, &ledger.Event{Name: name, Format: "json", Payload: []byte{byte(i)}, Time: noon.Add(time.Duration(i) * time.Minute)}))
	}
	must(t, b.Commit(t.Context()))
	var names []string
	events, err := l.Events(acme, d1, time.Time{})
	must(t, err)
	for _, e := range events {
		names = append(names, e.Name)
	}
	if want := []string{"a", "d", "e", "f", "g"}; !slices.Equal(names, want) {
		t.Errorf("kept %v, want %v", names, want)
	}
	if e, ok, err := l.Event(acme, d1, "a", noon); err != nil || !ok || e.Payload[0] != 5 {
		t.Errorf("the last a is %v, %v, %v", e, ok, err)
	}
	if _, ok, err := l.Event(acme, d1, "a", noon.Add(time.Hour)); ok || err != nil {
		t.Errorf("an event that is too old is found, %v", err)
	}
	must(t, b.ForgetEvents(acme, noon.Add(6*time.Minute)))
	must(t, b.Commit(t.Context()))
	if events, err := l.Events(acme, d1, time.Time{}); err != nil || len(events) != 2 {
		t.Errorf("left are %v, %v", events, err)
	}
}

func TestForget(t *testing.T) {
	t.Parallel()
	l, acme, _ := open(t)
	b := l.Batch()
	for _, d := range []ledger.Device{d1, next, d12} {
		must(t, b.Log(acme, d, ledger.Line{Message: "x", Time: noon}))
		must(t, b.PutEvent(acme, d, &ledger.Event{Name: "e", Time: noon}))
		must(t, l.AddDiagnostic(t.Context(), acme, d, ledger.ErrorCodes, ledger.Diagnostic{ID: "i", Code: 1, Time: noon}))
	}
	must(t, b.Commit(t.Context()))
	must(t, b.Forget(acme, d1))
	must(t, b.Commit(t.Context()))
	for d, want := range map[ledger.Device]int{d1: 0, next: 3, d12: 3} {
		lines, err := l.Lines(acme, d, time.Time{})
		must(t, err)
		events, err := l.Events(acme, d, time.Time{})
		must(t, err)
		codes, err := l.Diagnostics(acme, d, ledger.ErrorCodes)
		must(t, err)
		if got := len(lines) + len(events) + len(codes); got != want {
			t.Errorf("%v has %d records, want %d", d, got, want)
		}
	}
}

func TestDiagnosticsMakeRoom(t *testing.T) {
	t.Parallel()
	l, acme, _ := open(t)
	for i := range ledger.MaxDiagnostics + 3 {
		must(t, l.AddDiagnostic(t.Context(), acme, d1, ledger.ErrorCodes, ledger.Diagnostic{ID: fmt.Sprintf("%03d", 999-i), Code: int64(i), Time: noon}))
	}
	all, err := l.Diagnostics(acme, d1, ledger.ErrorCodes)
	if err != nil || len(all) != ledger.MaxDiagnostics || all[0].Code != 3 || all[len(all)-1].Code != ledger.MaxDiagnostics+2 {
		t.Errorf("%d codes: %v, %v", len(all), all, err)
	}
	if log, err := l.Diagnostics(acme, d1, ledger.DiagnosticLog); err != nil || len(log) != 0 {
		t.Errorf("the log has error codes: %v, %v", log, err)
	}
	ok, err := l.DropDiagnostic(t.Context(), acme, d1, ledger.ErrorCodes, all[0].ID)
	if !ok || err != nil {
		t.Errorf("not dropped: %v", err)
	}
	if ok, err := l.DropDiagnostic(t.Context(), acme, d12, ledger.ErrorCodes, all[1].ID); ok || err != nil {
		t.Errorf("dropped by another device: %v", err)
	}
	must(t, l.ClearDiagnostics(t.Context(), acme, d1, ledger.ErrorCodes))
	if all, err := l.Diagnostics(acme, d1, ledger.ErrorCodes); err != nil || len(all) != 0 {
		t.Errorf("left are %v, %v", all, err)
	}
}

func TestTrafficAddsUp(t *testing.T) {
	t.Parallel()
	l, acme, rival := open(t)
	b := l.Batch()
	for _, at := range []time.Time{noon, noon, noon.AddDate(0, 0, 1), noon.AddDate(0, 1, 0)} {
		must(t, b.AddTraffic(acme, at, 10))
	}
	must(t, b.Commit(t.Context()))
	days, err := l.Traffic(acme, noon, noon.AddDate(0, 0, 1))
	if want := []ledger.Traffic{{"2026-01-31", 20}, {"2026-02-01", 10}}; err != nil || !slices.Equal(days, want) {
		t.Errorf("days = %v, %v; want %v", days, err, want)
	}
	if days, err := l.Traffic(rival, time.Time{}, noon); err != nil || len(days) != 0 {
		t.Errorf("another organisation has %v, %v", days, err)
	}
}

func TestStates(t *testing.T) {
	t.Parallel()
	l, acme, rival := open(t)
	b := l.Batch()
	for _, id := range []string{"b", "aa", "a"} {
		must(t, b.PutState(acme, &ledger.State{ClientID: id, Connected: true, ConnectTime: noon}))
	}
	if s, ok, err := b.State(acme, "a"); err != nil || !ok || !s.ConnectTime.Equal(noon) {
		t.Errorf("what is about to be written is not seen: %v, %v", s, err)
	}
	must(t, b.Commit(t.Context()))
	var ids []string
	must(t, l.States(acme, "a", func(s *ledger.State) bool { ids = append(ids, s.ClientID); return true }))
	if want := []string{"b", "aa"}; !slices.Equal(ids, want) {
		t.Errorf("after a come %v, want %v", ids, want)
	}
	must(t, l.States(rival, "", func(s *ledger.State) bool { t.Errorf("another organisation has %v", s); return true }))
	b.DropState(acme, "a")
	must(t, b.Commit(t.Context()))
	if _, ok, err := l.State(acme, "a"); ok || err != nil {
		t.Errorf("a is still there, %v", err)
	}
}

func TestNoting(t *testing.T) {
	t.Parallel()
	l, acme, rival := open(t)
	if n, err := l.Noting(acme); err != nil || n != ledger.DefaultNoting() {
		t.Errorf("noting = %v, %v", n, err)
	}
	want := ledger.Noting{LastEvents: true, TTLDays: 45}
	must(t, l.SetNoting(t.Context(), acme, want))
	if n, err := l.Noting(acme); err != nil || n != want {
		t.Errorf("noting = %v, %v", n, err)
	}
	if n, err := l.Noting(rival); err != nil || n != ledger.DefaultNoting() {
		t.Errorf("another organisation's noting = %v, %v", n, err)
	}
}
