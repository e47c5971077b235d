package wasm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/plugins"
)

// fake is a clock that tests move.
type fake struct{ nanoseconds atomic.Int64 }

func newFake() *fake {
	f := &fake{}
	f.nanoseconds.Store(time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC).UnixNano())
	return f
}

func (f *fake) now() time.Time          { return time.Unix(0, f.nanoseconds.Load()) }
func (f *fake) advance(d time.Duration) { f.nanoseconds.Add(int64(d)) }

// clocked is one with a clock of the test's.
func clocked(t *testing.T, guest, settings string, l Limits) (*plugin, plugins.Verifier, *fake, *lines) {
	t.Helper()
	clock, log, dir := newFake(), &lines{}, t.TempDir()
	lay(t, dir, "acme01/it", guest, settings)
	h, err := newHost(Options{Dir: dir, Limits: l, Log: log.logger()})
	if err != nil {
		t.Fatal(err)
	}
	h.now = clock.now
	if err := h.scan(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	p := h.table.Load().plugins[place{"acme01", "it"}]
	if p == nil {
		t.Fatalf("not loaded:\n%s", log)
	}
	return p, find(t, h, "it", ""), clock, log
}

func (p *pool) idleOnes() []*instance {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]*instance(nil), p.mu.idle...)
}

// calls is how often the idle instances were asked.
func (p *pool) calls() (n int) {
	for _, i := range p.idleOnes() {
		n += i.calls
	}
	return n
}

func TestGoodAnswersAreRepeatedAsLongAsTheGuestSays(t *testing.T) {
	t.Parallel()
	p, v, clock, _ := clocked(t, "token_answers", "", patient())
	ask := func(credential *plugins.Credential, want int) {
		t.Helper()
		mustVerify(t, v, credential)
		if n := p.calls(); n != want {
			t.Errorf("the guest was asked %d times, want %d", n, want)
		}
	}
	minute := token(`{"ok":true,"subject":{"kind":"user","id":"u"},"cache_ttl_ms":60000}`)
	ask(minute, 1)
	ask(minute, 1)
	clock.advance(59 * time.Second)
	ask(minute, 1)
	other := *minute
	other.Client.ID = "another"
	ask(&other, 2) // it is another request
	clock.advance(2 * time.Second)
	ask(minute, 3)
	never := token(`{"ok":true,"subject":{"kind":"user","id":"u"}}`)
	ask(never, 4)
	ask(never, 5)
	long := token(`{"ok":true,"subject":{"kind":"user","id":"u"},"cache_ttl_ms":9007199254740991}`)
	ask(long, 6)
	clock.advance(p.limits.RememberGood)
	ask(long, 7)
	ends := token(fmt.Sprintf(`{"ok":true,"subject":{"kind":"user","id":"u"},"cache_ttl_ms":60000,"expires_at_ms":%d}`,
		clock.now().Add(10*time.Second).UnixMilli()))
	ask(ends, 8)
	ask(ends, 8)
	clock.advance(11 * time.Second)
	if _, err := v.Verify(t.Context(), ends); plugins.CauseOf(err) != "credential_expired" {
		t.Errorf("after its end: %v", err)
	}
}

func TestBadAnswersAreRepeatedForAboutASecond(t *testing.T) {
	t.Parallel()
	p, v, clock, _ := clocked(t, "token_answers", "", patient())
	for range 5 {
		if _, err := v.Verify(t.Context(), token(`{"ok":false}`)); !errors.Is(err, plugins.ErrBad) {
			t.Fatal(err)
		}
	}
	if n := p.calls(); n != 1 {
		t.Errorf("asked %d times for one bad token", n)
	}
	clock.advance(1300 * time.Millisecond)
	_, _ = v.Verify(t.Context(), token(`{"ok":false}`))
	if n := p.calls(); n != 2 {
		t.Errorf("asked %d times after more than a second", n)
	}
}

// What another version said, or this one with other settings, is not repeated.
func TestAnswersEndWithTheVersion(t *testing.T) {
	t.Parallel()
	h, v, _ := one(t, "token_answers", "", patient())
	minute := token(`{"ok":true,"subject":{"kind":"user","id":"u"},"cache_ttl_ms":60000}`)
	for _, next := range []struct{ guest, settings string }{
		{"token_answers", ""}, {"token_answers", "settings: {n: 1}"}, {"trap", "settings: {n: 1}"},
	} {
		lay(t, h.dir, "acme01/it", next.guest, next.settings)
		if err := h.scan(t.Context()); err != nil {
			t.Fatal(err)
		}
		if next.guest == "trap" {
			mustBeUnavailable(t, v, minute)
			continue
		}
		mustVerify(t, v, minute)
		mustVerify(t, v, minute)
		if n := h.table.Load().plugins[place{"acme01", "it"}].calls(); n != 1 {
			t.Errorf("%s, %q: asked %d times, want 1", next.guest, next.settings, n)
		}
	}
}

