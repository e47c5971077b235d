package main

import (
	"context"

	"github.com/cordon-mq/cordon/broker/api"
	"github.com/cordon-mq/cordon/broker/management"
)

var _ api.Management = (*management.Management)(nil)

// openManagement makes what devices manage themselves by. The broker hands it
// messages from the beginning.
func (n *node) openManagement() {
	n.management = management.New(management.Config{Log: n.log}, n.ledger, n.registry)
}

// startManagement goes on where an earlier run ended, once sessions are there. It
// ends before the broker does.
func (n *node) startManagement(ctx context.Context) error {
	cancel := n.registry.WatchCommits(n.management.Changed)
	n.onStop(func() error { n.management.Stop(); cancel(); return nil })
	tenants, err := n.tenants(ctx)
	if err != nil {
		return err
	}
	return n.management.Start(n.broker, tenants)
}
