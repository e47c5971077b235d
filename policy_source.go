package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/cordon-mq/cordon/broker/config"
	"github.com/cordon-mq/cordon/policy/opa"
)

// maxSmallFile bounds a file with a key or token, in bytes.
const maxSmallFile = 64 << 10

// policySource is where commands read a bundle from.
type policySource struct {
	Dir string `arg:"" placeholder:"DIR" help:"Folder of policies, or a .tar.gz archive."`
	Key string `name:"key" placeholder:"FILE" help:"PEM public key that has to have signed the archive."`
}

// open returns the bundle's files. A folder that is not there is found out by
// whoever reads it.
func (s *policySource) open() (fs.FS, error) {
	if !config.IsArchive(s.Dir) {
		if s.Key != "" {
			return nil, errors.New("key: only an archive is signed")
		}
		return os.DirFS(s.Dir), nil
	}
	key, err := readKey(s.Key)
	if err != nil {
		return nil, err
	}
	archive, err := readArchive(s.Dir, key)
	if err != nil {
		return nil, err
	}
	return archive.FS, nil
}

// readKey is nil without a path.
func readKey(path string) (*opa.Key, error) {
	if path == "" {
		return nil, nil
	}
	text, err := readSmallFile(path)
	if err != nil {
		return nil, fmt.Errorf("policy key: %w", err)
	}
	key, err := opa.ParseKey(text)
	if err != nil {
		return nil, fmt.Errorf("policy key %s: %w", path, err)
	}
	return key, nil
}

func readSmallFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxSmallFile+1))
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if len(text) > maxSmallFile {
		return nil, fmt.Errorf("%s is larger than 64 KiB", path)
	}
	return text, nil
}

// readArchive unpacks an archive of policies, and verifies its signature.
func readArchive(path string, key *opa.Key) (*opa.Archive, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("policy archive: %w", err)
	}
	archive, err := opa.ReadArchive(f, key)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("policy archive %s: %w", path, err)
	}
	return archive, nil
}
