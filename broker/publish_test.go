package broker_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/broker/wire/wiretest"
)

// telling denies every publish whose payload begins with "tell" and gives what it
// was asked as its reason.
const telling = `
decision := {"allow": false, "reason": json.marshal(asked)} if input.size == 4

else := {"allow": true, "retain": "keep"}

asked := {name: value |
	some name in ["topic", "levels", "qos", "retain", "size", "will", "properties", "device"]
	value := input[name]
}
`

func TestA5PublishIsJudgedOnItsFinalTopic(t *testing.T) {
	t.Parallel()
	mounts := `decision := {"allow": true, "mounts": [{"client": "", "org": "in/", "device": {"type": 1, "id": 2}}]}`
	w := newWorld(t, rules{connect: mounts, publish: telling}.bundle(t))
	c := w.connect(t, w.org("acme01").device("d1"), wire.V5)
	asked := func(p *wire.Publish) map[string]any {
		t.Helper()
		ack := c.publish(p)
		text, _, ok := strings.Cut(ack.ReasonString, " (decision ")
		var got map[string]any
		if err := json.Unmarshal([]byte(text), &got); ack.Code != wire.NotAuthorized || !ok || err != nil {
			t.Fatalf("%s %q: %v", ack.Code, ack.ReasonString, err)
		}
		return got
	}
	device := map[string]any{"type": "sensor", "id": "d1", "registered": true, "status": "enabled", "groups": []any{}}

	p := message("sensor/d1/x", "tell", 2)
	p.Retain = true
	p.Properties = &wire.PublishProperties{
		HasContentType: true, ContentType: "text/plain", HasMessageExpiry: true, MessageExpiry: 7,
		ResponseTopic: "answer", User: []wire.UserProperty{{Key: "k", Value: "v"}},
	}
	got := asked(p)
	want := map[string]any{
		"topic": "sensor/d1/x", "levels": []any{"in", "sensor", "d1", "x"}, "qos": 2.0, "retain": true, "size": 4.0, "will": false,
		"device": device,
		"properties": map[string]any{
			"content_type": "text/plain", "message_expiry": 7.0, "response_topic": "answer", "user": map[string]any{"k": []any{"v"}},
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the policy was asked\n%v\nwant\n%v", got, want)
	}

	// An alias is set by one message and used by another without a topic.
	set := message("sensor/d2/y", "sets it", 1)
	set.TopicAlias = 3
	if ack := c.publish(set); ack.Code.Failed() {
		t.Fatalf("set alias: %s", ack.Code)
	}
	use := message("", "tell", 1)
	use.TopicAlias = 3
	if got := asked(use); got["topic"] != "sensor/d2/y" || !reflect.DeepEqual(got["levels"], []any{"in", "sensor", "d2", "y"}) {
		t.Errorf("by alias, the policy was asked %v", got)
	}
	// Another topic for the same alias is another topic for the policy.
	again := message("sensor/d1/z", "tell", 1)
	again.TopicAlias = 3
	asked(again)
	use = message("", "tell", 1)
	use.TopicAlias = 3
	if got := asked(use); got["topic"] != "sensor/d1/z" {
		t.Errorf("by the alias set anew, the policy was asked %v", got)
	}
}

// What never reaches a policy, because the protocol or the mounts refuse it.
func TestPublishRefusedBeforeThePolicy(t *testing.T) {
	t.Parallel()
	alias := func(topic string, n uint16) *wire.Publish {
		p := message(topic, "x", 1)
		p.TopicAlias = n
		return p
	}
	tests := map[string]struct {
		p     *wire.Publish
		code  wire.Code
		gone  bool
		cause string
	}{
		"alias that was never set":    {alias("", 1), wire.TopicAliasInvalid, true, "protocol"},
		"alias beyond the maximum":    {alias("in/a", 65), wire.TopicAliasInvalid, true, "protocol"},
		"control character":           {message("in/\u0007", "x", 1), wire.MalformedPacket, true, "protocol"},
		"under no mount":              {message("out/a", "x", 1), wire.NotAuthorized, false, "topic"},
		"too deep":                    {message("in/"+strings.Repeat("a/", 40), "x", 1), wire.TopicNameInvalid, false, "topic"},
		"too long":                    {message("in/"+strings.Repeat("a", 1100), "x", 1), wire.TopicNameInvalid, false, "topic"},
		"reserved for the broker":     {message("sys/broker/uptime", "x", 1), wire.NotAuthorized, false, "topic_reserved"},
		"larger than the payload_max": {message("in/a", strings.Repeat("x", 131073), 1), wire.PacketTooLarge, true, "payload_too_large"},
		"exactly the payload_max":     {message("in/a", strings.Repeat("x", 131072), 1), wire.NoMatchingSubscribers, false, ""},
		"as long as a topic may be":   {message("in/"+strings.Repeat("a", 1021), "x", 1), wire.NoMatchingSubscribers, false, ""},
	}
	mounts := `decision := {"allow": true, "mounts": [{"client": "in/", "org": "in/"}, {"client": "sys/", "org": "$SYS/"}]}`
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, rules{connect: mounts}.bundle(t))
			c := w.connect(t, w.org("acme01").device("d1"), wire.V5)
			if tt.gone {
				c.send(tt.p)
				if d := c.expectGone(); d.Code != tt.code {
					t.Errorf("DISCONNECT %s, want %s", d.Code, tt.code)
				}
			} else if ack := c.publish(tt.p); ack.Code != tt.code {
				t.Errorf("PUBACK %s, want %s", ack.Code, tt.code)
			}
			if tt.cause != "" && len(w.log.find("msg", "refused", "cause", tt.cause)) != 1 {
				t.Errorf("no refusal with cause %s:\n%s", tt.cause, w.log.text())
			}
		})
	}
}

