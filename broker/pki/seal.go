package pki

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
)

const (
	sealBlock  = "CORDON SEALING KEY"
	sealLength = 32 // bytes: AES-256

	remedySeal = "restore it from a backup, or remove it: organisations then have to upload their server certificates again"
)

// Seal encrypts what is kept elsewhere, so that neither the store nor a copy of it
// holds a key that can be used without the file of this one. Its methods may be called
// at the same time.
type Seal struct{ aead cipher.AEAD }

// OpenSeal loads the key seal.key of the folder dir, mode 0600, or makes it.
func OpenSeal(dir string, log *slog.Logger) (*Seal, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "seal.key")
	key, err := openSeal(path, log)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", path, err)
	}
	// The nonce is random and part of what is sealed. Two of 2³² would have to meet for
	// harm, and administration seals a few.
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", path, err)
	}
	return &Seal{aead}, nil
}

func openSeal(path string, log *slog.Logger) ([]byte, error) {
	data, err := readFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		key := make([]byte, sealLength)
		_, _ = rand.Read(key) // never fails
		return key, writeFile(path, pem.EncodeToMemory(&pem.Block{Type: sealBlock, Bytes: key}), 0o600)
	}
	if err != nil {
		return nil, err
	}
	if err := narrow(log, path, 0o600); err != nil {
		return nil, err
	}
	key, err := decodePEM(data, sealBlock)
	if err == nil && len(key) != sealLength {
		err = errors.New("of another length")
	}
	if err != nil {
		return nil, fmt.Errorf("key %s is damaged: %w; %s", path, err, remedySeal)
	}
	return key, nil
}

// Seal encrypts plain for one place: what is sealed opens nowhere else.
func (s *Seal) Seal(plain []byte, place string) []byte {
	return s.aead.Seal(nil, nil, plain, []byte(place)) //nolint:gosec // it chooses the nonce itself, and takes none
}

// Open returns what was sealed for place. The error says nothing of the content.
func (s *Seal) Open(sealed []byte, place string) ([]byte, error) {
	plain, err := s.aead.Open(nil, nil, sealed, []byte(place))
	if err != nil {
		return nil, errors.New("was sealed with another seal.key, or for something else")
	}
	return plain, nil
}
