package ledger_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/broker/ledger"
	"github.com/cordon-mq/cordon/broker/store/memstore"
	"github.com/cordon-mq/cordon/policy"
)

// Of any number of clients and kinds a bounded number is kept, the last ones, and what
// is kept is counted right.
func TestViolationsAreBounded(t *testing.T) {
	t.Parallel()
	st := memstore.New()
	t.Cleanup(func() { _ = st.Close() })
	l := ledger.On(st)
	org, err := policy.ParseOrgID("acme01")
	if err != nil {
		t.Fatal(err)
	}
	tenant, other := ledger.Tenant{Org: org, Incarnation: 1}, ledger.Tenant{Org: org, Incarnation: 2}
	at := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	violate := func(tenant ledger.Tenant, kind string, client int, at time.Time) {
		t.Helper()
		b := l.Batch()
		err := b.Violate(tenant, ledger.Violator{
			Kind: kind, ClientID: fmt.Sprint("c", client), Device: ledger.Device{Type: "t", ID: policy.ID(fmt.Sprint("d", client)), Incarnation: 1}, Last: at,
		})
		if err == nil {
			err = b.Commit(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	read := func() ledger.Violations {
		t.Helper()
		v, err := l.Violations(tenant, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for i := range 250 {
		violate(tenant, "address", i, at.Add(time.Duration(i)*time.Second))
	}
	violate(tenant, "address", 249, at.Add(time.Hour))
	violate(other, "address", 1, at)
	v := read()
	if len(v.Clients) != ledger.MaxViolators || v.Clients[0].ClientID != "c249" || v.Clients[0].Count != 2 || v.Clients[99].ClientID != "c150" {
		t.Errorf("%d clients, first %+v", len(v.Clients), v.Clients[0])
	}
	if len(v.Kinds) != 1 || v.Kinds[0].Count != 251 || !v.Kinds[0].First.Equal(at) || !v.Kinds[0].Last.Equal(at.Add(time.Hour)) {
		t.Errorf("kinds %+v", v.Kinds)
	}
	b := l.Batch()
	if err := b.Forget(tenant, ledger.Device{Type: "t", ID: "d249", Incarnation: 1}); err != nil {
		t.Fatal(err)
	}
	if err := b.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if v := read(); v.Clients[0].ClientID != "c248" || v.Kinds[0].Count != 251 {
		t.Errorf("after the device was deleted: %+v", v.Clients[0])
	}
	for i := range 40 {
		violate(tenant, fmt.Sprintf("kind_%c", 'a'+i%26), 1, at.Add(2*time.Hour))
	}
	if v := read(); len(v.Kinds) > 16 {
		t.Errorf("%d kinds", len(v.Kinds))
	}
	violate(tenant, "address", 1, at.Add(2*ledger.LogKept))
	if v := read(); len(v.Kinds) != 1 || len(v.Clients) != 1 || v.Kinds[0].Count != 1 {
		t.Errorf("what is old is left: %+v", v)
	}
}
