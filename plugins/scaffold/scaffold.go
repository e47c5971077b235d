package scaffold

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/plugins/guest"
	"github.com/cordon-mq/cordon/policy"
)

//go:embed templates
var templates embed.FS

// The device of the first vector, and the one of the second.
const (
	exampleOrg  = "demo01"
	exampleType = "sensor"
	exampleID   = "d1"
	otherID     = "d2"
)

// project is what the templates are filled in with.
type project struct {
	Name, Language, Needs, Main string
	Others                      []file
	Build, AlsoBuild            string

	Secret                  string // in hexadecimal; the text itself is the key
	Org, Type, ID, OtherID  string
	ClientID, OtherClientID string
	Token, OtherToken       string
}

// Write makes the folder name inside dir, with a plugin of that name. The name
// is 1 to 36 of a-z, 0-9, '_' and '-', begins with a letter, and is not that of a
// built-in verifier. Something that is already there is an error of
// policy.KindExists.
func Write(lang Lang, dir, name string) (err error) {
	files, err := render(lang, name)
	if err != nil {
		return err
	}
	root := filepath.Join(dir, name)
	if err := os.Mkdir(root, 0o750); errors.Is(err, fs.ErrExist) {
		return &policy.Error{Kind: policy.KindExists, Field: "name", Public: root + " is already there"}
	} else if err != nil {
		return fmt.Errorf("write plugin %q: %w", name, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(root))
		}
	}()
	for name, text := range files {
		mode := fs.FileMode(0o644)
		if path.Ext(name) == ".yaml" {
			mode = 0o600 // it holds the secret, or a token
		}
		target := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(target), 0o750); err != nil {
			return fmt.Errorf("write plugin: %w", err)
		}
		if err := os.WriteFile(target, text, mode); err != nil {
			return fmt.Errorf("write plugin: %w", err)
		}
	}
	return nil
}

// render makes the files of a project, by path.
func render(lang Lang, name string) (map[string][]byte, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	if _, err := ParseLang(lang.String()); err != nil {
		return nil, err
	}
	p := newProject(lang, name)
	files := map[string][]byte{}
	for _, folder := range []string{"common", lang.String()} {
		entries, err := templates.ReadDir("templates/" + folder)
		if err != nil {
			return nil, fmt.Errorf("read templates: %w", err)
		}
		for _, entry := range entries {
			text, err := p.fill("templates/" + folder + "/" + entry.Name())
			if err != nil {
				return nil, err
			}
			target := strings.TrimSuffix(entry.Name(), ".tmpl")
			files[strings.Replace(target, "NAME", name, 1)] = text
		}
	}
	if lang == Go {
		return files, addKit(files)
	}
	return files, nil
}

// addKit copies package guest.
func addKit(files map[string][]byte) error {
	source := guest.Source()
	entries, err := source.ReadDir(".")
	if err != nil {
		return fmt.Errorf("read package guest: %w", err)
	}
	for _, entry := range entries {
		if files["guest/"+entry.Name()], err = source.ReadFile(entry.Name()); err != nil {
			return fmt.Errorf("read package guest: %w", err)
		}
	}
	return nil
}

func (p *project) fill(name string) ([]byte, error) {
	t, err := template.ParseFS(templates, name)
	if err != nil {
		return nil, fmt.Errorf("read template: %w", err)
	}
	var text bytes.Buffer
	if err := t.Execute(&text, p); err != nil {
		return nil, fmt.Errorf("fill template: %w", err)
	}
	return text.Bytes(), nil
}

func newProject(lang Lang, name string) *project {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // it never fails
	l := lang.language(name)
	p := &project{
		Name: name, Language: l.name, Needs: l.needs, Main: l.main, Others: l.others, Build: l.build, AlsoBuild: l.alsoBuild,
		Secret: hex.EncodeToString(key),
		Org:    exampleOrg, Type: exampleType, ID: exampleID, OtherID: otherID,
		ClientID:      "d:" + exampleOrg + ":" + exampleType + ":" + exampleID,
		OtherClientID: "d:" + exampleOrg + ":" + exampleType + ":" + otherID,
	}
	code := hmac.New(sha256.New, []byte(p.Secret))
	_, _ = code.Write([]byte(exampleType + "/" + exampleID)) // a hash takes everything
	signature := "." + base64.RawURLEncoding.EncodeToString(code.Sum(nil))
	p.Token = exampleType + "/" + exampleID + signature
	p.OtherToken = exampleType + "/" + otherID + signature
	return p
}

// checkName keeps to what is at once a plugin's name, a file's and a word in
// source code, in every language.
func checkName(name string) error {
	ok := len(name) >= 1 && len(name) <= 36 && name[0] >= 'a' && name[0] <= 'z' && !plugins.Reserved(name)
	for i := 0; ok && i < len(name); i++ {
		c := name[i]
		ok = c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '_' || c == '-'
	}
	if !ok {
		return &policy.Error{
			Kind: policy.KindInvalid, Field: "name",
			Public: "must be 1 to 36 of a-z, 0-9, '_' and '-', begin with a letter, and not be token, certificate or anonymous",
		}
	}
	return nil
}
