package scaffold_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/cordon-mq/cordon/plugins/guest"
	"github.com/cordon-mq/cordon/plugins/scaffold"
	"github.com/cordon-mq/cordon/policy"
)

// read is every file below root, by its path there.
func read(t *testing.T, root string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := fs.WalkDir(os.DirFS(root), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(filepath.Join(root, name))
		files[name] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestFilesOfAProject(t *testing.T) {
	t.Parallel()
	own := map[scaffold.Lang][]string{
		scaffold.Go:             {"go.mod", "main.go", "main_test.go"},
		scaffold.Rust:           {"Cargo.toml", "lib.rs"},
		scaffold.C:              {"door-1.c"},
		scaffold.AssemblyScript: {"door-1.ts"},
	}
	for _, lang := range scaffold.Langs() {
		dir := t.TempDir()
		if err := scaffold.Write(lang, dir, "door-1"); err != nil {
			t.Fatalf("%s: %v", lang, err)
		}
		files := read(t, filepath.Join(dir, "door-1"))
		var names []string
		for name, text := range files {
			if strings.Contains(text, "{{") || strings.Contains(text, "NAME") && !strings.HasSuffix(name, ".c") && !strings.HasSuffix(name, ".ts") && !strings.HasPrefix(name, "guest/") {
				t.Errorf("%s: %s is not filled in", lang, name)
			}
			if !strings.HasPrefix(name, "guest/") {
				names = append(names, name)
			}
		}
		want := append([]string{"README.md", "door-1.yaml", "vectors.yaml"}, own[lang]...)
		slices.Sort(names)
		slices.Sort(want)
		if !slices.Equal(names, want) {
			t.Errorf("%s: %v, want %v", lang, names, want)
		}
		if !strings.Contains(files["README.md"], "\n"+lang.Build("door-1")+"\n") {
			t.Errorf("%s: the README has no build command", lang)
		}
		for _, name := range []string{"door-1.yaml", "vectors.yaml"} {
			if info, err := os.Stat(filepath.Join(dir, "door-1", name)); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: others may read %s: %v", lang, name, err)
			}
		}
	}
}

// The vectors are what the README promises, signed with the project's own secret.
func TestVectors(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, lang := range scaffold.Langs() {
		dir := t.TempDir()
		if err := scaffold.Write(lang, dir, "door"); err != nil {
			t.Fatal(err)
		}
		files := read(t, filepath.Join(dir, "door"))
		var settings struct {
			Name     string
			Settings struct{ Secret string }
		}
		var file struct {
			Vectors []struct {
				Name, Token, Want string
				ClientID          string `yaml:"client_id"`
				Subject           struct{ Kind, Type, ID string }
			}
		}
		if err := errors.Join(
			yaml.UnmarshalWithOptions([]byte(files["door.yaml"]), &settings, yaml.Strict()),
			yaml.UnmarshalWithOptions([]byte(files["vectors.yaml"]), &file, yaml.Strict()),
		); err != nil {
			t.Fatalf("%s: %v", lang, err)
		}
		secret := settings.Settings.Secret
		if settings.Name != "door" || len(secret) != 64 || seen[secret] {
			t.Errorf("%s: settings of %q with a secret of %d characters, seen before: %v", lang, settings.Name, len(secret), seen[secret])
		}
		seen[secret] = true
		if len(file.Vectors) != 2 || file.Vectors[0].Want != "ok" || file.Vectors[1].Want != "bad" {
			t.Fatalf("%s: %+v", lang, file.Vectors)
		}
		good := file.Vectors[0]
		name, signature, _ := strings.Cut(good.Token, ".")
		code, err := guest.DecodeBase64URL(signature)
		if err != nil || !guest.Equal(code, guest.HMAC(guest.SHA256, []byte(secret), []byte(name))) {
			t.Errorf("%s: the first token is not signed: %v", lang, err)
		}
		if !regexp.MustCompile(`^d:[a-z0-9]{3,20}:sensor:d1$`).MatchString(good.ClientID) || good.Subject.Type != "sensor" || good.Subject.ID != "d1" {
			t.Errorf("%s: %+v", lang, good)
		}
	}
}

// A Go project has all of package guest but its tests, and needs nothing else.
func TestGoProjectHoldsTheKit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := scaffold.Write(scaffold.Go, dir, "door"); err != nil {
		t.Fatal(err)
	}
	files := read(t, filepath.Join(dir, "door"))
	kit := os.DirFS("../guest")
	sources, err := fs.Glob(kit, "*.go")
	if err != nil || len(sources) < 10 {
		t.Fatalf("%d files of package guest: %v", len(sources), err)
	}
	for _, name := range sources {
		text, err := fs.ReadFile(kit, name)
		if err != nil {
			t.Fatal(err)
		}
		copied, there := files["guest/"+name]
		if left := strings.HasSuffix(name, "_test.go") || name == "source.go"; there == left || there && copied != string(text) {
			t.Errorf("%s: copied %v", name, there)
		}
	}
	version := regexp.MustCompile(`(?m)^go (1\.\d+)$`).FindStringSubmatch(files["go.mod"])
	kitReadme, err := fs.ReadFile(kit, "README.md")
	if err != nil || version == nil {
		t.Fatalf("%q names no version of Go, or the kit has no README: %v", files["go.mod"], err)
	}
	for _, readme := range []string{files["README.md"], string(kitReadme)} {
		if !strings.Contains(readme, "\nGo "+version[1]+" or newer") {
			t.Errorf("go.mod wants Go %s, and a README says otherwise", version[1])
		}
	}
	if strings.Contains(files["go.mod"], "require") {
		t.Error("the project requires another module")
	}
	for name, text := range files {
		if strings.HasSuffix(name, ".go") && strings.Contains(text, "github.com/cordon-mq") {
			t.Errorf("%s imports Cordon", name)
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", "1a", "-a", "A", "a b", "a/b", "..", "a.b", "é", "token", "certificate", "anonymous", strings.Repeat("a", 37)} {
		dir := t.TempDir()
		err := scaffold.Write(scaffold.C, dir, name)
		if entries, _ := os.ReadDir(dir); policy.KindOf(err) != policy.KindInvalid || len(entries) != 0 {
			t.Errorf("%q: %v, %d files", name, err, len(entries))
		}
	}
	if err := scaffold.Write(0, t.TempDir(), "door"); policy.KindOf(err) != policy.KindInvalid {
		t.Errorf("no language: %v", err)
	}
}

func TestNothingIsOverwritten(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "door"), 0o700); err != nil {
		t.Fatal(err)
	}
	err := scaffold.Write(scaffold.C, dir, "door")
	if entries, _ := os.ReadDir(filepath.Join(dir, "door")); policy.KindOf(err) != policy.KindExists || len(entries) != 0 {
		t.Errorf("%v, %d files", err, len(entries))
	}
	if err := scaffold.Write(scaffold.C, filepath.Join(dir, "absent"), "door"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("in a folder that is not there: %v", err)
	}
}

func TestParseLang(t *testing.T) {
	t.Parallel()
	for _, lang := range scaffold.Langs() {
		if got, err := scaffold.ParseLang(lang.String()); err != nil || got != lang {
			t.Errorf("%s: %v, %v", lang, got, err)
		}
	}
	for _, s := range []string{"", "none", "Go", "python"} {
		if got, err := scaffold.ParseLang(s); policy.KindOf(err) != policy.KindInvalid || got != 0 {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
}
