package listen_test

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cordon-mq/cordon/broker/listen"
	"github.com/cordon-mq/cordon/broker/listen/listentest"
)

const proxyV2 = "\r\n\r\n\x00\r\nQUIT\n"

// v2 is a version 2 header: command and family as on the wire, then what the
// length counts.
func v2(command, family byte, body []byte) string {
	header := append([]byte(proxyV2), command, family)
	header = binary.BigEndian.AppendUint16(header, uint16(len(body)))
	return string(append(header, body...))
}

// v2Addresses is the address block of 203.0.113.9:4711 → 192.0.2.1:8883.
func v2Addresses() []byte {
	return []byte{203, 0, 113, 9, 192, 0, 2, 1, 0x12, 0x67, 0x22, 0xb3}
}

// theProxy is the only one listed, and proxied listens behind it.
func theProxy() netip.AddrPort { return netip.MustParseAddrPort("10.0.0.7:9999") }

func proxied(cfg listen.Config) listen.Config {
	cfg.Name, cfg.Proxies = "mqtts", []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	return cfg
}

func TestProxyHeaderNamesThePeer(t *testing.T) {
	t.Parallel()
	ip6 := append(bytes.Repeat([]byte{0x20}, 16), bytes.Repeat([]byte{0x30}, 16)...)
	tests := map[string]struct{ header, remote string }{
		"v1, IPv4":                     {"PROXY TCP4 203.0.113.9 192.0.2.1 4711 8883\r\n", "203.0.113.9:4711"},
		"v1, IPv6":                     {"PROXY TCP6 2001:db8::9 2001:db8::1 4711 8883\r\n", "[2001:db8::9]:4711"},
		"v1, IPv4 in its IPv6 form":    {"PROXY TCP6 ::ffff:203.0.113.9 2001:db8::1 4711 8883\r\n", "203.0.113.9:4711"},
		"v1, peer unknown":             {"PROXY UNKNOWN\r\n", "10.0.0.7:9999"},
		"v1, peer unknown with detail": {"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", "10.0.0.7:9999"},
		"v2, IPv4":                     {v2(0x21, 0x11, v2Addresses()), "203.0.113.9:4711"},
		"v2, IPv6":                     {v2(0x21, 0x21, append(ip6, 0x12, 0x67, 0x22, 0xb3)), "[2020:2020:2020:2020:2020:2020:2020:2020]:4711"},
		"v2 with TLVs":                 {v2(0x21, 0x11, append(v2Addresses(), 0x04, 0, 3, 1, 2, 3)), "203.0.113.9:4711"},
		"v2, the proxy itself":         {v2(0x20, 0x00, nil), "10.0.0.7:9999"},
		"v2, itself with addresses":    {v2(0x20, 0x11, v2Addresses()), "10.0.0.7:9999"},
	}
	for name, test := range tests {
		for _, secure := range []bool{false, true} {
			t.Run(name+map[bool]string{true: ", TLS"}[secure], func(t *testing.T) {
				t.Parallel()
				serverTLS, clientTLS := newTLS(t)
				cfg := proxied(listen.Config{})
				if secure {
					cfg.TLS = serverTLS
				}
				inner := listentest.NewListener()
				remote := make(chan [2]string, 1)
				stop := serve(listen.New(inner, cfg), func(c *listen.Conn) {
					remote <- [2]string{c.Remote.String(), c.RemoteAddr().String()}
					echo(c)
				})
				client := inner.DialFrom(theProxy())
				if secure {
					_, _ = client.Write([]byte(test.header))
					client = tls.Client(client, clientTLS)
					mustEcho(t, client)
				} else { // what follows the header in the same packet is kept
					_, _ = client.Write([]byte(test.header + "hello"))
					got := make([]byte, 5)
					if _, err := io.ReadFull(client, got); err != nil || string(got) != "hello" {
						t.Errorf("got %q, %v after the header, want hello", got, err)
					}
				}
				_ = client.Close()
				if err := stop(); err != nil {
					t.Error(err)
				}
				if got := <-remote; got[0] != test.remote || netip.MustParseAddrPort(got[1]).Port() != netip.MustParseAddrPort(test.remote).Port() {
					t.Errorf("Remote %s, RemoteAddr %s; want %s", got[0], got[1], test.remote)
				}
			})
		}
	}
}

