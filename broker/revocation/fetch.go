package revocation

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"

	"github.com/cordon-mq/cordon/plugins/certificate"
)

// maxAnswer is the largest OCSP answer, in bytes.
const maxAnswer = 64 << 10

// fetcher asks addresses that certificates name.
type fetcher struct{ client *http.Client }

func newFetcher(private bool) *fetcher {
	dialer := &net.Dialer{Timeout: fetchTime}
	if !private {
		dialer.Control = onlyPublic
	}
	return &fetcher{&http.Client{
		Timeout: fetchTime,
		// No proxy: it would dial for us, and nobody would look at where.
		Transport: &http.Transport{
			DialContext: dialer.DialContext, TLSHandshakeTimeout: fetchTime, ResponseHeaderTimeout: fetchTime,
			MaxResponseHeaderBytes: 16 << 10, DisableCompression: true, DisableKeepAlives: true, IdleConnTimeout: time.Second,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

func (f *fetcher) close() { f.client.CloseIdleConnections() }

var errPrivate = errors.New("not an address of the public internet; the operator can allow it with --certificate-fetch-private")

// onlyPublic looks at the address that is really dialled, so that no name can
// resolve to another one afterwards.
func onlyPublic(_, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return errPrivate
	}
	if !isPublic(at.Addr()) {
		return errPrivate
	}
	return nil
}

// isPublic reports whether an address is one of the public internet, and nothing
// that leads elsewhere from there.
func isPublic(a netip.Addr) bool {
	a = a.Unmap()
	if !a.IsGlobalUnicast() || a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() || a.Zone() != "" {
		return false
	}
	for _, network := range special {
		if network.Contains(a) {
			return false
		}
	}
	return true
}

// special are networks with another meaning than their form says. Immutable.
var special = [...]netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("192.88.99.0/24"), netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("::/96"), netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("64:ff9b:1::/48"),
	netip.MustParsePrefix("100::/64"), netip.MustParsePrefix("2001::/23"), netip.MustParsePrefix("2001:db8::/32"),
	netip.MustParsePrefix("2002::/16"), netip.MustParsePrefix("fec0::/10"),
}

// get fetches a list.
func (f *fetcher) get(ctx context.Context, address string) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return nil, errors.New("not an address")
	}
	return f.do(r, 2*certificate.MaxList) // as PEM
}

// post asks an OCSP responder.
func (f *fetcher) post(ctx context.Context, address string, body []byte) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("not an address")
	}
	r.Header.Set("Content-Type", "application/ocsp-request")
	return f.do(r, maxAnswer)
}

func (f *fetcher) do(r *http.Request, most int64) ([]byte, error) {
	if r.URL.User != nil || r.URL.Host == "" {
		return nil, errors.New("not an address that anybody may ask")
	}
	answer, err := f.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d", answer.StatusCode)
	}
	data, err := io.ReadAll(io.LimitReader(answer.Body, most+1))
	if err == nil && int64(len(data)) > most {
		err = fmt.Errorf("more than %d bytes", most)
	}
	return data, err
}
