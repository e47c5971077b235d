package scaffold_test

import (
	"encoding/base64"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/plugins/guest"
	"github.com/cordon-mq/cordon/plugins/scaffold"
	"github.com/cordon-mq/cordon/plugins/scaffold/scaffoldtest"
	"github.com/cordon-mq/cordon/plugins/wasm"
	"github.com/cordon-mq/cordon/policy"
)

// command runs a shell command in dir without a network for Go.
func command(t *testing.T, dir, tools, line string) {
	t.Helper()
	c := exec.CommandContext(t.Context(), "sh", "-c", line) // #nosec G204
	c.Dir = dir
	c.Env = append(os.Environ(), "GOPROXY=off", "GOSUMDB=off", "GOTOOLCHAIN=local", "GOFLAGS=", "GOWORK=off")
	if tools != "" {
		c.Env = append(c.Env, "PATH="+tools+string(os.PathListSeparator)+os.Getenv("PATH"))
	}
	if said, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", line, err, said)
	}
}

// A new project builds with the command of its README, passes its own vectors,
// and verifies in the host: the same in every language.
func TestProjectsInTheHost(t *testing.T) {
	t.Parallel()
	for _, lang := range scaffold.Langs() {
		t.Run(lang.String(), func(t *testing.T) {
			t.Parallel()
			tools, missing := scaffoldtest.Tools(t, lang)
			if missing != "" {
				t.Skip(missing)
			}
			if testing.Short() && lang == scaffold.Go {
				t.Skip("building a module takes too long for -short")
			}
			dir := t.TempDir()
			if err := scaffold.Write(lang, dir, "door"); err != nil {
				t.Fatal(err)
			}
			project := filepath.Join(dir, "door")
			command(t, project, tools, lang.Build("door"))
			if lang == scaffold.Go {
				command(t, project, "", "gofmt -l . >listed && test ! -s listed && rm listed && go vet ./... && go test .")
			}
			check(t, project)
			serve(t, project)
		})
	}
}

// check does what plugin check --vectors does.
func check(t *testing.T, project string) {
	t.Helper()
	report, err := wasm.Inspect(t.Context(), filepath.Join(project, "door.wasm"), wasm.InspectOptions{
		Options: options(t), Vectors: filepath.Join(project, "vectors.yaml"),
	})
	if err != nil || !report.Passed() || len(report.Vectors) != 2 || len(report.Warnings) != 0 {
		t.Errorf("%v, %v, %+v", err, report.Warnings, report.Vectors)
	}
}

// options give a busy machine its time: this is about answers.
func options(t *testing.T) wasm.Options {
	t.Helper()
	return wasm.Options{
		Log:    slog.New(slog.NewTextHandler(t.Output(), nil)),
		Limits: wasm.Limits{Deadline: 30 * time.Second, StartDeadline: 30 * time.Second},
	}
}

// serve drops the module into a plugins folder.
func serve(t *testing.T, project string) {
	t.Helper()
	dir := t.TempDir()
	org := filepath.Join(dir, "demo01")
	if err := os.Mkdir(org, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"door.wasm", "door.yaml"} {
		if err := os.Rename(filepath.Join(project, name), filepath.Join(org, name)); err != nil {
			t.Fatal(err)
		}
	}
	o := options(t)
	o.Dir = dir
	host, err := wasm.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := host.Close(); err != nil {
			t.Error(err)
		}
	}()
	verifier, ok := host.Verifier("door")
	if !ok {
		t.Fatal("the host has no such plugin")
	}
	secret := secretOf(t, filepath.Join(org, "door.yaml"))
	for _, tt := range tokens(secret) {
		p, err := verifier.Verify(t.Context(), &plugins.Credential{
			// Names that a careless reader of JSON would stumble over.
			Client:   policy.Client{ID: `"token":"`, Username: `\"},{"token": "x` + "\u2028é\\", Protocol: "5", Listener: "mqtts"},
			Password: plugins.NewSecret([]byte(tt.token)), HasPassword: tt.token != "",
		})
		switch {
		case tt.id == "" && !errors.Is(err, plugins.ErrBad):
			t.Errorf("%.60q: %+v, %v; want a refusal", tt.token, p, err)
		case tt.id != "" && (err != nil || p.Org.String() != "demo01" || p.Kind != policy.KindDevice || p.Type != "sensor" || string(p.ID) != tt.id):
			t.Errorf("%.60q: %+v, %v; want device %s", tt.token, p, err, tt.id)
		}
	}
}

type token struct {
	token string
	id    string // of the sensor; empty where it is refused
}

// tokens are what a client may present, signed or not.
func tokens(secret string) []token {
	sign := func(name, secret string) string {
		return base64.RawURLEncoding.EncodeToString(guest.HMAC(guest.SHA256, []byte(secret), []byte(name)))
	}
	signed := func(name string) string { return name + "." + sign(name, secret) }
	good := signed("sensor/d1")
	long := strings.Repeat("x", 36)
	return []token{
		{good, "d1"},
		{signed("sensor/d.1_-Z"), "d.1_-Z"},
		{signed("sensor/" + long), long},
		{"", ""},
		{".", ""},
		{"sensor/d1", ""},
		{"sensor/d1.", ""},
		{"sensor/d2" + strings.TrimPrefix(good, "sensor/d1"), ""},
		{good + "A", ""},
		{good + "=", ""},
		{good[:len(good)-1], ""},
		{good + "\n", ""},
		{"x" + good, ""},
		{"sensor/d1." + sign("sensor/d1", secret+"x"), ""},
		{"sensor/d1." + sign("sensor/d1", ""), ""},
		{signed("sensor"), ""},
		{signed("sensor/"), ""},
		{signed("/d1"), ""},
		{signed(""), ""},
		{signed("sensor/d1/x"), ""},
		{signed("sensor/" + long + "x"), ""},
		{signed(`sensor/d1","kind":"gateway`), ""},
		{signed("sensor/d\\u0031"), ""},
		{signed("sensor/d\x00"), ""},
		{signed("sensor/é"), ""},
		{strings.Repeat("x", 10_000), ""},
		{signed("sensor/" + strings.Repeat("x", 10_000)), ""},
		{`{"token":"` + good + `"}`, ""},
	}
}

func secretOf(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var settings struct {
		Name     string
		Settings struct{ Secret string }
	}
	if err := yaml.Unmarshal(text, &settings); err != nil {
		t.Fatal(err)
	}
	return settings.Settings.Secret
}
