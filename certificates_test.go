package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/broker/wire/wiretest"
	"github.com/cordon-mq/cordon/plugins/certificate"
	"github.com/cordon-mq/cordon/plugins/certificate/certificatetest"
)

// call makes a call of /api/v0002 with the demonstration's key.
func (w *web) call(t *testing.T, method, path string, body any) int {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	rq, err := http.NewRequestWithContext(t.Context(), method, "https://"+w.https+"/api/v0002"+path, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	rq.Header.Set("Content-Type", "application/json")
	rq.SetBasicAuth(w.appKey, w.appToken)
	transport := &http.Transport{TLSClientConfig: w.tls(t)}
	defer transport.CloseIdleConnections()
	answer, err := (&http.Client{Transport: transport, Timeout: patience}).Do(rq)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, answer.Body)
	return answer.StatusCode
}

// trust makes the demonstration trust an authority, and returns its path.
func (w *web) trust(t *testing.T, a *certificatetest.Authority) string {
	t.Helper()
	if status := w.call(t, http.MethodPost, "/authentication/cacertificates", map[string]string{"certificate": certificatetest.PEM(a.Certificate)}); status != http.StatusCreated {
		t.Fatalf("status %d", status)
	}
	return "/authentication/cacertificates/" + string(certificate.AuthorityID(a.Certificate))
}

// show connects with a certificate, and returns the connection and the code of CONNACK.
func (w *web) show(t *testing.T, settings *tls.Config) (*wiretest.Client, *tls.Conn, wire.Code) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := (&tls.Dialer{Config: settings}).DialContext(ctx, "tcp", w.address)
	if err != nil {
		t.Fatal(err)
	}
	c := wiretest.NewClient(t, conn, wire.V5)
	t.Cleanup(c.Close)
	c.Send(wiretest.Connect(&wire.Connect{Version: wire.V5, ClientID: deviceID, KeepAlive: 60, CleanStart: true}))
	ack, ok := c.Expect(wire.TypeConnack).(*wire.Connack)
	if !ok {
		t.Fatal("no CONNACK")
	}
	return c, conn.(*tls.Conn), ack.Code
}

func (w *web) with(t *testing.T, leaf *certificatetest.Leaf) *tls.Config {
	t.Helper()
	settings := w.tls(t)
	settings.ServerName = demoOrg + ".messaging.localhost"
	settings.Certificates = []tls.Certificate{leaf.TLS()}
	return settings
}

const demoName = "d:" + string(demoType) + ":" + string(demoDevice)

// A resumed TLS session brings the certificates of the one before, which are
// verified again at its CONNECT.
func TestResumedCertificates(t *testing.T) {
	t.Parallel()
	w := startWeb(t)
	root := certificatetest.New(t, "Devices")
	path := w.trust(t, root)
	for name, version := range map[string]uint16{"TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13} {
		leaf := root.Issue(demoName)
		settings := w.with(t, leaf)
		settings.MinVersion, settings.MaxVersion = version, version
		settings.ClientSessionCache = tls.NewLRUClientSessionCache(4)
		for try, resumed := range []bool{false, true} {
			c, conn, code := w.show(t, settings)
			if code != wire.Success || conn.ConnectionState().DidResume != resumed {
				t.Fatalf("%s, %d: code %#x, resumed %v", name, try, code, conn.ConnectionState().DidResume)
			}
			c.Close()
		}
		live, conn, code := w.show(t, settings)
		if code != wire.Success || !conn.ConnectionState().DidResume {
			t.Fatalf("%s: code %#x, resumed %v", name, code, conn.ConnectionState().DidResume)
		}
		list := root.List(time.Now().UnixNano(), []*x509.Certificate{leaf.Certificate})
		began := time.Now()
		if status := w.call(t, http.MethodPut, path+"/crl", map[string]string{"crl": base64.StdEncoding.EncodeToString(list)}); status != http.StatusOK {
			t.Fatalf("%s: status %d", name, status)
		}
		live.ExpectClosed()
		took := time.Since(began)
		t.Logf("%s: closed %v after the upload began", name, took)
		if took > 5*time.Second { // 50 ms after the list is stored, on a machine that is not busy
			t.Errorf("%s: closed after %v", name, took)
		}
		if _, conn, code = w.show(t, settings); code != wire.NotAuthorized || !conn.ConnectionState().DidResume {
			t.Errorf("%s: revoked, code %#x, resumed %v", name, code, conn.ConnectionState().DidResume)
		}
	}
	other := w.with(t, root.Issue(demoName))
	other.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	if _, _, code := w.show(t, other); code != wire.Success {
		t.Fatalf("code %#x", code)
	}
	if status := w.call(t, http.MethodDelete, path, nil); status != http.StatusNoContent {
		t.Fatalf("status %d", status)
	}
	// Nobody is asked for a certificate now, so that nobody's session resumes with one.
	if _, conn, code := w.show(t, other); code != wire.NotAuthorized || conn.ConnectionState().DidResume {
		t.Errorf("not trusted: code %#x, resumed %v", code, conn.ConnectionState().DidResume)
	}
}

