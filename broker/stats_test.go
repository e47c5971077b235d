package broker_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/broker"
	"github.com/cordon-mq/cordon/broker/metrics"
	"github.com/cordon-mq/cordon/broker/store/memstore"
	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/policy"
)

// observed counts what an Observer is told.
type observed struct{ allowed, denied, sweeps atomic.Uint64 }

func (o *observed) Connect(allowed bool, took time.Duration) {
	if took <= 0 {
		panic("no time passed")
	}
	if allowed {
		o.allowed.Add(1)
	} else {
		o.denied.Add(1)
	}
}

func (o *observed) Sweep(time.Duration) { o.sweeps.Add(1) }

// Every number follows what clients do.
func TestStats(t *testing.T) {
	t.Parallel()
	seen := &observed{}
	w := newWorldOn(t, rules{
		connect: limited(`"queue_messages": 2`),
		publish: `decision := {"allow": input.topic != "forbidden", "retain": "keep"}`,
	}.bundle(t), memstore.NewDisk(), broker.Config{Observer: seen, Buffer: 1 << 20})
	acme := w.org("acme01")
	reader := w.connect(t, acme.app("reader"), wire.V5, keptClean)
	reader.listen(2, "t/#")
	writer := w.connect(t, acme.device("d1"), wire.V5)
	for qos := range byte(3) {
		writer.say("t/1", "online", qos)
		reader.hear("t/1", "online")
	}
	if ack := writer.publish(message("forbidden", "x", 1)); ack.Code != wire.NotAuthorized {
		t.Fatalf("%s", ack.Code)
	}
	r := message("t/kept", "kept", 0)
	r.Retain = true
	writer.publish(r)
	reader.hear("t/kept", "kept")
	reader.disconnect()
	for range 3 { // one more than the queue takes
		writer.say("t/2", "queued", 1)
	}
	again := w.connect(t, acme.device("d1"), wire.V5) // takes over
	writer.expectGone()
	again.ping()
	if refused := w.answer(t, login{"d:acme01:sensor:d1", "use-token-auth", "wrong"}, wire.V5); refused.ack.Code != wire.NotAuthorized {
		t.Fatalf("%s", refused.ack.Code)
	}
	w.broker.Sweep()
	eventually(t, func() bool { return seen.sweeps.Load() == 1 })
	eventually(t, func() bool { return w.broker.Stats().Connections["mqtts"] == 1 })

	s := w.broker.Stats()
	for what, numbers := range map[string][2]any{
		"in":            {s.In.Messages, [3]uint64{2, 4, 1}},
		"out":           {s.Out.Messages, [3]uint64{2, 1, 1}},
		"queue full":    {s.Dropped[broker.DropQueueFull], uint64(1)},
		"sessions":      {[2]int{s.Online, s.Offline}, [2]int{1, 1}},
		"subscriptions": {s.Subscriptions, 1},
		"retained":      {s.Retained, broker.Stock{Messages: 1, Bytes: int64(len("t/kept" + "kept"))}},
		"queued":        {s.Queued, broker.Stock{Messages: 2, Bytes: 2 * int64(len("t/2"+"queued"))}},
		"in flight":     {s.InFlight, 0},
		"take-overs":    {s.TakeOvers, uint64(1)},
		"denied":        {s.Refused[broker.Refusal{Action: policy.ActionPublish, Cause: policy.CausePolicy}], uint64(1)},
		"wrong token":   {s.Refused[broker.Refusal{Action: policy.ActionConnect, Cause: policy.CauseBad}], uint64(1)},
		"buffer":        {s.BufferMax, int64(1 << 20)},
		"allowed":       {seen.allowed.Load(), uint64(3)},
		"refused":       {seen.denied.Load(), uint64(1)},
	} {
		if numbers[0] != numbers[1] {
			t.Errorf("%s: %v, want %v", what, numbers[0], numbers[1])
		}
	}
	if s.In.Bytes < 100 || s.Out.Bytes < 100 || s.Buffer <= 0 {
		t.Errorf("bytes in %d, out %d, buffer %d", s.In.Bytes, s.Out.Bytes, s.Buffer)
	}

	// What waits is in flight once it was sent, and nowhere once it is acknowledged.
	back := w.connect(t, acme.app("reader"), wire.V5, kept)
	first, second := back.next(), back.next()
	if s := w.broker.Stats(); s.Queued != (broker.Stock{}) || s.InFlight != 2 || s.Offline != 0 {
		t.Errorf("after the return: %+v", s)
	}
	back.finish(first)
	back.finish(second)
	back.ping()
	before := w.broker.Stats()
	if before.InFlight != 0 {
		t.Errorf("in flight: %d", before.InFlight)
	}
	w.activate(rules{})
	again.ping()
	again.say("elsewhere", "x", 1) // judged anew before
	if now := w.broker.Stats().Rejudged; now != before.Rejudged+1 {
		t.Errorf("judged again %d times, want 1", now-before.Rejudged)
	}
}

