package wasm

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
)

func orgs(t testing.TB, names ...string) func(context.Context) ([]policy.OrgID, error) {
	t.Helper()
	var all []policy.OrgID
	for _, name := range names {
		all = append(all, organisation(t, name))
	}
	return func(context.Context) ([]policy.OrgID, error) { return all, nil }
}

// Where a plugin lies says whom it serves.
func TestBinding(t *testing.T) {
	t.Parallel()
	const device = `"subject":{"kind":"device","type":"sensor","id":"d1"}}`
	for _, tt := range []struct {
		name, at, settings string
		orgs               []string
		ask                string // the organisation in the policy's reference
		token              string
		want               string // the principal's organisation, or "" for none
	}{
		{"a folder of its own", "acme01/it", "", nil, "", `{"ok":true,` + device, "acme01"},
		{"a folder of its own, named", "acme01/it", "", nil, "acme01", `{"ok":true,` + device, "acme01"},
		{"a folder of its own, another named", "acme01/it", "", nil, "demo01", `{"ok":true,` + device, ""},
		{"the only organisation", "it", "", []string{"demo01"}, "", `{"ok":true,` + device, "demo01"},
		{"one of several", "it", "", []string{"demo01", "acme01"}, "", `{"ok":true,` + device, ""},
		{"one of none", "it", "", nil, "", `{"ok":true,` + device, ""},
		{"the platform, the answer says", "_platform/it", "organisations: [acme01, demo01]", nil, "", `{"ok":true,"org":"demo01",` + device, "demo01"},
		{"the platform, the policy says", "_platform/it", "organisations: [acme01, demo01]", nil, "acme01", `{"ok":true,` + device, "acme01"},
		{"the platform, both say", "_platform/it", "organisations: [acme01, demo01]", nil, "acme01", `{"ok":true,"org":"demo01",` + device, ""},
		{"the platform, nobody says", "_platform/it", "organisations: [acme01, demo01]", nil, "", `{"ok":true,` + device, ""},
		{"the platform, outside of the list", "_platform/it", "organisations: [acme01, demo01]", nil, "", `{"ok":true,"org":"other1",` + device, ""},
		{"the platform, asked for an outsider", "_platform/it", "organisations: [acme01, demo01]", nil, "other1", `{"ok":true,` + device, ""},
		{"the platform without a list", "_platform/it", "", nil, "", `{"ok":true,` + device, ""},
		{"a list beside an organisation's own", "acme01/it", "organisations: [demo01]", nil, "", `{"ok":true,` + device, ""},
		{"a folder that is no organisation", "Acme/it", "", nil, "", `{"ok":true,` + device, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			lay(t, dir, tt.at, "token_answers", tt.settings)
			h := open(t, Options{Dir: dir, Limits: patient(), Orgs: orgs(t, tt.orgs...)})
			p, err := find(t, h, "it", tt.ask).Verify(t.Context(), token(tt.token))
			if p.Org.String() != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("%v, %v", p.Org, err)
			}
			if err != nil && !errors.Is(err, plugins.ErrUnavailable) {
				t.Errorf("refused with %v", err)
			}
		})
	}
}

// Two plugins of one name are told apart by the organisation that the policy
// names, and by nothing a client says.
func TestOneNameInSeveralFolders(t *testing.T) {
	t.Parallel()
	dir, log := t.TempDir(), &lines{}
	lay(t, dir, "acme01/it", "good", "")
	lay(t, dir, "demo01/it", "good", "")
	lay(t, dir, "_platform/it", "good", "organisations: [demo01, third1]")
	h := open(t, Options{Dir: dir, Limits: patient(), Log: log.logger()})
	mustBeUnavailable(t, find(t, h, "it", ""), token("x"))
	if !strings.Contains(log.String(), `3 plugins are called`) {
		t.Errorf("log:\n%s", log)
	}
	for _, org := range []string{"acme01", "demo01", "third1"} {
		if p := mustVerify(t, find(t, h, "it", org), token("x")); p.Org.String() != org {
			t.Errorf("%s: %v", org, p.Org)
		}
	}
	mustBeUnavailable(t, find(t, h, "it", "fourth"), token("x"))
	if _, ok := h.Verifier("it"); !ok {
		t.Error("no verifier of that name")
	}
	if _, ok := h.Verifier("other"); ok {
		t.Error("a verifier nobody put there")
	}
}

