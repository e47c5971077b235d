package listen_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cordon-mq/cordon/broker/listen"
	"github.com/cordon-mq/cordon/broker/listen/listentest"
)

func TestPlainConnectionIsHandedOver(t *testing.T) {
	t.Parallel()
	inner := listentest.NewListener()
	got := make(chan listen.Conn, 1)
	stop := serve(listen.New(inner, listen.Config{Name: "mqtt"}), func(c *listen.Conn) {
		got <- *c
		echo(c)
	})
	client := inner.DialFrom(netip.MustParseAddrPort("198.51.100.7:4711"))
	mustEcho(t, client)
	_ = client.Close()
	if err := stop(); err != nil {
		t.Errorf("Serve = %v after Close, want nil", err)
	}
	c := <-got
	if c.Listener != "mqtt" || c.Remote.String() != "198.51.100.7:4711" || c.TLS != nil {
		t.Errorf("Conn{Listener: %q, Remote: %v, TLS: %v}, want mqtt, 198.51.100.7:4711, nil", c.Listener, c.Remote, c.TLS)
	}
}

// Address lists are written in the IPv4 form, whatever kind of socket accepts.
func TestIPv4PeerOfAnIPv6SocketIsIPv4(t *testing.T) {
	t.Parallel()
	inner := listentest.NewListener()
	got := make(chan netip.AddrPort, 1)
	stop := serve(listen.New(inner, listen.Config{}), func(c *listen.Conn) { got <- c.Remote })
	_ = inner.DialFrom(netip.MustParseAddrPort("[::ffff:198.51.100.7]:4711"))
	if remote := <-got; remote != netip.MustParseAddrPort("198.51.100.7:4711") {
		t.Errorf("Remote = %v, want 198.51.100.7:4711", remote)
	}
	_ = stop()
}

func TestListenOnLoopback(t *testing.T) {
	t.Parallel()
	l, err := listen.Listen(listen.Config{Name: "mqtt", Address: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	options := make(chan map[string]int, 1)
	stop := serve(l, func(c *listen.Conn) {
		options <- socketOptions(t, c.Conn)
		echo(c)
	})
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	mustEcho(t, client)
	for name, value := range <-options {
		if value == 0 {
			t.Errorf("%s is off", name)
		}
	}
	_ = client.Close()
	if err := stop(); err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", l.Addr().String()); err == nil {
		t.Error("the port still answers after Close")
	}
}

func socketOptions(t *testing.T, c net.Conn) map[string]int {
	t.Helper()
	values := map[string]int{"TCP keep-alive": 0, "TCP no-delay": 0}
	socket, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Error(err)
		return values
	}
	err = socket.Control(func(fd uintptr) {
		values["TCP keep-alive"], _ = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_KEEPALIVE)
		values["TCP no-delay"], _ = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_NODELAY)
	})
	if err != nil {
		t.Error(err)
	}
	return values
}

func TestListenNamesTheListenerInItsError(t *testing.T) {
	t.Parallel()
	_, err := listen.Listen(listen.Config{Name: "mqtts", Address: "127.0.0.1:notaport"})
	if err == nil || !strings.Contains(err.Error(), "mqtts: listen tcp") {
		t.Errorf("Listen = %v, want an error naming the listener", err)
	}
}

// faultyListener fails to accept until its errors are used up, and notes when
// it was asked.
type faultyListener struct {
	*listentest.Listener
	faults chan error
	asked  []time.Time
}

func (f *faultyListener) Accept() (net.Conn, error) {
	f.asked = append(f.asked, time.Now())
	select {
	case err := <-f.faults:
		return nil, err
	default:
		return f.Listener.Accept()
	}
}

func TestAcceptErrorsSlowTheLoopDownAndNeverEndIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		inner := &faultyListener{Listener: listentest.NewListener(), faults: make(chan error, 100)}
		for range 10 {
			inner.faults <- syscall.EMFILE
		}
		stop := serve(listen.New(inner, listen.Config{}), echo)
		client := inner.Dial()
		mustEcho(t, client)
		synctest.Wait()

		inner.faults <- errors.New("out of luck") // after a success the pause is short again
		_ = client.Close()
		second := inner.Dial()
		mustEcho(t, second) // wakes the Accept that was already waiting
		third := inner.Dial()
		mustEcho(t, third)
		_ = second.Close()
		_ = third.Close()
		if err := stop(); err != nil {
			t.Errorf("Serve = %v, want nil", err)
		}

		var pauses []time.Duration
		for i := 1; i < len(inner.asked); i++ {
			if pause := inner.asked[i].Sub(inner.asked[i-1]); pause > 0 {
				pauses = append(pauses, pause)
			}
		}
		ms := time.Millisecond
		want := []time.Duration{5 * ms, 10 * ms, 20 * ms, 40 * ms, 80 * ms, 160 * ms, 320 * ms, 640 * ms, 1000 * ms, 1000 * ms, 5 * ms}
		if !slices.Equal(pauses, want) {
			t.Errorf("pauses between failed accepts %v, want %v", pauses, want)
		}
	})
}

func TestCloseEndsAPauseAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		inner := &faultyListener{Listener: listentest.NewListener(), faults: make(chan error, 100)}
		for range 100 {
			inner.faults <- syscall.EMFILE
		}
		stop := serve(listen.New(inner, listen.Config{}), echo)
		<-time.After(10 * time.Second) // of the fake clock: well inside a pause of one second
		start := time.Now()
		if err := stop(); err != nil {
			t.Errorf("Serve = %v, want nil", err)
		}
		if waited := time.Since(start); waited != 0 {
			t.Errorf("Serve went on for %v after Close", waited)
		}
	})
}

