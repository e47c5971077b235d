package remote

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/opa"
)

// Times of polling.
const (
	defaultInterval = time.Minute
	leastInterval   = time.Second
	requestTime     = time.Minute     // of one whole transfer
	firstRetry      = time.Second     // after a failure; doubled by each further one
	longestRetry    = 5 * time.Minute // or the interval, where that is longer
	longestAsked    = time.Hour       // of what a server asks for by Retry-After
)

// Options of a Poller.
type Options struct {
	// URL of the bundle: https, without a user name and password.
	URL string
	// Key has to have signed every bundle. Without one, Unsigned says that anything
	// goes which that server sends.
	Key      *opa.Key
	Unsigned bool
	// Authorize adds what the server wants to see, such as a bearer token; nil:
	// nothing. It is asked for each request, so a token may be replaced.
	Authorize func(http.Header) error
	Roots     *x509.CertPool // nil: those of the system
	Interval  time.Duration  // between two rounds; 0: one minute; at least a second
	Schemas   fs.FS          // see opa.Load
	// Offer is given each bundle that passed the gate, and the archive it came in,
	// and activates it or not. After an error, it is fetched and offered again.
	Offer func(*opa.Bundle, *opa.Archive) error
	Log   *slog.Logger // nil: nothing is logged
}

// Poller fetches one bundle again and again.
type Poller struct {
	options Options
	client  *http.Client
	log     *slog.Logger
	wait    func(context.Context, time.Duration) bool // false: ctx ended

	// Of the goroutine that runs.
	etag string
	seen [sha256.Size]byte // what was looked at last

	status struct {
		sync.Mutex
		Status
	}
}

// Status is what happened so far.
type Status struct {
	Rounds   uint64
	Failures uint64    // in a row, up to now
	LastGood time.Time // of the last round that found the server's bundle live or unchanged; zero: none
	Revision string    // of the last bundle that was offered
}

// New checks the options. The error is KindInvalid.
func New(o Options) (*Poller, error) {
	u, err := url.Parse(o.URL)
	switch {
	case err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil:
		return nil, &policy.Error{Kind: policy.KindInvalid, Field: "url", Public: "must be an https URL without a user name"}
	case o.Key == nil && !o.Unsigned:
		return nil, &policy.Error{Kind: policy.KindInvalid, Field: "key", Public: "a key is needed to verify bundles with, or the word that they are not signed"}
	case o.Interval != 0 && o.Interval < leastInterval:
		return nil, &policy.Error{Kind: policy.KindInvalid, Field: "interval", Public: "must be at least a second"}
	case o.Offer == nil:
		return nil, &policy.Error{Kind: policy.KindInvalid, Field: "offer", Public: "must be set"}
	}
	if o.Interval == 0 {
		o.Interval = defaultInterval
	}
	p := &Poller{options: o, log: o.Log, wait: wait, client: newClient(o.Roots)}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	p.log = p.log.With("host", u.Host)
	return p, nil
}

func newClient(roots *x509.CertPool) *http.Client {
	return &http.Client{
		Timeout: requestTime,
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    10 * time.Second,
			ResponseHeaderTimeout:  30 * time.Second,
			MaxResponseHeaderBytes: 64 << 10,
			MaxIdleConns:           1,
			DisableCompression:     true, // the bundle is an archive, and stays one
		},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if r.URL.Scheme != "https" || len(via) > 3 {
				return errors.New("redirected too often, or away from https")
			}
			return nil
		},
	}
}

// wait is one timer.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// Run polls until ctx ends. It blocks, and runs once.
func (p *Poller) Run(ctx context.Context) {
	defer p.client.CloseIdleConnections()
	failures := uint64(0)
	for {
		asked, err := p.round(ctx)
		if ctx.Err() != nil {
			return
		}
		if failures++; err == nil {
			failures = 0
		}
		p.note(failures)
		pause := p.pause(failures, asked)
		if err != nil {
			p.log.Warn("policy bundle not fetched", "err", err, "failures", failures, "again_in", pause.Round(time.Millisecond))
		}
		if !p.wait(ctx, pause) {
			return
		}
	}
}

func (p *Poller) note(failures uint64) {
	p.status.Lock()
	defer p.status.Unlock()
	p.status.Rounds++
	p.status.Failures = failures
	if failures == 0 {
		p.status.LastGood = time.Now()
	}
}

// Status says what happened so far. It may be called while Run runs.
func (p *Poller) Status() Status {
	p.status.Lock()
	defer p.status.Unlock()
	return p.status.Status
}

// pause is how long to wait before the next round: about the interval, or after
// failures, something that doubles. Brokers that were started together, or that
// lost the same server, do not come together.
func (p *Poller) pause(failures uint64, asked time.Duration) time.Duration {
	if failures == 0 {
		return p.options.Interval*9/10 + below(p.options.Interval/5)
	}
	longest := max(longestRetry, p.options.Interval)
	retry := longest
	if failures <= 20 { // doubled so often it is longer than any longest
		retry = min(longest, firstRetry<<(failures-1))
	}
	return max(retry/2+below(retry/2), min(asked, longestAsked))
}

// below is random, at least 0 and less than d.
func below(d time.Duration) time.Duration {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails: the process ends instead
	return time.Duration(binary.BigEndian.Uint64(b[:]) % uint64(max(d, 1)))
}

// refused is a bundle that is not tried again before it changes.
func (p *Poller) refused(err error) {
	p.log.Error("policy bundle refused", "err", err)
}

// round asks once. asked is how long the server wants to be left alone; the
// error is one to try again after.
func (p *Poller) round(ctx context.Context) (asked time.Duration, err error) {
	got, err := p.fetch(ctx)
	if err != nil || got.unchanged {
		return got.retryAfter, err
	}
	sum := sha256.Sum256(got.body)
	if sum == p.seen {
		p.etag = got.etag
		return 0, nil
	}
	if err := p.examine(ctx, got.body); err != nil {
		return 0, err
	}
	p.seen, p.etag = sum, got.etag
	return 0, nil
}

// examine puts a bundle through the gate and offers it. A bundle that is refused
// is no error: the same one would be refused again.
func (p *Poller) examine(ctx context.Context, body []byte) error {
	archive, err := opa.ReadArchive(bytes.NewReader(body), p.options.Key)
	if err != nil {
		p.refused(err)
		return nil
	}
	bundle, report := opa.Load(ctx, archive.FS, p.options.Schemas)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	opa.LogReport(p.log, report)
	if bundle == nil {
		p.refused(report.Err())
		return nil
	}
	if err := p.options.Offer(bundle, archive); err != nil {
		return fmt.Errorf("offer revision %s: %w", bundle.Revision(), err)
	}
	p.log.Info("policy bundle fetched", "revision", bundle.Revision(), "called", archive.Revision)
	p.status.Lock()
	p.status.Revision = bundle.Revision()
	p.status.Unlock()
	return nil
}
