package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cordon-mq/cordon/broker"
	"github.com/cordon-mq/cordon/broker/api"
	"github.com/cordon-mq/cordon/broker/api/control"
	"github.com/cordon-mq/cordon/broker/config"
	"github.com/cordon-mq/cordon/broker/feed"
	"github.com/cordon-mq/cordon/broker/ledger"
	"github.com/cordon-mq/cordon/broker/listen"
	"github.com/cordon-mq/cordon/broker/management"
	"github.com/cordon-mq/cordon/broker/metrics"
	"github.com/cordon-mq/cordon/broker/monitor"
	"github.com/cordon-mq/cordon/broker/pki"
	"github.com/cordon-mq/cordon/broker/pki/acme"
	"github.com/cordon-mq/cordon/broker/pki/tenant"
	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/broker/store/badgerstore"
	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/plugins/certificate"
	"github.com/cordon-mq/cordon/plugins/wasm"
	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/audit"
	"github.com/cordon-mq/cordon/policy/opa"
	"github.com/cordon-mq/cordon/policy/revision"
)

// node is one running Cordon: every part, in the order they were started.
type node struct {
	cfg config.Config
	log *slog.Logger

	store     *badgerstore.Store
	registry  *registry.Registry
	engine    *opa.Engine
	plugins   *wasm.Host // nil when the folder could not be used
	verifiers *plugins.Set
	broker    *broker.Broker
	api       *api.API
	messaging *messaging
	tls       *tls.Config
	caFile    string // empty with a certificate of the operator's own
	tour      *tour
	failures  *listen.Failures // of MQTT and REST together
	short     atomic.Bool      // free space is below the watermark
	metrics   *metrics.Set
	ledger    *ledger.Ledger // of what is noted about clients
	monitor   *monitor.Monitor

	management *management.Management

	certificates *certificates  // of clients
	hosted       *tenant.Keeper // of servers, by organisation
	acme         *acme.Keeper   // of the platform, over ACME; nil: none

	revisions *revision.Book // of the policy: what was live when
	audit     *audit.Log     // who decides for everybody, and records it
	decisions *audit.Store   // what was recorded; nil when none is kept

	mqtts, mqtt, https *listen.Listener // nil when off

	work   sync.WaitGroup // the goroutines of this file
	failed chan error     // the first listener that stopped by itself
	undo   []func() error // what stop does, last first
}

// startNode opens the data folder and builds every part; listen opens the doors.
func startNode(ctx context.Context, cfg config.Config, log *slog.Logger, stderr io.Writer) (_ *node, err error) {
	n := &node{cfg: cfg, log: log, failed: make(chan error, 4)}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.stop())
		}
	}()
	if err := os.MkdirAll(cfg.Data, 0o700); err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	if err := n.openMetrics(); err != nil {
		return nil, err
	}
	if err := n.openStore(); err != nil {
		return nil, err
	}
	if err := n.openRegistry(); err != nil {
		return nil, err
	}
	if err := n.openCertificate(ctx); err != nil {
		return nil, err
	}
	if err := n.openACME(); err != nil {
		return nil, err
	}
	if err := n.openServerCertificates(ctx); err != nil {
		return nil, err
	}
	if err := n.openPolicy(ctx, stderr); err != nil {
		return nil, err
	}
	if err := n.openAudit(ctx); err != nil {
		return nil, err
	}
	if err := n.openCertificates(ctx); err != nil {
		return nil, err
	}
	n.openPlugins(ctx)
	n.verifiers = plugins.NewSet(map[policy.VerifierRef]plugins.Verifier{
		{Verifier: registry.VerifierName}:      n.registry.TokenVerifier(),
		{Verifier: registry.ClaimVerifierName}: n.registry.ClaimVerifier(),
		{Verifier: certificate.Name}:           n.certificates.verifier(cfg.Domain),
		{Verifier: plugins.AnonymousName}:      plugins.Anonymous{},
	}, n.findPlugin)
	n.failures = listen.NewFailures(listen.FailuresConfig{})
	n.openMonitor()
	n.openManagement()
	n.broker = broker.New(broker.Config{
		Domain: cfg.Domain, Failures: n.failures, Log: log, Buffer: int64(cfg.MaxBuffer) << 20, Observer: n.metrics, Monitor: n.monitor,
		Intake: n.management, IntakePrefix: management.Prefix,
	}, broker.Deps{
		Decider:   n.audit,
		Verifiers: n.verifiers,
		Registry:  feed.Registry{Registry: n.registry}, Store: n.store,
	})
	n.engine.OnActivate(func(policy.Generation) { n.broker.Sweep() })
	n.followPlugins()
	cancel := n.registry.WatchCommits(func(list []registry.Change) {
		for _, ch := range feed.Changes(list) {
			n.broker.Apply(ch)
		}
	})
	n.onStop(func() error { cancel(); return nil })
	n.onStop(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), shutdownTime)
		defer cancel()
		return n.broker.Shutdown(ctx)
	})
	if err := n.restore(ctx); err != nil {
		return nil, err
	}
	if err := n.startMonitor(ctx); err != nil {
		return nil, err
	}
	if err := n.startManagement(ctx); err != nil {
		return nil, err
	}
	n.watchSpace()
	n.returnMemory()
	if err := n.watchMetrics(); err != nil {
		return nil, err
	}
	return n, n.openAPI()
}

