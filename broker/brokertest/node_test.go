package brokertest_test

import (
	"testing"

	"github.com/cordon-mq/cordon/broker"
	"github.com/cordon-mq/cordon/broker/brokertest"
	"github.com/cordon-mq/cordon/policy/policytest"
)

// What a run leaves on the disk is there in the next one, and who is a stranger to
// the one is a stranger to the other.
func TestTwoRuns(t *testing.T) {
	t.Parallel()
	n := brokertest.NewNode(t)
	var acme *brokertest.Organisation
	for run := range 2 {
		n.Open()
		tenants := n.Restore(broker.Config{}, policytest.AllowAll{})
		if len(tenants) != run {
			t.Errorf("run %d knows %v", run, tenants)
		}
		n.Listen()
		if run == 0 {
			acme = n.Seed("acme01")
		}
		if _, err := brokertest.Connect(n.DeviceOptions(acme, "d1")); err != nil {
			t.Errorf("run %d refuses d1: %v", run, err)
		}
		if _, err := brokertest.Connect(n.Options(acme.ClientID("d2"), "use-token-auth", acme.Tokens["d1"])); err == nil {
			t.Errorf("run %d lets d1 in as d2", run)
		}
		n.StopListening()
		n.Shutdown()
		n.Close()
	}
}
