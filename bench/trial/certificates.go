package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cordon-mq/cordon/bench/trial/client"
	"github.com/cordon-mq/cordon/broker/wire"
)

// certificatesConfig is what the certificates trial is run with.
type certificatesConfig struct {
	binary string
	rate   int // connects a second
	span   time.Duration
	every  time.Duration // between replacements
	whole  bool          // with CONNECT, not the handshake alone
}

// Host names of the trial: one shows the operator's certificate files, the other what
// the organisation uploaded.
const (
	platformName = "localhost"
	tenantName   = organisation + ".messaging.localhost"
)

func certificatesCommand(ctx context.Context, args []string, out io.Writer) error {
	var c certificatesConfig
	flags := flag.NewFlagSet("certificates", flag.ContinueOnError)
	flags.StringVar(&c.binary, "cordon", "", "program to run (default: it is built)")
	flags.IntVar(&c.rate, "rate", 1000, "connects a second, each a full handshake")
	flags.DurationVar(&c.span, "for", 30*time.Second, "how long")
	flags.DurationVar(&c.every, "every", time.Second, "between replacements of both certificates")
	flags.BoolVar(&c.whole, "connect", false, "send CONNECT and wait to be let in, too")
	if err := errors.Join(parse(flags, args), atLeast(1, c.rate, "rate"), atLeast(1, int(c.span/time.Second), "for"), atLeast(1, int(c.every/time.Millisecond), "every")); err != nil {
		return err
	}
	found, err := replaceCertificates(ctx, c)
	if err != nil {
		return err
	}
	if _, err := found.summary().WriteTo(out); err != nil {
		return err
	}
	return found.verdict()
}

// certificatesFound is what the trial found.
type certificatesFound struct {
	certificatesConfig
	took     []time.Duration // connects that came through, sorted
	failed   []string        // why others did not
	replaced int             // of each certificate
	seen     map[string]int  // different certificates that clients saw, by name
	within   time.Duration   // from the first connect to the last
	used     time.Duration   // CPU of the broker
	faults   []string
}

func (f *certificatesFound) verdict() error {
	if len(f.failed) == 0 && len(f.faults) == 0 && f.replaced > 0 && f.seen[platformName] > 1 && f.seen[tenantName] > 1 {
		return nil
	}
	return errBroken
}

func (f *certificatesFound) summary() *summary {
	s := &summary{}
	s.title("%d connects a second while certificates are replaced", f.rate)
	s.text("Half ask for %s, whose certificate is the operator's files, half for %s, whose certificate is uploaded; both are replaced every %s. Each connect is a full handshake of TLS 1.3 with X25519 that verifies the certificate%s.",
		platformName, tenantName, f.every, map[bool]string{true: ", and a CONNECT that is let in"}[f.whole])
	s.table([]string{"connects", "a second", "failed", "replaced", "certificates seen, platform", "organisation", "p50, ms", "p99, ms", "CPU, processors"}, [][]string{{
		count(len(f.took)), fmt.Sprintf("%.0f", float64(len(f.took))/f.within.Seconds()), count(len(f.failed)), count(f.replaced),
		count(f.seen[platformName]), count(f.seen[tenantName]),
		fmt.Sprintf("%.1f", milliseconds(quantile(f.took, 0.50))), fmt.Sprintf("%.1f", milliseconds(quantile(f.took, 0.99))),
		fmt.Sprintf("%.2f", f.used.Seconds()/f.within.Seconds()),
	}})
	s.list("Connects that failed", f.failed[:min(len(f.failed), 20)])
	s.list("Errors logged", f.faults)
	return s
}

// issuer signs the certificates of the trial.
type issuer struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	serial      int64
}

func newIssuer() (*issuer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	i := &issuer{key: key}
	template := i.template("Trial")
	template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	i.certificate, err = x509.ParseCertificate(der)
	return i, err
}

func (i *issuer) template(name string) *x509.Certificate {
	i.serial++
	return &x509.Certificate{
		SerialNumber: big.NewInt(i.serial), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
}

// issue makes a certificate for a name, and its key, in PEM.
func (i *issuer) issue(name string) (certificate, private []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := i.template("")
	template.DNSNames, template.KeyUsage, template.ExtKeyUsage = []string{name}, x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	der, err := x509.CreateCertificate(rand.Reader, template, i.certificate, &key.PublicKey, i.key)
	if err != nil {
		return nil, nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), nil
}

// replacer replaces both certificates.
type replacer struct {
	issuer  *issuer
	program *program
	https   string
	roots   *x509.CertPool
}

func (r *replacer) files() (certificate, key string) {
	return filepath.Join(r.program.dir, "server.crt"), filepath.Join(r.program.dir, "server.key")
}

// platform replaces the operator's files, one after the other, as tools do.
func (r *replacer) platform() error {
	certificate, private, err := r.issuer.issue(platformName)
	if err != nil {
		return err
	}
	certFile, keyFile := r.files()
	for file, data := range map[string][]byte{certFile: certificate, keyFile: private} {
		if err := os.WriteFile(file+".new", data, 0o600); err != nil {
			return err
		}
		if err := os.Rename(file+".new", file); err != nil {
			return err
		}
	}
	return nil
}

// tenant uploads another one for the organisation.
func (r *replacer) tenant(ctx context.Context) error {
	certificate, private, err := r.issuer.issue(tenantName)
	if err != nil {
		return err
	}
	body, err := json.Marshal(map[string]string{"certificate": string(certificate), "privateKey": string(private)})
	if err != nil {
		return err
	}
	rq, err := http.NewRequestWithContext(ctx, http.MethodPut, "https://"+r.https+"/api/v0002/authentication/servercertificate", bytes.NewReader(body))
	if err != nil {
		return err
	}
	rq.Header.Set("Content-Type", "application/json")
	rq.SetBasicAuth(r.program.key, r.program.token)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: r.roots, ServerName: platformName, MinVersion: tls.VersionTLS13}}
	defer transport.CloseIdleConnections()
	answer, err := (&http.Client{Transport: transport, Timeout: patience}).Do(rq)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(answer.Body, 4096))
		return fmt.Errorf("upload: %s: %s", answer.Status, text)
	}
	return nil
}

