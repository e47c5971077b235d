package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"slices"

	"github.com/cordon-mq/cordon/broker/metrics"
	"github.com/cordon-mq/cordon/plugins/wasm"
	"github.com/cordon-mq/cordon/policy"
)

// openMetrics makes what the other parts report to.
func (n *node) openMetrics() (err error) {
	info, _ := debug.ReadBuildInfo()
	b := describeBuild(info)
	n.metrics, err = metrics.New(b.Version, b.Revision, n.log)
	return err
}

// watchMetrics adds what is read from the other parts. They are all there.
func (n *node) watchMetrics() error {
	src := metrics.Sources{Broker: n.broker, Policy: n.policyMetrics, Store: n.storeMetrics}
	src.REST = n.restMetrics
	src.DecisionLog = n.decisionLogMetrics
	src.Monitor = func() metrics.Monitored {
		return metrics.Monitored{Dropped: n.monitor.Dropped(), Full: n.monitor.Full()}
	}
	src.Devices = func() metrics.Devices {
		d := metrics.Devices{Unheard: n.management.Dropped()}
		d.Claimed, d.Handed = n.registry.Claimed()
		return d
	}
	if n.plugins != nil {
		src.Plugins = n.pluginMetrics
	}
	certificates, err := n.certificateMetrics()
	if err != nil {
		return err
	}
	src.Certificates = certificates
	return n.metrics.Watch(src)
}

func (n *node) policyMetrics() metrics.Policy {
	s := n.engine.Stats()
	p := metrics.Policy{Revision: n.engine.Revision(), Activated: s.Activated, CoverMismatches: s.CoverMismatches}
	p.Actions = make(map[policy.Action]metrics.Decisions, len(s.Actions))
	for action, a := range s.Actions {
		p.Actions[action] = metrics.Decisions(a)
	}
	return p
}

// decisionLogMetrics names where decisions were lost. Its names are those of a label.
func (n *node) decisionLogMetrics() metrics.DecisionLog {
	s := n.audit.Stats()
	d := metrics.DecisionLog{Recorded: s.Recorded, Lost: map[string]uint64{"ring": s.Dropped, "rate": s.OverRate, "rendering": s.Failed}}
	for _, sink := range s.Sinks {
		d.Lost[sink.Name] += sink.Dropped + sink.Failed
	}
	return d
}

// restMetrics are those of the REST interface, which is built last.
func (n *node) restMetrics() map[metrics.Refused]uint64 {
	refused := map[metrics.Refused]uint64{}
	if n.api != nil {
		for what, count := range n.api.Refusals() {
			refused[metrics.Refused(what)] = count
		}
	}
	return refused
}

func (n *node) storeMetrics() metrics.Store {
	s := metrics.Store{Pending: n.store.Pending(), Short: n.short.Load()}
	free, err := freeSpace(n.cfg.Data)
	s.Free, s.FreeKnown = free, err == nil
	return s
}

func (n *node) pluginMetrics() []metrics.Plugin {
	var list []metrics.Plugin
	for _, s := range n.plugins.Status() {
		p := metrics.Plugin{Folder: s.Folder, Name: s.Name, Refused: s.Refused != nil, Quarantined: !s.Quarantined.IsZero()}
		if s.Refused == nil {
			p.Verdicts = verdicts(&s.Counts)
		}
		list = append(list, p)
	}
	return list
}

// verdicts are the results that a question to a plugin may have.
func verdicts(c *wasm.Counts) map[string]uint64 {
	return map[string]uint64{
		"remembered": c.Remembered, "good": c.Good, "bad": c.Bad, "not_mine": c.NotMine, "late": c.Late,
		"busy": c.Busy, "failed": c.Failed, "continued": c.Continued,
	}
}

// certificateMetrics reads when the certificate that is shown at the moment expires, the
// authority behind it, where it is Cordon's own, and the first of organisations and over
// ACME.
func (n *node) certificateMetrics() (func() []metrics.Certificate, error) {
	var authority []metrics.Certificate
	if n.caFile != "" {
		ca, err := readCertificate(n.caFile)
		if err != nil {
			return nil, err
		}
		authority = []metrics.Certificate{{Name: "ca", Expires: ca.NotAfter}}
	}
	return func() []metrics.Certificate {
		all := slices.Clone(authority)
		if shown, err := n.tls.GetCertificate(&tls.ClientHelloInfo{}); err == nil && shown.Leaf != nil {
			all = append(all, metrics.Certificate{Name: "server", Expires: shown.Leaf.NotAfter})
		}
		if soonest := n.hosted.Soonest(); !soonest.IsZero() {
			all = append(all, metrics.Certificate{Name: "organisations", Expires: soonest})
		}
		if n.acme != nil {
			if soonest := n.acme.Soonest(); !soonest.IsZero() {
				all = append(all, metrics.Certificate{Name: "acme", Expires: soonest})
			}
		}
		return all
	}, nil
}

func readCertificate(file string) (*x509.Certificate, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s: %w", file, errors.New("no PEM block"))
	}
	return x509.ParseCertificate(block.Bytes)
}
