package broker

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"time"

	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
)

// What is remembered of callers, and for how long.
const (
	knownFor   = 30 * time.Second // since it was verified
	knownOfOrg = 2048
	knownOfAll = 16384
)

// mark stands for a credential with all that verifiers and policies may see of
// its client. It is keyed, so that it says nothing about a password.
type mark [sha256.Size]byte

// callers remembers credentials that were verified a moment ago.
type callers struct {
	guarded struct {
		sync.Mutex
		key    []byte // of the marks; made with the first
		byMark map[mark]*known
		queue  []mark // of byMark, the oldest first
		ofOrg  map[*space]int
	}
}

// known is a verified credential and what it may at present.
type known struct {
	b          *Broker
	space      *space
	client     *policy.Client
	credential string // what rates and connections are counted by
	until      time.Time

	guarded struct {
		sync.Mutex
		standing *standing // of the last look; before the first only its principal counts
		epoch    uint64    // of the space, before the principal was read
		changes  uint64    // Broker.changes, likewise
		judged   bool
	}
}

// markOf is the mark of c.
func (cs *callers) markOf(c *plugins.Credential) mark {
	cs.guarded.Lock()
	if cs.guarded.key == nil {
		cs.guarded.key = make([]byte, sha256.Size)
		_, _ = rand.Read(cs.guarded.key) // it never fails
	}
	key := cs.guarded.key
	cs.guarded.Unlock()
	h := hmac.New(sha256.New, key)
	field := func(b []byte) {
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(b)))
		h.Write(size[:])
		h.Write(b)
	}
	client := &c.Client
	for _, s := range []string{string(client.ID), client.Username, client.Protocol, client.Listener, client.Address.String()} {
		field([]byte(s))
	}
	if t := client.TLS; t != nil {
		field([]byte(t.Version))
		field([]byte(t.SNI))
		if t.Cert != nil {
			field([]byte(t.Cert.SHA256)) // of the whole certificate
		}
	}
	if c.HasPassword {
		field(c.Password.Reveal())
	}
	var m mark
	h.Sum(m[:0])
	return m
}

func (cs *callers) find(m mark, now time.Time) *known {
	cs.guarded.Lock()
	defer cs.guarded.Unlock()
	if k := cs.guarded.byMark[m]; k != nil && now.Before(k.until) {
		return k
	}
	return nil
}

// add remembers k, unless its organisation or all of them have as many as they
// may. The oldest go first, because all are kept for the same time.
func (cs *callers) add(m mark, k *known, now time.Time) {
	cs.guarded.Lock()
	defer cs.guarded.Unlock()
	g := &cs.guarded
	if g.byMark == nil {
		g.byMark, g.ofOrg = make(map[mark]*known), make(map[*space]int)
	}
	for len(g.queue) > 0 {
		oldest := g.byMark[g.queue[0]]
		if now.Before(oldest.until) {
			break
		}
		cs.dropLocked(g.queue[0], oldest)
		g.queue = g.queue[1:]
	}
	if g.byMark[m] != nil || g.ofOrg[k.space] >= knownOfOrg || len(g.byMark) >= knownOfAll {
		return
	}
	g.byMark[m] = k
	g.ofOrg[k.space]++
	g.queue = append(g.queue, m)
}

func (cs *callers) dropLocked(m mark, k *known) {
	delete(cs.guarded.byMark, m)
	if cs.guarded.ofOrg[k.space]--; cs.guarded.ofOrg[k.space] == 0 {
		delete(cs.guarded.ofOrg, k.space)
	}
}

// recognise remembers who shows c, or verifies it.
func (b *Broker) recognise(ctx context.Context, c *plugins.Credential) (*known, *refusal) {
	m := b.callers.markOf(c)
	if k := b.callers.find(m, time.Now()); k != nil && k.sameGeneration() {
		return k, nil
	}
	if _, err := policy.ParseClientID(string(c.Client.ID)); err != nil {
		return nil, refused(policy.CauseClientID, err.Error())
	}
	refs, r := b.chooseVerifiers(ctx, &c.Client)
	if r != nil {
		return nil, r
	}
	p, err := b.verifiers.Verify(ctx, refs, c)
	if err == nil {
		p, err = b.registry.Refresh(ctx, &p) // it has an incarnation from here on
	}
	if err != nil && c.Client.Username == "" && !c.HasPassword {
		return nil, refused(plugins.CauseOf(err), err.Error()) // nothing was shown, so nothing was guessed
	}
	if err != nil {
		return nil, b.wrong(&c.Client, err)
	}
	sp, err := b.space(p.Org, p.Incarnation)
	if err != nil {
		return nil, refused(policy.CauseShutdown, "")
	}
	now := time.Now()
	client := c.Client
	k := &known{b: b, space: sp, client: &client, credential: credentialOf(&p, client.ID), until: now.Add(knownFor)}
	if !p.ExpiresAt.IsZero() && p.ExpiresAt.Before(k.until) {
		k.until = p.ExpiresAt
	}
	k.guarded.standing = &standing{principal: &p}
	if _, r := k.current(ctx); r == nil {
		b.callers.add(m, k, now)
	}
	return k, nil // whoever was refused is refused again by current, in its order
}

// sameGeneration reports whether what k is remembered with was judged by the live
// policy. Another one may want other verifiers.
func (k *known) sameGeneration() bool {
	k.guarded.Lock()
	defer k.guarded.Unlock()
	st := k.guarded.standing
	return k.guarded.judged && st.generation == st.judge.Generation()
}

// standing is that of the last look; current has been called before.
func (k *known) standing() *standing {
	k.guarded.Lock()
	defer k.guarded.Unlock()
	return k.guarded.standing
}

// seen is Broker.changes before the principal of the last look was read.
func (k *known) seen() uint64 {
	k.guarded.Lock()
	defer k.guarded.Unlock()
	return k.guarded.changes
}

// current returns what the caller may at this moment: what it might before, as
// long as neither the registry nor the policy has changed since, nor a clock.
func (k *known) current(ctx context.Context) (*standing, *refusal) {
	ctx = context.WithoutCancel(ctx) // what is remembered is not one request's alone
	k.guarded.Lock()
	defer k.guarded.Unlock()
	g := &k.guarded
	now := time.Now()
	if st := g.standing; g.judged && g.epoch == k.space.epoch.Load() && st.generation == st.judge.Generation() &&
		(st.until.IsZero() || now.Before(st.until)) {
		return st, k.denies(st, now)
	}
	changes, epoch := k.b.changes.Load(), k.space.epoch.Load() // before what they are about is read
	p, err := k.b.registry.Refresh(ctx, g.standing.principal)
	if err != nil {
		return nil, refused(plugins.CauseOf(err), err.Error())
	}
	st, r := k.b.admitted(ctx, k.space, &p, k.client)
	if r != nil {
		return nil, r
	}
	g.standing, g.epoch, g.changes, g.judged = st, epoch, changes, true
	return st, k.denies(st, now)
}

func (k *known) denies(st *standing, now time.Time) *refusal {
	switch {
	case !st.connect.Allow:
		return denied(policy.ActionConnect, st.connect, "")
	case st.expired(now):
		return refused(policy.CauseExpired, "")
	default:
		return nil
	}
}
