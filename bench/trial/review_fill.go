package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/broker/store/badgerstore"
	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/audit"
	"github.com/cordon-mq/cordon/policy/opa"
	"github.com/cordon-mq/cordon/policy/topic"
	"github.com/cordon-mq/cordon/rego"
)

// decisionKeys is the part of a store that holds decisions, as the program keeps it.
type decisionKeys struct{ store store.Store }

func (s decisionKeys) Scan(prefix, after audit.Key, fn func(audit.Key, []byte) bool) error {
	from := store.Key{}
	if len(after) > 0 {
		from = store.Global().Key(store.KindDecisionLog, after...)
	}
	return s.store.Scan(store.Global().Prefix(store.KindDecisionLog, prefix...), from, func(key store.Key, value []byte) bool {
		return fn(key.Parts(), value)
	})
}

func (s decisionKeys) Commit(ops []audit.Op, done func(error)) {
	all := make([]store.Op, len(ops))
	for i, op := range ops {
		key := store.Global().Key(store.KindDecisionLog, op.Key...)
		if all[i] = store.Put(key, op.Value); op.Value == nil {
			all[i] = store.Delete(key)
		}
	}
	s.store.Commit(all, done)
}

// fillBatch is how many decisions are stored at once.
const fillBatch = 1000

// fill has the built-in policies decide about publishes of many devices, one like no
// other, and stores the records as the program does. The result are some of their IDs.
func (p *program) fill(ctx context.Context, n, ids int) (some []string, err error) {
	bundle, report := opa.Load(ctx, rego.Bundle(), rego.Schemas())
	if bundle == nil {
		return nil, report.Err()
	}
	engine := opa.New(opa.Options{Timeout: time.Minute})
	defer engine.Close()
	engine.Activate(bundle)
	recorder := engine.Recorder(map[string]string{"id": "trial", "version": "trial"})

	st, err := badgerstore.Open(filepath.Join(p.data, "db"), badgerstore.Options{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	kept, err := audit.OpenStore(decisionKeys{st}, audit.StoreOptions{Size: 4 << 30})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, kept.Close()) }()
	begin := time.Now().Add(-time.Duration(n) * time.Millisecond)
	batch := make([]*audit.Event, 0, fillBatch)
	for i := range n {
		en, err := deviceEntry(ctx, engine, i, begin.Add(time.Duration(i)*time.Millisecond))
		if err != nil {
			return nil, err
		}
		ev, err := recorder.Render(ctx, en)
		if err != nil {
			return nil, err
		}
		if batch = append(batch, ev); i%max(1, n/ids) == 0 {
			some = append(some, ev.DecisionID)
		}
		if len(batch) == fillBatch || i == n-1 {
			if _, err := kept.Write(ctx, batch); err != nil {
				return nil, err
			}
			batch = batch[:0]
		}
	}
	return some, nil
}

// deviceEntry is a publish of device i: one in eight is refused.
func deviceEntry(ctx context.Context, engine *opa.Engine, i int, at time.Time) (*audit.Entry, error) {
	org, err := policy.ParseOrgID(organisation)
	if err != nil {
		return nil, err
	}
	id := fmt.Sprintf("d%d", i)
	facts := &policy.Facts{
		Principal: &policy.Principal{
			Org: org, Incarnation: 1, Kind: policy.KindDevice, Type: "sensor", ID: policy.ID(id), Verifier: "token", Registered: true,
			Credential: policy.CredentialID{ID: "device/sensor/" + id, Version: 1},
		},
		Org: &policy.Organisation{ID: org, ConnectionLevel: "tls_optional"},
		Client: &policy.Client{
			ID: policy.ClientID("d:" + organisation + ":sensor:" + id), Username: "use-token-auth", Protocol: "5", Listener: "mqtts",
			Address: netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), TLS: &policy.TLS{Version: "1.3"},
		},
	}
	kind := "evt"
	if i%8 == 0 {
		kind = "cmd"
	}
	name, err := topic.ParseName("iot-2/" + kind + "/status/fmt/json")
	if err != nil {
		return nil, err
	}
	r := &policy.Request{
		Action: policy.ActionPublish, Time: at, Topic: name, QoS: byte(i % 2), Size: 20 + i%500,
		Levels: strings.Split("iot-2/type/sensor/id/"+id+"/"+kind+"/status/fmt/json", "/"),
	}
	d := engine.Judge(facts).Decide(ctx, r)
	return &audit.Entry{Facts: facts, Request: *r, Decision: d, Time: at, Count: 1, Weight: 1}, nil
}
