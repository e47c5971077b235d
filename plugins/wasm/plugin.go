package wasm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
)

// plugin is one version of a plugin, ready to verify. A changed file makes
// another one.
type plugin struct {
	place
	binding
	source *source
	limits Limits
	log    *slog.Logger
	now    func() time.Time

	module  *module
	machine *machine

	budget     *budget
	shared     chan struct{} // a place for each call of any plugin
	long       chan struct{} // a place for each of those that takes long and runs
	keys       *keySets
	stopKeys   func() // ends the fetching and waits for it
	remember   *rememberKey
	answers    *answers
	guestLog   *pluginLog
	faults     *folder // of log lines that anybody who connects can cause
	quarantine quarantine
	counts     *counts // of every version there was
	spare      *calls
	pool
}

// verdict is what came of a request. With err nil it is a principal or a
// challenge.
type verdict struct {
	principal policy.Principal
	challenge *plugins.Reply
	data      octets
	err       error
}

func refuse(cause policy.Cause, err error) verdict {
	return verdict{err: &plugins.Refusal{Cause: cause, Err: err}}
}

// newRequest frames what a client presented.
func newRequest(org policy.OrgID, c *plugins.Credential, turn *plugins.Turn) *request {
	r := &request{V: abiVersion, Org: org.String(), Username: c.Client.Username, ClientID: string(c.Client.ID)}
	if c.HasPassword {
		token := octets(c.Password.Reveal())
		r.Token = &token
	}
	if c.Client.Address.IsValid() {
		r.Peer.Address = c.Client.Address.String()
	}
	if t := c.Client.TLS; t != nil {
		r.Peer.TLS = &peerTLS{Version: t.Version, SNI: t.SNI}
		if t.Cert != nil {
			r.Peer.TLS.Cert = &peerCert{t.Cert.Subject, t.Cert.SAN, t.Cert.SHA256}
		}
	}
	if turn != nil {
		r.Auth = &requestAuth{turn.Method, turn.Data}
		r.State = turn.State
	}
	return r
}

// verify answers one request for org, or for whomever the answer names where org
// is zero. It repeats an earlier answer where that is allowed.
func (p *plugin) verify(ctx context.Context, org policy.OrgID, r *request) verdict {
	if r.size() > p.limits.InputBytes {
		return refuse(policy.CauseBad, errTooLong)
	}
	c := p.spare.take()
	c.body = r.append(c.body[:0])
	if r.Auth != nil {
		v, _ := p.ask(ctx, c, org, r, p.now())
		return v
	}
	now, generation := p.now(), p.keys.generation()
	hash := p.remember.hash(c.body)
	if v, ok := p.answers.get(hash, generation, now); ok {
		p.spare.put(c)
		p.counts.remembered.Add(1)
		if v.err == nil && v.principal.Expired(now) {
			return refuse(policy.CauseExpired, errExpired)
		}
		return v
	}
	v, ttl := p.ask(ctx, c, org, r, now)
	p.answers.put(hash, generation, v, ttl, now)
	return v
}

var errTooLong = errors.New("more than a plugin is asked to read")

// asked is verify without remembering anything.
func (p *plugin) asked(ctx context.Context, org policy.OrgID, r *request, now time.Time) (verdict, time.Duration) {
	c := p.spare.take()
	c.body = r.append(c.body[:0])
	return p.ask(ctx, c, org, r, now)
}

// ask has the guest answer r at now, and says how long that may be repeated. c has
// r but for the time, and is not the caller's any more. A guest that meets a key
// which the key sets lack is asked once more when they are fetched.
func (p *plugin) ask(ctx context.Context, c *call, org policy.OrgID, r *request, now time.Time) (verdict, time.Duration) {
	r.NowMS = now.UnixMilli()
	c.body = r.appendNow(c.body)
	if len(c.body) > p.limits.InputBytes {
		p.spare.put(c)
		return refuse(policy.CauseBad, errTooLong), 0
	}
	c.org, c.log = org, p.guestLog
	if r.Token != nil {
		c.secret = *r.Token
	}
	for again := false; ; again = true {
		generation := p.keys.generation()
		c.clock = now.UnixNano()
		err := p.run(ctx, c)
		switch {
		case errors.Is(err, errRetired):
			p.spare.put(c)
			return verdict{err: errRetired}, 0
		case err != nil:
			p.spare.put(c)
			return p.failed(err), 0
		}
		v, ttl := p.judge(c, r.Auth != nil, now)
		if errors.Is(v.err, errUnknownKey) && !again && p.keys.hunted(ctx, generation, p.limits.Wait) {
			continue
		}
		p.spare.put(c)
		p.counts.judged(v)
		return v, ttl
	}
}