// A file that is refused says why, harms nobody else, and leaves the version
// before at work.
func TestRefusalsAndTheOldVersion(t *testing.T) {
	t.Parallel()
	good, _ := os.ReadFile("testdata/guests/good.wasm")
	for _, tt := range []struct{ name, settings, why string }{
		{"an unknown field", "memory: 7", "unknown field"},
		{"a field twice", "name: it\nname: it", "already defined"},
		{"a bomb of aliases", "settings: {a: &a [x, x], b: [*a, *a]}", "anchors and aliases are not read"},
		{"another's settings", "name: other", `the settings are those of`},
		{"another module", "sha256: " + strings.Repeat("0a", 32), "has SHA-256"},
		{"no hash", "sha256: abc", "not 64 hexadecimal digits"},
		{"a missing secret", "secrets: {key: nowhere}", "no such file"},
		{"a folder as secret", "secrets: {key: .}", "not a regular file"},
		{"too long a deadline", "limits: {deadline: 1m}", "limits: deadline"},
		{"too much memory", "limits: {memory_mib: 4096}", "limits: memory_mib"},
		{"plain HTTP", "jwks: {k: {url: 'http://a.example/keys'}}", "not an https address"},
		{"a failing self-test", "vectors: [{name: v, token: x, want: bad}]", `wants bad, got ok`},
		{"a self-test of another subject", "vectors: [{token: x, want: ok, subject: {id: d2}}]", `subject.id is \"d1\", not \"d2\"`},
		{"a self-test of nothing", "vectors: [{token: x}]", "want: not"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir, log := t.TempDir(), &lines{}
			layBytes(t, dir, "acme01/it", good, "")
			layBytes(t, dir, "acme01/bystander", good, "")
			h := open(t, Options{Dir: dir, Limits: patient(), Log: log.logger()})
			mustVerify(t, find(t, h, "it", ""), token("x"))
			layBytes(t, dir, "acme01/it", append(good[:len(good):len(good)], 0, 1, 0), tt.settings)
			if err := h.scan(t.Context()); err != nil {
				t.Fatal(err)
			}
			if s := log.String(); !strings.Contains(s, tt.why) || !strings.Contains(s, "kept_previous=true") {
				t.Errorf("the log does not say %q:\n%s", tt.why, s)
			}
			mustVerify(t, find(t, h, "it", ""), token("x"))
			mustVerify(t, find(t, h, "bystander", ""), token("x"))
		})
	}
}

func TestModuleLimits(t *testing.T) {
	t.Parallel()
	dir, log := t.TempDir(), &lines{}
	lay(t, dir, "acme01/it", "good", "")
	lay(t, dir, "acme01/token", "good", "")
	h := open(t, Options{Dir: dir, Limits: Limits{ModuleBytes: 100}, Log: log.logger()})
	mustBeUnavailable(t, find(t, h, "it", ""), token("x"))
	if !strings.Contains(log.String(), "more than 100 bytes") || !strings.Contains(log.String(), "belongs to a built-in verifier") {
		t.Errorf("log:\n%s", log)
	}
	if _, ok := h.Find(policy.VerifierRef{Verifier: "plugin", Name: "token"}); ok {
		t.Error("a plugin passes for a built-in verifier")
	}
}

