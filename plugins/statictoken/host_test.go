package main

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/plugins/guest/guesttest"
	"github.com/cordon-mq/cordon/plugins/wasm"
	"github.com/cordon-mq/cordon/policy"
)

// settings are those of README.md, for two devices.
const settings = `
name: statictoken
settings:
  devices:
    - {type: sensor, id: d1, secret: d1}
    - {type: door, id: d2, secret: d2}
secrets:
  d1: d1.secret
  d2: d2.secret
vectors:
  - {name: the first device, token: ` + secretD1 + `, want: ok, subject: {kind: device, type: sensor, id: d1}}
  - {name: nobody, token: guess, want: bad}
`

func hosted(t testing.TB) plugins.Verifier {
	t.Helper()
	module := guesttest.Build(t, ".")
	dir := t.TempDir()
	org := filepath.Join(dir, "acme01")
	if err := os.Mkdir(org, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"statictoken.wasm": module, "statictoken.yaml": []byte(settings),
		"d1.secret": []byte(secretD1 + "\n"), "d2.secret": []byte(secretD2),
	} {
		if err := os.WriteFile(filepath.Join(org, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	host, err := wasm.Open(t.Context(), wasm.Options{
		Dir: dir, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
		// This is about answers: a busy machine may take its time.
		Limits: wasm.Limits{Deadline: 30 * time.Second, StartDeadline: 30 * time.Second},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := host.Close(); err != nil {
			t.Error(err)
		}
	})
	verifier, ok := host.Verifier("statictoken")
	if !ok {
		t.Fatal("the host has no such plugin")
	}
	return verifier
}

func credential(token string) *plugins.Credential {
	return &plugins.Credential{
		Client:   policy.Client{Protocol: "5", Listener: "mqtts"},
		Password: plugins.NewSecret([]byte(token)), HasPassword: true,
	}
}

func TestVerifyInTheHost(t *testing.T) {
	t.Parallel()
	verifier := hosted(t)
	for token, answer := range tokens() {
		p, err := verifier.Verify(t.Context(), credential(token))
		if strings.Contains(answer, `"ok":true`) {
			if err != nil || p.Kind != policy.KindDevice || !strings.Contains(answer, string(p.ID)) || !strings.Contains(answer, string(p.Type)) {
				t.Errorf("%q: %+v, %v; want %s", token, p, err, answer)
			}
		} else if !errors.Is(err, plugins.ErrBad) {
			t.Errorf("%q: %+v, %v; want a refusal", token, p, err)
		}
	}
}

func BenchmarkVerifyInTheHost(b *testing.B) {
	verifier := hosted(b)
	c := credential(secretD2)
	for b.Loop() {
		if _, err := verifier.Verify(b.Context(), c); err != nil {
			b.Fatal(err)
		}
	}
}
