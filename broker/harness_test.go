package broker_test

import (
	"context"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"go.uber.org/goleak"

	"github.com/cordon-mq/cordon/broker"
	"github.com/cordon-mq/cordon/broker/feed"
	"github.com/cordon-mq/cordon/broker/listen"
	"github.com/cordon-mq/cordon/broker/listen/listentest"
	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/broker/store/memstore"
	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/opa"
	"github.com/cordon-mq/cordon/rego"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a broker with all its real parts, on a network in memory.
type world struct {
	t        *testing.T
	registry *gatedRegistry
	engine   *opa.Engine
	decider  *gatedDecider
	broker   *broker.Broker
	net      *listentest.Listener
	log      *logRecords
	orgs     map[string]*organisation
	restored broker.Restored

	plugins sync.Map // of verifiers by name, for a policy that names one

	bundle *opa.Bundle // it began with, and another one on its disk will
	disk   *memstore.Disk
	store  *tap
	cfg    broker.Config
	stop   func() // says goodbye to everybody and closes the disk; once
}

// newWorld starts a broker that judges by bundle. It is stopped, and everything
// in it waited for, when the test ends.
func newWorld(t *testing.T, bundle *opa.Bundle) *world {
	t.Helper()
	return newWorldOn(t, bundle, memstore.NewDisk(), broker.Config{})
}

func newWorldOn(t *testing.T, bundle *opa.Bundle, disk *memstore.Disk, cfg broker.Config) *world {
	t.Helper()
	w := &world{
		t: t, net: listentest.NewListener(), log: &logRecords{}, orgs: map[string]*organisation{},
		bundle: bundle, disk: disk, cfg: cfg,
	}
	log := slog.New(w.log)
	st, err := disk.Open(storeOptions)
	must(t, err)
	reg, err := registry.Open(st, registry.Options{Log: log})
	must(t, err)
	w.registry = &gatedRegistry{Registry: reg}
	w.store = newTap(st)
	w.engine = opa.New(opa.Options{Log: log, Timeout: 5 * time.Second}) // generous: the race detector is slow
	w.engine.Activate(bundle)
	w.decider = &gatedDecider{Engine: w.engine}
	cfg.Log = log
	w.broker = broker.New(cfg, broker.Deps{
		Decider: w.decider,
		Verifiers: plugins.NewSet(map[policy.VerifierRef]plugins.Verifier{
			{Verifier: registry.VerifierName}:      reg.TokenVerifier(),
			{Verifier: registry.ClaimVerifierName}: reg.ClaimVerifier(),
			{Verifier: "plugin", Name: "free"}:     freeVerifier{},
			{Verifier: plugins.AnonymousName}:      plugins.Anonymous{},
		}, w.plugin),
		Registry: w.registry, Store: w.store,
	})
	w.restored = restore(t, w.broker, reg)
	unwatch := reg.Watch(func(ch registry.Change) { w.broker.Apply(feed.Change(ch)) })
	l := listen.New(w.net, listen.Config{Name: "mqtts", Log: log})
	served := make(chan error, 1)
	go func() { served <- l.Serve(w.broker.Serve) }()
	w.stop = sync.OnceFunc(func() {
		w.store.release()
		must(t, l.Close())
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		must(t, w.broker.Shutdown(ctx))
		must(t, <-served)
		unwatch()
		reg.Close()
		must(t, st.Close())
		w.noSecretLogged()
	})
	t.Cleanup(w.stop)
	return w
}

// plugin finds what a test put into w.plugins.
func (w *world) plugin(ref policy.VerifierRef) (plugins.Verifier, bool) {
	found, _ := w.plugins.Load(ref.Name)
	v, ok := found.(plugins.Verifier)
	return v, ok && ref.Verifier == "plugin"
}

// restore raises what the disk kept, as the program does.
func restore(t *testing.T, b *broker.Broker, reg *registry.Registry) broker.Restored {
	t.Helper()
	list, _, err := reg.Organisations(ctx, registry.Page{Limit: 1000})
	must(t, err)
	var tenants []broker.Tenant
	for _, o := range list {
		tenants = append(tenants, broker.Tenant{Org: o.ID, Incarnation: o.Incarnation})
	}
	found, err := b.Restore(ctx, tenants)
	must(t, err)
	return found
}

// activate makes r the live policy. No sweep follows, so that whatever a test
// sees next was judged anew by its own doing.
func (w *world) activate(r rules) { w.t.Helper(); w.engine.Activate(r.bundle(w.t)) }

// noSecretLogged looks for the tokens of all organisations in the log.
func (w *world) noSecretLogged() {
	w.t.Helper()
	for _, o := range w.orgs {
		for _, secret := range o.secrets {
			if strings.Contains(w.log.text(), secret) {
				w.t.Errorf("a secret of %s is in the log", o.id)
			}
		}
	}
}

// organisation is one tenant with device type sensor, devices d1 and d2 and a key.
type organisation struct {
	w       *world
	id      policy.OrgID
	key     string
	tokens  map[string]string // of devices and keys
	secrets []string
}

// org returns the organisation and creates it on first use.
func (w *world) org(name string) *organisation {
	w.t.Helper()
	if o := w.orgs[name]; o != nil {
		return o
	}
	o := &organisation{w: w, id: orgID(w.t, name), tokens: map[string]string{}}
	w.orgs[name] = o
	seed, err := w.registry.SeedOrganisation(ctx, o.id, name)
	must(w.t, err)
	o.key = seed.APIKey.Key
	o.keep(o.key, seed.APIToken)
	_, err = w.registry.CreateType(ctx, o.id, registry.DeviceType{ID: "sensor"})
	must(w.t, err)
	o.addDevice("d1")
	o.addDevice("d2")
	return o
}

func (o *organisation) keep(name, secret string) {
	o.tokens[name] = secret
	o.secrets = append(o.secrets, secret)
}

func (o *organisation) addDevice(id string) {
	o.w.t.Helper()
	_, token, err := o.w.registry.CreateDevice(ctx, o.id, registry.Device{Type: "sensor", ID: policy.ID(id)}, plugins.Secret{})
	must(o.w.t, err)
	o.keep(id, token)
}

// addKey creates an API key with roles and returns its name.
func (o *organisation) addKey(roles ...string) string {
	o.w.t.Helper()
	k, token, err := o.w.registry.CreateAPIKey(ctx, o.id, registry.APIKey{Roles: roles})
	must(o.w.t, err)
	o.keep(k.Key, token)
	return k.Key
}

// login is what a CONNECT carries.
type login struct{ clientID, username, password string }

func (o *organisation) device(id string) login {
	return login{"d:" + o.id.String() + ":sensor:" + id, "use-token-auth", o.tokens[id]}
}

func (o *organisation) app(id string) login { return o.appWith(o.key, id) }

func (o *organisation) appWith(key, id string) login {
	return login{"a:" + o.id.String() + ":" + id, key, o.tokens[key]}
}

// free is an application called name with a client ID of its own choice.
func (o *organisation) free(name, clientID string) login {
	return login{clientID, o.id.String() + "/" + name, "x"}
}

// freeVerifier believes a username ORG/APP, whatever the client ID: it stands
// for a plugin that has another scheme than the built-in one.
type freeVerifier struct{}

func (freeVerifier) Verify(_ context.Context, c *plugins.Credential) (policy.Principal, error) {
	name, app, ok := strings.Cut(c.Client.Username, "/")
	org, err := policy.ParseOrgID(name)
	if !ok || err != nil {
		return policy.Principal{}, plugins.ErrNotMine
	}
	if app == "unavailable" {
		return policy.Principal{}, plugins.ErrUnavailable
	}
	return policy.Principal{
		Org: org, Kind: policy.KindApplication, App: policy.ID(app), Verifier: "free", Claims: map[string]any{"app": app},
	}, nil
}

// gatedRegistry is the registry as the broker asks it, with a gate that a test
// may put behind Refresh: what was read is used only after the gate returned.
type gatedRegistry struct {
	*registry.Registry
	refreshed atomic.Pointer[func()]

	attaching atomic.Pointer[func(func() error) error]
	attached  atomic.Int64 // how often Attach was called
}

// attach has fn stand between the broker and each registration; nil: nobody.
func (g *gatedRegistry) attach(fn func(attach func() error) error) {
	if fn == nil {
		g.attaching.Store(nil)
		return
	}
	g.attaching.Store(&fn)
}

func (g *gatedRegistry) Attach(ctx context.Context, gateway *policy.Principal, typ, id policy.ID) error {
	g.attached.Add(1)
	attach := func() error { return feed.Registry{Registry: g.Registry}.Attach(ctx, gateway, typ, id) }
	if fn := g.attaching.Load(); fn != nil {
		return (*fn)(attach)
	}
	return attach()
}

// afterNextRefresh calls gate once.
func (g *gatedRegistry) afterNextRefresh(gate func()) { g.refreshed.Store(&gate) }

func (g *gatedRegistry) Refresh(ctx context.Context, p *policy.Principal) (policy.Principal, error) {
	now, err := g.Registry.Refresh(ctx, p)
	if gate := g.refreshed.Swap(nil); gate != nil {
		(*gate)()
	}
	return now, err
}

// gatedDecider is the engine with a gate behind the connect decision.
type gatedDecider struct {
	*opa.Engine
	connected atomic.Pointer[func()]
}

// afterNextConnect calls gate once, after an answer and before it is used.
func (g *gatedDecider) afterNextConnect(gate func()) { g.connected.Store(&gate) }

func (g *gatedDecider) Judge(f *policy.Facts) policy.Judge { return gatedJudge{g, g.Engine.Judge(f)} }

type gatedJudge struct {
	g *gatedDecider
	policy.Judge
}

func (j gatedJudge) Decide(ctx context.Context, r *policy.Request) *policy.Decision {
	d := j.Judge.Decide(ctx, r)
	if r.Action == policy.ActionConnect {
		if gate := j.g.connected.Swap(nil); gate != nil {
			(*gate)()
		}
	}
	return d
}

func (g *gatedRegistry) SessionQuotas(ctx context.Context, org policy.OrgID) (broker.Quotas, error) {
	return feed.Registry{Registry: g.Registry}.SessionQuotas(ctx, org)
}

// rules is a small bundle: the text of each package after its first line. What
// is empty is open, and receive is absent. All clients have the identity mount.
type rules struct{ connect, publish, subscribe, receive, verifiers string }

const (
	openConnect   = `decision := {"allow": true, "mounts": [{"client": "", "org": ""}]}`
	openPublish   = `decision := {"allow": true, "retain": "keep"}`
	openSubscribe = `decision := {"allow": true}`
	verifiers     = `verifiers := [{"verifier": "token"}, {"verifier": "plugin", "name": "free"}]`
)

// limited is an open connect rule with limits, written as the fields of an object.
func limited(limits string) string {
	return `decision := {"allow": true, "mounts": [{"client": "", "org": ""}], "limits": {` + limits + `}}`
}

func (r rules) bundle(t *testing.T) *opa.Bundle {
	t.Helper()
	files := fstest.MapFS{}
	add := func(name, text, open string) {
		if text == "" {
			text = open
		}
		if text != "" {
			files["cordon/"+name+"/"+name+".rego"] = &fstest.MapFile{Data: []byte("package cordon." + name + "\n\n" + text + "\n")}
		}
	}
	add("connect", r.connect, openConnect)
	add("publish", r.publish, openPublish)
	add("subscribe", r.subscribe, openSubscribe)
	add("receive", r.receive, "")
	if r.verifiers == "" {
		r.verifiers = verifiers
	}
	files["cordon/connect/connect.rego"].Data = append(files["cordon/connect/connect.rego"].Data, r.verifiers...)
	return load(t, files)
}

func load(t *testing.T, files fs.FS) *opa.Bundle {
	t.Helper()
	bundle, report := opa.Load(ctx, files, rego.Schemas())
	if err := report.Err(); err != nil {
		var text strings.Builder
		_, _ = report.WriteTo(&text)
		t.Fatalf("bundle: %v\n%s", err, text.String())
	}
	return bundle
}

// builtIn is the bundle that Cordon ships, compiled once for all tests.
var builtIn = sync.OnceValue(func() *opa.Bundle {
	bundle, report := opa.Load(ctx, rego.Bundle(), rego.Schemas())
	if report.Err() != nil {
		panic(report.Err())
	}
	return bundle
})

// replaceToken gives a device another token at once; the old one is dead.
func (o *organisation) replaceToken(id string) { o.w.t.Helper(); o.replaceTokenIn(id, 0) }

// replaceTokenIn gives a device another token; the old one is good for grace.
// The organisation goes on knowing the new one.
func (o *organisation) replaceTokenIn(id string, grace time.Duration) {
	o.w.t.Helper()
	token, err := o.w.registry.ReplaceDeviceToken(ctx, o.id, "sensor", policy.ID(id), plugins.Secret{}, grace)
	must(o.w.t, err)
	o.keep(id, token)
}

func (o *organisation) expireKey(key string, at time.Time) {
	o.w.t.Helper()
	_, err := o.w.registry.UpdateAPIKey(ctx, o.id, key, func(k *registry.APIKey) error { k.Expires = at; return nil })
	must(o.w.t, err)
}
