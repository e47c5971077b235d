package main

import (
	"fmt"
	"testing"
)

// The properties of a request reach whoever answers it, and the other way round.
func (s *site) requestResponse(t *testing.T, one, other library) {
	base := s.name() + "/"
	asks := s.join(t, one, greeting{id: s.name(), filters: []string{base + "answers/one"}, qos: 1})
	answers := s.join(t, other, greeting{id: s.name(), filters: []string{base + "questions"}, qos: 2})
	for qos := range byte(3) {
		question := message{
			topic: base + "questions", payload: "what time is it?", qos: qos,
			properties: properties{response: base + "answers/one", correlation: fmt.Sprintf("number %d", qos), user: "lang=en,lang=fr,zone=UTC"},
		}
		asks.sends(t, question)
		got := answers.next(t)
		if got != question {
			t.Errorf("asked %s, want %s", got, question)
		}
		answer := message{topic: got.response, payload: "noon", qos: 1, properties: properties{
			response: base + "questions", correlation: got.correlation, user: "lang=en",
		}}
		answers.sends(t, answer)
		asks.wants(t, answer)
	}
}

// Where a library uses aliases, only the first of the messages names its topic.
// Delivered with QoS 2, MQTT.js would show the ones after it without their topic.
func (s *site) topicAliases(t *testing.T, one, other library) {
	base := s.name() + "/"
	to := s.join(t, other, greeting{id: s.name(), filters: []string{base + "#"}, qos: 1, aliases: true})
	from := s.join(t, one, greeting{id: s.name(), aliases: true})
	topics := []string{base + "a", base + "b"}
	for qos := range byte(3) {
		for _, topic := range topics {
			m := message{topic: topic, payload: fmt.Sprintf("QoS %d", qos), qos: qos}
			from.sends(t, m)
			m.qos = min(qos, 1)
			to.wants(t, m)
		}
	}
	const without = 4
	if got := from.aliased(); got != without {
		t.Errorf("%s left out %d topics, want %d", from, got, without)
	}
	if got := to.aliased(); to.resolves && got != without {
		t.Errorf("the broker left out %d topics, want %d", got, without)
	}
}

// A message is delivered with what is left of its time, and not when it is over.
func (s *site) messageExpiry(t *testing.T, one, other library) func(*testing.T) {
	base := s.name() + "/"
	g := greeting{id: s.name(), kept: true, expiry: 60, filters: []string{base + "#"}, qos: 1}
	s.parts(t, s.join(t, one, g))
	sender := s.join(t, other, greeting{id: s.name()})
	short := message{topic: base + "short", payload: "a second", qos: 1, properties: properties{expiry: 1}}
	long := message{topic: base + "long", payload: "a minute", qos: 1, properties: properties{expiry: 60}}
	sender.sends(t, short)
	sender.sends(t, long)
	return func(t *testing.T) {
		p := s.join(t, one, g)
		got := p.next(t)
		if got.expiry == 0 || got.expiry >= long.expiry {
			t.Errorf("%d s are left of %d", got.expiry, long.expiry)
		}
		got.expiry = long.expiry
		if got != long {
			t.Errorf("got %s, want %s", got, long)
		}
		fence := message{topic: base + "fence", payload: "now", qos: 1}
		sender.sends(t, fence)
		p.wants(t, fence)
	}
}
