package main

import (
	"context"
	"path/filepath"

	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/plugins/wasm"
	"github.com/cordon-mq/cordon/policy"
)

// openPlugins takes up the plugins folder and follows it. A folder that cannot be
// used is no reason not to start: what names a plugin is refused then, and
// everybody else connects.
func (n *node) openPlugins(ctx context.Context) {
	host, err := wasm.Open(ctx, wasm.Options{
		Dir: n.cfg.Plugins, CacheDir: filepath.Join(n.cfg.Data, "cache", "plugins"),
		Orgs: n.organisationIDs, Log: n.log,
	})
	if err != nil {
		n.log.Error("plugins folder not opened: every plugin refuses", "folder", n.cfg.Plugins, "err", err)
		return
	}
	n.plugins = host
	watching, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	n.work.Go(func() {
		defer close(done)
		if err := host.Run(watching); err != nil {
			n.log.Error("plugins folder not watched", "err", err)
		}
	})
	n.onStop(func() error {
		cancel()
		<-done
		return host.Close()
	})
}

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
