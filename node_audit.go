package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/audit"
)

// openAudit puts the decision log around the engine: into the store, and into a file
// and to a server where the configuration names them.
func (n *node) openAudit(ctx context.Context) error {
	id, err := n.nodeID(ctx)
	if err != nil {
		return fmt.Errorf("decision log: %w", err)
	}
	sinks, err := n.auditSinks()
	if err != nil {
		return errors.Join(err, closeSinks(sinks))
	}
	n.audit = audit.New(n.engine, audit.Options{ //nolint:contextcheck // it writes until it is closed
		Renderer: n.engine.Recorder(map[string]string{"id": id, "version": version}),
		Sinks:    sinks,
		Sample:   sampleOf(n.cfg.DecisionLogSample),
		Log:      n.log,
	})
	n.onStop(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), shutdownTime)
		defer cancel()
		if err := n.audit.Close(ctx); err != nil {
			n.log.Warn("decision log not written to its end", "err", err)
		}
		return nil
	})
	if n.decisions != nil {
		if err := n.forgetDeleted(ctx); err != nil {
			return fmt.Errorf("decision log: %w", err)
		}
		n.onStop(n.registryWatch(func(ch registry.Change) {
			if ch.Kind == registry.OrganisationDeleted {
				n.decisions.Forget(audit.Tenant{Org: ch.Org, Incarnation: ch.Incarnation})
			}
		}))
	}
	return nil
}

// forgetDeleted finishes what a deletion of an organisation began before a restart.
func (n *node) forgetDeleted(ctx context.Context) error {
	for _, t := range n.decisions.Tenants() {
		o, err := n.registry.Organisation(ctx, t.Org)
		switch {
		case policy.KindOf(err) == policy.KindNotFound, err == nil && o.Incarnation != t.Incarnation:
			n.decisions.Forget(t)
		case err != nil:
			return err
		}
	}
	return nil
}

func sampleOf(n int) audit.Sample {
	if n == 0 {
		n = -1 // the configuration's word for none
	}
	return audit.Sample{Publish: n, Receive: n}
}

// auditSinks opens what the configuration names. Those that it returns are open, also
// beside an error.
func (n *node) auditSinks() (sinks []audit.Sink, err error) {
	if n.cfg.DecisionLogSize > 0 {
		n.decisions, err = audit.OpenStore(decisionStorage{n.store}, audit.StoreOptions{
			Age:  time.Duration(n.cfg.DecisionLogRetention) * time.Hour,
			Size: int64(n.cfg.DecisionLogSize) << 20,
			Log:  n.log,
		})
		if err != nil {
			return sinks, err
		}
		sinks = append(sinks, n.decisions)
	}
	if n.cfg.DecisionLog != "" {
		file, err := audit.OpenFile(audit.FileOptions{Path: n.cfg.DecisionLog})
		if err != nil {
			return sinks, err
		}
		sinks = append(sinks, file)
	}
	if n.cfg.DecisionLogURL != "" {
		server, err := audit.NewHTTP(audit.HTTPOptions{URL: n.cfg.DecisionLogURL, TokenFile: n.cfg.DecisionLogTokenFile})
		if err != nil {
			return sinks, fmt.Errorf("decision-log-url: %w", err)
		}
		sinks = append(sinks, server)
	}
	return sinks, nil
}

func closeSinks(sinks []audit.Sink) error {
	var errs []error
	for _, s := range sinks {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

// nodeID is a random name of this data folder, made once.
func (n *node) nodeID(ctx context.Context) (string, error) {
	key := store.Global().Key(store.KindDecisionLog, "node")
	id, err := n.store.Get(key)
	if errors.Is(err, store.ErrNotFound) {
		id = []byte(strings.ToLower(rand.Text()[:16]))
		err = store.CommitWait(ctx, n.store, store.Put(key, id))
	}
	return string(id), err
}

// decisionStorage is the part of the store that holds decisions.
type decisionStorage struct{ store store.Store }

var _ audit.Storage = decisionStorage{}

func (s decisionStorage) Scan(prefix, after audit.Key, fn func(audit.Key, []byte) bool) error {
	from := store.Key{}
	if len(after) > 0 {
		from = store.Global().Key(store.KindDecisionLog, after...)
	}
	return s.store.Scan(store.Global().Prefix(store.KindDecisionLog, prefix...), from, func(key store.Key, value []byte) bool {
		return fn(key.Parts(), value)
	})
}

func (s decisionStorage) Commit(ops []audit.Op, done func(error)) {
	all := make([]store.Op, len(ops))
	for i, op := range ops {
		key := store.Global().Key(store.KindDecisionLog, op.Key...)
		if op.Value == nil {
			all[i] = store.Delete(key)
		} else {
			all[i] = store.Put(key, op.Value)
		}
	}
	s.store.Commit(all, done)
}
