package broker_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/broker/wire"
)

func TestQueueOverflow(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		limits string
		want   []string
	}{
		"drop_oldest":                       {`"queue_messages": 3`, []string{"2", "3", "4"}},
		"drop_newest":                       {`"queue_messages": 3, "queue_overflow": "drop_newest"`, []string{"0", "1", "2"}},
		"drop_oldest by bytes of topic too": {`"queue_bytes": 4`, []string{"3", "4"}},
		"drop_newest by bytes of topic too": {`"queue_bytes": 4, "queue_overflow": "drop_newest"`, []string{"0", "1"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, rules{connect: limited(tt.limits)}.bundle(t))
			acme := w.org("acme01")
			c := w.connect(t, acme.device("d1"), wire.V5, keptClean)
			c.listen(1, "a")
			c.disconnect()
			from := w.connect(t, acme.app("x"), wire.V5)
			for i := range 5 {
				from.say("a", fmt.Sprint(i), 1)
			}
			from.say("b", "QoS 0 is not queued", 0)
			c = w.connect(t, acme.device("d1"), wire.V5, kept)
			var got []string
			for range tt.want {
				got = append(got, string(c.take().Payload))
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
			c.quiet()
			if lines := w.log.find("msg", "queue overflow"); len(lines) != 1 {
				t.Errorf("%d lines about the overflow", len(lines))
			}
		})
	}
}

// Subscribing again to what one is subscribed to, as most clients do each time
// they connect, loses nothing that waits [MQTT-3.8.4-3].
func TestSubscribingAgainKeepsTheQueue(t *testing.T) {
	t.Parallel()
	for _, v := range versions {
		t.Run("MQTT "+v.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, rules{connect: limited(`"inflight_max": 2`)}.bundle(t))
			acme := w.org("acme01")
			c := w.connect(t, acme.device("d1"), v, kept)
			c.listen(1, "a")
			c.disconnect()
			from := w.connect(t, acme.app("x"), wire.V5)
			for i := range 7 {
				from.say("a", fmt.Sprint(i), 1)
			}
			c = w.connect(t, acme.device("d1"), v, kept)
			c.listen(1, "a")
			for i := range 7 {
				c.hear("a", fmt.Sprint(i))
			}
			c.quiet()
		})
	}
}

func TestMessageExpiry(t *testing.T) {
	t.Parallel()
	bundle := rules{}.bundle(t)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, bundle)
		acme := w.org("acme01")
		c := w.connect(t, acme.device("d1"), wire.V5, keptClean)
		c.listen(1, "#")
		c.disconnect()
		from := w.connect(t, acme.app("x"), wire.V5)
		for _, seconds := range []uint32{10, 30} {
			p := retained(fmt.Sprint("after/", seconds), "x", 1)
			p.Properties = &wire.PublishProperties{HasMessageExpiry: true, MessageExpiry: seconds}
			if ack := from.publish(p); ack.Code.Failed() {
				t.Fatal(ack.Code)
			}
		}
		time.Sleep(12 * time.Second)
		c = w.connect(t, acme.device("d1"), wire.V5, kept)
		p := c.hear("after/30", "x")
		if p.Properties == nil || p.Properties.MessageExpiry != 18 { // what is left of it [MQTT-3.3.2-6]
			t.Errorf("properties %+v", p.Properties)
		}
		c.quiet()
		late := w.connect(t, acme.app("late"), wire.V5)
		late.listen(1, "#")
		late.hear("after/30", "x")
		late.quiet()
		time.Sleep(time.Minute)
		_, err := w.registry.UpdateOrganisation(ctx, acme.id, func(o *registry.Organisation) error {
			o.Quotas.RetainedBytes = 10
			return nil
		})
		must(t, err)
		late.listen(1, "#")
		late.quiet()
		from.retain("a", "01234567", 1) // what expired does not count any more
	})
}

// What a client puts into properties counts like its payload.
func TestQueueBytesCountProperties(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rules{connect: limited(`"queue_bytes": 1000`)}.bundle(t))
	acme := w.org("acme01")
	c := w.connect(t, acme.device("d1"), wire.V5, keptClean)
	c.listen(1, "a")
	c.disconnect()
	from := w.connect(t, acme.app("x"), wire.V5)
	for i := range 3 {
		p := message("a", fmt.Sprint(i), 1)
		p.Properties = &wire.PublishProperties{User: []wire.UserProperty{{Key: "k", Value: strings.Repeat("v", 600)}}}
		from.publish(p)
	}
	c = w.connect(t, acme.device("d1"), wire.V5, kept)
	c.hear("a", "2")
	c.quiet()
}
