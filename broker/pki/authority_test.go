package pki

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestFilesAndTheirModes(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data", "tls")
	a := mustOpen(t, dir, Names{}, nil)
	want := map[string]fs.FileMode{".": 0o700, "ca.crt": 0o644, "ca.key": 0o600, "server.crt": 0o644, "server.key": 0o600}
	for name, mode := range want {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
		} else if info.Mode().Perm() != mode {
			t.Errorf("%s has mode %04o, want %04o", name, info.Mode().Perm(), mode)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != len(want)-1 {
		t.Errorf("%d files, %v; want %d and none left over", len(entries), err, len(want)-1)
	}
	if file := a.CAFile(); !filepath.IsAbs(file) || filepath.Base(file) != "ca.crt" {
		t.Errorf("CAFile = %s, want the absolute path of ca.crt", file)
	}
}

func TestWideModesAreNarrowed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	mustOpen(t, dir, Names{}, nil)
	wide := map[string][2]fs.FileMode{".": {0o770, 0o700}, "ca.key": {0o644, 0o600}, "server.key": {0o660, 0o600}}
	for name, mode := range wide {
		if err := os.Chmod(filepath.Join(dir, name), mode[0]); err != nil {
			t.Fatal(err)
		}
	}
	log := newLog()
	mustOpen(t, dir, Names{Log: log.logger()}, nil)
	for name, mode := range wide {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode[1] {
			t.Errorf("%s: mode %v, %v; want %04o", name, info.Mode(), err, mode[1])
		}
		if !strings.Contains(log.String(), "file="+path+" had="+fmt.Sprintf("%04o", mode[0])) {
			t.Errorf("%s: the log does not say that it was open:\n%s", name, log)
		}
	}
}

func TestCertificateLifetimes(t *testing.T) {
	t.Parallel()
	clock := newClock()
	a := mustOpen(t, t.TempDir(), Names{}, clock.now)
	if years := a.ca.NotAfter.Sub(clock.at).Hours() / 24 / 365.25; years < 9.9 || years > 10.1 {
		t.Errorf("CA valid for %.1f years, want 10", years)
	}
	leaf := a.current.Load().Leaf
	if lifetime := leaf.NotAfter.Sub(leaf.NotBefore); lifetime > 397*day || lifetime < 396*day {
		t.Errorf("server certificate valid for %v, want 397 days or a little less", lifetime)
	}
	if !leaf.NotBefore.Before(clock.at) {
		t.Error("a client whose clock is a little slow would refuse the certificate")
	}
}

