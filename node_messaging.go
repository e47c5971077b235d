package main

import (
	"context"
	"time"

	"github.com/cordon-mq/cordon/broker"
	"github.com/cordon-mq/cordon/broker/api"
	"github.com/cordon-mq/cordon/broker/listen"
	"github.com/cordon-mq/cordon/plugins"
)

// messaging is the broker as the REST interface lets clients into it.
type messaging struct {
	broker *broker.Broker
	open   context.Context // ends when the node stops: who waits is not waited for
	close  func()
}

var _ api.Messaging = (*messaging)(nil)

func newMessaging(b *broker.Broker) *messaging {
	m := &messaging{broker: b}
	m.open, m.close = context.WithCancel(context.Background())
	return m
}

// Enter verifies c by the broker's own verifiers and policies.
func (m *messaging) Enter(ctx context.Context, c *plugins.Credential, host string) (api.Messenger, error) {
	caller, err := m.broker.Enter(ctx, c, host)
	if err != nil {
		return nil, err
	}
	listen.Authenticated(ctx)
	return &messenger{Caller: caller, open: m.open}, nil
}

// messenger is a broker.Caller that nobody waits for when the node stops.
type messenger struct {
	*broker.Caller
	open context.Context
}

// Receive ends early, as if there had been no message, when the node stops.
func (m *messenger) Receive(ctx context.Context, filters []string, wait time.Duration, use func(string, []byte) error) (bool, error) {
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(m.open, cancel)() //nolint:contextcheck // the caller of Receive and the node both end it
	found, err := m.Caller.Receive(waiting, filters, wait, func(got *broker.Message) error { return use(got.Topic, got.Payload) })
	if err != nil && ctx.Err() == nil && m.open.Err() != nil {
		return false, nil
	}
	return found, err
}
