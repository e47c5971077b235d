package audit

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cordon-mq/cordon/policy"
)

func everything() Sample { return Sample{Publish: 1, Receive: 1} }

func denial(id string) policy.Decision {
	return policy.Decision{Cause: policy.CausePolicy, ID: id, Reason: "no"}
}

// What is denied is always recorded; what is allowed, as often as the sample says.
func TestDenialsAreNotSampled(t *testing.T) {
	t.Parallel()
	sink := &kept{}
	l := New(scripted{decide: func(r *policy.Request) *policy.Decision {
		if r.Topic.String() == "no" {
			return &policy.Decision{Cause: policy.CausePolicy, ID: "denied"}
		}
		return &policy.Decision{Allow: true, ID: "allowed"}
	}}, Options{Renderer: plain{}, Sinks: []Sink{sink}, Sample: Sample{Publish: -1}})
	defer closeLog(t, l)
	j := l.Judge(factsOf(t, "acme01"))
	for range 1000 {
		if !j.Decide(context.Background(), publishTo(t, "yes")).Allow {
			t.Fatal("denied")
		}
	}
	if j.Decide(context.Background(), publishTo(t, "no")).Allow || j.Generation() != 7 || !j.Decides(policy.ActionReceive) {
		t.Fatal("the log changed an answer")
	}
	j.Decide(context.Background(), &policy.Request{Action: policy.ActionConnect})
	flush(t, l)
	got := sink.all()
	if len(got) != 2 || got[0].DecisionID != "denied" || got[1].Custom.Action != "connect" || got[1].Custom.Weight != 1 {
		t.Errorf("recorded %d events: %+v", len(got), got)
	}
}

// Sums of weights estimate how many there were.
func TestWeightsEstimate(t *testing.T) {
	t.Parallel()
	sink := &kept{}
	l := New(always(policy.Decision{Allow: true, ID: "a"}), Options{Renderer: plain{}, Sinks: []Sink{sink}, Sample: Sample{Publish: 10}, Rate: 100_000})
	defer closeLog(t, l)
	j := l.Judge(factsOf(t, "acme01"))
	r := publishTo(t, "a")
	const asked = 20_000
	for range asked {
		j.Decide(context.Background(), r)
	}
	flush(t, l)
	sum := uint64(0)
	for _, ev := range sink.all() {
		sum += ev.Custom.Count * ev.Custom.Weight
	}
	if sum < asked*8/10 || sum > asked*12/10 { // five standard deviations are 11 %
		t.Errorf("weights add up to %d of %d", sum, asked)
	}
}

// The first of equal denials is recorded at once, the others as one when the second
// is over, or when the next one begins another second.
func TestEqualDenialsFold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sink := &kept{}
		l := New(always(denial("d1")), Options{Renderer: plain{}, Sinks: []Sink{sink}})
		defer closeLog(t, l)
		j := l.Judge(factsOf(t, "acme01"))
		ask := func(n int) {
			for range n {
				j.Decide(context.Background(), publishTo(t, "a"))
			}
		}
		counts := func() (all []uint64) {
			for _, ev := range sink.all() {
				all = append(all, ev.Custom.Count)
			}
			return all
		}
		ask(100)
		time.Sleep(100 * time.Millisecond)
		if got := fmt.Sprint(counts()); got != "[1]" {
			t.Errorf("at once: counts %v", got)
		}
		time.Sleep(2 * time.Second)
		if got := fmt.Sprint(counts()); got != "[1 99]" {
			t.Errorf("after the second: counts %v", got)
		}
		ask(1)
		time.Sleep(3 * time.Second)
		if got := fmt.Sprint(counts()); got != "[1 99 1]" {
			t.Errorf("alone: counts %v", got)
		}
		ask(5)
		flush(t, l)
		if got := fmt.Sprint(counts()); got != "[1 99 1 1 4]" {
			t.Errorf("flushed: counts %v", got)
		}
		if n := l.Stats().Folded; n != 99+4 {
			t.Errorf("folded %d", n)
		}
	})
}

