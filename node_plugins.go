package main

import (
	"context"
	"path/filepath"
	"time"

	"github.com/cordon-mq/cordon/broker"
	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/plugins/wasm"
	"github.com/cordon-mq/cordon/policy"
)

// openPlugins takes up the plugins folder. A folder that cannot be used is no reason
// not to start: what names a plugin is refused then, and everybody else connects.
func (n *node) openPlugins(ctx context.Context) {
	cache := filepath.Join(n.cfg.Data, "cache")
	host, err := wasm.Open(ctx, wasm.Options{
		Dir: n.cfg.Plugins, CacheDir: filepath.Join(cache, "plugins"), KeySetDir: filepath.Join(cache, "keysets"),
		Orgs: n.organisationIDs, Log: n.log, Lost: n.pluginLost,
	})
	if err != nil {
		n.log.Error("plugins folder not opened: every plugin refuses", "folder", n.cfg.Plugins, "err", err)
		return
	}
	n.plugins = host
	n.onStop(host.Close)
}

// followPlugins keeps to the folder from now on. The broker is there: what is taken
// away ends sessions.
func (n *node) followPlugins() {
	if n.plugins == nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	n.work.Go(func() {
		defer close(done)
		if err := n.plugins.Run(ctx); err != nil {
			n.log.Error("plugins folder not watched", "err", err)
		}
	})
	n.onStop(func() error {
		cancel()
		<-done
		return nil
	})
}

// pluginLost ends the connections of principals whom nobody vouches for any more.
// Their sessions stay, for whoever proves to be their owner.
func (n *node) pluginLost(s wasm.Service) {
	ctx, cancel := context.WithTimeout(context.Background(), pluginLostTime)
	defer cancel()
	org, err := n.registry.Organisation(ctx, s.Org)
	if err != nil {
		n.log.Error("sessions of a plugin that is gone not ended", "plugin", s.Name, "org", s.Org, "err", err)
		return
	}
	n.broker.Apply(broker.Change{
		Effect: broker.Disconnect, Cause: policy.CauseRevoked, Org: s.Org, Incarnation: org.Incarnation,
		Match: func(p *policy.Principal) bool { return p.Verifier == s.Name },
	})
}

// pluginLostTime is for one look into the registry.
const pluginLostTime = 5 * time.Second

func (n *node) organisationIDs(ctx context.Context) (ids []policy.OrgID, err error) {
	list, err := organisations(ctx, n.registry)
	for _, o := range list {
		ids = append(ids, o.ID)
	}
	return ids, err
}

// findPlugin is the plugin that the policy names.
func (n *node) findPlugin(ref policy.VerifierRef) (plugins.Verifier, bool) {
	if n.plugins == nil {
		return nil, false
	}
	return n.plugins.Find(ref)
}
