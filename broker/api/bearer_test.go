package api

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/broker/listen"
	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
)

// bearerToken is what the plugin of these tests accepts.
const bearerToken = "eyJhbGciOiJub3QgcmVhbGx5In0.e30.c2lnbmF0dXJl"

// issued is a plugin that knows one token, of p.
type issued struct {
	p   policy.Principal
	err error
}

func (v issued) Verify(_ context.Context, c *plugins.Credential) (policy.Principal, error) {
	if v.err != nil {
		return policy.Principal{}, v.err
	}
	if !c.HasPassword || !c.Password.Equal([]byte(bearerToken)) || c.Client.Listener != "https" {
		return policy.Principal{}, plugins.ErrBad
	}
	return v.p, nil
}

// newBearerWorld has plugin door, of which the policy is told by name, and a
// policy that would let anybody in, too.
func newBearerWorld(t *testing.T, v plugins.Verifier, change ...func(*Config, *Deps)) *world {
	t.Helper()
	set := plugins.NewSet(map[policy.VerifierRef]plugins.Verifier{
		{Verifier: plugins.AnonymousName}: plugins.Anonymous{},
	}, func(ref policy.VerifierRef) (plugins.Verifier, bool) { return v, ref.Name == "door" })
	w := newWorld(t, append(change, func(_ *Config, d *Deps) { d.Verifiers = set })...)
	w.secrets = append(w.secrets, bearerToken)
	w.decider.OnVerifiers(func(c *policy.Client) ([]policy.VerifierRef, error) {
		refs := []policy.VerifierRef{{Verifier: plugins.AnonymousName, Org: mustOrg(t, "acme01")}, {Verifier: "token"}}
		if name, ok := strings.CutPrefix(c.Username, "use-plugin:"); ok {
			refs = append(refs, policy.VerifierRef{Verifier: "plugin", Name: name})
		}
		return refs, nil
	})
	return w
}

func (w *world) withBearer(method, path, body, plugin, token string) *http.Request {
	w.t.Helper()
	r := w.request(method, path, body)
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("X-Cordon-Plugin", plugin)
	return r
}

// A caller with a plugin's token is of the principal's organisation, and the
// policy decides about it as about any other.
func TestBearer(t *testing.T) {
	t.Parallel()
	p := policy.Principal{
		Org: mustOrg(t, "other1"), Kind: policy.KindApplication, App: "console", Verifier: "door",
		Claims: map[string]any{"level": "full"},
	}
	w := newBearerWorld(t, issued{p: p})
	got := w.do(w.withBearer("POST", "/api/v0002/device/types", `{"id":"lamp"}`, "door", bearerToken))
	if got.status != http.StatusCreated {
		t.Fatalf("%d %s", got.status, got.text)
	}
	if _, err := w.registry.Type(t.Context(), p.Org, "lamp"); err != nil {
		t.Errorf("the type is not in the principal's organisation: %v", err)
	}
	asked := w.decider.Asked(policy.ActionAdminister)
	if len(asked) != 1 || asked[0].Facts.Org.ID != p.Org || asked[0].Facts.Principal.Claims["level"] != "full" ||
		asked[0].Facts.Client.Username != "use-plugin:door" || asked[0].Facts.Client.Listener != "https" {
		t.Errorf("asked %+v", asked)
	}
	w.decider.Deny(policy.ActionAdminister, "read only")
	w.do(w.withBearer("GET", "/api/v0002/", "", "door", bearerToken)).wantError(t, http.StatusForbidden, "CDNHT0403E")
	if log := w.logs.kept.String(); !strings.Contains(log, `"client":"door/console"`) || strings.Contains(log, bearerToken) {
		t.Errorf("log: %s", log)
	}
}

