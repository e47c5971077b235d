package wasm

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
)

// load makes a plugin of s: it judges and rewrites the module, compiles it,
// starts one instance and runs the self-test. before is the version that it will
// replace, nil for none. Whatever is wrong, nothing of s is in use afterwards.
func (h *Host) load(ctx context.Context, s *source, b binding, before *plugin) (_ *plugin, err error) {
	p, err := h.prepare(s, b)
	if err != nil {
		return nil, err
	}
	if err := h.compile(ctx, p, before); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			p.machine.release()
		}
	}()
	var keysBefore *keySets
	if before != nil {
		keysBefore = before.keys
	}
	p.keys = newKeySets(s.settings.JWKS, keysBefore, h.kept, h.client, p.log, h.now)
	p.keys.complete(ctx)
	if err := p.tryStart(); err != nil {
		return nil, fmt.Errorf("start: %w", err)
	}
	for n, result := range p.selfTest(ctx, s.settings.Vectors) {
		if !result.Passed {
			return nil, fmt.Errorf("self-test %d, %q: %s", n+1, result.Name, result.Detail)
		}
	}
	p.watchKeys()
	return p, nil
}

// prepare judges the module without running anything of it.
func (h *Host) prepare(s *source, b binding) (*plugin, error) {
	p := &plugin{
		place: s.place, binding: b, source: s, limits: s.settings.apply(h.limits), now: h.now,
		log: h.log.With("plugin", s.name, "folder", s.folder), budget: h.budget, shared: h.calls, long: h.long, remember: &h.remember,
		spare: &h.spare, counts: h.countsOf(s.place), faults: &folder{now: h.now},
	}
	var err error
	if p.module, err = parse(s.binary); err != nil {
		return nil, err
	}
	if err := p.module.check(p.limits, offered(imports())); err != nil {
		return nil, err
	}
	p.answers = newAnswers(p.limits.Remembered)
	p.guestLog = newPluginLog(p.log, p.limits.LogBytes, h.now)
	p.places = make(chan struct{}, p.limits.Instances)
	p.stopKeys = func() {}
	return p, nil
}

// tryStart starts an instance for the organisation the plugin serves and keeps
// it for the first client.
func (p *plugin) tryStart() (err error) {
	defer recovered(&err)
	c := &call{clock: p.now().UnixNano(), log: p.guestLog, turn: turn{places: p.long}}
	defer c.turn.end()
	i, err := p.start(p.only(), c)
	if err != nil {
		return err
	}
	p.putBack(i)
	return nil
}

// watchKeys keeps the key sets fresh until the plugin is retired.
func (p *plugin) watchKeys() {
	if len(p.keys.mu.sets) == 0 {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	p.keys.found(false)
	go func() {
		defer close(done)
		p.keys.run(ctx)
	}()
	p.stopKeys = func() {
		cancel()
		<-done
	}
}

// VectorResult is what became of one vector.
type VectorResult struct {
	Vector
	Passed bool
	Got    string // "ok", "bad", "not_mine", "failed"
	Detail string // why not, or the subject
	Took   time.Duration
}

// selfTest runs the vectors, each on its own: nothing is repeated.
func (p *plugin) selfTest(ctx context.Context, vectors []Vector) []VectorResult {
	results := make([]VectorResult, len(vectors))
	for n, v := range vectors {
		results[n] = p.test(ctx, v)
	}
	return results
}

func (p *plugin) test(ctx context.Context, v Vector) VectorResult {
	result := VectorResult{Vector: v}
	org := p.only()
	if v.Org != "" {
		var err error
		if org, err = policy.ParseOrgID(v.Org); err != nil || !p.binding.has(org) {
			result.Detail = "the plugin does not serve the organisation of the vector"
			return result
		}
	}
	now := p.now()
	if v.NowMS != 0 {
		now = time.UnixMilli(v.NowMS)
	}
	begin := time.Now()
	got, _ := p.asked(ctx, org, newRequest(org, v.credential(), nil), now)
	result.Took = time.Since(begin)
	result.compare(got)
	return result
}

func (v *Vector) credential() *plugins.Credential {
	return &plugins.Credential{
		Client: policy.Client{
			ID: policy.ClientID(v.ClientID), Username: v.Username,
			Protocol: "5", Listener: "mqtts", Address: netip.AddrFrom4([4]byte{192, 0, 2, 1}),
			TLS: &policy.TLS{Version: "1.3"},
		},
		Password:    plugins.NewSecret([]byte(v.Token)),
		HasPassword: v.Token != "",
	}
}

func (r *VectorResult) compare(got verdict) {
	s := got.principal
	switch {
	case got.err == nil && got.challenge == nil:
		r.Got = "ok"
		r.Detail = fmt.Sprintf("%s %s of %s", s.Kind, s.Subject().Name, s.Org)
	case errors.Is(got.err, plugins.ErrNotMine):
		r.Got = "not_mine"
	case errors.Is(got.err, plugins.ErrBad):
		r.Got, r.Detail = "bad", got.err.Error()
	default:
		r.Got = "failed"
		if got.err != nil {
			r.Detail = got.err.Error()
		}
	}
	r.Passed = r.Got == r.Want
	if !r.Passed {
		r.Detail = fmt.Sprintf("wants %s, got %s: %s", r.Want, r.Got, r.Detail)
		return
	}
	for _, part := range []struct{ name, want, got string }{
		{"kind", r.Subject.Kind, s.Kind.String()},
		{"type", r.Subject.Type, string(s.Type)},
		{"id", r.Subject.ID, string(s.ID)},
		{"app", r.Subject.App, string(s.App)},
	} {
		if r.Got == "ok" && part.want != "" && part.want != part.got {
			r.Passed = false
			r.Detail = fmt.Sprintf("subject.%s is %q, not %q", part.name, part.got, part.want)
		}
	}
}
