package broker

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cordon-mq/cordon/policy"
)

// lineLog keeps what is written.
type lineLog struct {
	guarded struct {
		sync.Mutex
		text strings.Builder
	}
}

func (l *lineLog) Write(p []byte) (int, error) {
	l.guarded.Lock()
	defer l.guarded.Unlock()
	return l.guarded.text.Write(p)
}

// summary is "topic count" of each line since the last one; count 0: a line without.
func (l *lineLog) summary() (all []string) {
	l.guarded.Lock()
	defer l.guarded.Unlock()
	for line := range strings.Lines(l.guarded.text.String()) {
		topic, count := "", "0"
		for _, word := range strings.Fields(line) {
			if v, ok := strings.CutPrefix(word, "topic="); ok {
				topic = v
			}
			if v, ok := strings.CutPrefix(word, "count="); ok {
				count = v
			}
		}
		all = append(all, topic+" "+count)
	}
	l.guarded.text.Reset()
	return all
}

// The first of equal refusals is written at once, the others within two seconds as
// one line; what differs in anything is no repetition.
func TestEqualRefusalsAreOneLine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log := &lineLog{}
		b := New(Config{Log: slog.New(slog.NewTextHandler(log, nil))}, Deps{})
		refuse := func(client, topic, id string) {
			b.logRefusal("acme01", policy.ClientID(client), &refusal{
				action: policy.ActionPublish, cause: policy.CausePolicy, decision: &policy.Decision{ID: id}, topic: topic,
			})
		}
		expect := func(when string, want ...string) {
			t.Helper()
			if got := log.summary(); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%s: %q, want %q", when, got, want)
			}
		}
		for range 100 {
			refuse("c", "a", "1")
		}
		refuse("c", "b", "1")
		refuse("d", "b", "1")
		refuse("d", "b", "2")
		expect("at once", "a 0", "b 0", "b 0", "b 0")
		time.Sleep(2100 * time.Millisecond)
		expect("later", "a 99")
		refuse("c", "a", "1")
		refuse("c", "a", "1")
		expect("again", "a 0")
		if err := b.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		expect("at the end", "a 1")
		if n := b.refused.snapshot()[Refusal{policy.ActionPublish, policy.CausePolicy}]; n != 105 {
			t.Errorf("counted %d", n)
		}
	})
}

func TestRefusalLinesAreBounded(t *testing.T) {
	t.Parallel()
	var ls refusedLines
	for i := range maxLines + 10 {
		if !ls.fold(refusedLine{topic: fmt.Sprint(i)}, func() {}) {
			t.Fatal("a line is held back that was never written")
		}
	}
	if n := len(ls.guarded.open); n != maxLines {
		t.Errorf("%d lines are looked out for", n)
	}
	ls.take(time.Now(), nil)
}