// What makes Open, Renew and SetOrganisations issue again, and what does not.
// The CA and the key of the server stay the same throughout.
func TestReissue(t *testing.T) {
	t.Parallel()
	base := Names{Domain: "iot.example", Organisations: []string{"abc123", "def456"}, Hosts: []string{"broker-1"}}
	reopen := func(change func(*Names)) func(*testing.T, *Authority, *clock) *Authority {
		return func(t *testing.T, a *Authority, c *clock) *Authority {
			names := base
			change(&names)
			return mustOpen(t, a.dir, names, c.now)
		}
	}
	set := func(organisations ...string) func(*testing.T, *Authority, *clock) *Authority {
		return func(t *testing.T, a *Authority, _ *clock) *Authority {
			if err := a.SetOrganisations(organisations); err != nil {
				t.Error(err)
			}
			return a
		}
	}
	renewAfter := func(d time.Duration) func(*testing.T, *Authority, *clock) *Authority {
		return func(t *testing.T, a *Authority, c *clock) *Authority {
			c.at = c.at.Add(d)
			if err := a.Renew(); err != nil {
				t.Error(err)
			}
			return a
		}
	}
	tests := map[string]struct {
		do      func(*testing.T, *Authority, *clock) *Authority
		reissue bool
	}{
		"opened again":               {reopen(func(*Names) {}), false},
		"organisations in any order": {set("def456", "abc123", "abc123"), false},
		"names that are skipped":     {set("abc123", "def456", "not a label"), false},
		"organisation added":         {set("abc123", "def456", "ghi789"), true},
		"organisation removed":       {set("abc123"), true},
		"no organisation left":       {set(), true},
		"host added":                 {reopen(func(n *Names) { n.Hosts = []string{"broker-1", "broker-2"} }), true},
		"another domain":             {reopen(func(n *Names) { n.Domain = "iot.test" }), true},
		"two thirds not over":        {renewAfter(260 * day), false},
		"less than a third left":     {renewAfter(268 * day), true},
		"expired":                    {renewAfter(500 * day), true},
		"clock set back":             {renewAfter(-30 * time.Minute), false},
		"expired while stopped": {func(t *testing.T, a *Authority, c *clock) *Authority {
			c.at = c.at.Add(500 * day)
			return mustOpen(t, a.dir, base, c.now)
		}, true},
		"server.crt removed": {func(t *testing.T, a *Authority, c *clock) *Authority {
			_ = os.Remove(filepath.Join(a.dir, "server.crt"))
			return mustOpen(t, a.dir, base, c.now)
		}, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clock := newClock()
			a := mustOpen(t, t.TempDir(), base, clock.now)
			before, ca := serial(a), mustRead(t, a.CAFile())
			key := mustRead(t, filepath.Join(a.dir, "server.key"))

			a = tt.do(t, a, clock)
			if reissued := serial(a) != before; reissued != tt.reissue {
				t.Errorf("issued again: %v, want %v", reissued, tt.reissue)
			}
			if !bytes.Equal(ca, mustRead(t, a.CAFile())) || !bytes.Equal(key, mustRead(t, filepath.Join(a.dir, "server.key"))) {
				t.Error("the CA or the key of the server changed")
			}
			if onDisk, err := parseCertificate(mustRead(t, a.serverFile())); err != nil || onDisk.SerialNumber.String() != serial(a) {
				t.Errorf("server.crt is not the certificate in use (%v)", err)
			}
			_, err := shown(tlsServer(t, a.TLSConfig()), &tls.Config{RootCAs: a.Pool(), ServerName: "localhost", Time: clock.now})
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// A crash between two files, or a file removed by hand, leaves a folder that
// opens, and clients keep trusting what they have.
func TestMissingFilesAreMadeAgain(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		remove []string
		newCA  bool
	}{
		"only ca.key was written":    {[]string{"ca.crt", "server.key", "server.crt"}, false},
		"no server.crt yet":          {[]string{"server.crt"}, false},
		"ca.crt removed":             {[]string{"ca.crt"}, false},
		"server.key removed":         {[]string{"server.key"}, false},
		"the whole CA removed":       {[]string{"ca.crt", "ca.key"}, true},
		"leftover of an old attempt": {nil, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			trusted := mustOpen(t, dir, Names{}, nil).Pool()
			mustWrite(t, filepath.Join(dir, ".ca.key.1234"), []byte("half a k"))
			for _, file := range tt.remove {
				if err := os.Remove(filepath.Join(dir, file)); err != nil {
					t.Fatal(err)
				}
			}
			a := mustOpen(t, dir, Names{}, nil)
			address := tlsServer(t, a.TLSConfig())
			if _, err := shown(address, &tls.Config{RootCAs: a.Pool(), ServerName: "localhost"}); err != nil {
				t.Errorf("a new client: %v", err)
			}
			if _, err := shown(address, &tls.Config{RootCAs: trusted, ServerName: "localhost"}); (err != nil) != tt.newCA {
				t.Errorf("a client with the old ca.crt: %v; want refused %v", err, tt.newCA)
			}
		})
	}
}

// What cannot be used is named, with what to do, and nothing is overwritten.
func TestUnusableFilesSayWhatToDo(t *testing.T) {
	t.Parallel()
	swap := func(name string, data func(t *testing.T, was []byte) []byte) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			path := filepath.Join(dir, name)
			mustWrite(t, path, data(t, mustRead(t, path)))
		}
	}
	half := func(_ *testing.T, was []byte) []byte { return was[:len(was)/2] }
	empty := func(*testing.T, []byte) []byte { return nil }
	huge := func(*testing.T, []byte) []byte { return make([]byte, maxFile+1) }
	flipped := func(_ *testing.T, was []byte) []byte { return bytes.Replace(was, []byte("M"), []byte("A"), 1) }
	foreign := func(name string) func(*testing.T, []byte) []byte {
		return func(t *testing.T, _ []byte) []byte {
			dir := t.TempDir()
			mustOpen(t, dir, Names{}, nil)
			return mustRead(t, filepath.Join(dir, name))
		}
	}
	tests := map[string]struct {
		damage func(t *testing.T, dir string)
		later  time.Duration
		want   []string
	}{
		"ca.crt cut":           {swap("ca.crt", half), 0, []string{"ca.crt is damaged", "restore", "made again from ca.key"}},
		"ca.crt empty":         {swap("ca.crt", empty), 0, []string{"ca.crt is damaged", "restore"}},
		"ca.crt huge":          {swap("ca.crt", huge), 0, []string{"ca.crt", "larger than"}},
		"ca.crt garbled":       {swap("ca.crt", flipped), 0, []string{"ca.crt is damaged", "restore"}},
		"ca.crt of another CA": {swap("ca.crt", foreign("ca.crt")), 0, []string{"ca.crt does not belong to ca.key", "remove both"}},
		"ca.crt is no CA": {func(t *testing.T, dir string) {
			mustWrite(t, filepath.Join(dir, "ca.crt"), mustRead(t, filepath.Join(dir, "server.crt")))
			mustWrite(t, filepath.Join(dir, "ca.key"), mustRead(t, filepath.Join(dir, "server.key")))
		}, 0, []string{"ca.crt does not belong"}},
		"ca.key cut":           {swap("ca.key", half), 0, []string{"ca.key is damaged", "remove both"}},
		"ca.key garbled":       {swap("ca.key", flipped), 0, []string{"ca.key is damaged", "remove both"}},
		"ca.key of another CA": {swap("ca.key", foreign("ca.key")), 0, []string{"ca.crt does not belong to ca.key", "remove both"}},
		"ca.key missing":       {func(_ *testing.T, dir string) { _ = os.Remove(filepath.Join(dir, "ca.key")) }, 0, []string{"ca.key is missing", "remove both"}},
		"server.crt cut":       {swap("server.crt", half), 0, []string{"server.crt is damaged", "remove it"}},
		"server.key cut":       {swap("server.key", half), 0, []string{"server.key is damaged", "remove it"}},
		"CA expired":           {func(*testing.T, string) {}, 11 * 365 * day, []string{"ca.crt expired on", "remove it"}},
		"clock far too early":  {func(*testing.T, string) {}, -365 * day, []string{"ca.crt is valid from", "set the clock"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			mustOpen(t, dir, Names{}, nil)
			key := mustRead(t, filepath.Join(dir, "ca.key"))
			tt.damage(t, dir)
			before := snapshot(t, dir)
			a, err := Open(dir, Names{}, func() time.Time { return time.Now().Add(tt.later) })
			if err == nil {
				t.Fatal("Open succeeded")
			}
			if a != nil {
				t.Error("Open returned an Authority with its error")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error lacks %q: %v", want, err)
				}
			}
			if line := strings.Split(string(key), "\n")[1]; strings.Contains(err.Error(), line[:20]) {
				t.Error("the error quotes the key")
			}
			if after := snapshot(t, dir); after != before {
				t.Errorf("Open changed the folder: %s, was %s", after, before)
			}
		})
	}
}

