package broker_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cordon-mq/cordon/broker"
	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/policy"
)

// Between two requests the session waits, and what it has is judged when it is
// asked for.
func TestPoll(t *testing.T) {
	t.Parallel()
	w := newWorld(t, builtIn())
	acme := w.org("acme01")
	d1, boss := acme.device("d1"), acme.app("boss")
	send := func(name string) {
		t.Helper()
		must(t, w.post(t, boss, "iot-2/type/sensor/id/d1/cmd/"+name+"/fmt/json", name))
	}
	wants := func(filter, want string) {
		t.Helper()
		if got, err := w.ask(t, d1, filter, 0); err != nil || got != want {
			t.Fatalf("asked for %s: %q, %v, want %q", filter, got, err, want)
		}
	}
	send("early") // nobody has asked yet
	wants(ownCmds, "")
	wants("iot-2/cmd/b/fmt/+", "")
	for _, name := range []string{"a", "b", "c"} {
		send(name)
	}
	wants(ownCmds, "iot-2/cmd/a/fmt/json a")
	wants("iot-2/cmd/b/fmt/+", "iot-2/cmd/b/fmt/json b")
	wants("iot-2/cmd/b/fmt/+", "")
	wants(ownCmds, "iot-2/cmd/b/fmt/json b")

	// A client that could not be answered asks again and gets the same.
	lost := errors.New("gone")
	if got, err := w.askWithin(t, t.Context(), d1, ownCmds, 0, lost); !errors.Is(err, lost) || got != "iot-2/cmd/c/fmt/json c" {
		t.Fatalf("lost %q, %v", got, err)
	}
	wants(ownCmds, "iot-2/cmd/c/fmt/json c")
	wants(ownCmds, "")

	// It is the device's own session over MQTT that is not touched by any of it.
	mqtt := w.connect(t, d1, wire.V5)
	mqtt.listen(1, ownCmds)
	send("both")
	mqtt.hear("iot-2/cmd/both/fmt/json", "both")
	wants(ownCmds, "iot-2/cmd/both/fmt/json both")

	for _, filter := range []string{"#", "iot-2/evt/+/fmt/+", "iot-2/type/sensor/id/d2/cmd/+/fmt/+"} {
		_, err := w.ask(t, d1, filter, time.Hour)
		wantDenied(t, err, policy.KindForbidden, "")
	}
	_, err := w.ask(t, d1, "a+b/#", time.Hour)
	wantDenied(t, err, policy.KindForbidden, "topic not valid")
}

// A poll of several filters gets what any of them matches, in its order. What the
// policy denies of all but the first is as if nobody sent it.
func TestPollOfSeveralFilters(t *testing.T) {
	t.Parallel()
	w := newWorld(t, builtIn())
	acme := w.org("acme01")
	d1, boss := acme.device("d1"), w.connect(t, acme.app("boss"), wire.V5)
	ask := func(filters ...string) string {
		t.Helper()
		c, err := w.broker.Enter(t.Context(), shown(d1))
		must(t, err)
		defer c.Leave()
		got := ""
		_, err = c.Receive(t.Context(), filters, 0, func(m *broker.Message) error {
			got = m.Topic + " " + string(m.Payload)
			return nil
		})
		must(t, err)
		return got
	}
	both := []string{"iot-2/cmd/+/fmt/+", "iot-2/cmd/+"}
	denied := []string{"iot-2/cmd/a/fmt/+", "#", "iot-2/evt/+/fmt/+"}
	for _, filters := range [][]string{both, denied} {
		if got := ask(filters...); got != "" {
			t.Fatalf("first, %q", got)
		}
	}
	for _, topic := range []string{"cmd/a/fmt/json", "cmd/a", "cmd/b"} {
		boss.say("iot-2/type/sensor/id/d1/"+topic, topic, 1)
	}
	for _, want := range []string{"iot-2/cmd/a/fmt/json cmd/a/fmt/json", "iot-2/cmd/a cmd/a", "iot-2/cmd/b cmd/b", ""} {
		if got := ask(both...); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	for _, want := range []string{"iot-2/cmd/a/fmt/json cmd/a/fmt/json", ""} {
		if got := ask(denied...); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	c, err := w.broker.Enter(t.Context(), shown(d1))
	must(t, err)
	defer c.Leave()
	for _, filters := range [][]string{nil, {"#", "iot-2/cmd/+"}, {"iot-2/cmd/c/fmt/+", "a+b"}} {
		if _, err := c.Receive(t.Context(), filters, time.Hour, func(*broker.Message) error { return nil }); err == nil {
			t.Errorf("%q is permitted", filters)
		}
	}
}

// A request that waits gets what comes at any QoS; a second one waits for its
// turn, and one that leaves takes nothing with it.
func TestPollWaits(t *testing.T) {
	t.Parallel()
	builtIn() // outside of the bubble
	synctest.Test(t, pollWaits)
}

func pollWaits(t *testing.T) {
	w := newWorld(t, builtIn())
	acme := w.org("acme01")
	boss := w.connect(t, acme.app("boss"), wire.V5)
	answers := make(chan string, 2)
	var asking sync.WaitGroup
	for range 2 {
		asking.Go(func() {
			got, err := w.ask(t, acme.device("d1"), ownCmds, time.Minute)
			if err != nil {
				got = err.Error()
			}
			answers <- got
		})
	}
	synctest.Wait()
	for i := range 2 {
		text := fmt.Sprint(i)
		boss.publish(message(command, text, 1))
		if got := <-answers; got != "iot-2/cmd/reboot/fmt/json "+text {
			t.Errorf("answer %q", got)
		}
	}
	asking.Wait()

	leaving, leave := context.WithCancel(t.Context())
	gone := make(chan error, 1)
	go func() {
		_, err := w.askWithin(t, leaving, acme.device("d1"), ownCmds, time.Hour, nil)
		gone <- err
	}()
	synctest.Wait()
	leave()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	boss.publish(message(command, "kept", 1))
	if got, err := w.ask(t, acme.device("d1"), ownCmds, 0); err != nil || got != "iot-2/cmd/reboot/fmt/json kept" {
		t.Errorf("%q, %v", got, err)
	}
}

// cordon.receive is asked about what a request gets, when it gets it.
func TestA11PollPassesReceive(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rules{}.bundle(t))
	acme := w.org("acme01")
	if got, err := w.ask(t, acme.device("d1"), "#", 0); got != "" || err != nil {
		t.Fatal(got, err)
	}
	for _, topic := range []string{"secret", "open"} {
		must(t, w.post(t, acme.app("boss"), topic, topic))
	}
	w.activate(rules{receive: `decision := {"allow": input.topic != "secret"}`})
	if got, err := w.ask(t, acme.device("d1"), "#", 0); got != "open open" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// A session that nobody asks ends, and its messages with it; a waiting request
// ends when its time is over.
func TestPollEnds(t *testing.T) {
	t.Parallel()
	builtIn() // outside of the bubble
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, builtIn())
		acme := w.org("acme01")
		began := time.Now()
		if got, err := w.ask(t, acme.device("d1"), ownCmds, 10*time.Second); got != "" || err != nil || time.Since(began) != 10*time.Second {
			t.Fatal(got, err, time.Since(began))
		}
		time.Sleep(4 * time.Minute)
		must(t, w.post(t, acme.app("boss"), command, "kept"))
		if got, err := w.ask(t, acme.device("d1"), ownCmds, 0); got != "iot-2/cmd/reboot/fmt/json kept" || err != nil {
			t.Fatal(got, err)
		}
		time.Sleep(6 * time.Minute)
		must(t, w.post(t, acme.app("boss"), command, "lost"))
		if got, err := w.ask(t, acme.device("d1"), ownCmds, 0); got != "" || err != nil {
			t.Fatal(got, err)
		}
	})
}

