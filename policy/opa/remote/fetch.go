package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/cordon-mq/cordon/policy/opa"
)

const maxETag = 1024 // bytes; a longer one is not used

// fetched is what the server answered.
type fetched struct {
	body       []byte
	etag       string
	unchanged  bool
	retryAfter time.Duration
}

func (p *Poller) fetch(ctx context.Context) (fetched, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.options.URL, nil)
	if err != nil {
		return fetched{}, withoutURL(err)
	}
	r.Header.Set("User-Agent", "cordon")
	r.Header.Set("Accept", "application/gzip, application/octet-stream, application/vnd.openpolicyagent.bundles")
	if p.etag != "" {
		r.Header.Set("If-None-Match", p.etag)
	}
	if p.options.Authorize != nil {
		if err := p.options.Authorize(r.Header); err != nil {
			return fetched{}, fmt.Errorf("authorise: %w", err)
		}
	}
	response, err := p.client.Do(r)
	if err != nil {
		return fetched{}, withoutURL(err)
	}
	got, err := read(response, p.etag != "")
	return got, errors.Join(err, response.Body.Close())
}

func read(response *http.Response, asked bool) (fetched, error) {
	switch {
	case response.StatusCode == http.StatusNotModified && asked:
		return fetched{unchanged: true}, nil
	case response.StatusCode != http.StatusOK:
		return fetched{retryAfter: retryAfter(response.Header)}, fmt.Errorf("the server answers %d", response.StatusCode)
	case response.ContentLength > opa.MaxArchiveBytes:
		return fetched{}, errors.New("the bundle is larger than 32 MiB")
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, opa.MaxArchiveBytes+1))
	switch {
	case err != nil:
		return fetched{}, withoutURL(err)
	case len(body) > opa.MaxArchiveBytes:
		return fetched{}, errors.New("the bundle is larger than 32 MiB")
	}
	got := fetched{body: body, etag: response.Header.Get("ETag")}
	if len(got.etag) > maxETag {
		got.etag = ""
	}
	return got, nil
}

// retryAfter reads seconds; a date is left to the server's own patience.
func retryAfter(h http.Header) time.Duration {
	seconds, err := strconv.ParseUint(h.Get("Retry-After"), 10, 31)
	if err != nil {
		return 0
	}
	return time.Duration(seconds) * time.Second
}

// withoutURL drops the URL that errors of requests repeat: its query may be what
// authorises the request.
func withoutURL(err error) error {
	var request *url.Error
	if errors.As(err, &request) {
		return request.Err
	}
	return err
}