// failed is the verdict on a call without an answer.
func (p *plugin) failed(err error) verdict {
	p.counts.broke(err)
	p.fault("plugin failed", err)
	return refuse(policy.CauseUnavailable, errors.New("the plugin failed: "+firstLine(err)))
}

// fault logs what a client can cause as often as it likes: now and then, with how
// often it happened.
func (p *plugin) fault(text string, err error) { p.faults.warn(p.log, text, "error", firstLine(err)) }

// size is a lower bound of r's length in JSON, from what a client can make long.
func (r *request) size() int {
	n := len(r.Username) + len(r.ClientID) + len(r.State)
	if r.Token != nil {
		n += len(*r.Token)
	}
	if r.Auth != nil {
		n += len(r.Auth.Method) + len(r.Auth.Data)
	}
	return n
}

var errUnknownKey = errors.New("the key is not in the key set")

// judge turns what c was answered into a verdict and says how long it may be
// repeated.
func (p *plugin) judge(c *call, exchange bool, now time.Time) (verdict, time.Duration) {
	a := c.said
	switch {
	case c.malformed != nil:
		p.fault("plugin gave a malformed answer", c.malformed)
		return refuse(policy.CauseUnavailable, fmt.Errorf("malformed answer: %w", c.malformed)), 0
	case a == nil:
		return refuse(policy.CauseUnavailable, errors.New("the plugin reports an internal error")), 0
	case a.UnknownKID != "":
		return refuse(policy.CauseBad, errUnknownKey), 0
	case a.NotMine:
		return verdict{err: plugins.ErrNotMine}, jitter(p.limits.RememberBad)
	case a.Continue != nil && exchange:
		return verdict{challenge: &plugins.Reply{Data: *a.Continue, State: a.State}}, 0
	case a.Continue != nil:
		return refuse(policy.CauseUnavailable, errors.New("continue outside of an exchange")), 0
	case !a.OK:
		return refuse(policy.CauseBad, errors.New(c.clean([]byte(a.Reason), reasonBytes))), jitter(p.limits.RememberBad)
	}
	q, err := p.principal(a, c.org, now)
	switch {
	case errors.Is(err, errExpired):
		return refuse(policy.CauseExpired, err), jitter(p.limits.RememberBad)
	case err != nil:
		p.fault("plugin gave an answer that cannot be", err)
		return refuse(policy.CauseUnavailable, err), 0
	}
	ttl := min(time.Duration(min(a.CacheTTLMS, 1<<40))*time.Millisecond, p.limits.RememberGood)
	if !q.ExpiresAt.IsZero() {
		ttl = min(ttl, q.ExpiresAt.Sub(now))
	}
	return verdict{principal: q, data: a.Data}, ttl
}

// configuration is what an instance for org is told, and its generation.
func (p *plugin) configuration(org policy.OrgID) ([]byte, uint64, error) {
	sets, generation := p.keys.snapshot()
	c := configuration{
		V: abiVersion, Org: org.String(), Settings: p.source.settings.Settings,
		Secrets: p.source.secrets, JWKS: sets,
	}
	if c.Settings == nil {
		c.Settings = map[string]any{}
	}
	b, err := encode(c)
	switch {
	case err != nil:
		return nil, 0, errors.New("settings that JSON cannot express")
	case len(b) > p.limits.ConfigBytes:
		return nil, 0, fmt.Errorf("a configuration of %d bytes, at most %d", len(b), p.limits.ConfigBytes)
	}
	return b, generation, nil
}

// encode writes JSON without the escapes that only HTML needs.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}
