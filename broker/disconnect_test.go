package broker_test

import (
	"testing"

	"github.com/cordon-mq/cordon/broker"
	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/policy"
)

// A client ID is not one session's: every subject has its own under it. Whoever
// disconnects the ID disconnects all of them in the organisation, what asks for
// messages over HTTP too, and keeps what they keep.
func TestDisconnectEndsAllOfAClientID(t *testing.T) {
	t.Parallel()
	w := newWorld(t, builtIn())
	acme, rival := w.org("acme01"), w.org("rival1")
	found, err := w.registry.Organisation(ctx, acme.id)
	must(t, err)
	disconnect := func(who login) int {
		return w.broker.Disconnect(broker.Tenant{Org: acme.id, Incarnation: found.Incarnation}, policy.ClientID(who.clientID))
	}
	one, two := acme.app("same"), acme.appWith(acme.addKey(), "same")
	first, second := w.connect(t, one, wire.V5, kept), w.connect(t, two, wire.V5)
	old, bystander := w.connect(t, acme.device("d1"), wire.V311), w.connect(t, acme.app("other"), wire.V5)
	theirs := w.connect(t, rival.device("d1"), wire.V5)
	first.listen(1, allEvents)
	for _, c := range []*client{second, old} {
		c.ping() // a CONNACK may arrive before its connection can be found
	}

	if n := disconnect(one); n != 2 {
		t.Errorf("%d connections of two keys were closed", n)
	}
	for _, c := range []*client{first, second} {
		if d := c.expectGone(); d.Code != wire.AdministrativeAction {
			t.Errorf("told %s", d.Code)
		}
	}
	if first = w.connect(t, one, wire.V5, kept); !first.ack.SessionPresent {
		t.Error("the session is gone")
	}

	// A request for commands has a session of its own, under the same client ID.
	if got, err := w.ask(t, acme.device("d1"), ownCmds, 0); err != nil || got != "" {
		t.Fatalf("%q, %v", got, err)
	}
	if n := disconnect(acme.device("d1")); n != 2 {
		t.Errorf("%d of MQTT and HTTP were closed", n)
	}
	old.expectGone()
	bystander.quiet()
	theirs.quiet()
}