func TestServeReportsAnInnerListenerClosedBySomebodyElse(t *testing.T) {
	t.Parallel()
	inner := listentest.NewListener()
	_ = inner.Close()
	err := listen.New(inner, listen.Config{Name: "mqtt"}).Serve(echo)
	if !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve = %v, want net.ErrClosed", err)
	}
}

func TestFullListenerWaitsAndRecovers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log logBuffer
		inner := listentest.NewListener()
		var running atomic.Int32
		stop := serve(listen.New(inner, listen.Config{MaxConns: 2, Log: log.logger()}), func(c *listen.Conn) {
			running.Add(1)
			defer running.Add(-1)
			echo(c)
		})
		var clients []net.Conn
		for range 4 {
			clients = append(clients, inner.Dial())
		}
		for _, want := range []int32{2, 2, 2, 1, 0} {
			synctest.Wait()
			if got := running.Load(); got != want {
				t.Fatalf("%d handlers run with %d clients left, want %d", got, len(clients), want)
			}
			if len(clients) > 0 {
				mustEcho(t, clients[0])
				_ = clients[0].Close()
				clients = clients[1:]
			}
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
		if n := strings.Count(log.String(), "connection limit reached"); n != 1 {
			t.Errorf("the connection limit was logged %d times, want once a minute:\n%s", n, &log)
		}
	})
}

func TestConnectionIsClosedWhenItsHandlerReturns(t *testing.T) {
	t.Parallel()
	inner := listentest.NewListener()
	stop := serve(listen.New(inner, listen.Config{}), func(*listen.Conn) {})
	if client := inner.Dial(); !closed(client) {
		t.Error("the connection outlives its handler")
	}
	_ = stop()
}

func TestPanicCostsOneConnection(t *testing.T) {
	t.Parallel()
	panics := map[string]struct {
		do       func(secret string)
		inLog    string
		notInLog string
	}{
		"value":         {func(secret string) { panic("bad packet " + secret) }, "panic=string", "hunter2"},
		"wrapped error": {func(secret string) { panic(fmt.Errorf("%s: %w", secret, io.EOF)) }, "panic=*fmt.wrapError", "hunter2"},
		"runtime error": {func(secret string) { _ = []byte(secret)[len(secret)] }, "index out of range [7] with length 7", "hunter2"},
	}
	for name, tt := range panics {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log logBuffer
			inner := listentest.NewListener()
			stop := serve(listen.New(inner, listen.Config{Log: log.logger()}), func(c *listen.Conn) {
				secret := make([]byte, 7)
				if _, err := io.ReadFull(c, secret); err == nil && string(secret) == "hunter2" {
					tt.do(string(secret))
				}
				_, _ = c.Write([]byte("alive"))
			})
			bad, good := inner.Dial(), inner.Dial()
			_, _ = bad.Write([]byte("hunter2"))
			if !closed(bad) {
				t.Error("the connection survived the panic of its handler")
			}
			_, _ = good.Write([]byte("goodbye"))
			if answer, err := io.ReadAll(good); string(answer) != "alive" || err != nil {
				t.Errorf("another connection got %q, %v; want alive", answer, err)
			}
			if err := stop(); err != nil {
				t.Errorf("Serve = %v, want nil", err)
			}
			text := log.String()
			if !strings.Contains(text, tt.inLog) || !strings.Contains(text, "listener_test.go") {
				t.Errorf("the log lacks %q or the stack:\n%s", tt.inLog, text)
			}
			if strings.Contains(text, tt.notInLog) {
				t.Errorf("the log quotes the peer:\n%s", text)
			}
		})
	}
}

func TestCloseLeavesHandedOverConnectionsAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		inner := listentest.NewListener()
		l := listen.New(inner, listen.Config{})
		done := make(chan error, 1)
		go func() { done <- l.Serve(echo) }()
		client := inner.Dial()
		mustEcho(t, client)

		if err := errors.Join(l.Close(), l.Close()); err != nil {
			t.Errorf("Close = %v", err)
		}
		synctest.Wait()
		mustEcho(t, client)
		select {
		case err := <-done:
			t.Fatalf("Serve returned %v while a handler runs", err)
		default:
		}
		_ = client.Close()
		if err := <-done; err != nil {
			t.Errorf("Serve = %v, want nil", err)
		}
	})
}

func TestCloseBeforeServe(t *testing.T) {
	t.Parallel()
	l := listen.New(listentest.NewListener(), listen.Config{})
	_ = l.Close()
	if err := l.Serve(echo); err != nil {
		t.Errorf("Serve = %v on a closed listener, want nil", err)
	}
}

// Many clients come and go, some are aborted, and the listener closes amid it.
func TestHammer(t *testing.T) {
	t.Parallel()
	inner := listentest.NewListener()
	var aborts atomic.Int32
	stop := serve(listen.New(inner, listen.Config{MaxConns: 8}), func(c *listen.Conn) {
		if aborts.Add(1)%5 == 0 {
			go c.Abort()
			c.Abort()
			return
		}
		echo(c)
	})
	var clients sync.WaitGroup
	var echoed atomic.Int32
	for range 32 {
		clients.Go(func() {
			for range 50 {
				c := inner.Dial()
				_, _ = c.Write([]byte("x"))
				if n, _ := c.Read(make([]byte, 1)); n == 1 {
					echoed.Add(1)
				}
				_ = c.Close()
			}
		})
	}
	clients.Wait()
	if err := stop(); err != nil {
		t.Error(err)
	}
	if got := echoed.Load(); got != 32*50*4/5 {
		t.Errorf("%d connections were echoed, want %d: all but the aborted ones", got, 32*50*4/5)
	}
}