// Reading beside traffic neither waits for it nor sees a counter fall.
func TestStatsBesideTraffic(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rules{}.bundle(t))
	acme := w.org("acme01")
	const publishers, each = 4, 100
	reader := w.connect(t, acme.app("reader"), wire.V5, kept)
	reader.listen(1, "t")
	done := make(chan struct{})
	var work sync.WaitGroup
	for i := range publishers {
		c := w.connect(t, acme.free("app", fmt.Sprintf("p%d", i)), wire.V5)
		work.Go(func() {
			for range each {
				c.publish(message("t", "x", 1))
			}
		})
	}
	go func() {
		defer close(done)
		work.Wait()
	}()
	before := w.broker.Stats()
	for reading := true; reading; {
		select {
		case <-done:
			reading = false
		default:
		}
		now := w.broker.Stats()
		if now.In.Messages[1] < before.In.Messages[1] || now.In.Bytes < before.In.Bytes || now.Out.Bytes < before.Out.Bytes {
			t.Fatalf("%+v after %+v", now, before)
		}
		before = now
	}
	if n := before.In.Messages[1]; n != publishers*each {
		t.Errorf("%d messages, want %d", n, publishers*each)
	}
	for range publishers * each {
		reader.take()
	}
	reader.ping()
	if s := w.broker.Stats(); s.InFlight != 0 || s.Queued != (broker.Stock{}) {
		t.Errorf("%+v", s)
	}
}

// However many clients, topics and organisations there are, and whatever they are
// called, there are as many series as before, and none of the names is in them.
func TestMetricsDoNotGrow(t *testing.T) {
	t.Parallel()
	shown, err := metrics.New("1", "2", nil)
	must(t, err)
	w := newWorldOn(t, rules{publish: `decision := {"allow": startswith(input.topic, "no") == false}`}.bundle(t),
		memstore.NewDisk(), broker.Config{Observer: shown})
	must(t, shown.Watch(metrics.Sources{Broker: w.broker, Policy: func() metrics.Policy {
		s := w.engine.Stats()
		p := metrics.Policy{Revision: w.engine.Revision(), Activated: s.Activated, Actions: map[policy.Action]metrics.Decisions{}}
		for action, a := range s.Actions {
			p.Actions[action] = metrics.Decisions(a)
		}
		return p
	}}))

	visit := func(org, clientID, topic string) {
		o := w.org(org)
		c := w.connect(t, o.free("app", clientID), wire.V5)
		c.listen(1, topic)
		c.say(topic, "x", 1)
		c.hear(topic, "x")
		if ack := c.publish(message("no/"+topic, "x", 1)); ack.Code != wire.NotAuthorized {
			t.Fatalf("%s", ack.Code)
		}
		c.disconnect()
		who := o.free("app", clientID)
		who.username = "a-" + clientID
		if refused := w.answer(t, who, wire.V5); refused.ack.Code == wire.Success {
			t.Fatal("let in")
		}
	}
	visit("first1", "plain", "plain")
	before := series(t, shown)
	var names []string
	for i, hostile := range []string{
		"\"}\ncordon_up 1\nx{a=\"", `\`, "{}", "é\u202e", strings.Repeat("x", 200), "policy", "le", "__name__", "a,b=c",
	} {
		clientID := strings.Map(func(r rune) rune {
			if r < ' ' {
				return -1
			}
			return r
		}, hostile)
		org := fmt.Sprintf("hostile%d", i)
		visit(org, clientID, "hostile/"+clientID)
		names = append(names, org, "hostile/"+clientID)
	}
	now := series(t, shown)
	for name := range now {
		if !before[name] {
			t.Errorf("a new series: %s", name)
		}
		for _, hostile := range names {
			if strings.Contains(name, hostile) {
				t.Errorf("%s names %s", name, hostile)
			}
		}
	}
	if len(before) < 50 {
		t.Errorf("only %d series", len(before))
	}
}

// series are Cordon's own, by name and labels.
func series(t *testing.T, s *metrics.Set) map[string]bool {
	t.Helper()
	families, err := s.Gatherer().Gather()
	must(t, err)
	found := map[string]bool{}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "cordon_") {
			continue
		}
		for _, m := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			name := f.GetName()
			for _, l := range slices.Sorted(maps.Keys(labels)) {
				name += "|" + l + "=" + labels[l]
			}
			found[name] = true
		}
	}
	return found
}