// byTopic denies deny/… in the way that the next level names.
const byTopic = `
decision := {"allow": false, "reason": "not this", "on_deny": input.levels[1]} if input.levels[0] == "deny"

else := {"allow": true, "retain": "keep"}
`

func TestA6PublishDenied(t *testing.T) {
	t.Parallel()
	for _, v := range versions {
		for qos := range byte(3) {
			for _, onDeny := range []string{"refuse", "drop", "close"} {
				t.Run(fmt.Sprintf("MQTT %s, QoS %d, %s", v, qos, onDeny), func(t *testing.T) {
					t.Parallel()
					testDenied(t, v, qos, onDeny)
				})
			}
		}
	}
}

func testDenied(t *testing.T, v wire.Version, qos byte, onDeny string) {
	w := newWorld(t, rules{publish: byTopic}.bundle(t))
	acme := w.org("acme01")
	online := w.connect(t, acme.app("online"), wire.V5)
	online.listen(2, "#")
	offline := w.connect(t, acme.app("offline"), wire.V5, keptClean)
	offline.listen(2, "#")
	offline.disconnect()

	p := message("deny/"+onDeny, "secret plan", qos)
	p.Retain = true
	closes := onDeny == "close" || onDeny == "refuse" && v != wire.V5
	dropAfter := 0 // MQTT 3.x closes twice, the third is dropped
	if onDeny == "refuse" && v != wire.V5 {
		dropAfter = 2
	}
	c := w.connect(t, acme.device("d1"), v)
	for try := 0; ; try++ {
		p.PacketID = 0
		if closes && !(dropAfter > 0 && try == dropAfter) {
			c.send(p)
			d := c.expectGone()
			if v == wire.V5 {
				wantReason(t, w, d.Code, d.ReasonString)
			}
			if try == 3 {
				break
			}
			c = w.connect(t, acme.device("d1"), v)
			continue
		}
		ack := c.publish(p) // for QoS 0: the connection stays
		switch {
		case qos == 0:
		case onDeny == "refuse" && v == wire.V5:
			wantReason(t, w, ack.Code, ack.ReasonString)
		case ack.Code != wire.Success || ack.ReasonString != "":
			t.Errorf("acknowledged and dropped with %s %q", ack.Code, ack.ReasonString)
		}
		c.quiet()
		break
	}
	if lines := w.log.find("msg", "refused", "action", "publish", "topic", "deny/"+onDeny, "reason", "not this", "cause", "policy"); len(lines) == 0 {
		t.Errorf("not logged:\n%s", w.log.text())
	}

	// Nothing is routed, …
	online.silence(w.connect(t, acme.device("d2"), wire.V5), "marker", "marker")
	// … queued …
	offline = w.connect(t, acme.app("offline"), wire.V5, kept)
	offline.hear("marker", "marker 1")
	offline.quiet()
	// … or retained.
	late := w.connect(t, acme.app("late"), wire.V5)
	late.listen(0, "#")
	late.quiet()
}

