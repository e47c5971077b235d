package acme

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"github.com/cordon-mq/cordon/broker/pki"
)

// Protocol is what a client that checks a proof negotiates, and nobody else.
const Protocol = "acme-tls/1"

const (
	checkEvery = time.Hour       // whether anything is to be renewed
	firstPause = 5 * time.Minute // after a failure, doubled …
	lastPause  = 6 * time.Hour   // … up to this
	// attempt bounds one attempt. An authority takes seconds.
	attempt = 5 * time.Minute
	// left is the part of a certificate's time at which it is renewed.
	left = 1.0 / 3
)

// Config says whom to ask, and how to prove names.
type Config struct {
	Directory string // URL of the authority
	Email     string // of the operator, for the authority; required
	// Roots are who may vouch for the authority itself; nil: those of the system.
	Roots *x509.CertPool
	Dir   string // for keys and certificates
	// HTTP is HOST:PORT for HTTP-01; empty: TLS-ALPN-01.
	HTTP string
	Log  *slog.Logger // nil: nothing is logged
}

// Keeper keeps certificates. All methods may be called at the same time.
type Keeper struct {
	cfg   Config
	shown pki.Shown
	cache *certmagic.Cache
	magic *certmagic.Config // set by Start, and not changed

	open      context.Context // done once Close is called
	close     context.CancelFunc
	closeOnce sync.Once
	work      sync.WaitGroup
	wake      chan struct{}

	guarded struct {
		sync.Mutex
		names   []string
		certain map[string]certmagic.Certificate // that are shown
		failed  map[string]failure
	}
}

// failure is how often a name failed in a row, and when it is tried again.
type failure struct {
	count int
	next  time.Time
}

// New makes a Keeper that shows nothing yet; see Start. The folder is made, or its mode
// narrowed.
func New(cfg Config) (*Keeper, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	if err := os.Chmod(cfg.Dir, 0o700); err != nil { //nolint:gosec // a folder
		return nil, err
	}
	k := &Keeper{cfg: cfg, wake: make(chan struct{}, 1)}
	k.open, k.close = context.WithCancel(context.Background())
	k.guarded.certain, k.guarded.failed = map[string]certmagic.Certificate{}, map[string]failure{}
	return k, nil
}

// Before returns config with the certificates of k before its own, and with what proves
// names. config is not changed.
func (k *Keeper) Before(config *tls.Config) *tls.Config {
	proving := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{Protocol}, GetCertificate: k.proof, SessionTicketsDisabled: true}
	config = k.shown.Before(config)
	special := config.GetConfigForClient
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if len(hello.SupportedProtos) == 1 && hello.SupportedProtos[0] == Protocol {
			return proving, nil
		}
		if special != nil {
			return special(hello)
		}
		return nil, nil
	}
	return config
}

// proof is what the authority wants to see of a name.
func (k *Keeper) proof(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	select {
	case <-k.open.Done():
		return nil, errors.New("closed")
	default:
	}
	if k.magic == nil {
		return nil, errors.New("no proof is under way")
	}
	return k.magic.GetCertificate(hello)
}

// Start shows what is stored for names, and gets and renews all else in the background.
// address is where the listener that proves names is open; connections to it may be
// accepted later, but none before Start returns.
func (k *Keeper) Start(address net.Addr, names []string) error {
	issuer := certmagic.ACMEIssuer{
		CA: k.cfg.Directory, Email: k.cfg.Email, Agreed: true, TrustedRoots: k.cfg.Roots,
		DisableDistributedSolvers: true, Logger: zap.NewNop(),
	}
	proves := k.cfg.HTTP
	if issuer.DisableHTTPChallenge = proves == ""; issuer.DisableHTTPChallenge {
		proves = address.String()
	} else {
		issuer.DisableTLSALPNChallenge = true
	}
	host, digits, err := net.SplitHostPort(proves)
	if err != nil {
		return fmt.Errorf("acme: %w", err)
	}
	port, err := strconv.Atoi(digits)
	if err != nil {
		return fmt.Errorf("acme: port %q", digits)
	}
	issuer.ListenHost, issuer.AltTLSALPNPort, issuer.AltHTTPPort = host, port, port

	var magic *certmagic.Config
	k.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return magic, nil },
		// What is done in the background is done here, and waited for.
		RenewCheckInterval: 100 * 365 * 24 * time.Hour, OCSPCheckInterval: 100 * 365 * 24 * time.Hour,
		Logger: zap.NewNop(),
	})
	magic = certmagic.New(k.cache, certmagic.Config{
		Storage: newStorage(k.cfg.Dir), RenewalWindowRatio: left, DisableARI: true, DisableStorageCheck: true,
		OCSP: certmagic.OCSPConfig{DisableStapling: true}, Logger: zap.NewNop(),
	})
	magic.Issuers = []certmagic.Issuer{certmagic.NewACMEIssuer(magic, issuer)}
	k.magic = magic

	k.SetNames(names)
	for _, name := range k.names() {
		if err := k.show(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			k.cfg.Log.Warn("stored certificate cannot be used, another one is asked for", "name", name, "err", err)
		}
	}
	k.work.Go(k.run)
	return nil
}

