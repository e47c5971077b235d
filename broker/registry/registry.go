package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/policy"
)

// Options of a Registry. The zero value is usable.
type Options struct {
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Log receives what goes wrong in the background; nil means nowhere.
	Log *slog.Logger
	// DefaultConnectionLevel is the level of organisations that state none:
	// LevelTLS (also when empty) or LevelTLSOptional.
	DefaultConnectionLevel string
	// HashConcurrency is how many slow hashes run at once, each with 19 MiB of
	// memory; 0 means 2. One organisation gets at most half of them, but one.
	HashConcurrency int
	// BehindGateway is how many devices RegisterBehind lets a gateway have; 0 means
	// 500.
	BehindGateway int
	// RegisteredByCertificate is how many devices of an organisation RegisterCertified
	// creates; 0 means 100 000.
	RegisteredByCertificate int
}

// defaultBehind is what the platform allowed.
const defaultBehind = 500

// Registry is the registry on one store. It is safe for concurrent use.
type Registry struct {
	store   store.Store
	now     func() time.Time
	log     *slog.Logger
	level   string
	cost    slowCost
	gate    *gate
	checked *memory
	cache   cache
	trusts  trusts
	dummy   dummies
	behind  int // devices that a gateway may register
	// certified is how many devices of an organisation certificates may.
	certified int
	claims    claimCounts

	writer struct {
		sync.Mutex
		last   uint64 // the number of the last write
		closed bool
	}
	watchers watchers

	background sync.WaitGroup
	ctx        context.Context // of the background work
	stop       context.CancelFunc
}

// Open returns the registry on st, which stays the caller's and must outlive
// it. It goes on removing organisations whose deletion was interrupted, in the
// background.
func Open(st store.Store, o Options) (*Registry, error) { return open(st, o, defaultSlowCost()) }

func open(st store.Store, o Options, cost slowCost) (*Registry, error) {
	switch o.DefaultConnectionLevel {
	case "":
		o.DefaultConnectionLevel = LevelTLS
	case LevelTLS, LevelTLSOptional:
	default:
		return nil, fmt.Errorf("open registry: connection level %q is neither %s nor %s", o.DefaultConnectionLevel, LevelTLS, LevelTLSOptional)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.HashConcurrency <= 0 {
		o.HashConcurrency = 2
	}
	r := &Registry{
		store:   st,
		now:     o.Now,
		log:     o.Log,
		level:   o.DefaultConnectionLevel,
		cost:    cost,
		gate:    newGate(o.HashConcurrency),
		checked: newMemory(maxRemembered),
		dummy:   newDummies(cost),
		behind:  orDefault(o.BehindGateway, defaultBehind),

		certified: orDefault(o.RegisteredByCertificate, defaultCertified),
	}
	last, err := load[counter](st, counterKey())
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("open registry: %w", err)
	}
	r.writer.last = last.Record.Last
	r.ctx, r.stop = context.WithCancel(context.Background())
	if err := r.resumePurges(); err != nil {
		r.Close()
		return nil, fmt.Errorf("open registry: %w", err)
	}
	return r, nil
}

// Close refuses further writes and waits for the background work, which the
// next Open takes up again. It does not close the store.
func (r *Registry) Close() {
	r.writer.Lock()
	r.writer.closed = true
	r.writer.Unlock()
	r.stop()
	r.background.Wait()
}

// purgeInBackground frees the space of a deleted organisation. Its tombstone
// stays, for whatever a session that is being closed may still write.
func (r *Registry) purgeInBackground(org string, incarnation uint64) {
	r.inBackground(func() { r.purge(org, incarnation) })
}

// resumePurges frees the space of organisations that were deleted before. No
// session of theirs can exist any more, so their tombstones go, too.
func (r *Registry) resumePurges() error {
	var graves []store.Key
	err := r.store.Scan(tombstones(), store.Key{}, func(key store.Key, _ []byte) bool {
		graves = append(graves, key)
		return true
	})
	if err != nil || len(graves) == 0 {
		return err
	}
	r.inBackground(func() {
		for _, grave := range graves {
			if org, incarnation, ok := parseTombstone(grave); ok {
				r.bury(org, incarnation)
			}
		}
	})
	return nil
}

// buryInBackground frees the space of an incarnation that nobody ever saw.
func (r *Registry) buryInBackground(org string, incarnation uint64) {
	r.inBackground(func() { r.bury(org, incarnation) })
}

// bury frees the space of an incarnation that has no sessions, and its tombstone.
func (r *Registry) bury(org string, incarnation uint64) {
	if !r.purge(org, incarnation) {
		return
	}
	err := store.CommitWait(r.ctx, r.store, store.Delete(tombstoneKey(org, incarnation)))
	if err != nil && r.ctx.Err() == nil {
		r.log.Error("remove mark of deleted organisation", "org", org, "incarnation", incarnation, "error", err)
	}
}

// inBackground runs fn unless the registry is closed.
func (r *Registry) inBackground(fn func()) {
	r.writer.Lock()
	defer r.writer.Unlock()
	if !r.writer.closed {
		r.background.Go(fn)
	}
}

// purge reports whether every key of the incarnation is gone.
func (r *Registry) purge(org string, incarnation uint64) bool {
	err := store.DeletePrefix(r.ctx, r.store, store.In(org, incarnation).All())
	switch {
	case err == nil:
		return true
	case r.ctx.Err() == nil: // else the next Open goes on
		r.log.Error("remove deleted organisation", "org", org, "incarnation", incarnation, "error", err)
	}
	return false
}

// OrganisationFacts is what policies may know of the organisation, or
// policy.KindNotFound.
func (r *Registry) OrganisationFacts(_ context.Context, id policy.OrgID) (*policy.Organisation, error) {
	found, err := r.organisationOf(id)
	if err != nil {
		return nil, err
	}
	return &policy.Organisation{
		ID: id, ConnectionLevel: found.levelOf("", r.level), Data: found.Data,
		CertificateRegistration: found.Connections.CertificateRegistration,
	}, nil
}
