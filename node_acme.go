package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cordon-mq/cordon/broker/config"
	"github.com/cordon-mq/cordon/broker/pki/acme"
	"github.com/cordon-mq/cordon/broker/registry"
)

// openACME puts certificates of an authority that speaks ACME before the platform's.
// They are asked for once the listeners are open, since these prove the names.
func (n *node) openACME() error {
	if n.cfg.ACMEDirectory == "" {
		return nil
	}
	var roots *x509.CertPool
	if n.cfg.ACMECA != "" {
		text, err := os.ReadFile(n.cfg.ACMECA)
		if err != nil {
			return fmt.Errorf("acme-ca: %w", err)
		}
		roots = x509.NewCertPool()
		if !roots.AppendCertsFromPEM(text) {
			return fmt.Errorf("acme-ca: %s holds no certificate in PEM", n.cfg.ACMECA)
		}
	}
	var err error
	n.acme, err = acme.New(acme.Config{
		Directory: n.cfg.ACMEDirectory, Email: n.cfg.ACMEEmail, Roots: roots, HTTP: n.cfg.ACMEHTTP,
		Dir: filepath.Join(n.cfg.Data, "tls", "acme"), Log: n.log,
	})
	if err != nil {
		return err
	}
	n.onStop(n.acme.Close)
	n.tls = n.acme.Before(n.tls)
	return nil
}

// startACME asks for what is missing. It is called between the opening of the
// listeners and the first connection.
func (n *node) startACME() error {
	if n.acme == nil {
		return nil
	}
	names, err := n.acmeNames(context.Background())
	if err != nil {
		return err
	}
	var proves net.Addr // not used with acme-http
	switch {
	case n.https != nil:
		proves = n.https.Addr()
	case n.mqtts != nil:
		proves = n.mqtts.Addr()
	}
	if err := n.acme.Start(proves, names); err != nil {
		return err
	}
	if slices.ContainsFunc(n.cfg.ACMEDomain, func(name string) bool { return strings.Contains(name, config.OrgPlaceholder) }) {
		n.onStop(n.registryWatch(n.followACME))
	}
	return nil
}

// followACME has certificates for the organisations that there are.
func (n *node) followACME(ch registry.Change) {
	if ch.Kind != registry.OrganisationChanged && ch.Kind != registry.OrganisationDeleted {
		return
	}
	names, err := n.acmeNames(context.Background())
	if err != nil {
		n.log.Error("names for certificates over ACME not known", "err", err)
		return
	}
	n.acme.SetNames(names)
}

func (n *node) acmeNames(ctx context.Context) ([]string, error) {
	orgs, err := organisationNames(ctx, n.registry)
	return n.cfg.ACMENames(orgs), err
}