// Another holder, or another answer, is no repetition.
func TestDifferentDenialsDoNotFold(t *testing.T) {
	t.Parallel()
	sink := &kept{}
	l := New(scripted{decide: func(r *policy.Request) *policy.Decision {
		d := denial(r.Topic.String())
		return &d
	}}, Options{Renderer: plain{}, Sinks: []Sink{sink}})
	defer closeLog(t, l)
	a, b := l.Judge(factsOf(t, "acme01")), l.Judge(factsOf(t, "acme01"))
	for range 3 {
		a.Decide(context.Background(), publishTo(t, "x"))
		a.Decide(context.Background(), publishTo(t, "y"))
		b.Decide(context.Background(), publishTo(t, "x"))
	}
	flush(t, l)
	sum := map[uint64]int{}
	for _, ev := range sink.all() {
		sum[ev.Custom.Count]++
	}
	if sum[1] != 3 || sum[2] != 3 {
		t.Errorf("counts %v", sum)
	}
}

// Over a quota each denial has an ID of its own, and they are one record.
func TestQuotaDenialsFold(t *testing.T) {
	t.Parallel()
	sink := &kept{}
	n := 0
	l := New(scripted{decide: func(*policy.Request) *policy.Decision {
		n++
		return &policy.Decision{Cause: policy.CauseQuota, ID: fmt.Sprint(n)}
	}}, Options{Renderer: plain{}, Sinks: []Sink{sink}})
	defer closeLog(t, l)
	j := l.Judge(factsOf(t, "acme01"))
	for range 100 {
		j.Decide(context.Background(), publishTo(t, "x"))
	}
	flush(t, l)
	if got := sink.all(); len(got) != 2 || got[1].Custom.Count != 99 {
		t.Errorf("recorded %d events", len(got))
	}
}

// A failed choice of verifiers is recorded, and cannot fill the log either.
func TestVerifiersThatFail(t *testing.T) {
	t.Parallel()
	sink := &kept{}
	failed := &policy.Error{Kind: policy.KindForbidden, Public: "not authorised", Err: errors.New("policy_error: connect.rego:3:1: eval_conflict_error")}
	l := New(scripted{failed: failed}, Options{Renderer: plain{}, Sinks: []Sink{sink}})
	defer closeLog(t, l)
	for i := range 50 {
		if _, err := l.Verifiers(context.Background(), &policy.Client{ID: policy.ClientID(fmt.Sprint("c", i))}, nil); !errors.Is(err, failed) {
			t.Fatal(err)
		}
	}
	flush(t, l)
	got := sink.all()
	if len(got) != 2 || got[1].Custom.Count != 49 {
		t.Fatalf("recorded %d events", len(got))
	}
	if c := got[0].Custom; c.Action != ActionVerifiers || c.Cause != policy.CauseError || c.Detail != failed.Err.Error() || len(got[0].DecisionID) != 16 {
		t.Errorf("recorded %+v", got[0])
	}
}

// A request may be used again as soon as Decide has returned.
func TestEntriesAreCopies(t *testing.T) {
	t.Parallel()
	seconds := uint32(5)
	r := publishTo(t, "a/b")
	r.Properties = &policy.Properties{MessageExpiry: &seconds, User: []policy.UserProperty{{Key: "k", Value: "v"}}}
	r.Target = map[string]string{"a": "b"}
	r.Device = &policy.Device{Groups: []string{"hall"}}
	r.Memo = &policy.Memo{}
	c := copyOf(r)
	r.Levels[0], r.Properties.User[0].Key, r.Target["a"], r.Device.Groups[0], seconds = "x", "x", "x", "x", 9
	if c.Levels[0] != "a" || c.Properties.User[0].Key != "k" || c.Target["a"] != "b" || c.Device.Groups[0] != "hall" || *c.Properties.MessageExpiry != 5 || c.Memo != nil {
		t.Errorf("the copy changed: %+v", c)
	}
}

// A sink that hangs holds up neither decisions nor other sinks.
func TestASlowSinkHoldsUpNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		slow, fast := &kept{gate: make(chan struct{})}, &kept{}
		l := New(scripted{decide: func(r *policy.Request) *policy.Decision {
			d := denial(fmt.Sprint(r.Size))
			return &d
		}}, Options{Renderer: plain{}, Sinks: []Sink{slow, fast}, Rate: 1_000_000})
		const asked = 3 * queueLength
		for i := range asked {
			r := publishTo(t, "a")
			r.Size = i
			l.Judge(factsOf(t, "acme01")).Decide(context.Background(), r)
			if i%512 == 0 {
				time.Sleep(2 * linger) // it is the sink that is to be slow here
			}
		}
		synctest.Wait()
		s := l.Stats()
		if s.Recorded != asked || s.Dropped != 0 || s.Sinks[0].Dropped == 0 {
			t.Errorf("stats %+v", s)
		}
		close(slow.gate)
		closeLog(t, l)
		s = l.Stats()
		if n := len(fast.all()); n != asked || s.Sinks[0].Written+s.Sinks[0].Dropped != asked {
			t.Errorf("fast has %d; stats %+v", n, s)
		}
		if !slow.state.closed || !fast.state.closed {
			t.Error("a sink was not closed")
		}
	})
}

