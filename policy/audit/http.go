package audit

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"
)

// HTTPOptions of an HTTP sink.
type HTTPOptions struct {
	// URL of the service; events are posted to URL/logs. It has to be https, but for
	// a loopback address.
	URL string
	// TokenFile holds the Bearer token, read again for each request; empty: none.
	TokenFile string
	// ChunkMax bounds one request, in compressed bytes; 0: 32 KiB.
	ChunkMax int
	// RetryLeast and RetryMost bound the time between two tries; 0: 1 s and 60 s.
	RetryLeast, RetryMost time.Duration
	// Client makes the requests; nil: one of its own, which follows no redirection.
	Client *http.Client
}

// HTTP is a Sink that posts events as OPA's decision log plug-in does: a JSON array
// compressed with gzip. What the server does not take is sent again until it does;
// meanwhile the queue before the sink fills, and then drops.
type HTTP struct {
	o      HTTPOptions
	url    string
	client *http.Client
	// room is how many bytes of JSON are tried in one chunk. It follows what they
	// come to when compressed.
	room int
}

var _ Sink = (*HTTP)(nil)

const (
	maxTokenFile = 16 << 10
	requestTime  = 30 * time.Second
)

// NewHTTP checks the options. It does not look whether the server is there.
func NewHTTP(o HTTPOptions) (*HTTP, error) {
	if err := CheckURL(o.URL); err != nil {
		return nil, err
	}
	u, err := url.Parse(o.URL)
	if err != nil {
		return nil, errURL
	}
	if o.ChunkMax <= 0 {
		o.ChunkMax = 32 << 10
	}
	if o.RetryLeast <= 0 {
		o.RetryLeast = time.Second
	}
	if o.RetryMost < o.RetryLeast {
		o.RetryMost = max(time.Minute, o.RetryLeast)
	}
	h := &HTTP{o: o, url: u.JoinPath("logs").String(), client: o.Client, room: 4 * o.ChunkMax}
	if h.client == nil {
		h.client = &http.Client{
			Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, MaxIdleConns: 1, IdleConnTimeout: time.Minute, ForceAttemptHTTP2: true},
			// A redirection would take the token elsewhere.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	if _, err := h.token(); err != nil {
		return nil, err
	}
	return h, nil
}

// errURL never repeats the URL, whose query may be what authorises a request.
var errURL = errors.New("has to be https://HOST[/PATH], or http:// with a loopback address, without user and password")

// CheckURL says what is wrong with the URL of a service.
func CheckURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" {
		return errURL
	}
	switch u.Scheme {
	case "https":
		return nil
	case "http":
		host := u.Hostname()
		if a, err := netip.ParseAddr(host); host == "localhost" || err == nil && a.IsLoopback() {
			return nil
		}
	}
	return errURL
}

// Name is "http".
func (*HTTP) Name() string { return "http" }

// Write posts the events in chunks, each until the server takes it, refuses it for
// good, or ctx ends.
func (h *HTTP) Write(ctx context.Context, events []*Event) (lost int, err error) {
	for len(events) > 0 {
		n, body, err := h.chunk(events)
		if err != nil {
			lost += n
			events = events[n:]
			if len(events) == 0 {
				return lost, err
			}
			continue
		}
		if err := h.post(ctx, body); err != nil {
			if ctx.Err() != nil {
				return lost + len(events), err
			}
			lost += n
			if len(events) == n {
				return lost, err
			}
		}
		events = events[n:]
	}
	return lost, nil
}

// chunk compresses as many of the events as one request may have. The error is
// about an event that is too large by itself.
func (h *HTTP) chunk(events []*Event) (n int, body []byte, err error) {
	size := 0
	for n < len(events) && (n == 0 || size+len(events[n].encoded) < h.room) {
		size += len(events[n].encoded) + 1
		n++
	}
	for {
		body, err = pack(events[:n])
		switch {
		case err != nil:
			return n, nil, err
		case len(body) <= h.o.ChunkMax:
			if n < len(events) && len(body) < h.o.ChunkMax*3/4 {
				h.room += h.room / 4
			}
			return n, body, nil
		case n == 1:
			return 1, nil, fmt.Errorf("decision %s is larger than a request may be", events[0].DecisionID)
		}
		n /= 2
		h.room = max(h.o.ChunkMax, h.room*3/4)
	}
}

func pack(events []*Event) ([]byte, error) {
	var body bytes.Buffer
	z := gzip.NewWriter(&body)
	between := []byte("[")
	for _, ev := range events {
		text, err := ev.JSON()
		if err != nil {
			return nil, err
		}
		if _, err := z.Write(append(between, text...)); err != nil {
			return nil, err
		}
		between = []byte(",")
	}
	if _, err := z.Write([]byte("]")); err != nil {
		return nil, err
	}
	err := z.Close()
	return body.Bytes(), err
}

// errRefused is an answer that another try would not change.
var errRefused = errors.New("the server refuses it")

func (h *HTTP) post(ctx context.Context, body []byte) error {
	wait := h.o.RetryLeast
	for {
		err := h.try(ctx, body)
		if err == nil || errors.Is(err, errRefused) {
			return err
		}
		// Not all brokers of a fleet at the same moment.
		timer := time.NewTimer(wait/2 + rand.N(wait)/2) //nolint:gosec // no secret
		select {
		case <-ctx.Done():
			timer.Stop()
			return err
		case <-timer.C:
		}
		wait = min(2*wait, h.o.RetryMost)
	}
}

func (h *HTTP) try(ctx context.Context, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("post decisions: %w", errURL)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Content-Encoding", "gzip")
	token, err := h.token()
	if err != nil {
		return err
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := h.client.Do(r)
	if err != nil {
		return fmt.Errorf("post decisions: %w", withoutURL(err))
	}
	_, _ = io.CopyN(io.Discard, answer.Body, 64<<10) // so that the connection can be used again
	_ = answer.Body.Close()
	switch code := answer.StatusCode; {
	case code >= 200 && code < 300:
		return nil
	case code == http.StatusBadRequest, code == http.StatusRequestEntityTooLarge, code == http.StatusUnprocessableEntity:
		return fmt.Errorf("post decisions: status %d: %w", code, errRefused)
	default:
		return fmt.Errorf("post decisions: status %d", code)
	}
}

// withoutURL keeps a query out of the log.
func withoutURL(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op
	}
	return err
}

// token is empty when no file is named. No error repeats it.
func (h *HTTP) token() (string, error) {
	if h.o.TokenFile == "" {
		return "", nil
	}
	f, err := os.Open(h.o.TokenFile)
	if err != nil {
		return "", fmt.Errorf("decision log token: %w", err)
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, maxTokenFile))
	if err != nil {
		return "", fmt.Errorf("decision log token: %w", err)
	}
	token := strings.TrimSpace(string(text))
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fmt.Errorf("decision log token: %s does not hold one token", h.o.TokenFile)
	}
	return token, nil
}

// Close ends idle connections.
func (h *HTTP) Close() error {
	h.client.CloseIdleConnections()
	return nil
}
