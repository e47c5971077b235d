package pki

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// settle is the wait after a change, so that a certificate and its key,
	// copied one after the other, are seen together.
	settle = 250 * time.Millisecond
	// recheck is the period of looking without being told. It finds what the
	// folder's events do not show: another folder behind a symbolic link, a
	// network file system.
	recheck = 30 * time.Second
)

// Files is a certificate and key of the operator, read again when they change.
type Files struct {
	certFile, keyFile string
	log               *slog.Logger
	now               func() time.Time
	recheck           time.Duration

	current atomic.Pointer[tls.Certificate] // with its Leaf
	problem string                          // last logged; the watching goroutine's

	watcher   *fsnotify.Watcher
	stop      chan struct{}
	closeOnce sync.Once
	watching  sync.WaitGroup
}

// FromFiles loads a PEM certificate chain and its key and watches both for
// changes until Close. A changed pair is in use within a second, or 30 s where
// the file system does not tell. One that cannot be read, does not match or has
// expired is logged and the old one kept. A nil log discards.
func FromFiles(certFile, keyFile string, log *slog.Logger) (*Files, error) {
	return fromFiles(certFile, keyFile, log, time.Now, recheck)
}

func fromFiles(certFile, keyFile string, log *slog.Logger, now func() time.Time, recheck time.Duration) (*Files, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	f := &Files{certFile: certFile, keyFile: keyFile, log: log, now: now, recheck: recheck, stop: make(chan struct{})}
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watch certificate files: %w", err)
	}
	f.watcher = watcher
	// First watch, then read: no change falls between.
	if err = f.watchFolders(); err == nil {
		err = f.loadFirst()
	}
	if err != nil {
		_ = watcher.Close()
		return nil, err
	}
	f.watching.Go(f.watch)
	return f, nil
}

// TLSConfig returns a new configuration that always shows the newest
// certificate and asks for no client certificate. It is the caller's to change,
// until first use.
func (f *Files) TLSConfig() *tls.Config { return serverConfig(&f.current) }

// Close stops watching and returns when nothing runs any more. The last
// certificate stays in use.
func (f *Files) Close() error {
	var err error
	f.closeOnce.Do(func() {
		close(f.stop)
		f.watching.Wait()
		err = f.watcher.Close()
	})
	return err
}

// watchFolders watches the folders, not the files: editors and deployment tools
// replace files, or a symbolic link beside them, by a rename.
func (f *Files) watchFolders() error {
	for _, file := range []string{f.certFile, f.keyFile} {
		if err := f.watcher.Add(filepath.Dir(file)); err != nil {
			return fmt.Errorf("watch folder of %s: %w", file, err)
		}
	}
	return nil
}

// watch reloads until Close.
func (f *Files) watch() {
	ticker := time.NewTicker(f.recheck)
	defer ticker.Stop()
	var settled <-chan time.Time
	for {
		select {
		case <-f.stop:
			return
		case <-f.watcher.Events:
			if settled == nil { // later events do not postpone it
				settled = time.After(settle)
			}
		case err := <-f.watcher.Errors:
			f.log.Warn("watching certificate files", "err", err)
		case <-settled:
			settled = nil
			f.reload()
		case <-ticker.C:
			// A path may lead to another folder by now. If it leads nowhere,
			// reload says so.
			_ = f.watchFolders()
			f.reload()
		}
	}
}

// loadFirst loads the pair at start. Here an expired certificate is better than
// none: devices without a clock do not notice.
func (f *Files) loadFirst() error {
	pair, err := f.read()
	if err != nil {
		return err
	}
	if f.now().After(pair.Leaf.NotAfter) {
		f.log.Error("the server certificate has expired", "file", f.certFile, "not_after", pair.Leaf.NotAfter)
	}
	f.current.Store(pair)
	return nil
}

// reload shows the pair if it has changed and is good.
func (f *Files) reload() {
	pair, err := f.read()
	if err == nil && slices.EqualFunc(pair.Certificate, f.current.Load().Certificate, bytes.Equal) {
		f.problem = ""
		return
	}
	if err == nil && f.now().After(pair.Leaf.NotAfter) {
		err = fmt.Errorf("certificate %s expired on %s", f.certFile, pair.Leaf.NotAfter.Format(time.DateOnly))
	}
	if err != nil {
		if problem := err.Error(); problem != f.problem { // say it once
			f.problem = problem
			f.log.Error("new server certificate not used, the old one stays", "err", err)
		}
		return
	}
	f.problem = ""
	f.current.Store(pair)
	f.log.Info("server certificate reloaded", "file", f.certFile,
		"serial", fmt.Sprintf("%x", pair.Leaf.SerialNumber), "not_after", pair.Leaf.NotAfter)
}

// read returns the pair in the files.
func (f *Files) read() (*tls.Certificate, error) {
	certPEM, err := readFile(f.certFile)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	keyPEM, err := readFile(f.keyFile)
	if err != nil {
		return nil, fmt.Errorf("certificate key: %w", err)
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("certificate %s with key %s: %w", f.certFile, f.keyFile, err)
	}
	return &pair, nil
}
