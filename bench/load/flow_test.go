package load_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/bench/load"
)

// flowOf has publishers p0, p1, … with two topics each, and readers of everything.
func flowOf(t load.Target, publishers, readers int) load.Flow {
	f := load.Flow{Target: t, Payload: 64, Window: 5, WarmMessages: 10, Span: time.Millisecond}
	for i := range publishers {
		f.Publishers = append(f.Publishers, load.Publisher{
			Identity: load.Identity{ClientID: fmt.Sprintf("p%d", i)},
			Topics:   []string{fmt.Sprintf("from/%d/a", i), fmt.Sprintf("from/%d/b", i)},
		})
	}
	for i := range readers {
		f.Readers = append(f.Readers, load.Reader{
			Identity: load.Identity{ClientID: fmt.Sprintf("r%d", i)}, Filters: []string{"from/+/+"},
		})
	}
	return f
}

// inPairs makes reader i one of publisher i alone.
func inPairs(f load.Flow) load.Flow {
	for i := range f.Readers {
		f.Readers[i].Filters, f.Readers[i].From = []string{fmt.Sprintf("from/%d/+", i)}, []int{i}
	}
	return f
}

// Whatever the shape, everything that was sent is accounted for.
func TestFlowDeliversEverything(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		shape  func(load.Target) load.Flow
		copies int64 // deliveries of each message
	}{
		{"many to one", func(to load.Target) load.Flow { return flowOf(to, 8, 1) }, 1},
		{"one to many", func(to load.Target) load.Flow { return flowOf(to, 1, 8) }, 8},
		{"pairs", func(to load.Target) load.Flow { return inPairs(flowOf(to, 4, 4)) }, 1},
		{"one at a time", func(to load.Target) load.Flow { f := flowOf(to, 8, 1); f.Window = 1; return f }, 1},
		{"open arrival", func(to load.Target) load.Flow { f := flowOf(to, 4, 1); f.Window, f.Rate = 0, 20_000; return f }, 1},
	}
	for _, test := range tests {
		for qos := range byte(3) {
			t.Run(fmt.Sprintf("%s, QoS %d", test.name, qos), func(t *testing.T) {
				t.Parallel()
				f := test.shape(startFake(t).target())
				f.QoS = qos
				out, err := f.Run(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if least := 10 * int64(len(f.Publishers)) * test.copies; out.Due < least {
					t.Errorf("%d deliveries due, want at least %d", out.Due, least)
				}
				if out.Delivered != out.Due || out.Duplicates != 0 {
					t.Errorf("%d of %d delivered, %d twice", out.Delivered, out.Due, out.Duplicates)
				}
				if out.Counted > out.Delivered || out.Latency.Count() > out.Delivered {
					t.Errorf("counted %d and took the time of %d, of %d", out.Counted, out.Latency.Count(), out.Delivered)
				}
			})
		}
	}
}

// A broker that loses or repeats messages is found out.
func TestFlowSeesFaults(t *testing.T) {
	t.Parallel()
	t.Run("lost", func(t *testing.T) {
		t.Parallel()
		b := startFake(t)
		b.fault = func(n int) int { // the third is lost, then all goes well
			if n == 3 {
				return 0
			}
			return 1
		}
		out, err := flowOf(b.target(), 2, 1).Run(t.Context())
		if err != nil || out.Delivered != out.Due-1 || out.Duplicates != 0 {
			t.Errorf("%d of %d delivered, %d twice, %v; want one less", out.Delivered, out.Due, out.Duplicates, err)
		}
	})
	t.Run("twice", func(t *testing.T) {
		t.Parallel()
		b := startFake(t)
		b.fault = func(n int) int {
			if n == 3 {
				return 2
			}
			return 1
		}
		f := flowOf(b.target(), 2, 1)
		f.QoS = 1
		out, err := f.Run(t.Context())
		if err != nil || out.Delivered != out.Due || out.Duplicates != 1 {
			t.Errorf("%d of %d delivered, %d twice, %v; want one twice", out.Delivered, out.Due, out.Duplicates, err)
		}
	})
}

func TestFlowProbesTheSpan(t *testing.T) {
	t.Parallel()
	f := flowOf(startFake(t).target(), 1, 1)
	calls := 0
	f.Probe = func() (time.Duration, error) {
		calls++
		return time.Duration(calls*calls) * time.Second, nil
	}
	out, err := f.Run(t.Context())
	if err != nil || calls != 2 || out.Used != 3*time.Second {
		t.Errorf("%d calls, used %s, %v", calls, out.Used, err)
	}
}

