package pki

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// What to do about a file that cannot be used.
const (
	remedyCA     = "restore ca.crt and ca.key from a backup, or remove both to make a new CA, whose ca.crt every client then needs"
	remedyCACert = "restore it from a backup, or remove it: it is made again from ca.key, and clients with the old one still trust it"
	remedyServer = "remove it: a new one is made"
)

// Authority is a CA and the server certificate it issued. All methods may be
// called at the same time.
type Authority struct {
	dir    string // absolute
	domain string // canonical
	hosts  []string
	now    func() time.Time
	log    *slog.Logger

	ca        *x509.Certificate
	caKey     *ecdsa.PrivateKey
	serverKey *ecdsa.PrivateKey

	current atomic.Pointer[tls.Certificate] // with its Leaf

	// issuing lets one certificate be issued at a time. It is held while files
	// are written; handshakes never take it.
	issuing struct {
		sync.Mutex
		organisations []string
		warnedOmitted bool // organisations without names of their own were logged
		warnedExpiry  bool // so was the end of the CA
	}
}

// Open loads the CA and server certificate from dir, or makes what is missing,
// and issues the server certificate again if its names or time demand it. dir
// is created with mode 0700; wider modes of it and of the keys are narrowed.
// now is the clock, for tests; nil is time.Now.
func Open(dir string, names Names, now func() time.Time) (*Authority, error) {
	if now == nil {
		now = time.Now
	}
	if names.Log == nil {
		names.Log = slog.New(slog.DiscardHandler)
	}
	domain, err := parseDomain(names.Domain)
	if err != nil {
		return nil, err
	}
	dir, err = filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	a := &Authority{dir: dir, domain: domain, hosts: slices.Clone(names.Hosts), now: now, log: names.Log}
	a.issuing.organisations = slices.Clone(names.Organisations)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := a.narrow(dir, 0o700); err != nil {
		return nil, err
	}
	if err := a.openCA(); err != nil {
		return nil, err
	}
	if err := a.openServer(); err != nil {
		return nil, err
	}
	if err := a.Renew(); err != nil {
		return nil, err
	}
	return a, nil
}

// openCA loads or makes the CA.
func (a *Authority) openCA() (err error) {
	certFile := a.CAFile()
	data, err := readFile(certFile)
	created := errors.Is(err, fs.ErrNotExist)
	if err != nil && !created {
		return err
	}
	if a.caKey, err = a.openKey("ca.key", created, remedyCA); err != nil {
		return err
	}
	if created {
		// Also after a crash between the two files, or when ca.crt was removed.
		a.ca, err = createCA(certFile, a.caKey, a.now())
		if err == nil {
			a.log.Info("CA certificate made", "file", certFile, "not_after", a.ca.NotAfter)
		}
		return err
	}
	if a.ca, err = parseCertificate(data); err != nil {
		return fmt.Errorf("CA certificate %s is damaged: %w; %s", certFile, err, remedyCACert)
	}
	switch now := a.now(); {
	case !a.caKey.PublicKey.Equal(a.ca.PublicKey) || !a.ca.IsCA:
		return fmt.Errorf("CA certificate %s does not belong to ca.key; %s", certFile, remedyCA)
	case now.After(a.ca.NotAfter):
		return fmt.Errorf("CA certificate %s expired on %s; remove it, and give the new one to every client", certFile, a.ca.NotAfter.Format(time.DateOnly))
	case now.Before(a.ca.NotBefore):
		return fmt.Errorf("CA certificate %s is valid from %s, and it is %s; set the clock, or: %s",
			certFile, a.ca.NotBefore.Format(time.RFC3339), now.UTC().Format(time.RFC3339), remedyCACert)
	}
	return nil
}

// openServer loads or makes the server's key, and loads its certificate if
// there is one.
func (a *Authority) openServer() (err error) {
	if a.serverKey, err = a.openKey("server.key", true, remedyServer); err != nil {
		return err
	}
	file := a.serverFile()
	data, err := readFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	leaf, err := parseCertificate(data)
	if err != nil {
		return fmt.Errorf("server certificate %s is damaged: %w; %s", file, err, remedyServer)
	}
	a.show(leaf)
	return nil
}

// openKey loads a key of the folder, and makes it if it is missing and may be.
func (a *Authority) openKey(name string, create bool, remedy string) (*ecdsa.PrivateKey, error) {
	path := filepath.Join(a.dir, name)
	data, err := readFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && create:
		return createKey(path)
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("key %s is missing; %s", path, remedy)
	case err != nil:
		return nil, err
	}
	if err := a.narrow(path, 0o600); err != nil {
		return nil, err
	}
	key, err := parseKey(data)
	if err != nil {
		return nil, fmt.Errorf("key %s is damaged: %w; %s", path, err, remedy)
	}
	return key, nil
}

// narrow takes from the mode at path what is not in mode. Restored backups and
// mounted volumes come with wider modes than they should.
func (a *Authority) narrow(path string, mode fs.FileMode) error { return narrow(a.log, path, mode) }

func narrow(log *slog.Logger, path string, mode fs.FileMode) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	had := info.Mode().Perm()
	if had&^mode == 0 {
		return nil
	}
	if err := os.Chmod(path, had&mode); err != nil {
		return fmt.Errorf("%s is open to others (mode %04o): %w", path, had, err)
	}
	log.Warn("mode narrowed: others could have read this", "file", path, "had", fmt.Sprintf("%04o", had), "mode", fmt.Sprintf("%04o", had&mode))
	return nil
}

// SetOrganisations replaces the organisations named in the server certificate.
// The certificate is issued again, from the same CA, only if its names change;
// live connections keep the old one. After an error the old one stays in use,
// and the next Renew or SetOrganisations tries again.
func (a *Authority) SetOrganisations(organisations []string) error {
	a.issuing.Lock()
	defer a.issuing.Unlock()
	a.issuing.organisations = slices.Clone(organisations)
	return a.issueLocked()
}

// Renew issues the server certificate again if less than a third of its time is
// left, or its names are not what they should be. It is cheap when there is
// nothing to do; call it about once a day.
func (a *Authority) Renew() error {
	a.issuing.Lock()
	defer a.issuing.Unlock()
	return a.issueLocked()
}

// CAFile returns the absolute path of the CA certificate, which clients need.
func (a *Authority) CAFile() string { return filepath.Join(a.dir, "ca.crt") }

func (a *Authority) serverFile() string { return filepath.Join(a.dir, "server.crt") }

// Pool returns a new pool with the CA certificate alone.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.ca)
	return pool
}

// TLSConfig returns a new configuration that always shows the newest server
// certificate and asks for no client certificate. It is the caller's to change,
// until first use.
func (a *Authority) TLSConfig() *tls.Config { return serverConfig(&a.current) }

// show makes leaf the certificate of handshakes to come.
func (a *Authority) show(leaf *x509.Certificate) {
	a.current.Store(&tls.Certificate{
		Certificate: [][]byte{leaf.Raw}, // without the CA, which clients have
		PrivateKey:  a.serverKey,
		Leaf:        leaf,
	})
}