// snapshot describes the files of a folder.
func snapshot(t *testing.T, dir string) string {
	t.Helper()
	var out strings.Builder
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		fmt.Fprintf(&out, "%s:%x ", entry.Name(), mustRead(t, filepath.Join(dir, entry.Name())))
	}
	return out.String()
}

func TestFailedReissueKeepsTheOldCertificate(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "tls")
	a := mustOpen(t, dir, Names{}, nil)
	before := serial(a)
	moved := dir + ".away"
	if err := os.Rename(dir, moved); err != nil {
		t.Fatal(err)
	}
	if err := a.SetOrganisations([]string{"abc123"}); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "server.crt") {
		t.Errorf("SetOrganisations = %v, want an error that names the file", err)
	}
	if serial(a) != before {
		t.Error("a certificate that could not be kept is in use")
	}
	if err := os.Rename(moved, dir); err != nil {
		t.Fatal(err)
	}
	if err := a.Renew(); err != nil {
		t.Fatal(err)
	}
	if a.current.Load().Leaf.VerifyHostname("abc123.messaging.localhost") != nil || serial(a) == before {
		t.Error("Renew did not make up for the failure")
	}
}

func TestEndOfTheCA(t *testing.T) {
	t.Parallel()
	clock := newClock()
	log := newLog()
	a := mustOpen(t, t.TempDir(), Names{Log: log.logger()}, clock.now)
	clock.at = a.ca.NotAfter.Add(-100 * day)
	for range 2 {
		if err := a.Renew(); err != nil {
			t.Fatal(err)
		}
	}
	if leaf := a.current.Load().Leaf; !leaf.NotAfter.Equal(a.ca.NotAfter) {
		t.Errorf("server certificate until %v, want not beyond the CA, %v", leaf.NotAfter, a.ca.NotAfter)
	}
	if n := strings.Count(log.String(), "the CA ends soon"); n != 1 {
		t.Errorf("the end of the CA was logged %d times, want once:\n%s", n, log)
	}
}

