package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	mqtt3 "github.com/eclipse/paho.mqtt.golang"
	packets3 "github.com/eclipse/paho.mqtt.golang/packets"
)

// connection3 speaks MQTT 3.1.1.
type connection3 struct {
	client mqtt3.Client
	inbox  *inbox
	ended  chan error
}

// connect3 opens a connection of MQTT 3.1.1.
func (f *connectFlags) connect3(ctx context.Context, password string, s session) (connection, error) {
	c := &connection3{inbox: s.inbox, ended: make(chan error, 1)}
	var dialError error
	release := func() bool { return true }
	o := mqtt3.NewClientOptions().
		AddBroker("tcp://" + f.Host). // for the library's sake: it is dial that knows where
		SetProtocolVersion(4).SetClientID(f.ID).SetUsername(f.User).SetPassword(password).
		SetCleanSession(!s.keep).SetKeepAlive(time.Duration(f.KeepAlive) * time.Second).
		SetConnectTimeout(answerTime).SetWriteTimeout(answerTime).
		SetAutoReconnect(false).SetConnectRetry(false).SetOrderMatters(true).SetAutoAckDisabled(true).
		SetDefaultPublishHandler(func(_ mqtt3.Client, m mqtt3.Message) { c.receive(m) }).
		SetConnectionLostHandler(func(_ mqtt3.Client, err error) { c.ended <- connectionLost(err) }).
		SetCustomOpenConnectionFn(func(*url.URL, mqtt3.ClientOptions) (net.Conn, error) {
			conn, err := f.dial(ctx)
			if err != nil {
				dialError = err
				return nil, err
			}
			release = context.AfterFunc(ctx, func() { _ = conn.Close() })
			return &receiptConn{Conn: conn, inbox: s.inbox}, nil
		})
	if f.WillTopic != "" {
		o.SetBinaryWill(f.WillTopic, []byte(f.WillPayload), f.WillQoS, f.WillRetain)
	}
	c.client = mqtt3.NewClient(o)
	token := c.client.Connect().(*mqtt3.ConnectToken)
	<-token.Done() // ctx and the time-out close the socket
	release()
	switch code := token.ReturnCode(); {
	case dialError != nil:
		return nil, dialError
	case code != packets3.Accepted && code != packets3.ErrNetworkError:
		return nil, &refusedError{what: "connection refused", code: connackWords(code), number: code}
	case token.Error() != nil:
		return nil, connectionLost(token.Error())
	}
	return c, nil
}

// receive prints m and acknowledges it if that was possible.
func (c *connection3) receive(m mqtt3.Message) {
	if !c.inbox.take(publication{m.Topic(), m.Payload(), m.Qos(), m.Retained()}) {
		return
	}
	if m.Qos() == 0 {
		c.inbox.settle()
		return
	}
	m.Ack()
}

func (c *connection3) publish(ctx context.Context, m publication) error {
	err := c.await(ctx, c.client.Publish(m.topic, m.qos, m.retain, m.payload))
	if errors.Is(err, errClosedByBroker) && m.qos > 0 {
		return fmt.Errorf("publish not acknowledged: %w, as it does when it refuses a message of MQTT 3.1.1; MQTT 5 tells why", err)
	}
	return err
}

func (c *connection3) subscribe(ctx context.Context, filters []string, qos byte) ([]error, error) {
	wanted := map[string]byte{}
	for _, f := range filters {
		wanted[f] = qos
	}
	token := c.client.SubscribeMultiple(wanted, nil).(*mqtt3.SubscribeToken)
	if err := c.await(ctx, token); err != nil {
		return nil, err
	}
	refusals := make([]error, len(filters))
	granted := token.Result()
	for i, f := range filters {
		if code, ok := granted[f]; !ok || code > 2 { // [MQTT-3.9.3-2]
			refusals[i] = &refusedError{what: fmt.Sprintf("subscribe to %q refused", f), code: "Failure", number: 0x80}
		}
	}
	return refusals, nil
}

// await waits until a request is answered or cannot be any more.
func (c *connection3) await(ctx context.Context, token mqtt3.Token) error {
	late := time.NewTimer(answerTime)
	defer late.Stop()
	select {
	case <-token.Done():
		if token.Error() == nil {
			return nil
		}
	case err := <-c.ended:
		return err
	case <-late.C:
		return errSilent
	case <-ctx.Done():
		return spoken(ctx.Err())
	}
	if c.client.IsConnectionOpen() {
		return token.Error()
	}
	select { // the library tells the request first, then why
	case err := <-c.ended:
		return err
	case <-late.C:
		return token.Error()
	case <-ctx.Done():
		return spoken(ctx.Err())
	}
}

func (c *connection3) lost() <-chan error { return c.ended }

func (c *connection3) leave() {
	c.inbox.close()
	c.client.Disconnect(uint(leaveTime.Milliseconds()))
}

// receiptConn tells the inbox of acknowledgements that went out: the library
// says when it has accepted one, not when it is sent. It writes each packet
// with one call, the acknowledgements in the order of the messages.
type receiptConn struct {
	net.Conn
	inbox *inbox
}

func (c *receiptConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err == nil && c.inbox != nil && len(p) > 0 && (p[0]>>4 == packets3.Puback || p[0]>>4 == packets3.Pubrec) {
		c.inbox.settle()
	}
	return n, err
}

// connackWords are the return codes of CONNACK, MQTT 3.1.1 table 3.1.
func connackWords(code byte) string {
	switch code {
	case packets3.ErrRefusedBadProtocolVersion:
		return "Unacceptable protocol version"
	case packets3.ErrRefusedIDRejected:
		return "Identifier rejected"
	case packets3.ErrRefusedServerUnavailable:
		return "Server unavailable"
	case packets3.ErrRefusedBadUsernameOrPassword:
		return "Bad user name or password"
	case packets3.ErrRefusedNotAuthorised:
		return "Not authorized"
	default:
		return "unknown return code"
	}
}
