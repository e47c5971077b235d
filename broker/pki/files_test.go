package pki

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// operator is somebody with a folder of certificates, each from its own CA.
type operator struct {
	t   *testing.T
	dir string
}

func newOperator(t *testing.T) *operator {
	t.Helper()
	o := &operator{t, filepath.Join(t.TempDir(), "certs")}
	if err := os.Mkdir(o.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return o
}

func (o *operator) path(name string) string { return filepath.Join(o.dir, name) }

// deploy writes a new pair into folder, under the operator's, and returns its
// serial number.
func (o *operator) deploy(folder string) (serial string) {
	o.t.Helper()
	return o.deployAt(folder, time.Now)
}

func (o *operator) deployAt(folder string, now func() time.Time) string {
	o.t.Helper()
	made := o.t.TempDir()
	a := mustOpen(o.t, made, Names{}, now)
	if err := os.MkdirAll(o.path(folder), 0o700); err != nil {
		o.t.Fatal(err)
	}
	copyFiles(o.t, made, o.path(folder), "server.crt", "server.key")
	return serial(a)
}

// link makes the symbolic link name lead to target, in one step.
func (o *operator) link(target, name string) {
	o.t.Helper()
	if err := os.Symlink(target, o.path(name+".new")); err != nil {
		o.t.Fatal(err)
	}
	if err := os.Rename(o.path(name+".new"), o.path(name)); err != nil {
		o.t.Fatal(err)
	}
}

// open starts watching the pair in folder.
func (o *operator) open(folder string, log *logBuffer, recheck time.Duration) *Files {
	o.t.Helper()
	f, err := fromFiles(o.path(folder+"/server.crt"), o.path(folder+"/server.key"), log.logger(), time.Now, recheck)
	if err != nil {
		o.t.Fatal(err)
	}
	o.t.Cleanup(func() {
		if err := f.Close(); err != nil {
			o.t.Error(err)
		}
	})
	return f
}

// mustShow does a handshake and compares the certificate's serial number.
func mustShow(t *testing.T, f *Files, want string) {
	t.Helper()
	leaf, err := shown(tlsServer(t, f.TLSConfig()), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	if got := leaf.SerialNumber.String(); got != want {
		t.Errorf("the server shows certificate %s, want %s", got, want)
	}
}

// The ways in which a new certificate arrives.
func TestReload(t *testing.T) {
	t.Parallel()
	const quick, never = 10 * time.Millisecond, time.Hour
	tests := map[string]struct {
		recheck time.Duration
		open    string // folder of the pair
		first   func(o *operator) string
		second  func(o *operator) string
	}{
		"files written over": {
			never, "",
			func(o *operator) string { return o.deploy("") },
			func(o *operator) string { return o.deploy("") },
		},
		"files renamed into place": {
			never, "",
			func(o *operator) string { return o.deploy("") },
			func(o *operator) string {
				serial := o.deploy("staging")
				for _, name := range []string{"server.key", "server.crt"} {
					if err := os.Rename(o.path("staging/"+name), o.path(name)); err != nil {
						o.t.Fatal(err)
					}
				}
				return serial
			},
		},
		"link beside the files swapped, as container platforms do": {
			never, "",
			func(o *operator) string {
				serial := o.deploy("..2031")
				o.link("..2031", "..data")
				o.link("..data/server.crt", "server.crt")
				o.link("..data/server.key", "server.key")
				return serial
			},
			func(o *operator) string {
				serial := o.deploy("..2032")
				o.link("..2032", "..data")
				return serial
			},
		},
		"each file a link, as certificate clients do": {
			never, "live",
			func(o *operator) string {
				serial := o.deploy("archive1")
				_ = os.Mkdir(o.path("live"), 0o700)
				o.link("../archive1/server.crt", "live/server.crt")
				o.link("../archive1/server.key", "live/server.key")
				return serial
			},
			func(o *operator) string {
				serial := o.deploy("archive2")
				o.link("../archive2/server.crt", "live/server.crt")
				o.link("../archive2/server.key", "live/server.key")
				return serial
			},
		},
		"the folder is a link and leads elsewhere": {
			quick, "current",
			func(o *operator) string {
				serial := o.deploy("v1")
				o.link("v1", "current")
				return serial
			},
			func(o *operator) string {
				serial := o.deploy("v2")
				o.link("v2", "current")
				return serial
			},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := newLog()
			o := newOperator(t)
			first := tt.first(o)
			f := o.open(tt.open, log, tt.recheck)
			mustShow(t, f, first)
			second := tt.second(o)
			log.await(t, 1, "server certificate reloaded")
			mustShow(t, f, second)
		})
	}
}

// A pair that will not do is logged, and the old one stays until a good one
// comes.
func TestBrokenPairKeepsTheOldOne(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		spoil func(o *operator)
		want  string
	}{
		"certificate cut":     {func(o *operator) { mustWrite(o.t, o.path("server.crt"), []byte("-----BEGIN CERT")) }, "server.crt"},
		"certificate missing": {func(o *operator) { _ = os.Remove(o.path("server.crt")) }, "no such file"},
		"key of another": {func(o *operator) {
			o.deploy("other")
			copyFiles(o.t, o.path("other"), o.dir, "server.key")
		}, "private key does not match"},
		"key missing": {func(o *operator) { _ = os.Remove(o.path("server.key")) }, "no such file"},
		"huge":        {func(o *operator) { mustWrite(o.t, o.path("server.crt"), make([]byte, maxFile+1)) }, "larger than"},
		"expired": {func(o *operator) {
			o.deployAt("", func() time.Time { return time.Now().Add(-500 * day) })
		}, "expired on"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := newLog()
			o := newOperator(t)
			first := o.deploy("")
			f := o.open("", log, time.Hour)
			tt.spoil(o)
			log.await(t, 1, "the old one stays")
			if !strings.Contains(log.String(), tt.want) {
				t.Errorf("the log does not say %q:\n%s", tt.want, log)
			}
			mustShow(t, f, first)

			second := o.deploy("")
			log.await(t, 1, "server certificate reloaded")
			mustShow(t, f, second)
			if strings.Contains(log.String(), "PRIVATE") || strings.Contains(log.String(), "MIG") {
				t.Errorf("the log quotes a key:\n%s", log)
			}
		})
	}
}

