package brokertest

import (
	"context"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/broker"
	"github.com/cordon-mq/cordon/broker/feed"
	"github.com/cordon-mq/cordon/broker/ledger"
	"github.com/cordon-mq/cordon/broker/listen"
	"github.com/cordon-mq/cordon/broker/listen/listentest"
	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/broker/store/memstore"
	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
)

// Patience is how long anything is waited for before the test fails.
const Patience = 10 * time.Second

// Node is a broker and what it stands on, one run at a time. Make one with NewNode.
// What fails in it fails the test.
type Node struct {
	Store    store.Store
	Registry *registry.Registry
	Ledger   *ledger.Ledger
	Broker   *broker.Broker

	t        *testing.T
	disk     *memstore.Disk
	unwatch  func()
	net      *listentest.Listener
	listener *listen.Listener
	served   chan error
}

// NewNode returns a node with an empty disk that does not run yet.
func NewNode(t *testing.T) *Node {
	t.Helper()
	return &Node{t: t, disk: memstore.NewDisk()}
}

// Open begins a run: Store, Registry and Ledger are those of the disk.
func (n *Node) Open() {
	n.t.Helper()
	var err error
	n.Store, err = n.disk.Open(store.Options{})
	n.must(err)
	n.Registry, err = registry.Open(n.Store, registry.Options{DefaultConnectionLevel: registry.LevelTLSOptional})
	n.must(err)
	n.Ledger = ledger.On(n.Store)
}

// Restore makes Broker, which knows what the disk has and hears what the registry
// changes, and returns the organisations there are. Who connects is verified by the
// tokens of the registry.
func (n *Node) Restore(cfg broker.Config, decider policy.Decider) []broker.Tenant {
	n.t.Helper()
	n.Broker = broker.New(cfg, broker.Deps{
		Decider: decider,
		Verifiers: plugins.NewSet(map[policy.VerifierRef]plugins.Verifier{
			{Verifier: registry.VerifierName}: n.Registry.TokenVerifier(),
		}, nil),
		Registry: feed.Registry{Registry: n.Registry}, Store: n.Store,
	})
	list, _, err := n.Registry.Organisations(n.t.Context(), registry.Page{})
	n.must(err)
	var tenants []broker.Tenant
	for _, o := range list {
		tenants = append(tenants, broker.Tenant{Org: o.ID, Incarnation: o.Incarnation})
	}
	_, err = n.Broker.Restore(n.t.Context(), tenants)
	n.must(err)
	n.unwatch = n.Registry.Watch(func(ch registry.Change) { n.Broker.Apply(feed.Change(ch)) })
	return tenants
}

// Listen lets clients connect.
func (n *Node) Listen() {
	n.net = listentest.NewListener()
	n.listener = listen.New(n.net, listen.Config{Name: "mqtt"})
	n.served = make(chan error, 1)
	go func() { n.served <- n.listener.Serve(n.Broker.Serve) }()
}

// StopListening lets nobody connect any more; who is connected stays.
func (n *Node) StopListening() {
	n.t.Helper()
	n.must(n.listener.Close())
}

// Shutdown ends all connections and the broker.
func (n *Node) Shutdown() {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	n.must(n.Broker.Shutdown(ctx))
	n.must(<-n.served)
	n.unwatch()
}

// Close ends the run. The store may be closed already: what came after that is lost,
// as it is with a process that is killed.
func (n *Node) Close() {
	n.Registry.Close()
	_ = n.Store.Close()
}

func (n *Node) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

// Eventually waits until ok answers true.
func Eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(Patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("never: ", what)
		}
	}
}