// Whoever is still waiting when the broker stops is told so.
func TestShutdownEndsPolls(t *testing.T) {
	t.Parallel()
	builtIn() // outside of the bubble
	synctest.Test(t, shutdownEndsPolls)
}

func shutdownEndsPolls(t *testing.T) {
	w := newWorld(t, builtIn())
	acme := w.org("acme01")
	waiting := make(chan error, 1)
	go func() {
		_, err := w.askWithin(t, context.Background(), acme.device("d1"), ownCmds, time.Hour, nil)
		waiting <- err
	}()
	synctest.Wait()
	w.stop()
	wantDenied(t, <-waiting, policy.KindUnavailable, "server shutting down")
	_, err := w.broker.Enter(context.Background(), shown(acme.device("d1")))
	wantDenied(t, err, policy.KindUnavailable, "server shutting down")
}

// Many requests at once, some of which cannot be answered: each command is
// received once, whatever else goes on.
func TestPollsUnderLoad(t *testing.T) {
	t.Parallel()
	w := newWorld(t, builtIn())
	acme := w.org("acme01")
	const commands = 200
	d1, d2, boss := acme.device("d1"), acme.device("d2"), acme.app("boss")
	if _, err := w.ask(t, d1, ownCmds, 0); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var received struct {
		sync.Mutex
		texts map[string]int
		asked int
	}
	received.texts = map[string]int{}
	var work sync.WaitGroup
	for range 4 {
		work.Go(func() { // asks
			for ctx.Err() == nil {
				c, err := w.broker.Enter(ctx, shown(d1))
				if err != nil {
					continue
				}
				_, _ = c.Receive(ctx, []string{ownCmds}, time.Minute, func(m *broker.Message) error {
					received.Lock()
					defer received.Unlock()
					if received.asked++; received.asked%5 == 0 {
						return context.Canceled // its client has gone
					}
					if received.texts[string(m.Payload)]++; len(received.texts) == commands {
						stop()
					}
					return nil
				})
				c.Leave()
			}
		})
	}
	for sender := range 4 {
		work.Go(func() {
			for i := range commands / 4 {
				text := fmt.Sprint(sender, "-", i)
				if err := w.post(t, boss, "iot-2/type/sensor/id/d1/cmd/x/fmt/json", text); err != nil {
					t.Error(err)
				}
			}
		})
	}
	work.Go(func() { // and others come and go
		for i := 0; ctx.Err() == nil; i++ {
			short, cancel := context.WithTimeout(ctx, time.Millisecond)
			if c, err := w.broker.Enter(short, shown(d2)); err == nil {
				_, _ = c.Receive(short, []string{ownCmds}, time.Minute, func(*broker.Message) error { return nil })
				c.Leave()
			}
			cancel()
			if i%8 == 7 { // everything is judged anew, to the same end
				w.engine.Activate(builtIn())
				w.broker.Sweep()
			}
		}
	})
	work.Wait()
	for text, n := range received.texts {
		if n != 1 {
			t.Errorf("%s was received %d times", text, n)
		}
	}
	if len(received.texts) != commands {
		t.Errorf("%d of %d commands were received", len(received.texts), commands)
	}
}