// Clients that were refused together do not come back together.
func TestJitter(t *testing.T) {
	t.Parallel()
	seen := map[time.Duration]bool{}
	for range 100 {
		d := jitter(time.Second)
		seen[d] = true
		if d < 750*time.Millisecond || d > 1250*time.Millisecond {
			t.Errorf("a second became %v", d)
		}
	}
	if len(seen) < 50 {
		t.Errorf("100 times, %d different", len(seen))
	}
}

func TestWhatIsRememberedIsBounded(t *testing.T) {
	t.Parallel()
	l := patient()
	l.Remembered = 16
	p, v, _, _ := clocked(t, "token_answers", "", l)
	for i := range 100 {
		_, _ = v.Verify(t.Context(), token(fmt.Sprintf(`{"reason":"%d"}`, i)))
		p.answers.mu.Lock()
		n := len(p.answers.mu.all)
		p.answers.mu.Unlock()
		if n > 16 || n == 0 {
			t.Fatalf("%d remembered", n)
		}
	}
}

func TestInstancesAreRecycled(t *testing.T) {
	t.Parallel()
	t.Run("after some calls", func(t *testing.T) {
		t.Parallel()
		l := patient()
		l.CallsPerInstance = 3
		p, v, _, _ := clocked(t, "token_answers", "", l)
		first := p.idleOnes()[0]
		for range 3 {
			mustVerify(t, v, token(okAnswer))
		}
		if !first.module.IsClosed() || len(p.idleOnes()) != 0 {
			t.Error("it is still there after three calls")
		}
		mustVerify(t, v, token(okAnswer))
	})
	t.Run("past a mark of memory", func(t *testing.T) {
		t.Parallel()
		l := patient()
		l.RecycleBytes = 10 * pageBytes
		p, v, _, _ := clocked(t, "leaking_memory", "", l)
		first := p.idleOnes()[0]
		for i := range 3 {
			_, _ = v.Verify(t.Context(), token(fmt.Sprint(i)))
		}
		if !first.module.IsClosed() {
			t.Error("it grew past the mark and is still there")
		}
	})
	for guest, says := range map[string]string{
		"trap": "x", "exits": "x", "endless_loop": "x", "answer_outside": "x", "answer_huge": "x", "answer_null": "x",
		"alloc_null": "x", "token_answers": `{"ok":`,
	} {
		t.Run("after an error/"+guest, func(t *testing.T) {
			t.Parallel()
			l := patient()
			if guest == "endless_loop" {
				l.Deadline = 20 * time.Millisecond
			}
			p, v, _, _ := clocked(t, guest, "", l)
			first := p.idleOnes()[0]
			mustBeUnavailable(t, v, token(says))
			if !first.module.IsClosed() || len(p.idleOnes()) != 0 || p.budget.used.Load() != 0 {
				t.Error("it failed and is still there")
			}
		})
	}
	t.Run("when nobody uses it", func(t *testing.T) {
		t.Parallel()
		p, v, clock, _ := clocked(t, "good", "", patient())
		mustVerify(t, v, token("x"))
		if p.closeIdle(clock.now().Add(-p.limits.IdleAfter)) != 0 {
			t.Error("closed too early")
		}
		clock.advance(2 * p.limits.IdleAfter)
		if p.closeIdle(clock.now().Add(-p.limits.IdleAfter)) != 1 || p.budget.used.Load() != 0 {
			t.Error("not closed")
		}
	})
}

// An instance that served one organisation serves no other.
func TestInstancesBelongToOneOrganisation(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	lay(t, dir, "_platform/it", "token_answers", "organisations: [acme01, demo01]")
	h := open(t, Options{Dir: dir, Limits: patient()})
	p := h.table.Load().plugins[place{folderPlatform, "it"}]
	for range 3 {
		mustVerify(t, find(t, h, "it", "acme01"), token(okAnswer))
		mustVerify(t, find(t, h, "it", "demo01"), token(okAnswer))
		mustVerify(t, find(t, h, "it", ""), token(`{"ok":true,"org":"acme01","subject":{"kind":"user","id":"u"}}`))
	}
	var who []string
	for _, i := range p.idleOnes() {
		who = append(who, fmt.Sprintf("%s:%d", i.org, i.calls))
	}
	if got := strings.Join(who, " "); got != "acme01:3 demo01:3" {
		t.Errorf("idle instances are %s", got)
	}
}

