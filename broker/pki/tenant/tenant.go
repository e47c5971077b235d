package tenant

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cordon-mq/cordon/broker/pki"
	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/policy"
)

// Config is what a Keeper needs.
type Config struct {
	Registry *registry.Registry
	Seal     *pki.Seal
	Domain   string // that organisations live under
	// Reserved are host names of the platform that no organisation may show.
	Reserved []string
	Now      func() time.Time // nil: time.Now
	Log      *slog.Logger     // nil: nothing is logged
}

// Keeper keeps the certificates of all organisations. All methods may be called at the
// same time.
type Keeper struct {
	cfg   Config
	shown pki.Shown

	guarded struct {
		sync.Mutex
		held map[policy.OrgID]held
	}
}

// held is what is known of an organisation's certificate.
type held struct {
	notAfter time.Time
	serial   string
	names    []string // that it is shown for
	warned   int      // the last threshold that was logged, in days; -1: the end
}

// New makes one that shows nothing yet; see Load.
func New(cfg Config) *Keeper {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.Domain = strings.ToLower(cfg.Domain)
	reserved := make([]string, len(cfg.Reserved))
	for i, name := range cfg.Reserved {
		reserved[i] = strings.ToLower(strings.TrimSuffix(name, "."))
	}
	cfg.Reserved = reserved
	k := &Keeper{cfg: cfg}
	k.guarded.held = map[policy.OrgID]held{}
	return k
}

// Before returns config with the certificates of organisations before its own.
func (k *Keeper) Before(config *tls.Config) *tls.Config { return k.shown.Before(config) }

// Load shows what is stored of these organisations.
func (k *Keeper) Load(ctx context.Context, organisations []registry.Organisation) {
	for i := range organisations {
		k.look(ctx, organisations[i].ID)
	}
}

// Follow takes over what changed. It is a watcher of the registry.
func (k *Keeper) Follow(ch registry.Change) {
	switch ch.Kind {
	case registry.OrganisationChanged, registry.OrganisationDeleted, registry.ServerCertificateChanged:
		k.look(context.Background(), ch.Org)
	default:
	}
}

// look shows what is stored of an organisation now.
func (k *Keeper) look(ctx context.Context, org policy.OrgID) {
	// Only a watcher and the start come here, one after the other.
	c, names, err := k.load(ctx, org)
	if err != nil {
		k.cfg.Log.Error("server certificate of organisation cannot be used, the platform's is shown; upload it again with its private key",
			"org", org.String(), "err", err)
	}
	certificates := map[string]*tls.Certificate{}
	for _, name := range names {
		certificates[name] = c
	}
	k.shown.Set(org.String(), certificates)

	k.guarded.Lock()
	defer k.guarded.Unlock()
	if len(names) == 0 {
		delete(k.guarded.held, org)
		return
	}
	now := held{c.Leaf.NotAfter, fmt.Sprintf("%x", c.Leaf.SerialNumber), names, 0}
	if before, ok := k.guarded.held[org]; ok && before.serial == now.serial && before.notAfter.Equal(now.notAfter) {
		now.warned = before.warned
	}
	k.guarded.held[org] = now
}

// load is what the organisation shows, and for which names; none: nothing.
func (k *Keeper) load(ctx context.Context, org policy.OrgID) (*tls.Certificate, []string, error) {
	stored, incarnation, err := k.cfg.Registry.ServerCertificate(ctx, org)
	if policy.KindOf(err) == policy.KindNotFound || err == nil && (len(stored.Chain) == 0 || len(stored.Key) == 0) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	owner, err := k.cfg.Registry.Organisation(ctx, org)
	if err != nil {
		return nil, nil, err
	}
	chain, err := pki.ChainOf(stored.Chain)
	if err != nil {
		return nil, nil, err
	}
	private, err := k.cfg.Seal.Open(stored.Key, place(org, incarnation))
	if err != nil {
		return nil, nil, fmt.Errorf("private key: %w", err)
	}
	c, err := chain.With(private)
	if err != nil {
		return nil, nil, err
	}
	return c, k.showable(&owner, chain), nil
}

