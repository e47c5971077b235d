package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/pem"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
)

// bundleServer sends what archive holds, to whoever shows the token.
type bundleServer struct {
	*httptest.Server
	archive atomic.Pointer[[]byte]
	token   atomic.Pointer[string]
}

func serveBundles(t *testing.T) *bundleServer {
	t.Helper()
	s := &bundleServer{}
	s.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		archive, token := s.archive.Load(), s.token.Load()
		switch {
		case archive == nil:
			w.WriteHeader(http.StatusServiceUnavailable)
		case r.Header.Get("Authorization") != "Bearer "+*token:
			w.WriteHeader(http.StatusUnauthorized)
		default:
			_, _ = w.Write(*archive)
		}
	}))
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	t.Cleanup(s.Close)
	return s
}

// A broker that takes its policy from a server verifies it, follows it, shows a
// token that may be replaced, and goes on with the last one while there is none.
func TestPolicyFromServer(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name string, text []byte) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	public, err := publicKeyPEM(key)
	if err != nil {
		t.Fatal(err)
	}
	server := serveBundles(t)
	first, second := "sesame-1", "sesame-2"
	server.token.Store(&first)
	send := func(rule string, key *ecdsa.PrivateKey) {
		archive := signedArchive(t, rule, key)
		server.archive.Store(&archive)
	}
	send(`decision := {"allow": false, "reason": "one"}`, key)

	root := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	env := []string{
		"PATH=" + os.Getenv("PATH"), "SSL_CERT_FILE=" + write("server.pem", root), "CORDON_DATA=" + filepath.Join(dir, "data"),
		"CORDON_MQTTS=127.0.0.1:0", "CORDON_HTTPS=off", "GORACE=atexit_sleep_ms=10",
	}
	args := []string{
		"serve", "--policy", server.URL + "/bundle.tar.gz?signature=open-sesame", "--policy-key", write("key.pem", public),
		"--policy-token-file", write("token", []byte(first+"\n")), "--policy-interval", "1",
	}
	var running *process
	start := func() {
		t.Helper()
		var err error
		if running, err = startProcess(dir, filepath.Join(dir, "log"), env, args...); err != nil {
			t.Fatal(err)
		}
	}
	await := func(pattern string) string {
		t.Helper()
		line, err := running.await(regexp.MustCompile(pattern))
		if err != nil {
			t.Fatal(err)
		}
		return line
	}
	stop := func() {
		t.Helper()
		if err := running.stop(); err != nil {
			t.Error(err)
		}
		if strings.Contains(running.log.String(), "sesame") {
			t.Errorf("the log tells a secret:\n%s", running.log)
		}
	}

	start()
	one := regexp.MustCompile(`revision=\w+`).FindString(await(`msg="policy activated"`))
	await(`msg=ready`)
	send(`decision := {"allow": true}`, stranger)
	await(`level=ERROR msg="policy bundle refused" .*its signature is not by the pinned key`)
	send(`decision := {"allow": true}`, nil)
	await(`level=ERROR msg="policy bundle refused" .*it is not signed`)
	server.token.Store(&second)
	await(`msg="policy bundle not fetched" .*the server answers 401`)
	write("token", []byte(second))
	send(`decision := {"allow": false, "reason": "two"}`, key)
	two := regexp.MustCompile(`revision=\w+`).FindString(await(`msg="policy activated"`))
	stop()
	if one == two {
		t.Errorf("the second bundle is %s, as the first was", two)
	}

	server.archive.Store(nil)
	start()
	await(`msg="policy activated" ` + two + ` `)
	await(`msg=ready`)
	stop()
}
