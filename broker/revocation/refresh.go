package revocation

import (
	"context"
	"time"

	"github.com/cordon-mq/cordon/plugins/certificate"
	"github.com/cordon-mq/cordon/policy"
)

const (
	// Interval is how often Refresh should be called.
	Interval = 15 * time.Second
	// listMost is how old a list gets before it is fetched again, whenever the next one
	// is due: issuers publish another one when they revoke something.
	listMost  = 15 * time.Minute
	listLeast = time.Minute
)

// Refresh starts to ask again for what will run out, or may have changed, of those
// organisations. It does not wait for the answers.
func (k *Keeper) Refresh(ctx context.Context, orgs []policy.OrgID) {
	now := k.cfg.Now()
	k.asking.Lock()
	fetched := k.asking.lists
	k.asking.lists = map[question]time.Time{}
	k.asking.Unlock()
	for _, org := range orgs {
		trust, err := k.cfg.Registry.CertificateTrust(ctx, org)
		if err != nil || trust == nil {
			continue
		}
		for _, l := range trust.Lists() {
			if l.Source == "" || !trust.Has(l.Authority) {
				continue
			}
			q := listQuestion(trust, l.Issuer, l.Source)
			at := l.Loaded
			if again := fetched[q]; again.After(at) {
				at = again
				k.fetchedAt(q, again)
			}
			if now.Before(dueAt(l, at)) {
				continue
			}
			_, _ = k.begin(q, func(ctx context.Context) error { // who asks too much asks again later
				return k.fetchList(ctx, trust, l.Authority, l.Signer, l.Source)
			})
		}
	}
	for q, found := range k.answers.due(now) {
		_, _ = k.begin(q, func(ctx context.Context) error { return k.askResponder(ctx, q, found.c, found.issuer) })
	}
}

// fetchedAt notes when a list was fetched last, unless it is known better.
func (k *Keeper) fetchedAt(q question, at time.Time) {
	k.asking.Lock()
	defer k.asking.Unlock()
	if at.After(k.asking.lists[q]) {
		k.asking.lists[q] = at
	}
}

// dueAt is when a list that was fetched last at some time should be fetched again:
// half way to its end, with some time to try.
func dueAt(l *certificate.Kept, at time.Time) time.Time {
	wait := min(l.NextUpdate.Sub(at)/2, listMost)
	return at.Add(jitter(max(wait, listLeast), l.Source))
}