// place is what a key of the organisation is sealed for.
func place(org policy.OrgID, incarnation uint64) string {
	return "server certificate/" + org.String() + "/" + strconv.FormatUint(incarnation, 10)
}

// showable are the names of the chain that the organisation may show it for.
func (k *Keeper) showable(o *registry.Organisation, chain *pki.Chain) []string {
	allowed := k.allowed(o)
	return slices.DeleteFunc(slices.Clone(chain.Names), func(name string) bool { return !slices.Contains(allowed, name) })
}

// allowed are the names that the organisation may show certificates for.
func (k *Keeper) allowed(o *registry.Organisation) []string {
	own := []string{o.ID.String() + ".messaging." + k.cfg.Domain, o.ID.String() + "." + k.cfg.Domain}
	for _, name := range o.ServerNames {
		if !k.ofPlatform(name) { // the domain may be another one since
			own = append(own, name)
		}
	}
	return slices.DeleteFunc(own, func(name string) bool { return slices.Contains(k.cfg.Reserved, name) })
}

// ofPlatform reports whether a name is under the platform's own domain, where every
// name is an organisation's or the platform's.
func (k *Keeper) ofPlatform(name string) bool {
	if name == "localhost" || strings.HasSuffix(name, ".localhost") || slices.Contains(k.cfg.Reserved, name) {
		return true
	}
	return name == k.cfg.Domain || strings.HasSuffix(name, "."+k.cfg.Domain)
}

// SetServerNames lets the organisation show certificates for names that are not of the
// platform; see registry.SetServerNames.
func (k *Keeper) SetServerNames(ctx context.Context, org policy.OrgID, names []string) (registry.Organisation, error) {
	clean := make([]string, 0, len(names))
	for _, name := range names {
		name = strings.ToLower(strings.TrimSuffix(name, "."))
		_, err := netip.ParseAddr(name)
		switch {
		case err == nil || !pki.IsHostName(name) || !strings.Contains(name, "."):
			return registry.Organisation{}, invalid("names", "must be host names with a dot, without a star")
		case k.ofPlatform(name):
			return registry.Organisation{}, invalid("names", "must not be of the platform's own domain")
		}
		clean = append(clean, name)
	}
	return k.cfg.Registry.SetServerNames(ctx, org, clean)
}

// Warn logs certificates that expire within 30, 7 and 1 days, and those that have, each
// once.
func (k *Keeper) Warn() {
	now := k.cfg.Now()
	k.guarded.Lock()
	defer k.guarded.Unlock()
	for org, h := range k.guarded.held {
		reached := 0
		for _, days := range []int{30, 7, 1} {
			if h.notAfter.Sub(now) < time.Duration(days)*24*time.Hour {
				reached = days
			}
		}
		if !now.Before(h.notAfter) {
			reached = -1
		}
		if reached != 0 && reached != h.warned {
			k.cfg.Log.Warn("server certificate of organisation expires", "org", org.String(), "serial", h.serial,
				"names", strings.Join(h.names, ","), "not_after", h.notAfter.UTC().Format(time.RFC3339))
		}
		h.warned = reached
		k.guarded.held[org] = h
	}
}

// Soonest is when the first certificate that is shown ends; zero where there is none.
func (k *Keeper) Soonest() (soonest time.Time) {
	k.guarded.Lock()
	defer k.guarded.Unlock()
	for _, h := range k.guarded.held {
		if soonest.IsZero() || h.notAfter.Before(soonest) {
			soonest = h.notAfter
		}
	}
	return soonest
}

func invalid(field, rule string) error {
	return &policy.Error{Kind: policy.KindInvalid, Field: field, Public: rule}
}
