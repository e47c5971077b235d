package main

import (
	"context"

	"github.com/cordon-mq/cordon/broker"
	"github.com/cordon-mq/cordon/broker/api"
	"github.com/cordon-mq/cordon/broker/ledger"
	"github.com/cordon-mq/cordon/broker/monitor"
	"github.com/cordon-mq/cordon/policy"
)

// clients is the broker and its monitor as the REST interface sees them.
type clients struct {
	*monitor.Monitor
	broker *broker.Broker
}

var _ api.Clients = clients{}

// Disconnect closes what a client ID has open.
func (c clients) Disconnect(t ledger.Tenant, id policy.ClientID) int {
	return c.broker.Disconnect(broker.Tenant(t), id)
}

// openMonitor makes what the broker tells who comes and goes. It ends after the
// broker has.
func (n *node) openMonitor() {
	n.ledger = ledger.On(n.store).Bounded(n.noted)
	n.monitor = monitor.New(monitor.Config{Log: n.log}, n.ledger, n.registry)
	n.onStop(func() error { n.monitor.Stop(); return nil })
}

// notedShare is which part of what an organisation may store its last events and
// diagnostics may take, beside its messages.
const notedShare = 8

// noted is how many bytes those may be. Of an organisation that is gone nothing is
// kept any more.
func (n *node) noted(t ledger.Tenant) int64 {
	o, err := n.registry.Organisation(context.Background(), t.Org)
	if err != nil || o.Incarnation != t.Incarnation {
		return 0
	}
	return o.Quotas.StoredBytes / notedShare
}

// startMonitor puts right what an earlier run left, once sessions and retained
// messages are there.
func (n *node) startMonitor(ctx context.Context) error {
	n.onStop(n.watchDeletions())
	tenants, err := n.tenants(ctx)
	if err != nil {
		return err
	}
	return n.monitor.Start(ctx, n.broker, tenants)
}

func (n *node) watchDeletions() func() error {
	cancel := n.registry.WatchCommits(n.monitor.Changed)
	return func() error { cancel(); return nil }
}