func TestBearerRefused(t *testing.T) {
	t.Parallel()
	good := policy.Principal{Org: mustOrg(t, "acme01"), Kind: policy.KindUser, ID: "u", Verifier: "door"}
	late, elsewhere := good, good
	late.ExpiresAt = time.Date(2026, 1, 31, 11, 59, 59, 0, time.UTC)
	elsewhere.Org = mustOrg(t, "gone01")
	for name, tt := range map[string]struct {
		plugin string
		token  string
		issued issued
		status int
	}{
		"a wrong token":           {"door", "guess", issued{p: good}, 401},
		"no token":                {"door", "", issued{p: good}, 401},
		"no plugin":               {"", bearerToken, issued{p: good}, 401},
		"an unknown plugin":       {"window", bearerToken, issued{p: good}, 503},
		"a plugin's name too far": {strings.Repeat("d", 37), bearerToken, issued{p: good}, 401},
		"a plugin that fails":     {"door", bearerToken, issued{err: plugins.ErrUnavailable}, 503},
		"not its token":           {"door", bearerToken, issued{err: plugins.ErrNotMine}, 401},
		"nobody":                  {"door", bearerToken, issued{}, 503},
		"expired":                 {"door", bearerToken, issued{p: late}, 401},
		"no such organisation":    {"door", bearerToken, issued{p: elsewhere}, 401},
	} {
		w := newBearerWorld(t, tt.issued)
		got := w.do(w.withBearer("GET", "/api/v0002/", "", tt.plugin, tt.token))
		if got.status != tt.status {
			t.Errorf("%s: %d %s, want %d", name, got.status, got.text, tt.status)
		}
		if tt.status == 401 && !slices.Equal(got.header.Values("Www-Authenticate"), []string{realm, `Bearer realm="Cordon"`}) {
			t.Errorf("%s: headers %v", name, got.header)
		}
		if n := len(w.decider.Asked(policy.ActionAdminister)); n != 0 {
			t.Errorf("%s: the policy was asked about nobody", name)
		}
	}
	w := newBearerWorld(t, issued{p: good})
	r := w.withBearer("GET", "/api/v0002/", "", "door", bearerToken)
	r.Header.Add("X-Cordon-Plugin", "window")
	w.do(r).wantError(t, http.StatusUnauthorized, "CDNHT0401E")
	w.decider.OnVerifiers(func(*policy.Client) ([]policy.VerifierRef, error) { return nil, errors.New("no rule") })
	w.do(w.withBearer("GET", "/api/v0002/", "", "door", bearerToken)).wantError(t, http.StatusServiceUnavailable, "CDNHT0503E")
}

// A guess counts against its address, as with Basic.
func TestBearerGuesses(t *testing.T) {
	t.Parallel()
	remembered := listen.NewFailures(listen.FailuresConfig{Burst: 3, Rate: 1e-9})
	good := policy.Principal{Org: mustOrg(t, "acme01"), Kind: policy.KindUser, ID: "u", Verifier: "door"}
	w := newBearerWorld(t, issued{p: good}, func(_ *Config, d *Deps) { d.Failures = remembered })
	for range 3 {
		w.do(w.withBearer("GET", "/api/v0002/", "", "door", "guess")).wantError(t, http.StatusUnauthorized, "CDNHT0401E")
	}
	w.do(w.withBearer("GET", "/api/v0002/", "", "door", bearerToken)).wantError(t, http.StatusTooManyRequests, "CDNHT0429E")
}

// A body that comes slowly does not outlive a revocation.
func TestBearerIsLookedAtAgain(t *testing.T) {
	t.Parallel()
	good := policy.Principal{Org: mustOrg(t, "acme01"), Kind: policy.KindDevice, Type: "sensor", ID: "d1", Verifier: "door"}
	w := newBearerWorld(t, issued{p: good})
	w.fleet()
	r := w.withBearer("POST", "/api/v0002/device/types", "x", "door", bearerToken)
	r.Body = &slowBody{Reader: strings.NewReader(`{"id":"lamp"}`), meanwhile: func() {
		if err := w.registry.DeleteDevice(t.Context(), good.Org, "sensor", "d1"); err != nil {
			t.Error(err)
		}
	}}
	w.do(r).wantError(t, http.StatusUnauthorized, "CDNHT0401E")
}

// slowBody calls meanwhile before its first byte.
type slowBody struct {
	*strings.Reader
	meanwhile func()
}

func (b *slowBody) Read(p []byte) (int, error) {
	if b.meanwhile != nil {
		b.meanwhile()
		b.meanwhile = nil
	}
	return b.Reader.Read(p)
}

func (b *slowBody) Close() error { return nil }
