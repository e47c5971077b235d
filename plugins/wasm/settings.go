package wasm

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/lexer"
	yamltoken "github.com/goccy/go-yaml/token"

	"github.com/cordon-mq/cordon/policy"
)

// settings are the .yaml beside a module. README.md documents the fields.
type settings struct {
	Name          string                  `yaml:"name"`
	SHA256        string                  `yaml:"sha256"`
	Organisations []string                `yaml:"organisations"`
	Settings      map[string]any          `yaml:"settings"`
	Secrets       map[string]string       `yaml:"secrets"`
	JWKS          map[string]jwksSettings `yaml:"jwks"`
	Limits        limitSettings           `yaml:"limits"`
	Vectors       []Vector                `yaml:"vectors"`
}

type jwksSettings struct {
	URL     string        `yaml:"url"`
	Refresh time.Duration `yaml:"refresh"`
}

type limitSettings struct {
	Deadline  time.Duration `yaml:"deadline"`
	MemoryMiB int           `yaml:"memory_mib"`
	Instances int           `yaml:"instances"`
	Remember  time.Duration `yaml:"remember"`
}

// Vector is a request with the answer it must get: one line of a self-test.
type Vector struct {
	Name     string `yaml:"name" json:"name"`
	Org      string `yaml:"org" json:"org,omitempty"` // of a plugin that serves several
	Username string `yaml:"username" json:"username,omitempty"`
	ClientID string `yaml:"client_id" json:"client_id,omitempty"`
	Token    string `yaml:"token" json:"-"`
	NowMS    int64  `yaml:"now_ms" json:"now_ms,omitempty"` // otherwise the time of the test
	Want     string `yaml:"want" json:"want"`               // "ok", "bad" or "not_mine"
	Subject  struct {
		Kind string `yaml:"kind" json:"kind,omitempty"`
		Type string `yaml:"type" json:"type,omitempty"`
		ID   string `yaml:"id" json:"id,omitempty"`
		App  string `yaml:"app" json:"app,omitempty"`
	} `yaml:"subject" json:"subject"` // compared with ok, where it is not empty
}

const (
	settingsBytes = 256 << 10
	secretBytes   = 64 << 10
	entriesMost   = 256 // of a list or map of the settings
	refreshLeast  = time.Minute
	refreshMost   = 24 * time.Hour
	refreshUsual  = 15 * time.Minute
)

// parseSettings reads a .yaml. Every complaint is in the error.
func parseSettings(text []byte) (*settings, error) {
	s := &settings{}
	if err := parseYAML(text, s); err != nil {
		return nil, err
	}
	return s, s.validate()
}

// parseYAML reads text into value, strictly. Aliases are not for settings: a few
// lines of them stand for gigabytes.
func parseYAML(text []byte, value any) error {
	for _, t := range lexer.Tokenize(string(text)) {
		if t.Type == yamltoken.AnchorType || t.Type == yamltoken.AliasType {
			return fmt.Errorf("line %d: anchors and aliases are not read", t.Position.Line)
		}
	}
	err := yaml.NewDecoder(bytes.NewReader(text), yaml.Strict()).Decode(value)
	if err != nil && !errors.Is(err, io.EOF) {
		return errors.New(strings.TrimSpace(yaml.FormatError(err, false, false)))
	}
	return nil
}

func (s *settings) validate() error {
	var wrong []error
	complain := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	if sum, err := hex.DecodeString(s.SHA256); s.SHA256 != "" && (err != nil || len(sum) != sha256.Size) {
		complain("sha256: not 64 hexadecimal digits")
	}
	if _, err := s.organisations(); err != nil {
		complain("organisations: %w", err)
	}
	if max(len(s.Organisations), len(s.Secrets), len(s.JWKS), len(s.Vectors)) > entriesMost {
		complain("more than %d entries", entriesMost)
	}
	for name, set := range s.JWKS {
		if u, err := url.Parse(set.URL); err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
			complain("jwks: %s: url: not an https address", name)
		}
		if set.Refresh != 0 && (set.Refresh < refreshLeast || set.Refresh > refreshMost) {
			complain("jwks: %s: refresh: not %v to %v", name, refreshLeast, refreshMost)
		}
	}
	l := s.Limits
	if l.Deadline < 0 || l.Deadline > deadlineMost {
		complain("limits: deadline: more than %v", deadlineMost)
	}
	if l.MemoryMiB < 0 || l.MemoryMiB > memoryMost>>20 {
		complain("limits: memory_mib: more than %d", memoryMost>>20)
	}
	if l.Instances < 0 || l.Instances > instancesMost {
		complain("limits: instances: more than %d", instancesMost)
	}
	if l.Remember < 0 || l.Remember > 24*time.Hour {
		complain("limits: remember: more than a day")
	}
	for i, v := range s.Vectors {
		if err := v.validate(); err != nil {
			complain("vectors: %d: %w", i+1, err)
		}
	}
	return errors.Join(wrong...)
}

func (v *Vector) validate() error {
	if !slices.Contains([]string{"ok", "bad", "not_mine"}, v.Want) {
		return errors.New(`want: not "ok", "bad" or "not_mine"`)
	}
	return nil
}

func (s *settings) organisations() ([]policy.OrgID, error) {
	var orgs []policy.OrgID
	for _, name := range s.Organisations {
		org, err := policy.ParseOrgID(name)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", name, err)
		}
		if slices.Contains(orgs, org) {
			return nil, fmt.Errorf("%q stands there twice", name)
		}
		orgs = append(orgs, org)
	}
	return orgs, nil
}

// apply is l with what the settings ask for.
func (s *settings) apply(l Limits) Limits {
	if s.Limits.Deadline > 0 {
		l.Deadline = s.Limits.Deadline
	}
	if s.Limits.MemoryMiB > 0 {
		l.MemoryBytes = s.Limits.MemoryMiB << 20
		l.RecycleBytes = l.MemoryBytes / 4 * 3
	}
	if s.Limits.Instances > 0 {
		l.Instances = s.Limits.Instances
	}
	if s.Limits.Remember > 0 {
		l.RememberGood = s.Limits.Remember
	}
	return l
}

// parseVectors reads a file that has vectors alone.
func parseVectors(text []byte) ([]Vector, error) {
	var file struct {
		Vectors []Vector `yaml:"vectors"`
	}
	if err := parseYAML(text, &file); err != nil {
		return nil, err
	}
	for i, v := range file.Vectors {
		if err := v.validate(); err != nil {
			return nil, fmt.Errorf("vectors: %d: %w", i+1, err)
		}
	}
	return file.Vectors, nil
}

// readBounded reads a regular file of at most most bytes.
func readBounded(path string, most int) ([]byte, error) {
	f, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	b := bytes.NewBuffer(make([]byte, 0, min(info.Size(), int64(most))+bytes.MinRead))
	if _, err := b.ReadFrom(io.LimitReader(f, int64(most)+1)); err != nil {
		return nil, err
	}
	if b.Len() > most {
		return nil, fmt.Errorf("%s: more than %d bytes", filepath.Base(path), most)
	}
	return b.Bytes(), nil
}

// openRegular looks before it opens: opening a pipe would wait.
func openRegular(path string) (*os.File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", filepath.Base(path))
	}
	return os.Open(path)
}
