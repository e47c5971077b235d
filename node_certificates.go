package main

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/broker/revocation"
	"github.com/cordon-mq/cordon/plugins/certificate"
	"github.com/cordon-mq/cordon/policy"
)

// certificates is what a node does about client certificates: it asks for them while
// any organisation trusts somebody to issue some, keeps what is known of revocations
// fresh, and warns before an authority expires.
type certificates struct {
	registry *registry.Registry
	keeper   *revocation.Keeper
	log      *slog.Logger

	trusting struct {
		sync.RWMutex
		orgs map[policy.OrgID]bool // that have authorities
	}
	warned struct {
		sync.Mutex
		at    map[authorityOf]int       // the last threshold that was logged, in days
		lists map[authorityOf]time.Time // the end of the list that was
	}
}

type authorityOf struct {
	org policy.OrgID
	id  policy.ID
}

// openCertificates starts it, before anybody can connect.
func (n *node) openCertificates(ctx context.Context) error {
	c := &certificates{registry: n.registry, log: n.log}
	c.trusting.orgs = map[policy.OrgID]bool{}
	c.warned.at = map[authorityOf]int{}
	c.warned.lists = map[authorityOf]time.Time{}
	c.keeper = revocation.New(revocation.Config{Registry: n.registry, Private: n.cfg.CertificateFetchPrivate, Log: n.log})
	n.onStop(func() error { c.keeper.Close(); return nil })
	n.onStop(n.registryWatch(c.follow))
	list, err := organisations(ctx, n.registry)
	if err != nil {
		return err
	}
	for _, o := range list {
		if err := c.look(ctx, o.ID); err != nil { // its clients are refused, and nobody else's
			c.log.Error("certificate authorities cannot be read", "org", o.ID.String(), "err", err)
		}
	}
	c.warn(ctx, time.Now())
	n.every(revocation.Interval, func() { c.keeper.Refresh(context.Background(), c.orgs()) })
	n.every(time.Hour, func() { c.warn(context.Background(), time.Now()) })
	n.certificates = c
	return nil
}

// verifier is the verifier "certificate".
func (c *certificates) verifier(domain string) *certificate.Verifier {
	return certificate.New(certificate.Config{Authorities: c.registry, Revocation: c.keeper, Domain: domain})
}

// wanted reports whether clients are to be asked for a certificate. It is asked at
// every handshake, and says nothing of which organisation is concerned.
func (c *certificates) wanted() bool {
	c.trusting.RLock()
	defer c.trusting.RUnlock()
	return len(c.trusting.orgs) > 0
}

func (c *certificates) orgs() []policy.OrgID {
	c.trusting.RLock()
	defer c.trusting.RUnlock()
	return slices.Collect(maps.Keys(c.trusting.orgs))
}

func (c *certificates) follow(ch registry.Change) {
	if ch.Kind == registry.AuthorityDeleted {
		c.warned.Lock()
		delete(c.warned.at, authorityOf{ch.Org, ch.Authority})
		delete(c.warned.lists, authorityOf{ch.Org, ch.Authority})
		c.warned.Unlock()
	}
	switch ch.Kind {
	case registry.OrganisationChanged, registry.OrganisationDeleted, registry.AuthorityCreated, registry.AuthorityDeleted:
		if err := c.look(context.Background(), ch.Org); err != nil {
			c.log.Error("certificate authorities cannot be read", "org", ch.Org.String(), "err", err)
		}
	default:
	}
}

// look finds out whether an organisation has authorities.
func (c *certificates) look(ctx context.Context, org policy.OrgID) error {
	trust, err := c.registry.CertificateTrust(ctx, org)
	if err != nil {
		return fmt.Errorf("certificate authorities of %s: %w", org, err)
	}
	c.trusting.Lock()
	defer c.trusting.Unlock()
	if trust == nil {
		delete(c.trusting.orgs, org)
	} else {
		c.trusting.orgs[org] = true
	}
	return nil
}

// warn logs authorities that expire within 30, 7 and 1 days, and those that have,
// each once; and uploaded lists that run out within a day, each once.
func (c *certificates) warn(ctx context.Context, now time.Time) {
	for _, org := range c.orgs() {
		all, err := c.registry.Authorities(ctx, org)
		if err != nil {
			c.log.Error("certificate authorities cannot be read", "org", org.String(), "err", err)
			continue
		}
		for i := range all {
			c.warnOf(org, &all[i], now)
		}
	}
}

func (c *certificates) warnOf(org policy.OrgID, o *registry.Authority, now time.Time) {
	left := o.NotAfter.Sub(now)
	reached := 0
	for _, days := range []int{30, 7, 1} {
		if left < time.Duration(days)*24*time.Hour {
			reached = days
		}
	}
	if left <= 0 {
		reached = -1
	}
	c.warned.Lock()
	defer c.warned.Unlock()
	name := authorityOf{org, o.ID}
	if reached != 0 && c.warned.at[name] != reached {
		c.log.Warn("certificate authority expires", "org", org.String(), "authority", string(o.ID), "subject", o.Subject, "not_after", o.NotAfter.UTC().Format(time.RFC3339))
	}
	c.warned.at[name] = reached
	for _, l := range o.Lists {
		if l.Source == "" && l.NextUpdate.Sub(now) < 24*time.Hour && !c.warned.lists[name].Equal(l.NextUpdate) {
			c.warned.lists[name] = l.NextUpdate
			c.log.Warn("list of revoked certificates runs out", "org", org.String(), "authority", string(o.ID), "issuer", strings.TrimSpace(l.Issuer), "next_update", l.NextUpdate.UTC().Format(time.RFC3339))
		}
	}
}