func TestAProblemIsLoggedOnce(t *testing.T) {
	t.Parallel()
	log := newLog()
	o := newOperator(t)
	o.deploy("")
	f := o.open("", log, time.Hour)
	_ = f.Close() // from here on, reload is called by the test
	for range 3 {
		_ = os.Remove(o.path("server.crt"))
		f.reload()
		f.reload()
	}
	if n := strings.Count(log.String(), "the old one stays"); n != 1 {
		t.Errorf("logged %d times, want once:\n%s", n, log)
	}
	o.deploy("")
	f.reload()
	_ = os.Remove(o.path("server.crt"))
	f.reload()
	if n := strings.Count(log.String(), "the old one stays"); n != 2 {
		t.Errorf("after a good pair, the same problem is news: logged %d times, want 2", n)
	}
}

func TestFromFilesRefusesAtStart(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	o.deploy("a")
	o.deploy("b")
	tests := map[string]struct{ cert, key, want string }{
		"no such file":     {"a/none.crt", "a/server.key", "a/none.crt"},
		"no such folder":   {"none/server.crt", "a/server.key", "none/server.crt"},
		"not a pair":       {"a/server.crt", "b/server.key", "does not match"},
		"swapped":          {"a/server.key", "a/server.crt", "a/server.key"},
		"a folder instead": {"a", "a/server.key", "is a directory"},
	}
	for name, tt := range tests {
		f, err := FromFiles(o.path(tt.cert), o.path(tt.key), nil)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: FromFiles = %v, want an error with %q", name, err, tt.want)
		}
		if f != nil {
			t.Errorf("%s: FromFiles returned Files with its error", name)
		}
	}
}

func TestExpiredCertificateAtStartIsUsedAndLogged(t *testing.T) {
	t.Parallel()
	log := newLog()
	o := newOperator(t)
	serial := o.deployAt("", func() time.Time { return time.Now().Add(-500 * day) })
	f := o.open("", log, time.Hour)
	mustShow(t, f, serial)
	if !strings.Contains(log.String(), "has expired") {
		t.Errorf("nothing about it in the log:\n%s", log)
	}
}

func TestReloadDuringHandshakes(t *testing.T) {
	t.Parallel()
	log := newLog()
	o := newOperator(t)
	o.deploy("")
	f := o.open("", log, time.Millisecond)
	address := tlsServer(t, f.TLSConfig())
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
				if _, err := shown(address, &tls.Config{InsecureSkipVerify: true}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	var last string
	for i := range 10 {
		last = o.deploy("")
		log.await(t, i+1, "server certificate reloaded")
	}
	close(stop)
	clients.Wait()
	mustShow(t, f, last)
}