// replaceCertificates runs the trial.
func replaceCertificates(ctx context.Context, c certificatesConfig) (*certificatesFound, error) {
	program, err := prepare(ctx, c.binary)
	defer program.remove()
	if err != nil {
		return nil, err
	}
	r := &replacer{program: program, roots: x509.NewCertPool()}
	if r.issuer, err = newIssuer(); err != nil {
		return nil, err
	}
	r.roots.AddCert(r.issuer.certificate)
	if err := r.platform(); err != nil {
		return nil, err
	}
	if program.mqtts, err = listenAddress(); err != nil {
		return nil, err
	}
	if r.https, err = listenAddress(); err != nil {
		return nil, err
	}
	certFile, keyFile := r.files()
	program.args = []string{"--https", r.https, "--tls-cert", certFile, "--tls-key", keyFile, "--max-pending", "20000"}
	b, err := program.run(ctx)
	if err != nil {
		return nil, err
	}
	defer b.kill()
	if err := r.tenant(ctx); err != nil {
		return nil, err
	}
	found, err := r.underLoad(ctx, c, b)
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, b.log.tail())
	}
	found.faults, _ = b.log.faults()
	// Files that were looked at between the certificate and its key are looked at again.
	found.faults = slices.DeleteFunc(found.faults, func(line string) bool { return strings.Contains(line, "the old one stays") })
	return found, b.stop()
}

// underLoad replaces certificates while clients connect at their rate, whatever
// becomes of those before.
func (r *replacer) underLoad(ctx context.Context, c certificatesConfig, b *broker) (*certificatesFound, error) {
	before, err := usageOf(b.pid())
	if err != nil {
		return nil, err
	}
	done := make(chan struct{})
	found := &certificatesFound{certificatesConfig: c}
	var replacing, connecting sync.WaitGroup
	var failure error
	replacing.Go(func() {
		ticker := time.NewTicker(c.every)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
			}
			if failure = errors.Join(r.platform(), r.tenant(ctx)); failure != nil {
				return
			}
			found.replaced++
		}
	})
	var results struct {
		sync.Mutex
		took   []time.Duration
		failed []string
		seen   map[string]map[string]bool // serials by name
	}
	results.seen = map[string]map[string]bool{platformName: {}, tenantName: {}}
	began := time.Now()
	total := int(float64(c.rate) * c.span.Seconds())
	for n := range total {
		if err = pause(ctx, time.Until(began.Add(time.Duration(n)*time.Second/time.Duration(c.rate)))); err != nil {
			break
		}
		connecting.Go(func() {
			name := []string{platformName, tenantName}[n%2]
			took, serial, err := r.connect(ctx, n, name, c.whole)
			results.Lock()
			defer results.Unlock()
			if err != nil {
				results.failed = append(results.failed, err.Error())
				return
			}
			results.took = append(results.took, took)
			results.seen[name][serial] = true
		})
		if n > 0 && n%(5*c.rate) == 0 {
			say("%d connects", n)
		}
	}
	connecting.Wait()
	found.within = time.Since(began)
	close(done)
	replacing.Wait()
	if err := errors.Join(err, failure); err != nil {
		return nil, err
	}
	after, err := usageOf(b.pid())
	if err != nil {
		return nil, err
	}
	found.used = after.cpu - before.cpu
	slices.Sort(results.took)
	found.took, found.failed = results.took, results.failed
	found.seen = map[string]int{platformName: len(results.seen[platformName]), tenantName: len(results.seen[tenantName])}
	return found, nil
}

// connect is one client: a whole handshake, a CONNECT where that is wanted, and the
// end. It returns how long it took until then, and the serial of what was shown.
func (r *replacer) connect(ctx context.Context, n int, name string, whole bool) (time.Duration, string, error) {
	var serial string
	who := r.program.application("c"+itoa(n), wire.V311, true)
	who.Address = r.program.mqtts
	who.TLS = &tls.Config{
		RootCAs: r.roots, ServerName: name, MinVersion: tls.VersionTLS13, CurvePreferences: []tls.CurveID{tls.X25519},
		VerifyConnection: func(s tls.ConnectionState) error {
			serial = s.PeerCertificates[0].SerialNumber.String()
			return nil
		},
	}
	began := time.Now()
	conn, err := dialCertified(ctx, who, whole)
	if err != nil {
		return 0, "", err
	}
	took := time.Since(began)
	return took, serial, conn.Close()
}

func dialCertified(ctx context.Context, who client.Config, whole bool) (io.Closer, error) {
	if whole {
		return client.Dial(ctx, who)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := (&tls.Dialer{Config: who.TLS}).DialContext(ctx, "tcp", who.Address)
	if err != nil {
		return nil, err
	}
	return conn.(*tls.Conn).NetConn(), nil // the end is no part of it
}
