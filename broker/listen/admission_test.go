package listen_test

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cordon-mq/cordon/broker/listen"
	"github.com/cordon-mq/cordon/broker/listen/listentest"
)

// crowd is a listener whose handler waits for a byte, says that the connection
// is authenticated, and echoes from then on.
func crowd(t *testing.T, limits listen.AdmissionConfig) (*listentest.Listener, *logBuffer) {
	t.Helper()
	log := new(logBuffer)
	limits.Log = log.logger()
	inner := listentest.NewListener()
	stop := serve(listen.New(inner, listen.Config{
		SetupTimeout: time.Hour, Admission: listen.NewAdmission(limits),
	}), func(c *listen.Conn) {
		if _, err := c.Read(make([]byte, 1)); err == nil {
			c.Authenticated()
			c.Authenticated()
			_, _ = c.Write([]byte{42})
			echo(c)
		}
	})
	t.Cleanup(func() { _ = stop() })
	return inner, log
}

// refusedNow reports whether the connection is closed without anything sent, and
// before any time passes.
func refusedNow(t *testing.T, c net.Conn) bool {
	t.Helper()
	synctest.Wait()
	_ = c.SetReadDeadline(time.Now().Add(time.Nanosecond))
	defer func() { _ = c.SetReadDeadline(time.Time{}) }()
	return closed(c)
}

func from(format string, n int) netip.AddrPort {
	return netip.MustParseAddrPort(fmt.Sprintf(format, n))
}

func TestPendingConnectionsAreFew(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		limits  listen.AdmissionConfig
		address string
		fit     int // connections that may be pending
	}{
		"of all":             {listen.AdmissionConfig{MaxPending: 3}, "198.51.100.%d:1", 3},
		"of the loopback":    {listen.AdmissionConfig{MaxPending: 3, MaxPendingPerAddress: 1}, "127.0.0.1:%d", 3},
		"of one address":     {listen.AdmissionConfig{MaxPendingPerAddress: 2}, "198.51.100.7:%d", 2},
		"of one IPv6 /64":    {listen.AdmissionConfig{MaxPendingPerAddress: 2}, "[2001:db8:0:1::%d]:1", 2},
		"of IPv4 in IPv6":    {listen.AdmissionConfig{MaxPendingPerAddress: 2}, "[::ffff:198.51.100.7]:%d", 2},
		"of several numbers": {listen.AdmissionConfig{MaxPendingPerAddress: 1}, "[2001:db8:0:%d::1]:1", 4},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				inner, log := crowd(t, test.limits)
				var clients []net.Conn
				for n := range test.fit {
					clients = append(clients, inner.DialFrom(from(test.address, n+1)))
				}
				synctest.Wait()
				over := name != "of several numbers"
				if got := refusedNow(t, inner.DialFrom(from(test.address, 100))); got != over {
					t.Fatalf("refused: %t, want %t", got, over)
				}
				if got := strings.Count(log.String(), "connections refused"); over != (got == 1) {
					t.Errorf("%d lines about it:\n%s", got, log)
				}
				// A place is free once somebody is authenticated, or has gone.
				mustEcho(t, clients[0])
				second := inner.DialFrom(from(test.address, 101))
				mustEcho(t, second)
				_ = clients[1].Close()
				third := inner.DialFrom(from(test.address, 102))
				mustEcho(t, third)
				for _, c := range append(clients, second, third) {
					_ = c.Close()
				}
				synctest.Wait()
				for n := range test.fit { // nobody is counted any more
					c := inner.DialFrom(from(test.address, n+1))
					defer c.Close()
					if refusedNow(t, c) {
						t.Errorf("connection %d is refused although all others are gone", n)
					}
				}
			})
		})
	}
}

func TestOneAddressConnectsSoOften(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		inner, log := crowd(t, listen.AdmissionConfig{ConnectRate: 2}) // a burst of ten
		attempt := func(address string) bool {
			c := inner.DialFrom(netip.MustParseAddrPort(address))
			defer c.Close()
			return !refusedNow(t, c)
		}
		var got, local int
		for range 60 {
			if attempt("198.51.100.7:1") {
				got++
			}
			if attempt("127.0.0.1:1") {
				local++
			}
		}
		if got != 10 || local != 60 {
			t.Errorf("%d connections of one address and %d of the loopback were taken, want 10 and 60", got, local)
		}
		if !attempt("198.51.100.8:1") {
			t.Error("another address is refused too")
		}
		if text := log.String(); strings.Count(text, "connections refused") != 1 || !strings.Contains(text, "count=1 last=198.51.100.7:1") {
			t.Errorf("want one line within a second:\n%s", text)
		}
		<-time.After(time.Second) // of the fake clock
		again := 0
		for range 3 {
			if attempt("198.51.100.7:1") {
				again++
			}
		}
		if again != 2 {
			t.Errorf("after a second %d more were taken, want 2", again)
		}
		if text := log.String(); strings.Count(text, "connections refused") != 2 || !strings.Contains(text, "count=50") {
			t.Errorf("want a second line with the count of those before:\n%s", text)
		}
	})
}