// Soonest is when the first certificate that is shown ends; zero where there is none.
func (k *Keeper) Soonest() (soonest time.Time) {
	k.guarded.Lock()
	defer k.guarded.Unlock()
	for _, c := range k.guarded.certain {
		if soonest.IsZero() || c.Leaf.NotAfter.Before(soonest) {
			soonest = c.Leaf.NotAfter
		}
	}
	return soonest
}

// Close ends what is under way and returns when nothing runs any more. What is shown
// stays.
func (k *Keeper) Close() error {
	k.closeOnce.Do(func() {
		k.close()
		k.work.Wait()
		if k.cache != nil {
			k.cache.Stop()
		}
	})
	return nil
}

// SetNames says for which names there are to be certificates. Those of other names are
// not shown any more; their files stay.
func (k *Keeper) SetNames(names []string) {
	clean := make([]string, 0, len(names))
	for _, name := range names {
		if name = strings.ToLower(name); pki.IsHostName(name) {
			clean = append(clean, name)
		}
	}
	slices.Sort(clean)
	clean = slices.Compact(clean)
	k.guarded.Lock()
	k.guarded.names = clean
	maps.DeleteFunc(k.guarded.failed, func(name string, _ failure) bool { return !slices.Contains(clean, name) })
	for name := range k.guarded.certain {
		if !slices.Contains(clean, name) {
			delete(k.guarded.certain, name)
			k.shown.Set(name, nil)
		}
	}
	k.guarded.Unlock()
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

func (k *Keeper) names() []string {
	k.guarded.Lock()
	defer k.guarded.Unlock()
	return k.guarded.names
}

// run keeps certificates until Close.
func (k *Keeper) run() {
	for {
		timer := time.NewTimer(k.check())
		select {
		case <-k.open.Done():
			timer.Stop()
			return
		case <-k.wake:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// check gets and renews what is due, and returns when to look again.
func (k *Keeper) check() (pause time.Duration) {
	pause = checkEvery
	for _, name := range k.names() {
		if k.open.Err() != nil {
			return pause
		}
		k.guarded.Lock()
		before := k.guarded.failed[name]
		k.guarded.Unlock()
		if wait := time.Until(before.next); wait > 0 {
			pause = min(pause, wait)
			continue
		}
		err := k.keep(name)
		if k.open.Err() != nil {
			return pause
		}
		var now failure
		if err != nil {
			wait := min(lastPause, firstPause<<min(before.count, 10))
			now = failure{before.count + 1, time.Now().Add(wait)}
			pause = min(pause, wait)
			k.complain(name, err, wait)
		}
		k.guarded.Lock()
		if k.guarded.failed[name] = now; now.count == 0 {
			delete(k.guarded.failed, name)
		}
		k.guarded.Unlock()
	}
	return pause
}

// complain says what went wrong with a name, what is shown meanwhile, and what to do.
func (k *Keeper) complain(name string, err error, wait time.Duration) {
	k.guarded.Lock()
	c, ok := k.guarded.certain[name]
	k.guarded.Unlock()
	meanwhile := "the platform's own certificate"
	if ok {
		meanwhile = "the last one, valid until " + c.Leaf.NotAfter.UTC().Format(time.RFC3339)
	}
	remedy := "see that the name leads here, and that port 443 of it reaches the listener of --https or --mqtts"
	if k.cfg.HTTP != "" {
		remedy = "see that the name leads here, and that port 80 of it reaches --acme-http " + k.cfg.HTTP
	}
	k.cfg.Log.Error("no certificate over ACME", "name", name, "directory", k.cfg.Directory, "err", err,
		"shown", meanwhile, "again_in", wait, "remedy", remedy)
}

// keep gets or renews the certificate of a name if it has to.
func (k *Keeper) keep(name string) error {
	ctx, cancel := context.WithTimeout(k.open, attempt)
	defer cancel()
	k.guarded.Lock()
	shown, ok := k.guarded.certain[name]
	k.guarded.Unlock()
	switch {
	case !ok:
		if err := k.magic.ObtainCertSync(ctx, name); err != nil {
			return err
		}
	case shown.NeedsRenewal(k.magic):
		if err := k.magic.RenewCertSync(ctx, name, false); err != nil {
			return err
		}
	default:
		return nil
	}
	return k.show(name)
}

// show takes the certificate of a name from its file.
func (k *Keeper) show(name string) error {
	c, err := k.magic.CacheManagedCertificate(k.open, name)
	if err != nil {
		return err
	}
	k.guarded.Lock()
	defer k.guarded.Unlock()
	before, ok := k.guarded.certain[name]
	if !slices.Contains(k.guarded.names, name) || ok && before.Hash() == c.Hash() {
		return nil
	}
	if ok {
		k.cache.Remove([]string{before.Hash()})
	}
	k.guarded.certain[name] = c
	k.shown.Set(name, map[string]*tls.Certificate{name: &c.Certificate})
	k.cfg.Log.Info("certificate over ACME is shown", "name", name, "serial", fmt.Sprintf("%x", c.Leaf.SerialNumber), "not_after", c.Leaf.NotAfter)
	return nil
}