func TestConfigurationLimit(t *testing.T) {
	t.Parallel()
	l := patient()
	l.ConfigBytes = 200
	_, v, log := one(t, "features", "settings: {text: "+strings.Repeat("x", 200)+"}", l)
	mustBeUnavailable(t, v, token("x"))
	if s := log.String(); !strings.Contains(s, "a configuration of") || !strings.Contains(s, "at most 200") {
		t.Errorf("log:\n%s", s)
	}
	_, v, _ = one(t, "good", "settings: {text: x}", l)
	mustVerify(t, v, token("x"))
}

func TestExpectedHashAndPassingVectors(t *testing.T) {
	t.Parallel()
	good, _ := os.ReadFile("testdata/guests/good.wasm")
	settings := fmt.Sprintf("name: it\nsha256: %X\nvectors:\n- {name: v, token: x, want: ok, subject: {kind: device, type: sensor, id: d1}}\n", sha256.Sum256(good))
	_, v, _ := one(t, "good", settings, patient())
	mustVerify(t, v, token("x"))
}

// Secrets come from files, and a file others can read is worth a warning.
func TestSecrets(t *testing.T) {
	t.Parallel()
	dir, log := t.TempDir(), &lines{}
	if err := os.MkdirAll(filepath.Join(dir, "acme01"), 0o700); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(dir, "acme01", "key")
	if err := os.WriteFile(key, []byte("correct horse\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	lay(t, dir, "acme01/it", "good", "secrets: {key: key}\nsettings: {issuer: i, list: [1, 2]}\n")
	h := open(t, Options{Dir: dir, Limits: patient(), Log: log.logger()})
	p := h.table.Load().plugins[place{"acme01", "it"}]
	b, _, err := p.configuration(organisation(t, "acme01"))
	want := `{"v":1,"org":"acme01","settings":{"issuer":"i","list":[1,2]},"secrets":{"key":"Y29ycmVjdCBob3JzZQ=="},"jwks":{}}`
	if err != nil || string(b) != want {
		t.Errorf("got %s\nwant %s\n%v", b, want, err)
	}
	if s := log.String(); !strings.Contains(s, "can be read by others") || strings.Contains(s, "horse") {
		t.Errorf("log:\n%s", s)
	}
	// Another secret is another version.
	if err := os.WriteFile(key, []byte("battery staple"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := h.scan(t.Context()); err != nil {
		t.Fatal(err)
	}
	if h.table.Load().plugins[place{"acme01", "it"}] == p {
		t.Error("the old secret is still in use")
	}
}

func TestCompilationCacheIsItsOwners(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Options{Dir: t.TempDir(), CacheDir: dir}); err == nil {
		t.Error("machine code from a folder anybody writes to")
	}
}

// Run sees what comes, changes and goes.
func TestRunFollowsTheFolder(t *testing.T) {
	t.Parallel()
	dir, log := t.TempDir(), &lines{}
	h := open(t, Options{Dir: dir, Limits: patient(), Log: log.logger()})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	v := find(t, h, "it", "acme01")
	until(t, log, func() bool { _, err := v.Verify(t.Context(), token("x")); return err != nil })
	began := time.Now()

	lay(t, dir, "acme01/it", "token_answers", "")
	until(t, log, func() bool { _, err := v.Verify(t.Context(), token(okAnswer)); return err == nil })

	lay(t, dir, "acme01/it", "good", "")
	until(t, log, func() bool { _, err := v.Verify(t.Context(), token("x")); return err == nil })

	lay(t, dir, "acme01/it", "no_abi", "")
	until(t, log, func() bool { return strings.Contains(log.String(), "kept_previous=true") })
	mustVerify(t, v, token("x"))

	if err := os.Remove(filepath.Join(dir, "acme01/it.wasm")); err != nil {
		t.Fatal(err)
	}
	until(t, log, func() bool { _, err := v.Verify(t.Context(), token("x")); return err != nil })
	if took := time.Since(began); took > lookAgain {
		t.Errorf("four changes took %v: nobody told of them", took)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// until waits for what nothing announces.
func until(t *testing.T, log *lines, ok func() bool) {
	t.Helper()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	give := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-look.C:
		case <-give:
			t.Fatalf("it did not come to pass; log:\n%s", log)
		}
	}
}

// A damaged file in the cache costs time, not the plugin.
func TestDamagedMachineCode(t *testing.T) {
	t.Parallel()
	dir, cache, log := t.TempDir(), t.TempDir(), &lines{}
	lay(t, dir, "acme01/it", "good", "")
	first, err := Open(t.Context(), Options{Dir: dir, CacheDir: cache, Limits: patient()})
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	damaged := 0
	err = filepath.WalkDir(cache, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		b[len(b)/2] ^= 0xff
		damaged++
		return os.WriteFile(path, b, 0o600)
	})
	if err != nil || damaged == 0 {
		t.Fatalf("%d files, %v", damaged, err)
	}
	h := open(t, Options{Dir: dir, CacheDir: cache, Limits: patient(), Log: log.logger()})
	mustVerify(t, find(t, h, "it", ""), token("x"))
	if !strings.Contains(log.String(), "is damaged") {
		t.Errorf("log:\n%s", log)
	}
}

// What did not change is not read, and not complained about, again.
func TestOneLineForOneRefusal(t *testing.T) {
	t.Parallel()
	dir, log := t.TempDir(), &lines{}
	lay(t, dir, "acme01/a", "no_abi", "")
	lay(t, dir, "_platform/b", "good", "")
	lay(t, dir, "c", "good", "")
	lay(t, dir, "_platform/d", "no_abi", "organisations: [acme01]")
	lay(t, dir, "acme01/e", "good", "nonsense: 1")
	h := open(t, Options{Dir: dir, Limits: patient(), Log: log.logger(), Orgs: orgs(t, "acme01", "demo01")})
	for range 3 {
		if err := h.scan(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(log.String(), "plugin refused"); n != 5 {
		t.Errorf("%d lines for five plugins:\n%s", n, log)
	}
}

// A start that a busy machine was too slow for is tried again, but not for ever.
func TestASlowStartIsTriedAgain(t *testing.T) {
	t.Parallel()
	dir, log := t.TempDir(), &lines{}
	lay(t, dir, "acme01/it", "slow_start", "")
	h := open(t, Options{Dir: dir, Limits: Limits{StartDeadline: 5 * time.Millisecond}, Log: log.logger()})
	for range 2 * tries {
		if err := h.scan(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(log.String(), "plugin refused"); n != tries+1 {
		t.Errorf("tried %d times", n)
	}
}

// The only organisation there is may stop being so.
func TestTheOnlyOrganisationGetsCompany(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	lay(t, dir, "it", "good", "")
	all := orgs(t, "acme01")
	h := open(t, Options{Dir: dir, Limits: patient(), Orgs: func(ctx context.Context) ([]policy.OrgID, error) { return all(ctx) }})
	mustVerify(t, find(t, h, "it", ""), token("x"))
	all = orgs(t, "acme01", "demo01")
	if err := h.scan(t.Context()); err != nil {
		t.Fatal(err)
	}
	if why := mustBeUnavailable(t, find(t, h, "it", ""), token("x")); !strings.Contains(why, "put it into the folder of one") {
		t.Error(why)
	}
}

// A compilation is stopped at its deadline.
func TestASlowCompilation(t *testing.T) {
	t.Parallel()
	dir, log := t.TempDir(), &lines{}
	lay(t, dir, "acme01/it", "good", "")
	h := open(t, Options{Dir: dir, Limits: Limits{CompileDeadline: 1}, Log: log.logger()})
	mustBeUnavailable(t, find(t, h, "it", ""), token("x"))
	if !strings.Contains(log.String(), errCompile.Error()) {
		t.Errorf("log:\n%s", log)
	}
}