// Listeners with one Admission share its connections. At the limit new ones
// wait, and get in as soon as somebody leaves.
func TestListenersShareTheirConnections(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log logBuffer
		admission := listen.NewAdmission(listen.AdmissionConfig{MaxConns: 3})
		first, second := listentest.NewListener(), listentest.NewListener()
		for _, inner := range []*listentest.Listener{first, second} {
			stop := serve(listen.New(inner, listen.Config{Admission: admission, Log: log.logger()}), echo)
			defer func() { _ = stop() }()
		}
		synctest.Wait() // each holds a place
		a := first.Dial()
		mustEcho(t, a)
		b := first.Dial()
		mustEcho(t, b)
		synctest.Wait() // first waits for a place, second holds one while it accepts
		c := second.Dial()
		mustEcho(t, c)
		waiting := []net.Conn{first.Dial(), second.Dial()}
		for _, w := range waiting {
			_, _ = w.Write([]byte{1})
			_ = w.SetReadDeadline(time.Now().Add(time.Second))
			if n, _ := w.Read(make([]byte, 1)); n != 0 {
				t.Error("more connections than the limit are served")
			}
			_ = w.SetReadDeadline(time.Time{})
		}
		_, _, _ = a.Close(), b.Close(), c.Close()
		for _, w := range waiting {
			if n, err := w.Read(make([]byte, 1)); n != 1 {
				t.Errorf("a connection that waited was not served: %v", err)
			}
			_ = w.Close()
		}
		if !strings.Contains(log.String(), "max_conns=3") {
			t.Errorf("the limit was not logged:\n%s", &log)
		}
	})
}

// Behind a proxy the limits are those of the addresses it names.
func TestLimitsBehindAProxy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log logBuffer
		inner := listentest.NewListener()
		stop := serve(listen.New(inner, proxied(listen.Config{
			SetupTimeout: time.Hour,
			Admission:    listen.NewAdmission(listen.AdmissionConfig{MaxPendingPerAddress: 1, Log: log.logger()}),
		})), echo)
		dial := func(peer string) net.Conn {
			c := inner.DialFrom(theProxy())
			_, _ = c.Write([]byte("PROXY TCP4 " + peer + " 192.0.2.1 4711 8883\r\n"))
			return c
		}
		clients := []net.Conn{dial("203.0.113.1"), dial("203.0.113.2")}
		for _, c := range clients {
			mustEcho(t, c)
		}
		if !refusedNow(t, dial("203.0.113.2")) {
			t.Error("an address has more than its share")
		}
		if !strings.Contains(log.String(), "last=203.0.113.2:4711") {
			t.Errorf("want the address in the log:\n%s", &log)
		}
		for _, c := range clients {
			_ = c.Close()
		}
		_ = stop()
	})
}

func TestFailures(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := listen.NewFailures(listen.FailuresConfig{Rate: 0.5, Burst: 3})
		bad, neighbour, other := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::ffff:1"), netip.MustParseAddr("2001:db8:0:1::1")
		for n := range 3 {
			if !f.Allowed(bad) {
				t.Fatalf("refused after %d failures, want 3", n)
			}
			f.Record(bad)
		}
		for range 5 {
			f.Record(bad) // those already under way cost no more
		}
		if f.Allowed(bad) || f.Allowed(neighbour) {
			t.Error("the address is not refused after three failures")
		}
		if !f.Allowed(other) || !f.Allowed(netip.MustParseAddr("192.0.2.1")) {
			t.Error("another address is refused")
		}
		<-time.After(2 * time.Second) // of the fake clock
		if !f.Allowed(bad) {
			t.Error("the address is refused although one failure is forgiven")
		}
		f.Record(bad)
		if f.Allowed(bad) {
			t.Error("one forgiven failure allows two")
		}
		for _, local := range []string{"127.0.0.1", "::1", "::ffff:127.0.0.1"} {
			for range 10 {
				f.Record(netip.MustParseAddr(local))
			}
			if !f.Allowed(netip.MustParseAddr(local)) {
				t.Errorf("%s is refused", local)
			}
		}
	})
}
