package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	"github.com/eclipse/paho.golang/paho/extensions/topicaliases"
	mqtt3 "github.com/eclipse/paho.mqtt.golang"
)

func paho3Product() *product {
	return &product{name: "Paho v3", join: joinPaho3, unsubscribes: true, pings: true, showsResumed: true}
}

func paho5Product() *product {
	return &product{
		name: "Paho v5", join: joinPaho5,
		properties: true, aliases: true, unsubscribes: true, pings: true, showsResumed: true,
	}
}

// settled waits for what the older library was asked to do.
func settled(token mqtt3.Token) error {
	if !token.WaitTimeout(patience) {
		return errors.New("no answer")
	}
	return token.Error()
}

func joinPaho3(t *testing.T, s *site, l library, g greeting) (*peer, error) {
	p := newPeer(l, g.id)
	lost := make(chan struct{})
	p.lost = lost
	options := mqtt3.NewClientOptions().
		AddBroker(s.url(l, "ssl").String()).SetTLSConfig(s.tls(t)).
		SetProtocolVersion(map[string]uint{"3.1": 3, "3.1.1": 4}[l.version]).
		SetClientID(g.id).SetUsername(g.user).SetPassword(g.password).
		SetCleanSession(!g.kept).SetKeepAlive(time.Duration(g.pulse()) * time.Second).
		SetConnectTimeout(patience).SetAutoReconnect(false).SetOrderMatters(true).
		SetConnectionLostHandler(func(mqtt3.Client, error) { close(lost) }).
		SetDefaultPublishHandler(func(_ mqtt3.Client, m mqtt3.Message) {
			p.inbox <- message{topic: m.Topic(), payload: string(m.Payload()), qos: m.Qos(), retain: m.Retained()}
		})
	if w := g.will; w != nil {
		options.SetBinaryWill(w.topic, []byte(w.payload), w.qos, w.retain)
	}
	c := mqtt3.NewClient(options)
	welcome := c.Connect().(*mqtt3.ConnectToken)
	if err := settled(welcome); err != nil {
		return nil, err
	}
	p.resumed = welcome.SessionPresent()
	p.publish = func(m message) error { return settled(c.Publish(m.topic, m.qos, m.retain, m.payload)) }
	p.unsubscribe = func(filter string) error { return settled(c.Unsubscribe(filter)) }
	p.leave = func() { c.Disconnect(250) }
	if len(g.filters) == 0 {
		return p, nil
	}

	wanted := map[string]byte{}
	for _, filter := range g.filters {
		wanted[filter] = g.qos
	}
	answer := c.SubscribeMultiple(wanted, nil).(*mqtt3.SubscribeToken)
	// A refused filter may be an error to the library; the codes say it all.
	if err := settled(answer); err != nil && len(answer.Result()) != len(g.filters) {
		p.leave()
		return nil, err
	}
	p.granted = func() (codes []byte) {
		for _, filter := range g.filters {
			codes = append(codes, answer.Result()[filter])
		}
		return codes
	}
	return p, nil
}

// dial opens what MQTT 5 is spoken on.
func (s *site) dial(t *testing.T, l library) (net.Conn, error) {
	t.Helper()
	if l.ws {
		return webSocketOver(within(t), s.url(l, "").String(), &http.Transport{TLSClientConfig: s.tls(t)})
	}
	return (&tls.Dialer{Config: s.tls(t)}).DialContext(within(t), "tcp", s.address)
}