func (n *node) onStop(f func() error) { n.undo = append(n.undo, f) }

// stop ends every part, the last started first, and waits for each.
func (n *node) stop() error {
	var errs []error
	for i := len(n.undo) - 1; i >= 0; i-- {
		errs = append(errs, n.undo[i]())
	}
	n.undo = nil
	n.work.Wait()
	return errors.Join(errs...)
}

func (n *node) openRegistry() error {
	level := registry.LevelTLS
	if n.cfg.MQTT != config.Off { // whoever opens a plain listener wants it used
		level = registry.LevelTLSOptional
	}
	var err error
	n.registry, err = registry.Open(n.store, registry.Options{Log: n.log, DefaultConnectionLevel: level})
	if err != nil {
		return err
	}
	n.onStop(func() error { n.registry.Close(); return nil })
	return nil
}

func (n *node) registryWatch(fn func(registry.Change)) func() error {
	cancel := n.registry.Watch(fn)
	return func() error { cancel(); return nil }
}

// openCertificate takes the operator's certificate, or issues one that names
// the organisations and is renewed and reissued as they change.
func (n *node) openCertificate(ctx context.Context) error {
	if n.cfg.TLSCert != "" {
		files, err := pki.FromFiles(n.cfg.TLSCert, n.cfg.TLSKey, n.log)
		if err != nil {
			return err
		}
		n.onStop(files.Close)
		n.tls = files.TLSConfig()
		return nil
	}
	names, err := organisationNames(ctx, n.registry)
	if err != nil {
		return err
	}
	ca, err := pki.Open(filepath.Join(n.cfg.Data, "tls"), pki.Names{
		Domain: n.cfg.Domain, Organisations: names, Hosts: hosts(), Log: n.log,
	}, nil)
	if err != nil {
		return err
	}
	n.tls, n.caFile = ca.TLSConfig(), ca.CAFile()
	n.onStop(n.registryWatch(func(ch registry.Change) {
		if ch.Kind != registry.OrganisationChanged && ch.Kind != registry.OrganisationDeleted {
			return
		}
		names, err := organisationNames(context.Background(), n.registry)
		if err == nil {
			err = ca.SetOrganisations(names)
		}
		if err != nil {
			n.log.Error("server certificate not reissued", "err", err)
		}
	}))
	n.every(24*time.Hour, func() {
		if err := ca.Renew(); err != nil {
			n.log.Error("server certificate not renewed", "err", err)
		}
	})
	return nil
}

// organisationNames lists every organisation for the certificate.
func organisationNames(ctx context.Context, r *registry.Registry) (names []string, err error) {
	list, err := organisations(ctx, r)
	for _, o := range list {
		names = append(names, o.ID.String())
	}
	return names, err
}

// organisations lists them all.
func organisations(ctx context.Context, r *registry.Registry) (all []registry.Organisation, err error) {
	for page := (registry.Page{Limit: 1000}); ; {
		list, next, err := r.Organisations(ctx, page)
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
		if next == "" {
			return all, nil
		}
		page.After = next
	}
}

// every calls f at each interval until stop.
func (n *node) every(interval time.Duration, f func()) {
	done := make(chan struct{})
	n.onStop(func() error { close(done); return nil })
	n.work.Go(func() {
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				f()
			case <-done:
				return
			}
		}
	})
}

func (n *node) openAPI() error {
	token, err := control.Token(n.cfg.Data)
	if err != nil {
		return err
	}
	n.messaging = newMessaging(n.broker)
	recorded := &decisions{node: n, bundles: &bundles{node: n}}
	recorded.bundles.open()
	reviews := newReviews(n, recorded)
	n.onStop(reviews.close)
	n.api, err = api.New(api.Config{Log: n.log, Version: version, Domain: n.cfg.Domain, CallRate: float64(n.cfg.RESTRate)}, api.Deps{
		Registry: n.registry, Decider: n.audit, Verifiers: n.verifiers, OperatorToken: token, Failures: n.failures, Ready: n.ready, Metrics: n.metrics.Handler(),
		Messaging: n.messaging,
		Ledger:    n.ledger, Management: n.management, Clients: clients{n.monitor, n.broker},
		Narrowings: n.openLayers(), ServerCertificates: n.hosted,
		Decisions: recorded, Reviews: reviews,
		Revisions: n.revisions, Gate: func(ctx context.Context) revision.Check { return policyGate(ctx, n.activate) },
	})
	return err
}
