package control

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/cordon-mq/cordon/plugins"
)

const (
	tokenName = "operator.token"
	// tokenBytes is the number of random bytes behind the token.
	tokenBytes = 32
)

// Token returns the operator token of dataDir, which must exist, and makes it
// where there is none. Of several callers at the same time all get the same one.
func Token(dataDir string) (plugins.Secret, error) {
	path := filepath.Join(dataDir, tokenName)
	token, err := readToken(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err = createToken(path); err == nil {
			token, err = readToken(path)
		}
	}
	if err != nil {
		return plugins.Secret{}, fmt.Errorf("operator token: %w", err)
	}
	return token, nil
}

// readToken reads what createToken wrote, and nothing that others can read.
func readToken(path string) (plugins.Secret, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return plugins.Secret{}, err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return plugins.Secret{}, fmt.Errorf("%s has mode %04o and may be known to others; remove it, and a new one is made", path, mode)
	}
	b, err := readSmall(path, 2*tokenBytes+2)
	if err != nil {
		return plugins.Secret{}, err
	}
	text := strings.TrimSpace(string(b))
	if raw, err := hex.DecodeString(text); err != nil || len(raw) != tokenBytes {
		return plugins.Secret{}, fmt.Errorf("%s does not hold %d hexadecimal digits", path, 2*tokenBytes)
	}
	return plugins.NewSecret([]byte(text)), nil
}

// createToken makes the file in one step: a link appears whole or not at all,
// and never in place of another.
func createToken(path string) error {
	raw := make([]byte, tokenBytes)
	if _, err := rand.Read(raw); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".operator-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.WriteString(hex.EncodeToString(raw) + "\n")
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}
