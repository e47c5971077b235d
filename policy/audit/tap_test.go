package audit

import (
	"sync"
	"testing"

	"github.com/cordon-mq/cordon/policy"
)

// tapped remembers the entries that it was given.
type tapped struct {
	state struct {
		sync.Mutex
		entries []*Entry
	}
}

func (p *tapped) take(e *Entry) {
	p.state.Lock()
	defer p.state.Unlock()
	p.state.entries = append(p.state.entries, e)
}

func (p *tapped) topics() (all []string) {
	p.state.Lock()
	defer p.state.Unlock()
	for _, e := range p.state.entries {
		all = append(all, e.Request.Topic.String())
	}
	return all
}

// A tap has what is recorded, also what a rule drops or what no sink keeps, in order,
// and before it is written.
func TestTap(t *testing.T) {
	t.Parallel()
	l := New(always(policy.Decision{Cause: policy.CausePolicy, ID: "d1"}), Options{Renderer: plain{}})
	defer closeLog(t, l)
	deny := func(topic string) {
		// Another holder each time, so that nothing is counted with what came before.
		l.Judge(factsOf(t, "acme01")).Decide(t.Context(), publishTo(t, topic))
	}
	deny("before")
	flush(t, l)
	var first, second tapped
	stopFirst := l.Tap(first.take)
	stopSecond := l.Tap(second.take)
	deny("a")
	deny("drop")
	deny("broken")
	flush(t, l)
	stopFirst()
	stopFirst()
	deny("b")
	flush(t, l)
	stopSecond()
	deny("after")
	flush(t, l)
	if got := first.topics(); len(got) != 3 || got[0] != "a" || got[1] != "drop" || got[2] != "broken" {
		t.Errorf("the first tap had %q", got)
	}
	if got := second.topics(); len(got) != 4 || got[3] != "b" {
		t.Errorf("the second tap had %q", got)
	}
	second.state.Lock()
	defer second.state.Unlock()
	if e := second.state.entries[0]; e.Decision.ID != "d1" || e.Count != 1 || e.Weight != 1 || e.Facts.Principal.Org.String() != "acme01" {
		t.Errorf("%+v", e)
	}
}

// Without sinks and taps nothing is even offered, and a tap alone is enough reason.
func TestTapAlone(t *testing.T) {
	t.Parallel()
	l := New(always(policy.Decision{Allow: true}), Options{Renderer: plain{}, Sample: Sample{Publish: 1}})
	defer closeLog(t, l)
	judge := l.Judge(factsOf(t, "acme01"))
	judge.Decide(t.Context(), publishTo(t, "unheard"))
	var heard tapped
	defer l.Tap(heard.take)()
	for range 3 {
		judge.Decide(t.Context(), publishTo(t, "heard"))
	}
	flush(t, l)
	if got := heard.topics(); len(got) != 3 || got[0] != "heard" {
		t.Errorf("heard %q", got)
	}
}

// Taps may come and go while others decide.
func TestTapsComeAndGo(t *testing.T) {
	t.Parallel()
	l := New(always(policy.Decision{Cause: policy.CausePolicy}), Options{Renderer: plain{}})
	defer closeLog(t, l)
	var all tapped
	defer l.Tap(all.take)()
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			for range 50 {
				var some tapped
				stop := l.Tap(some.take)
				l.Judge(factsOf(t, "acme01")).Decide(t.Context(), publishTo(t, "x"))
				stop()
			}
		})
	}
	wait.Wait()
	flush(t, l)
	if got := len(all.topics()); got != 400 {
		t.Errorf("one that stayed had %d of 400", got)
	}
}