func joinPaho5(t *testing.T, s *site, l library, g greeting) (*peer, error) {
	p := newPeer(l, g.id)
	conn, err := s.dial(t, l)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = conn.Close() })
	config := paho.ClientConfig{
		Conn: packets.NewThreadSafeConn(conn), PacketTimeout: patience,
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(got paho.PublishReceived) (bool, error) {
			p.inbox <- shown5(got.Packet)
			return true, nil
		}},
	}
	if g.aliases {
		config.PublishHook = p.aliasing()
	}
	c := paho.NewClient(config)
	p.publish = func(m message) error { return publish5(t, c, m) }
	p.unsubscribe = func(filter string) error {
		_, err := c.Unsubscribe(within(t), &paho.Unsubscribe{Topics: []string{filter}})
		return err
	}
	p.leave = func() { _ = c.Disconnect(&paho.Disconnect{}) }

	ack, err := c.Connect(within(t), connect5(g))
	if err != nil {
		if ack != nil && ack.Properties != nil {
			err = fmt.Errorf("%w: %s", err, ack.Properties.ReasonString)
		}
		return nil, err
	}
	p.resumed, p.lost = ack.SessionPresent, c.Done()
	if ack.Properties != nil && ack.Properties.AssignedClientID != "" {
		p.id = ack.Properties.AssignedClientID
	}
	if len(g.filters) == 0 {
		return p, nil
	}
	subscribe := &paho.Subscribe{}
	for _, filter := range g.filters {
		subscribe.Subscriptions = append(subscribe.Subscriptions, paho.SubscribeOptions{Topic: filter, QoS: g.qos})
	}
	suback, err := c.Subscribe(within(t), subscribe)
	if suback == nil {
		p.leave()
		return nil, err
	}
	p.granted = func() []byte { return suback.Reasons }
	return p, nil
}

// aliasing has the library's extension give topic aliases.
func (p *peer) aliasing() func(*paho.Publish) {
	const most = 4
	handler := topicaliases.NewTAHandler(most)
	var aliased atomic.Int32
	p.aliased = func() int { return int(aliased.Load()) }
	return func(m *paho.Publish) {
		handler.PublishHook(m)
		if m.Topic == "" {
			aliased.Add(1)
		}
	}
}

func connect5(g greeting) *paho.Connect {
	connect := &paho.Connect{
		ClientID: g.id, CleanStart: !g.kept, KeepAlive: g.pulse(),
		UsernameFlag: g.user != "", Username: g.user, PasswordFlag: g.password != "", Password: []byte(g.password),
		Properties: &paho.ConnectProperties{RequestProblemInfo: true},
	}
	if g.kept {
		connect.Properties.SessionExpiryInterval = &g.expiry
	}
	if w := g.will; w != nil {
		connect.WillMessage = &paho.WillMessage{Topic: w.topic, Payload: []byte(w.payload), QoS: w.qos, Retain: w.retain}
		connect.WillProperties = &paho.WillProperties{}
	}
	return connect
}

func publish5(t *testing.T, c *paho.Client, m message) error {
	publish := &paho.Publish{
		Topic: m.topic, Payload: []byte(m.payload), QoS: m.qos, Retain: m.retain,
		Properties: &paho.PublishProperties{ResponseTopic: m.response, CorrelationData: []byte(m.correlation)},
	}
	if m.expiry > 0 {
		publish.Properties.MessageExpiry = &m.expiry
	}
	for _, pair := range pairs(m.user) {
		publish.Properties.User.Add(pair[0], pair[1])
	}
	answer, err := c.Publish(within(t), publish)
	// A refusal of QoS 2 is no error to the library.
	if answer != nil && answer.ReasonCode >= 0x80 {
		reason := ""
		if answer.Properties != nil {
			reason = answer.Properties.ReasonString
		}
		return fmt.Errorf("refused with 0x%02X: %s", answer.ReasonCode, reason)
	}
	return err
}

func shown5(m *paho.Publish) message {
	got := message{topic: m.Topic, payload: string(m.Payload), qos: m.QoS, retain: m.Retain}
	if p := m.Properties; p != nil {
		got.response, got.correlation = p.ResponseTopic, string(p.CorrelationData)
		if p.MessageExpiry != nil {
			got.expiry = *p.MessageExpiry
		}
		var user []string
		for _, pair := range p.User {
			user = append(user, pair.Key+"="+pair.Value)
		}
		got.user = strings.Join(user, ",")
	}
	return got
}