func TestOldTLSIsRefused(t *testing.T) {
	t.Parallel()
	a := mustOpen(t, t.TempDir(), Names{}, nil)
	address := tlsServer(t, a.TLSConfig())
	tests := map[string]struct {
		version uint16
		suites  []uint16
		refused bool
	}{
		"TLS 1.0":                     {tls.VersionTLS10, nil, true},
		"TLS 1.1":                     {tls.VersionTLS11, nil, true},
		"TLS 1.2 with CBC":            {tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}, true},
		"TLS 1.2 without secrecy":     {tls.VersionTLS12, []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}, true},
		"TLS 1.2 AES-128-GCM":         {tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}, false},
		"TLS 1.2 AES-256-GCM":         {tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384}, false},
		"TLS 1.2 ChaCha20 - Poly1305": {tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256}, false},
		"TLS 1.3":                     {tls.VersionTLS13, nil, false},
	}
	for name, tt := range tests {
		_, err := shown(address, &tls.Config{
			RootCAs: a.Pool(), ServerName: "localhost", MinVersion: tt.version, MaxVersion: tt.version, CipherSuites: tt.suites,
		})
		if (err != nil) != tt.refused {
			t.Errorf("%s: %v; want refused %v", name, err, tt.refused)
		}
		if tt.version < tls.VersionTLS12 && (err == nil || !strings.Contains(err.Error(), "protocol version")) {
			t.Errorf("%s: %v; want it refused for its version", name, err)
		}
	}
}

func TestCertificateIsShownWithoutAServerName(t *testing.T) {
	t.Parallel()
	a := mustOpen(t, t.TempDir(), Names{}, nil)
	leaf, err := shown(tlsServer(t, a.TLSConfig()), &tls.Config{InsecureSkipVerify: true})
	if err != nil || leaf.SerialNumber.String() != serial(a) {
		t.Errorf("%v, %v; want the server certificate", leaf, err)
	}
}

// Handshakes go on while organisations come and go.
func TestReissueDuringHandshakes(t *testing.T) {
	t.Parallel()
	a := mustOpen(t, t.TempDir(), Names{}, nil)
	address := tlsServer(t, a.TLSConfig())
	client := &tls.Config{RootCAs: a.Pool(), ServerName: "localhost"}
	var clients sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := shown(address, client); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	var writers sync.WaitGroup
	for w := range 2 {
		writers.Go(func() {
			for i := range 10 {
				if err := a.SetOrganisations([]string{fmt.Sprintf("org%d%d", w, i)}); err != nil {
					t.Error(err)
				}
				if err := a.Renew(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	close(stop)
	clients.Wait()
	if leaf, err := shown(address, client); err != nil || leaf.SerialNumber.String() != serial(a) {
		t.Errorf("the server shows %v (%v), want the last certificate issued", leaf, err)
	}
}