// wantReason checks a denial as MQTT 5 tells it: the policy's words, and the
// decision that the log tells more about.
func wantReason(t *testing.T, w *world, code wire.Code, reason string) {
	t.Helper()
	lines := w.log.find("msg", "refused", "action", "publish")
	if code != wire.NotAuthorized || len(lines) == 0 {
		t.Fatalf("%s, with %d refusals", code, len(lines))
	}
	id := lines[len(lines)-1]["decision"]
	if want := "not this (decision " + id + ")"; id == "" || reason != want {
		t.Errorf("reason string %q, want %q", reason, want)
	}
}

// A client that asked for no reason strings gets none with its acknowledgements.
func TestA6NoReasonStringsOnRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rules{publish: byTopic}.bundle(t))
	who := w.org("acme01").device("d1")
	c := w.dial(t, wire.V5)
	c.Send(wiretest.MustBytes(fmt.Sprintf(`10 [ s"MQTT" 05 c2 0000 [ 17 00 ] s%q s%q s%q ]`, who.clientID, who.username, who.password)))
	c.Expect(wire.TypeConnack)
	if ack := c.publish(message("deny/refuse", "x", 1)); ack.Code != wire.NotAuthorized || ack.ReasonString != "" {
		t.Errorf("PUBACK %+v", ack)
	}
}

// A remembered close does not survive a minute, nor count for another topic or client.
func TestA6ThirdCloseIsPerTopicAndClient(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rules{publish: `decision := {"allow": false}`}.bundle(t))
	acme := w.org("acme01")
	closed := func(who login, topic string) {
		t.Helper()
		c := w.connect(t, who, wire.V311)
		c.send(message(topic, "x", 1))
		c.expectGone()
	}
	for range 2 {
		closed(acme.device("d1"), "a")
		closed(acme.device("d1"), "b")
		closed(acme.device("d2"), "a")
	}
	c := w.connect(t, acme.device("d1"), wire.V311)
	c.publish(message("a", "x", 1))
	c.publish(message("b", "x", 1))
	c.quiet()
}

func TestA20ResponseTopic(t *testing.T) {
	t.Parallel()
	w := newWorld(t, builtIn())
	acme := w.org("acme01")
	app := w.connect(t, acme.app("viewer"), wire.V5)
	app.listen(1, "iot-2/type/+/id/+/evt/+/fmt/+")
	d1 := w.connect(t, acme.device("d1"), wire.V5)
	d1.listen(1, "iot-2/cmd/+/fmt/+")

	// The device's own spelling becomes the application's, …
	p := message("iot-2/evt/e/fmt/json", "x", 1)
	p.Properties = &wire.PublishProperties{ResponseTopic: "iot-2/cmd/answer/fmt/json", CorrelationData: []byte{1}}
	if ack := d1.publish(p); ack.Code.Failed() {
		t.Fatal(ack.Code)
	}
	got := app.take()
	if got.Properties == nil || got.Properties.ResponseTopic != "iot-2/type/sensor/id/d1/cmd/answer/fmt/json" {
		t.Errorf("the application sees %+v", got.Properties)
	}
	// … and back; one without a spelling for the receiver is removed.
	for response, want := range map[string]string{
		"iot-2/type/sensor/id/d1/evt/done/fmt/json": "iot-2/evt/done/fmt/json",
		"iot-2/type/sensor/id/d2/evt/done/fmt/json": "",
	} {
		p = message("iot-2/type/sensor/id/d1/cmd/go/fmt/json", "x", 1)
		p.Properties = &wire.PublishProperties{ResponseTopic: response, CorrelationData: []byte{2}}
		if ack := app.publish(p); ack.Code.Failed() {
			t.Fatal(ack.Code)
		}
		if got := d1.take(); got.Properties == nil || got.Properties.ResponseTopic != want || string(got.Properties.CorrelationData) != "\x02" {
			t.Errorf("response topic %s: the device sees %+v, want %q", response, got.Properties, want)
		}
	}
	// Under no mount it has no place inside the organisation.
	p = message("iot-2/evt/e/fmt/json", "x", 1)
	p.Properties = &wire.PublishProperties{ResponseTopic: "elsewhere"}
	if ack := d1.publish(p); ack.Code != wire.TopicNameInvalid {
		t.Errorf("response topic under no mount: %s", ack.Code)
	}
	// It is only text: whoever answers there is judged then.
	if ack := d1.publish(message("iot-2/cmd/answer/fmt/json", "x", 1)); ack.Code != wire.NotAuthorized {
		t.Errorf("answer to a topic that is not the device's: %s", ack.Code)
	}
}
