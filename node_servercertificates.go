package main

import (
	"context"
	"path/filepath"
	"time"

	"github.com/cordon-mq/cordon/broker/pki"
	"github.com/cordon-mq/cordon/broker/pki/tenant"
)

// openServerCertificates puts the certificates of organisations before the platform's.
func (n *node) openServerCertificates(ctx context.Context) error {
	seal, err := pki.OpenSeal(filepath.Join(n.cfg.Data, "tls"), n.log)
	if err != nil {
		return err
	}
	reserved := hosts()
	if n.acme != nil { // names that are listed one by one are the platform's
		reserved = append(reserved, n.cfg.ACMENames(nil)...)
	}
	n.hosted = tenant.New(tenant.Config{
		Registry: n.registry, Seal: seal, Domain: n.cfg.Domain, Reserved: reserved, Log: n.log,
	})
	list, err := organisations(ctx, n.registry)
	if err != nil {
		return err
	}
	n.hosted.Load(ctx, list)
	n.onStop(n.registryWatch(n.hosted.Follow))
	n.hosted.Warn()
	n.every(time.Hour, n.hosted.Warn)
	n.tls = n.hosted.Before(n.tls)
	return nil
}