// Clients are asked for a certificate while somebody could have one, on the MQTT
// port alone, and are told of no authority.
func TestAskedForCertificates(t *testing.T) {
	t.Parallel()
	w := startWeb(t)
	asked := func(address, name string) (asked bool, authorities int) {
		settings := w.tls(t)
		settings.ServerName = name
		settings.GetClientCertificate = func(rq *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			asked, authorities = true, len(rq.AcceptableCAs)
			return &tls.Certificate{}, nil
		}
		conn, err := (&tls.Dialer{Config: settings}).DialContext(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
		return asked, authorities
	}
	if now, _ := asked(w.address, "localhost"); now {
		t.Error("asked, and nobody could have one")
	}
	path := w.trust(t, certificatetest.New(t, "Devices"))
	for _, name := range []string{"localhost", demoOrg + ".localhost"} {
		if now, authorities := asked(w.address, name); !now || authorities != 0 {
			t.Errorf("%s: asked %v, told of %d authorities", name, now, authorities)
		}
	}
	if now, _ := asked(w.https, demoOrg+".localhost"); now {
		t.Error("asked on the port of browsers")
	}
	w.call(t, http.MethodDelete, path, nil)
	if now, _ := asked(w.address, "localhost"); now {
		t.Error("still asked")
	}
}

// mosquitto's own client, which takes the server name from the host it was told and
// has it found by a SOCKS proxy.
func TestMosquittoWithCertificate(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("mosquitto_pub"); err != nil {
		t.Skip("mosquitto_pub is not installed")
	}
	w := startWeb(t)
	root := certificatetest.New(t, "Devices")
	between := root.Below("Site")
	w.trust(t, root)
	proxy := socks(t, w.address)
	for name, tt := range map[string]struct {
		leaf *certificatetest.Leaf
		host string
		ok   bool
	}{
		"its own":                   {root.Issue(demoName), demoOrg + ".messaging.localhost", true},
		"through another":           {between.Issue(demoName), demoOrg + ".messaging.localhost", true},
		"of a stranger":             {certificatetest.New(t, "Devices").Issue(demoName), demoOrg + ".messaging.localhost", false},
		"of somebody else":          {root.Issue("d:" + string(demoType) + ":other"), demoOrg + ".messaging.localhost", false},
		"at no organisation's name": {root.Issue(demoName), "localhost", false},
	} {
		dir := t.TempDir()
		key, err := x509.MarshalPKCS8PrivateKey(tt.leaf.Key)
		if err != nil {
			t.Fatal(err)
		}
		var chain []byte
		for _, c := range tt.leaf.Chain {
			chain = append(chain, certificatetest.PEM(c)...)
		}
		certFile, keyFile := filepath.Join(dir, "c.pem"), filepath.Join(dir, "k.pem")
		if err := errors.Join(os.WriteFile(certFile, chain, 0o600), os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), 0o600)); err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(within(t), "mosquitto_pub", "--proxy", "socks5h://"+proxy, "-h", tt.host, "-p", "8883", "--cafile", w.caFile,
			"--cert", certFile, "--key", keyFile, "-V", "311", "-i", deviceID, "-q", "1", "-t", "iot-2/evt/status/fmt/json", "-m", "{}").CombinedOutput()
		if (err == nil) != tt.ok {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

// socks is a SOCKS 5 proxy that leads to one address, whatever it is asked for.
func socks(t *testing.T, address string) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	t.Cleanup(func() { _ = l.Close(); work.Wait() })
	work.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			work.Go(func() {
				defer conn.Close()
				if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
					return
				}
				there, err := lead(conn, address)
				if err != nil {
					return
				}
				defer there.Close()
				work.Go(func() { _, _ = io.Copy(there, conn); _ = there.Close() })
				_, _ = io.Copy(conn, there)
			})
		}
	})
	return l.Addr().String()
}

// lead reads the greeting and the request of a SOCKS client.
func lead(conn net.Conn, address string) (net.Conn, error) {
	var head [4]byte
	if _, err := io.ReadFull(conn, head[:2]); err != nil {
		return nil, err
	}
	if _, err := io.CopyN(io.Discard, conn, int64(head[1])); err != nil {
		return nil, err
	}
	if _, err := conn.Write([]byte{5, 0}); err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return nil, err
	}
	var length [1]byte
	if _, err := io.ReadFull(conn, length[:]); err != nil || head[3] != 3 {
		return nil, errors.New("no name in the request of type " + strconv.Itoa(int(head[3])))
	}
	if _, err := io.CopyN(io.Discard, conn, int64(length[0])+2); err != nil {
		return nil, err
	}
	there, err := new(net.Dialer).Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	_, err = conn.Write([]byte{5, 0, 0, 1, 127, 0, 0, 1, 0, 0})
	return there, err
}