// An end that does not come within the time of Close is given up.
func TestCloseGivesUp(t *testing.T) {
	t.Parallel()
	stuck := &kept{gate: make(chan struct{})}
	l := New(always(denial("d")), Options{Renderer: plain{}, Sinks: []Sink{stuck}})
	l.Judge(factsOf(t, "acme01")).Decide(context.Background(), publishTo(t, "a"))
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if err := l.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("close: %v", err)
	}
	if s := l.Stats().Sinks[0]; s.Failed != 1 || s.Written != 0 {
		t.Errorf("stats %+v", s)
	}
	if d := l.Judge(factsOf(t, "acme01")).Decide(context.Background(), publishTo(t, "a")); d.Allow {
		t.Error("a closed log changes answers")
	}
}

// A full ring drops and counts.
func TestAFullRingDrops(t *testing.T) {
	t.Parallel()
	hold := make(chan struct{})
	l := New(scripted{decide: func(r *policy.Request) *policy.Decision {
		d := denial(fmt.Sprint(r.Size))
		return &d
	}}, Options{Renderer: held{hold}, Sinks: []Sink{&kept{}}, Ring: 4})
	j := l.Judge(factsOf(t, "acme01"))
	for i := range 20 {
		r := publishTo(t, "a")
		r.Size = i
		j.Decide(context.Background(), r)
	}
	if n := l.Stats().Dropped; n < 20-4-1 {
		t.Errorf("dropped %d of 20", n)
	}
	close(hold)
	closeLog(t, l)
}

type held struct{ gate chan struct{} }

func (h held) Render(ctx context.Context, e *Entry) (*Event, error) {
	<-h.gate
	return plain{}.Render(ctx, e)
}

// An organisation over its rate loses its own records only, and permits first.
func TestRatesArePerOrganisation(t *testing.T) {
	t.Parallel()
	r := newRates(10) // burst 40
	now := time.Unix(1000, 0)
	entry := func(org string, allow bool) *Entry {
		return &Entry{Facts: factsOf(t, org), Decision: &policy.Decision{Allow: allow}}
	}
	took := func(org string, allow bool, n int) (got int) {
		for range n {
			if r.take(entry(org, allow), now) {
				got++
			}
		}
		return got
	}
	if permits, denials := took("acme01", true, 100), took("acme01", false, 100); permits != 21 || denials != 19 {
		t.Errorf("acme01: %d permits, %d denials", permits, denials)
	}
	if n := took("other1", false, 100); n != 40 {
		t.Errorf("other1: %d", n)
	}
	now = now.Add(time.Second)
	if n := took("acme01", false, 100); n != 10 {
		t.Errorf("a second later: %d", n)
	}
}

// What a rule drops and what cannot be rendered is counted apart.
func TestDroppedByARule(t *testing.T) {
	t.Parallel()
	sink := &kept{}
	l := New(scripted{decide: func(r *policy.Request) *policy.Decision {
		d := denial(r.Topic.String())
		return &d
	}}, Options{Renderer: plain{}, Sinks: []Sink{sink}})
	defer closeLog(t, l)
	j := l.Judge(factsOf(t, "acme01"))
	for _, name := range []string{"drop", "broken", "a"} {
		j.Decide(context.Background(), publishTo(t, name))
	}
	flush(t, l)
	if s := l.Stats(); s.RuledOut != 1 || s.Failed != 1 || s.Recorded != 1 || len(sink.all()) != 1 {
		t.Errorf("stats %+v", s)
	}
}