func TestQuarantine(t *testing.T) {
	t.Parallel()
	p, v, clock, log := clocked(t, "endless_loop", "", Limits{Deadline: 50 * time.Millisecond, Strikes: 3, StartDeadline: 10 * time.Second})
	ask := func() string {
		t.Helper()
		return mustBeUnavailable(t, v, token("x"))
	}
	for range 3 {
		ask()
	}
	if why := ask(); !strings.Contains(why, "quarantine") {
		t.Errorf("after three missed deadlines: %v", why)
	}
	clock.advance(11 * time.Second)
	if why := ask(); strings.Contains(why, "quarantine") {
		t.Errorf("after the quarantine: %v", why)
	}
	clock.advance(11 * time.Second)
	if !p.quarantine.is(clock.now()) {
		t.Error("the second quarantine is not longer")
	}
	if n := strings.Count(log.String(), "plugin quarantined"); n != 2 {
		t.Errorf("logged %d times", n)
	}
}

// Calls wait for a place, but not for ever, and one plugin's queue is its own.
func TestConcurrentCallsAreBounded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	lay(t, dir, "acme01/slow", "endless_loop", "")
	lay(t, dir, "acme01/it", "good", "")
	h := open(t, Options{Dir: dir, Limits: Limits{
		Instances: 1, TotalCalls: 2, Wait: 10 * time.Millisecond, Deadline: time.Second, StartDeadline: 10 * time.Second,
	}})
	slow := h.table.Load().plugins[place{"acme01", "slow"}]
	var calls sync.WaitGroup
	defer calls.Wait()
	calls.Go(func() { _, _ = find(t, h, "slow", "").Verify(context.Background(), token("x")) })
	until(t, &lines{}, func() bool { return len(slow.places) == 1 })
	if why := mustBeUnavailable(t, find(t, h, "slow", ""), token("x")); !strings.Contains(why, errBusy.Error()) {
		t.Errorf("a second call: %v", why)
	}
	mustVerify(t, find(t, h, "it", ""), token("x"))
	if n := len(h.calls); n != 1 {
		t.Errorf("%d places of all are taken", n)
	}
}

// The calls of all plugins are bounded together, too.
func TestConcurrentCallsOfAllAreBounded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	lay(t, dir, "acme01/slow", "endless_loop", "")
	lay(t, dir, "acme01/it", "good", "")
	h := open(t, Options{Dir: dir, Limits: Limits{TotalCalls: 1, Wait: 10 * time.Millisecond, Deadline: time.Second, StartDeadline: 10 * time.Second}})
	var calls sync.WaitGroup
	defer calls.Wait()
	calls.Go(func() { _, _ = find(t, h, "slow", "").Verify(context.Background(), token("x")) })
	until(t, &lines{}, func() bool { return len(h.calls) == 1 })
	if why := mustBeUnavailable(t, find(t, h, "it", ""), token("x")); !strings.Contains(why, errBusy.Error()) {
		t.Errorf("a call of another plugin: %v", why)
	}
}

// A plugin that is taken away answers whom it began to answer, and nobody else.
func TestRemovalDrains(t *testing.T) {
	t.Parallel()
	h, v, _ := one(t, "endless_loop", "", Limits{Deadline: time.Second, StartDeadline: 10 * time.Second})
	p, began := h.table.Load().plugins[place{"acme01", "it"}], make(chan string, 1)
	go func() {
		_, err := v.Verify(context.Background(), token("x"))
		began <- fmt.Sprint(err)
	}()
	until(t, &lines{}, func() bool { return len(p.places) == 1 })
	if err := os.Remove(filepath.Join(h.dir, "acme01", "it.wasm")); err != nil {
		t.Fatal(err)
	}
	if err := h.scan(t.Context()); err != nil {
		t.Fatal(err)
	}
	if why := mustBeUnavailable(t, v, token("y")); !strings.Contains(why, "no plugin is called") {
		t.Errorf("a new call: %v", why)
	}
	h.retiring.Wait()
	if len(p.places) > 0 {
		t.Error("the plugin was gone before its call")
	}
	if why := <-began; !strings.Contains(why, errDeadline.Error()) {
		t.Errorf("the call that ran: %v", why)
	}
}