func TestBadProxyHeaderClosesTheConnection(t *testing.T) {
	t.Parallel()
	huge := proxyV2 + "\x21\x11\xff\xff"
	tests := map[string]string{
		"none":                  "\x10\x1a\x00\x04MQTT\x04\xc2\x00\x3c\x00\x01d\x00\x01u\x00\x07hunter2",
		"a word like it":        "PROXYhunter2 TCP4 203.0.113.9 192.0.2.1 1 2\r\n",
		"v1 without an address": "PROXY TCP4\r\n",
		"v1 with a name":        "PROXY TCP4 hunter2.example 192.0.2.1 1 2\r\n",
		"v1 with a zone":        "PROXY TCP6 fe80::1%hunter2 fe80::2 1 2\r\n",
		"v1 with a port beyond": "PROXY TCP4 203.0.113.9 192.0.2.1 65536 2\r\n",
		"v1 without an end":     "PROXY TCP4 " + strings.Repeat("1", 200),
		"v2 of a datagram":      v2(0x21, 0x12, v2Addresses()),
		"v2 of a Unix socket":   v2(0x21, 0x31, make([]byte, 216)),
		"v2 of nothing":         v2(0x21, 0x00, nil),
		"v2 with half a body":   v2(0x21, 0x11, v2Addresses()[:6]),
		"v2 of a later version": v2(0x31, 0x11, v2Addresses()),
		"v2 with a huge length": huge,
	}
	for name, header := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var log logBuffer
				inner := listentest.NewListener()
				stop := serve(listen.New(inner, proxied(listen.Config{Log: log.logger()})), func(*listen.Conn) {
					t.Error("handed over")
				})
				start := time.Now()
				client := inner.DialFrom(theProxy())
				_, _ = client.Write([]byte(header))
				if !closed(client) || time.Since(start) != 0 {
					t.Errorf("not closed at once, but after %v", time.Since(start))
				}
				_ = stop()
				if text := log.String(); !strings.Contains(text, "PROXY header") || strings.Contains(text, "MQTT") {
					t.Errorf("want a line about the header:\n%s", text)
				}
			})
		})
	}
}

// An unlisted address is never asked for a header, and what looks like one is
// the peer's own bytes.
func TestProxyHeaderOfAnUnlistedAddressIsData(t *testing.T) {
	t.Parallel()
	const header = "PROXY TCP4 127.0.0.1 192.0.2.1 4711 8883\r\n"
	inner := listentest.NewListener()
	type seen struct {
		remote netip.AddrPort
		first  string
	}
	got := make(chan seen, 1)
	stop := serve(listen.New(inner, proxied(listen.Config{})), func(c *listen.Conn) {
		first := make([]byte, len(header))
		_, _ = io.ReadFull(c, first)
		got <- seen{c.Remote, string(first)}
	})
	from := netip.MustParseAddrPort("198.51.100.7:4711")
	client := inner.DialFrom(from)
	_, _ = client.Write([]byte(header))
	if want := (seen{from, header}); <-got != want {
		t.Errorf("want %+v", want)
	}
	_ = stop()
}

// The header, TLS and the first packet share the time of the set-up.
func TestStalledProxyHeaderCostsOnlyItself(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const timeout = 10 * time.Second
		inner := listentest.NewListener()
		stop := serve(listen.New(inner, proxied(listen.Config{SetupTimeout: timeout})), func(c *listen.Conn) {
			_, err := c.Read(make([]byte, 1))
			if err != nil && c.Remote.Port() == 4711 {
				_, _ = c.Conn.Write([]byte("late"))
			}
		})
		start := time.Now()
		stalled := map[string]string{
			"nothing": "", "half a signature": proxyV2[:6], "half a length": proxyV2 + "\x21\x11\x00", "half a body": v2(0x21, 0x11, v2Addresses())[:20],
			"no packet after it": v2(0x21, 0x11, v2Addresses()),
		}
		clients := map[string]net.Conn{}
		for name, sent := range stalled {
			clients[name] = inner.DialFrom(theProxy())
			_, _ = clients[name].Write([]byte(sent))
		}
		for name, client := range clients {
			if _, err := io.Copy(io.Discard, client); err != nil || time.Since(start) != timeout {
				t.Errorf("%s: ended after %v with %v, want closed after %v", name, time.Since(start), err, timeout)
			}
		}
		_ = stop()
	})
}

func TestCloseDropsUnfinishedProxyHeaders(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		inner := listentest.NewListener()
		stop := serve(listen.New(inner, proxied(listen.Config{SetupTimeout: time.Hour})), echo)
		client := inner.DialFrom(theProxy())
		synctest.Wait()
		start := time.Now()
		if err := stop(); err != nil {
			t.Error(err)
		}
		if waited := time.Since(start); waited != 0 || !closed(client) {
			t.Errorf("Serve waited %v for a header nobody will use", waited)
		}
	})
}