// A listener sees its own tenant, and a slow one loses events.
func TestSubscribe(t *testing.T) {
	t.Parallel()
	l := New(scripted{decide: func(r *policy.Request) *policy.Decision {
		d := denial(fmt.Sprint(r.Size))
		return &d
	}}, Options{Renderer: plain{}})
	defer closeLog(t, l)
	ours, theirs := factsOf(t, "acme01"), factsOf(t, "other1")
	j := l.Judge(ours)
	j.Decide(context.Background(), publishTo(t, "before")) // nobody listens, nothing is rendered
	if s := l.Stats(); s.Recorded+s.Dropped != 0 {
		t.Errorf("stats %+v", s)
	}
	no := false
	mine := l.Subscribe(&Tenant{ours.Principal.Org, 1}, Filter{Action: policy.ActionPublish, Allow: &no})
	namesake := l.Subscribe(&Tenant{ours.Principal.Org, 2}, Filter{})
	all := l.Subscribe(nil, Filter{})
	l.Judge(theirs).Decide(context.Background(), publishTo(t, "a"))
	j.Decide(context.Background(), publishTo(t, "a"))
	flush(t, l)
	if len(mine.Events()) != 1 || len(namesake.Events()) != 0 || len(all.Events()) != 2 {
		t.Errorf("%d, %d and %d events", len(mine.Events()), len(namesake.Events()), len(all.Events()))
	}
	mine.Close()
	mine.Close()
	<-mine.Events()
	if _, open := <-mine.Events(); open {
		t.Error("a closed subscription goes on")
	}
	for i := range 500 {
		r := publishTo(t, "a")
		r.Size = 10 + i
		l.Judge(ours).Decide(context.Background(), r)
	}
	flush(t, l)
	if all.Dropped() == 0 || len(all.Events()) != cap(all.Events()) {
		t.Errorf("dropped %d, waiting %d", all.Dropped(), len(all.Events()))
	}
	namesake.Close()
	all.Close()
}

// Everything at once; the race detector looks on.
func TestHammer(t *testing.T) {
	t.Parallel()
	l := New(scripted{decide: func(r *policy.Request) *policy.Decision {
		return &policy.Decision{Allow: r.Size%2 == 0, ID: fmt.Sprint(r.Size % 5)}
	}, failed: errors.New("no")}, Options{Renderer: plain{}, Sinks: []Sink{&kept{}, &kept{}}, Sample: everything(), Ring: 64})
	shared := l.Judge(factsOf(t, "acme01"))
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			for i := range 500 {
				r := publishTo(t, "a")
				r.Size = i
				shared.Decide(context.Background(), r)
				_, _ = l.Verifiers(context.Background(), &policy.Client{}, nil)
				if i%100 == g {
					s := l.Subscribe(nil, Filter{})
					_ = l.Flush(context.Background())
					s.Close()
				}
			}
		})
	}
	all.Wait()
	closeLog(t, l)
	s := l.Stats()
	if s.Recorded == 0 || s.Folded == 0 {
		t.Errorf("stats %+v", s)
	}
}

func TestPermitsAllocateNothing(t *testing.T) {
	l := New(always(policy.Decision{Allow: true}), Options{Renderer: plain{}, Sinks: []Sink{&kept{}}, Sample: Sample{Publish: -1}})
	defer closeLog(t, l)
	j := l.Judge(factsOf(t, "acme01"))
	r := publishTo(t, "a")
	inner := testing.AllocsPerRun(100, func() { j.(*judge).inner.Decide(context.Background(), r) })
	if n := testing.AllocsPerRun(100, func() { j.Decide(context.Background(), r) }); n > inner {
		t.Errorf("a permit allocates %v times more", n-inner)
	}
}

func BenchmarkPermit(b *testing.B) {
	d := &policy.Decision{Allow: true}
	inner := scripted{decide: func(*policy.Request) *policy.Decision { return d }}
	r := publishTo(b, "a")
	b.Run("without", func(b *testing.B) {
		j := inner.Judge(factsOf(b, "acme01"))
		b.ReportAllocs()
		for b.Loop() {
			j.Decide(context.Background(), r)
		}
	})
	b.Run("with", func(b *testing.B) {
		l := New(inner, Options{Renderer: plain{}, Sinks: []Sink{&kept{}}})
		defer closeLog(b, l)
		j := l.Judge(factsOf(b, "acme01"))
		b.ReportAllocs()
		for b.Loop() {
			j.Decide(context.Background(), r)
		}
	})
}