// All instances together keep a budget: idle ones make room, and then nobody gets more.
func TestMemoryOfAllInstances(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, at := range []string{"acme01/a", "acme01/b", "demo01/c"} {
		lay(t, dir, at, "good", "")
	}
	l := patient()
	l.TotalMemoryBytes = 2 * pageBytes
	h := open(t, Options{Dir: dir, Limits: l})
	for range 3 {
		for _, name := range []string{"a", "b", "c"} {
			mustVerify(t, find(t, h, name, ""), token("x"))
		}
	}
	if used := h.budget.used.Load(); used > 2*pageBytes {
		t.Errorf("%d bytes in use", used)
	}
	if !h.budget.take(2 * pageBytes) {
		t.Fatal("idle instances did not make room")
	}
	fresh := token("y")
	if why := mustBeUnavailable(t, find(t, h, "a", ""), fresh); !strings.Contains(why, errMemory.Error()) {
		t.Error(why)
	}
	h.budget.give(2 * pageBytes)
	mustVerify(t, find(t, h, "a", ""), fresh)
}

// A guest that wants more than its limit hears no; nothing was set aside for it.
func TestGrowthIsBounded(t *testing.T) {
	t.Parallel()
	l := Limits{Deadline: 200 * time.Millisecond, MemoryBytes: 4 * pageBytes, StartDeadline: 10 * time.Second}
	dir := t.TempDir()
	lay(t, dir, "acme01/it", "growing_memory", "")
	h := open(t, Options{Dir: dir, Limits: l})
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = find(t, h, "it", "").Verify(context.Background(), token("x"))
	}()
	most := int64(0)
	for running := true; running; {
		most = max(most, h.budget.used.Load())
		select {
		case <-done:
			running = false
		default:
		}
	}
	if most > 4*pageBytes || most < 2*pageBytes {
		t.Errorf("it had up to %d bytes", most)
	}
}

// Versions come and go while everybody is verifying.
func TestReloadUnderLoad(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	lay(t, dir, "acme01/it", "good", "")
	h := open(t, Options{Dir: dir, Limits: patient()})
	ctx, cancel := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	for n := range 4 {
		clients.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				if _, err := find(t, h, "it", "").Verify(context.Background(), token(fmt.Sprint(n, i))); err != nil {
					t.Errorf("during a reload: %v", err)
					return
				}
			}
		})
	}
	for i := range 30 {
		lay(t, dir, "acme01/it", "good", fmt.Sprintf("settings: {n: %d}", i))
		if err := h.scan(t.Context()); err != nil {
			t.Error(err)
		}
	}
	cancel()
	clients.Wait()
}

func TestStatus(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	lay(t, dir, "acme01/a", "good", "")
	lay(t, dir, "acme01/b", "no_abi", "")
	lay(t, dir, "acme01/c", "trap", "")
	h := open(t, Options{Dir: dir, Limits: patient()})
	for range 3 {
		mustVerify(t, find(t, h, "a", ""), token("x"))
		mustBeUnavailable(t, find(t, h, "c", ""), token("x"))
	}
	s := h.Status()
	if len(s) != 3 || s[0].Counts != (Counts{Good: 1, Remembered: 2}) || s[0].Idle != 1 || s[0].MemoryBytes != pageBytes ||
		s[1].Refused == nil || s[2].Counts != (Counts{Failed: 3}) || h.MemoryBytes() != pageBytes {
		t.Errorf("%+v", s)
	}
}

// A start whose time is over before it begins is late, and nothing worse.
func TestAStartThatIsLateAlready(t *testing.T) {
	t.Parallel()
	p, _, _, _ := clocked(t, "features", "", patient())
	ctx := (&call{log: p.guestLog}).until(time.Now().Add(-time.Hour))
	if i, err := start(ctx, p.machine, p.module, p.budget, p.limits); err == nil {
		i.close() // it had nothing to do that needed a check
	}
	p.limits.StartDeadline = 1
	p.closeIdle(p.now().Add(time.Hour))
	if err := p.tryStart(); err != nil && !errors.Is(err, errDeadline) {
		t.Error(err)
	}
	p.closeIdle(p.now().Add(time.Hour))
	if used := p.budget.used.Load(); used != 0 {
		t.Errorf("%d bytes were not given back", used)
	}
}
