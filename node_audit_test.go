package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/broker/store/badgerstore"
	"github.com/cordon-mq/cordon/broker/store/memstore"
	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/audit"
)

// The decision log in the stores that there are: found again after a restart, each
// organisation's apart, and gone without a trace when it is forgotten.
func TestDecisionsInTheStore(t *testing.T) {
	t.Parallel()
	dir, disk := filepath.Join(t.TempDir(), "db"), memstore.NewDisk()
	for name, open := range map[string]func() (store.Store, error){
		"memory": func() (store.Store, error) { return disk.Open(store.Options{}) },
		"badger": func() (store.Store, error) { return badgerstore.Open(dir, badgerstore.Options{}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var tenants []audit.Tenant
			for _, id := range []string{"acme01", "rival1"} {
				org, err := policy.ParseOrgID(id)
				if err != nil {
					t.Fatal(err)
				}
				tenants = append(tenants, audit.Tenant{Org: org, Incarnation: 3})
			}
			with := func(what string, check func(*audit.Store)) {
				t.Helper()
				s, err := open()
				if err != nil {
					t.Fatal(err)
				}
				decisions, err := audit.OpenStore(decisionStorage{s}, audit.StoreOptions{})
				if err != nil {
					t.Fatal(what, err)
				}
				check(decisions)
				if err := errors.Join(decisions.Close(), s.Close()); err != nil {
					t.Fatal(what, err)
				}
			}
			listed := func(d *audit.Store, tenant *audit.Tenant) (n int) {
				t.Helper()
				q := audit.Query{Tenant: tenant, Limit: 7}
				for {
					p, err := d.List(context.Background(), q)
					if err != nil {
						t.Fatal(err)
					}
					n += len(p.Events)
					if q.Cursor = p.Next; q.Cursor == "" {
						return n
					}
				}
			}
			with("first", func(d *audit.Store) {
				var events []*audit.Event
				for i := range 40 {
					ev := &audit.Event{DecisionID: fmt.Sprint("d", i), Timestamp: time.Now().UTC(), Input: json.RawMessage(`{}`)}
					ev.Custom = audit.Custom{Org: tenants[i%2].Org.String(), Incarnation: 3, Count: 1, Weight: 1}
					events = append(events, ev)
				}
				if lost, err := d.Write(context.Background(), events); lost != 0 || err != nil {
					t.Fatalf("lost %d: %v", lost, err)
				}
			})
			with("second", func(d *audit.Store) {
				if a, b, all := listed(d, &tenants[0]), listed(d, &tenants[1]), listed(d, nil); a != 20 || b != 20 || all != 40 {
					t.Errorf("listed %d, %d and %d", a, b, all)
				}
				if ev, err := d.Find(context.Background(), &tenants[1], "d7"); err != nil || ev.DecisionID != "d7" {
					t.Errorf("%v, %v", ev, err)
				}
				if _, err := d.Find(context.Background(), &tenants[0], "d7"); policy.KindOf(err) != policy.KindNotFound {
					t.Errorf("another's: %v", err)
				}
				d.Forget(tenants[0])
				if n := listed(d, nil); n != 20 {
					t.Errorf("%d are left of 20", n)
				}
			})
			with("third", func(d *audit.Store) {
				if a, b := listed(d, &tenants[0]), listed(d, &tenants[1]); b != 20 || a != 0 && a != 20 { // or not deleted in time
					t.Errorf("listed %d and %d", a, b)
				}
			})
		})
	}
}
