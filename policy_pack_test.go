package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// pack writes an archive as `opa build` and `opa sign` make it:
//
//	pack [-sign FILE] ARCHIVE FOLDER   signs with a new key, whose public half
//	                                   goes into FILE
func (s *story) pack(args []string) {
	set := flag.NewFlagSet("pack", 0)
	public := set.String("sign", "", "")
	args = s.options(set, args, 2, 2)
	files, err := policyFiles(os.DirFS(s.ts.MkAbs(args[1])))
	s.ts.Check(err)
	if *public != "" {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		s.ts.Check(err)
		s.ts.Check(signFiles(files, key))
		text, err := publicKeyPEM(key)
		s.ts.Check(err)
		s.ts.Check(os.WriteFile(s.ts.MkAbs(*public), text, 0o600))
	}
	archive, err := packFiles(files)
	s.ts.Check(err)
	// Beside its place and then moved there, as whoever replaces an archive does.
	name := s.ts.MkAbs(args[0])
	s.ts.Check(os.WriteFile(name+".new", archive, 0o600))
	s.ts.Check(os.Rename(name+".new", name))
}

// policyFiles are the Rego files of a folder and its manifest, by their path.
func policyFiles(folder fs.FS) (map[string][]byte, error) {
	files := map[string][]byte{}
	err := fs.WalkDir(folder, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(name) != ".rego" && name != ".manifest" {
			return err
		}
		files[name], err = fs.ReadFile(folder, name)
		return err
	})
	return files, err
}

// signFiles adds a signature of all files: a JSON Web Token that names the hash
// of each.
func signFiles(files map[string][]byte, key *ecdsa.PrivateKey) error {
	type named struct {
		Name      string `json:"name"`
		Hash      string `json:"hash"`
		Algorithm string `json:"algorithm"`
	}
	var payload struct {
		Files []named `json:"files"`
	}
	for name, text := range files {
		if name == ".manifest" { // of JSON, the value is signed: in its shortest form, with sorted keys
			var value any
			if err := json.Unmarshal(text, &value); err != nil {
				return err
			}
			var err error
			if text, err = json.Marshal(value); err != nil {
				return err
			}
		}
		sum := sha256.Sum256(text)
		payload.Files = append(payload.Files, named{name, hex.EncodeToString(sum[:]), "SHA-256"})
	}
	claims, err := json.Marshal(payload)
	if err != nil {
		return err
	}
	token := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"ES256"}`)) + "." + base64.RawURLEncoding.EncodeToString(claims)
	sum := sha256.Sum256([]byte(token))
	r, sig, err := ecdsa.Sign(rand.Reader, key, sum[:])
	if err != nil {
		return err
	}
	var signature [64]byte
	r.FillBytes(signature[:32])
	sig.FillBytes(signature[32:])
	token += "." + base64.RawURLEncoding.EncodeToString(signature[:])
	files[".signatures.json"], err = json.Marshal(map[string]any{"signatures": []string{token}})
	return err
}

func publicKeyPEM(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), err
}

func packFiles(files map[string][]byte) ([]byte, error) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for name, text := range files {
		err := w.WriteHeader(&tar.Header{Name: "/" + name, Size: int64(len(text)), Typeflag: tar.TypeReg, Mode: 0o644})
		if err == nil {
			_, err = w.Write(text)
		}
		if err != nil {
			return nil, fmt.Errorf("pack %s: %w", name, err)
		}
	}
	err := errors.Join(w.Close(), z.Close())
	return b.Bytes(), err
}

// signedArchive is a bundle of one rule, and the key that signed it.
func signedArchive(t *testing.T, rule string, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	files := map[string][]byte{"cordon/publish/publish.rego": []byte("package cordon.publish\n\n" + rule + "\n")}
	if key != nil {
		if err := signFiles(files, key); err != nil {
			t.Fatal(err)
		}
	}
	archive, err := packFiles(files)
	if err != nil {
		t.Fatal(err)
	}
	return archive
}
