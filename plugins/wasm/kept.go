package wasm

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// keptSets is a folder of key sets for the next start, so that an issuer who cannot
// be reached then locks nobody out. A key set says who may sign: nobody else may
// write there. Empty keeps nothing.
type keptSets string

const (
	keptBytes  = keySetBytes + 8<<10
	keptFor    = 30 * 24 * time.Hour // without being fetched again
	keptSuffix = ".jwks"
)

// keptSet is the file of one set.
type keptSet struct {
	URL  string          `json:"url"`
	ETag string          `json:"etag,omitempty"`
	Set  json.RawMessage `json:"set"`
}

// openKept makes the folder for its owner alone, and forgets what was of no use for
// a long time.
func openKept(dir string, now time.Time) (keptSets, error) {
	if dir == "" {
		return "", nil
	}
	if err := ownFolder(dir); err != nil {
		return "", fmt.Errorf("open kept key sets: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", fmt.Errorf("open kept key sets: %w", err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() || now.Sub(info.ModTime()) < keptFor {
			continue
		}
		if strings.Contains(e.Name(), keptSuffix) {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return "", fmt.Errorf("open kept key sets: %w", err)
			}
		}
	}
	return keptSets(dir), nil
}

func (k keptSets) path(url string) string {
	sum := sha256.Sum256([]byte(url))
	return filepath.Join(string(k), hex.EncodeToString(sum[:])+keptSuffix)
}

// load is the set of an address, nil where none is kept. What is in the file is
// judged as if it had just been fetched.
func (k keptSets) load(url string) (keySet, string) {
	if k == "" {
		return nil, ""
	}
	text, err := readBounded(k.path(url), keptBytes)
	if err != nil {
		return nil, ""
	}
	return parseKept(text, url)
}

func parseKept(text []byte, url string) (keySet, string) {
	var kept keptSet
	if err := json.Unmarshal(text, &kept); err != nil || kept.URL != url {
		return nil, ""
	}
	set, err := parseKeySet(kept.Set)
	if err != nil {
		return nil, ""
	}
	return set, kept.ETag
}

// save replaces the file as a whole. One that is torn by a crash is as good as none.
func (k keptSets) save(url string, set keySet, etag string) error {
	if k == "" {
		return nil
	}
	if len(etag) > 1<<10 {
		etag = ""
	}
	text, err := json.Marshal(keptSet{url, etag, json.RawMessage(set)})
	if err != nil {
		return err
	}
	path := k.path(url)
	f, err := os.CreateTemp(string(k), "*"+keptSuffix+".tmp") // for its owner alone
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
