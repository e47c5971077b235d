package main

import (
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/plugins/guest/guesttest"
	"github.com/cordon-mq/cordon/plugins/wasm"
	"github.com/cordon-mq/cordon/policy"
)

// hosted is the plugin as the broker runs it, with the issuer's key set behind HTTPS.
func hosted(t testing.TB, i *issuer, settings object) plugins.Verifier {
	t.Helper()
	keys := text(i.publicKeySet())
	return verifierOf(t, host(t, i, settings, func() string { return keys }))
}

// host has the plugin, and gets the key set that keys returns from an HTTPS server.
func host(t testing.TB, i *issuer, settings object, keys func() string) *wasm.Host {
	t.Helper()
	module := guesttest.Build(t, ".")
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(keys()))
	}))
	t.Cleanup(server.Close)

	dir := t.TempDir()
	org := filepath.Join(dir, "acme01")
	if err := os.Mkdir(org, 0o700); err != nil {
		t.Fatal(err)
	}
	beside := text(object{ // every JSON text is YAML
		"name": "jwt", "settings": settings, "secrets": object{"shared": "shared.key", "short": "short.key"},
		"jwks": object{"issuer": object{"url": server.URL}},
	})
	for name, data := range map[string][]byte{
		"jwt.wasm": module, "jwt.yaml": []byte(beside), "shared.key": i.hmac, "short.key": i.hmac32,
	} {
		if err := os.WriteFile(filepath.Join(org, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	host, err := wasm.Open(t.Context(), wasm.Options{
		Dir: dir, Log: slog.New(slog.NewTextHandler(t.Output(), nil)), HTTPClient: server.Client(),
		// This is about answers: a busy machine may take its time.
		Limits: wasm.Limits{Deadline: 30 * time.Second, StartDeadline: 30 * time.Second, Wait: 30 * time.Second},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := host.Close(); err != nil {
			t.Error(err)
		}
	})
	return host
}

func verifierOf(t testing.TB, host *wasm.Host) plugins.Verifier {
	t.Helper()
	v, ok := host.Verifier("jwt")
	if !ok {
		t.Fatal("the host has no such plugin")
	}
	return v
}

func credential(token string) *plugins.Credential {
	return &plugins.Credential{
		Client:   policy.Client{ID: "d:acme01:sensor:d1", Protocol: "5", Listener: "mqtts"},
		Password: plugins.NewSecret([]byte(token)), HasPassword: true,
	}
}

// The module says in the host what the program says natively.
func TestTokensInTheHost(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	verifier := hosted(t, i, i.settings())
	for _, c := range i.cases(t, time.Now()) {
		p, err := verifier.Verify(t.Context(), credential(c.token))
		got := "ok"
		var refusal *plugins.Refusal
		switch {
		case errors.Is(err, plugins.ErrNotMine):
			got = "not mine"
		case errors.As(err, &refusal) && refusal.Err != nil:
			got = refusal.Err.Error()
		case err != nil:
			got = err.Error()
		}
		want := c.want
		if want == "the token's key is not known" {
			want = "the key is not in the key set" // the host says so itself, and fetches it again
		}
		if got != want && got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, want)
		}
		if err == nil && (p.Kind != policy.KindDevice || p.Type != "sensor" || p.ID != "d1" || p.Org.String() != "acme01" || p.ExpiresAt.IsZero()) {
			t.Errorf("%s: %+v", c.name, p)
		}
	}
}

// The issuer takes one key away and has another: its first token is accepted, and
// no token of the old key any more, although the answer to it was remembered.
func TestRotatedKeysInTheHost(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	var keys atomic.Value
	keys.Store(text(object{"keys": []object{ecKey("old", "P-256", i.p256)}}))
	h := host(t, i, with(i.settings(), "remember_seconds", 300), func() string { return keys.Load().(string) })
	v, now := verifierOf(t, h), time.Now()
	before := credential(i.token(t, "ES256", `{"alg":"ES256","kid":"old"}`, claims(now)))
	after := credential(i.token(t, "ES384", `{"alg":"ES384","kid":"new"}`, claims(now)))
	for range 2 {
		if _, err := v.Verify(t.Context(), before); err != nil {
			t.Fatalf("with the old key: %v", err)
		}
	}
	if n := h.Status()[0].Counts.Remembered; n != 1 {
		t.Fatalf("%d answers were repeated: there is nothing to forget", n)
	}

	keys.Store(text(object{"keys": []object{ecKey("new", "P-384", i.p384)}}))
	if _, err := v.Verify(t.Context(), after); err != nil {
		t.Errorf("the first token of the new key: %v", err)
	}
	if p, err := v.Verify(t.Context(), before); !errors.Is(err, plugins.ErrBad) {
		t.Errorf("a token of the key that was taken away: %v, %v", p.Subject().Name, err)
	}
}

// Goals on one ordinary processor: 50 µs and 150 µs.
func BenchmarkVerifyInTheHost(b *testing.B) {
	i := newIssuer(b)
	verifier := hosted(b, i, with(i.settings(), "remember_seconds", 0))
	for _, bench := range []struct{ alg, kid string }{{"HS256", "shared"}, {"ES256", "p256"}, {"RS256", "rsa"}, {"EdDSA", "ed"}} {
		b.Run(bench.alg, func(b *testing.B) {
			c := credential(i.token(b, bench.alg, text(object{"alg": bench.alg, "kid": bench.kid}), claims(time.Now())))
			for b.Loop() {
				if _, err := verifier.Verify(b.Context(), c); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkVerifyNatively(b *testing.B) {
	i := newIssuer(b)
	now := time.Now()
	p := configured(b, i, i.settings())
	for _, bench := range []struct{ alg, kid string }{{"HS256", "shared"}, {"ES256", "p256"}} {
		b.Run(bench.alg, func(b *testing.B) {
			token := i.token(b, bench.alg, text(object{"alg": bench.alg, "kid": bench.kid}), claims(now))
			request := []byte(text(object{"v": 1, "token": []byte(token), "peer": object{}, "now_ms": now.UnixMilli()}))
			for b.Loop() {
				if said, err := p.Verify(request); err != nil || len(said) < 20 {
					b.Fatal(err)
				}
			}
		})
	}
}
