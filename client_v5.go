package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	"github.com/eclipse/paho.golang/paho/session/state"

	"github.com/cordon-mq/cordon/broker/wire"
)

// receiveMaximum is how many messages may be under way to sub without being
// printed.
const receiveMaximum uint16 = 256

// connection5 speaks MQTT 5.
type connection5 struct {
	client *paho.Client
	state  *receipts
	inbox  *inbox
	ended  chan error
}

// connect5 opens a connection of MQTT 5.
func (f *connectFlags) connect5(ctx context.Context, password string, s session) (connection, error) {
	conn, err := f.dial(ctx)
	if err != nil {
		return nil, err
	}
	c := &connection5{state: &receipts{State: state.NewInMemory(), inbox: s.inbox}, inbox: s.inbox, ended: make(chan error, 1)}
	c.client = paho.NewClient(paho.ClientConfig{
		Conn:          packets.NewThreadSafeConn(conn),
		Session:       c.state,
		PacketTimeout: answerTime,
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(got paho.PublishReceived) (bool, error) {
			c.state.take(publication{got.Packet.Topic, got.Packet.Payload, got.Packet.QoS, got.Packet.Retain})
			return true, nil
		}},
		OnClientError: func(err error) { c.end(connectionLost(err)) },
		OnServerDisconnect: func(d *paho.Disconnect) {
			reason := ""
			if d.Properties != nil {
				reason = d.Properties.ReasonString
			}
			c.end(refused5("disconnected", d.ReasonCode, reason))
		},
	})
	ack, err := c.client.Connect(ctx, f.packet5(password, s))
	if err == nil {
		return c, nil
	}
	if ack != nil && ack.ReasonCode >= 0x80 {
		reason := ""
		if ack.Properties != nil {
			reason = ack.Properties.ReasonString
		}
		return nil, refused5("connection refused", ack.ReasonCode, reason)
	}
	return nil, connectionLost(err)
}

func (f *connectFlags) packet5(password string, s session) *paho.Connect {
	most := receiveMaximum
	cp := &paho.Connect{
		ClientID: f.ID, CleanStart: !s.keep, KeepAlive: f.KeepAlive,
		UsernameFlag: f.User != "", Username: f.User,
		PasswordFlag: password != "", Password: []byte(password),
		Properties: &paho.ConnectProperties{ReceiveMaximum: &most, RequestProblemInfo: true},
	}
	if s.keep {
		cp.Properties.SessionExpiryInterval = &s.expiry
	}
	if f.WillTopic != "" {
		cp.WillMessage = &paho.WillMessage{
			Topic: f.WillTopic, Payload: []byte(f.WillPayload), QoS: f.WillQoS, Retain: f.WillRetain,
		}
		cp.WillProperties = &paho.WillProperties{}
	}
	return cp
}

func (c *connection5) publish(ctx context.Context, m publication) error {
	answer, err := c.client.Publish(ctx, &paho.Publish{Topic: m.topic, Payload: m.payload, QoS: m.qos, Retain: m.retain})
	// A refusal of QoS 2 is no error to the library.
	if answer != nil && answer.ReasonCode >= 0x80 {
		reason := ""
		if answer.Properties != nil {
			reason = answer.Properties.ReasonString
		}
		return refused5("publish refused", answer.ReasonCode, reason)
	}
	return c.because(ctx, err)
}

func (c *connection5) subscribe(ctx context.Context, filters []string, qos byte) ([]error, error) {
	options := make([]paho.SubscribeOptions, len(filters))
	for i, f := range filters {
		options[i] = paho.SubscribeOptions{Topic: f, QoS: qos}
	}
	ack, err := c.client.Subscribe(ctx, &paho.Subscribe{Subscriptions: options})
	if ack == nil {
		return nil, c.because(ctx, err)
	}
	reason := ""
	if ack.Properties != nil {
		reason = ack.Properties.ReasonString
	}
	if len(ack.Reasons) != len(filters) {
		return nil, errors.New("the broker did not answer for every filter")
	}
	refusals := make([]error, len(filters))
	for i, code := range ack.Reasons {
		if code >= 0x80 {
			refusals[i] = refused5(fmt.Sprintf("subscribe to %q refused", filters[i]), code, reason)
		}
	}
	return refusals, nil
}

// because is why a request failed: the end of the connection, if it is that.
// The library tells the request first, then why.
func (c *connection5) because(ctx context.Context, err error) error {
	if err == nil || errors.Is(err, paho.ErrInvalidArguments) || errors.Is(err, context.DeadlineExceeded) {
		return spoken(err)
	}
	late := time.NewTimer(leaveTime)
	defer late.Stop()
	select {
	case why := <-c.ended:
		return why
	case <-ctx.Done():
		return spoken(ctx.Err())
	case <-late.C:
		return err
	}
}

func (c *connection5) lost() <-chan error { return c.ended }

// end says why the connection ended; the first to say so is right. Requests
// that still wait for an answer are let go.
func (c *connection5) end(why error) {
	select {
	case c.ended <- why:
	default:
	}
	_ = c.state.Close()
}

func (c *connection5) leave() {
	c.inbox.close()
	leaveWithin(func() {
		_ = c.client.Disconnect(&paho.Disconnect{})
		_ = c.state.Close()
	})
}

// receipts is the library's session, but for messages that were not printed:
// those are not acknowledged, so a kept session delivers them another time.
// The library calls take and Ack for each message in turn, in one goroutine.
type receipts struct {
	*state.State
	inbox *inbox
	taken bool // the message under way
}

func (r *receipts) take(m publication) { r.taken = r.inbox.take(m) }

// Ack acknowledges what take took.
func (r *receipts) Ack(pb *packets.Publish) error {
	if !r.taken {
		return nil
	}
	err := r.State.Ack(pb)
	r.inbox.settle()
	return err
}

func refused5(what string, code byte, reason string) error {
	return &refusedError{what: what, code: wire.Code(code).String(), number: code, reason: reason}
}