func TestFlowFails(t *testing.T) {
	t.Parallel()
	refused := errors.New("no probe")
	tests := map[string]func(*load.Flow){
		"neither window nor rate": func(f *load.Flow) { f.Window = 0 },
		"both":                    func(f *load.Flow) { f.Rate = 1 },
		"nobody listens":          func(f *load.Flow) { f.Target.Address = "127.0.0.1:1" },
		"an unknown publisher":    func(f *load.Flow) { f.Readers[0].From = []int{7} },
		"no topic":                func(f *load.Flow) { f.Publishers[0].Topics = nil },
		"the probe":               func(f *load.Flow) { f.Probe = func() (time.Duration, error) { return 0, refused } },
		"what runs beside":        func(f *load.Flow) { f.Span = time.Minute; f.Beside = func(context.Context) error { return refused } },
	}
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := flowOf(startFake(t).target(), 1, 1)
			spoil(&f)
			if _, err := f.Run(t.Context()); err == nil {
				t.Error("no error")
			}
		})
	}
}

// What waits for an absent reader is counted after it is back, and what a
// broker forgot is missing.
func TestAbsence(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		between func(*fakeBroker)
		want    int64
	}{
		"kept":      {func(*fakeBroker) {}, 3 * 12},
		"forgotten": {(*fakeBroker).forget, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := startFake(t)
			f := inPairs(flowOf(b.target(), 3, 3))
			f.QoS, f.Keep = 1, true
			left, err := f.Leave(t.Context(), 12)
			if err != nil || left.Acknowledged != 3*12 {
				t.Fatal(left, err)
			}
			test.between(b)
			kept, err := left.Collect(t.Context(), b.target())
			if err != nil || kept != test.want {
				t.Errorf("%d kept, want %d, %v", kept, test.want, err)
			}
		})
	}
}

func TestStormConnectsEverybodyTwice(t *testing.T) {
	t.Parallel()
	b := startFake(t)
	s := load.Storm{Target: b.target(), Workers: 3, Span: time.Millisecond}
	for i := range 20 {
		s.Identities = append(s.Identities, load.Identity{ClientID: fmt.Sprintf("c%d", i)})
	}
	out, err := s.Run(t.Context())
	if err != nil || out.Delivered < 40 {
		t.Errorf("%d connects, %v", out.Delivered, err)
	}
	b.guarded.Lock()
	defer b.guarded.Unlock()
	if int64(b.guarded.connects) != out.Delivered || out.Latency.Count() != out.Delivered {
		t.Errorf("the broker saw %d connects, the clients %d, the clock %d", b.guarded.connects, out.Delivered, out.Latency.Count())
	}
}

func TestCrowdAndChurn(t *testing.T) {
	t.Parallel()
	b := startFake(t)
	clients, err := load.Hold(t.Context(), b.target(), []load.Identity{{ClientID: "a"}, {ClientID: "b"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := load.Release(clients); err != nil {
			t.Error(err)
		}
	})
	err = load.Crowd(t.Context(), clients[:1], 250, func(i, k int) string { return fmt.Sprintf("x/%d/%d", i, k) })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var asked atomic.Int64
	n, err := load.Churn(ctx, clients[1], 10_000, func(n int) string {
		if n == 4 {
			cancel()
		}
		asked.Add(1)
		return fmt.Sprintf("y/%d", n)
	})
	if err != nil || n < 5 || asked.Load() != int64(2*n) {
		t.Errorf("%d times, %d filters, %v", n, asked.Load(), err)
	}
	b.guarded.Lock()
	defer b.guarded.Unlock()
	if got := len(b.guarded.sessions["a"].filters); got != 250 {
		t.Errorf("%d subscriptions of the crowd, want 250", got)
	}
	if got := len(b.guarded.sessions["b"].filters); got != 0 {
		t.Errorf("%d subscriptions left of those that come and go", got)
	}
}

func TestIdentityHidesItsPassword(t *testing.T) {
	t.Parallel()
	id := load.Identity{ClientID: "c", Username: "u", Password: "secret"}
	for _, form := range []string{"%v", "%+v", "%#v", "%s"} {
		if got := fmt.Sprintf(form, id); got != "c" {
			t.Errorf("%s prints %q", form, got)
		}
	}
}
