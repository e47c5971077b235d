package listen_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cordon-mq/cordon/broker/listen"
	"github.com/cordon-mq/cordon/broker/listen/listentest"
)

func TestTLSConnectionIsHandedOver(t *testing.T) {
	t.Parallel()
	for name, version := range map[string]uint16{"TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			serverTLS, clientTLS := newTLS(t)
			clientTLS.MinVersion, clientTLS.MaxVersion = version, version
			l, err := listen.Listen(listen.Config{Name: "mqtts", Address: "127.0.0.1:0", TLS: serverTLS})
			if err != nil {
				t.Fatal(err)
			}
			state := make(chan *tls.ConnectionState, 1)
			stop := serve(l, func(c *listen.Conn) {
				state <- c.TLS
				echo(c)
			})
			client, err := tls.Dial("tcp", l.Addr().String(), clientTLS)
			if err != nil {
				t.Fatal(err)
			}
			mustEcho(t, client)
			_ = client.Close()
			if err := stop(); err != nil {
				t.Error(err)
			}
			got := <-state
			if got == nil || got.Version != version || got.ServerName != "broker.test" || !got.HandshakeComplete {
				t.Errorf("Conn.TLS = %+v, want a complete handshake of %s for broker.test", got, name)
			}
		})
	}
}

// clientHello returns the first bytes a client sends.
func clientHello(t *testing.T, config *tls.Config) []byte {
	t.Helper()
	ours, theirs := net.Pipe()
	go func() { _ = tls.Client(theirs, config).Handshake() }()
	defer theirs.Close()
	hello := make([]byte, 16<<10)
	n, err := ours.Read(hello)
	if err != nil {
		t.Fatal(err)
	}
	_ = ours.Close()
	return hello[:n]
}

// However a client stalls, others get in at once, and it is gone when its time
// is up. One handshake at a time shows that waiting holds no place.
func TestStalledHandshakeCostsOnlyItself(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const timeout = 10 * time.Second
		serverTLS, clientTLS := newTLS(t)
		hello := clientHello(t, clientTLS)
		var log logBuffer
		inner := listentest.NewListener()
		stop := serve(listen.New(inner, listen.Config{
			Name: "mqtts", TLS: serverTLS, SetupTimeout: timeout, MaxHandshakes: 1, Log: log.logger(),
		}), echo)
		start := time.Now()

		stalled := map[string]net.Conn{"silent": inner.Dial(), "half a hello": inner.Dial(), "no answer": inner.Dial()}
		_, _ = stalled["half a hello"].Write(hello[:len(hello)/2])
		_, _ = stalled["no answer"].Write(hello)
		synctest.Wait()

		good := tls.Client(inner.Dial(), clientTLS)
		mustEcho(t, good)
		if waited := time.Since(start); waited != 0 {
			t.Errorf("a good client waited %v behind stalled ones", waited)
		}
		_ = good.Close()

		for name, conn := range stalled {
			_, err := io.Copy(io.Discard, conn)
			if took := time.Since(start); err != nil || took != timeout {
				t.Errorf("%s: ended after %v with %v, want a closed connection after %v", name, took, err, timeout)
			}
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
		if n := strings.Count(log.String(), "connection not set up"); n != len(stalled) {
			t.Errorf("%d refusals in the log, want %d:\n%s", n, len(stalled), &log)
		}
	})
}

// TLS and the first packet share one deadline: time spent in the handshake is
// not given back.
func TestFirstPacketSharesTheDeadlineOfTheHandshake(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		serverTLS, clientTLS := newTLS(t)
		inner := listentest.NewListener()
		type result struct {
			err error
			at  time.Time
		}
		first := make(chan result, 1)
		stop := serve(listen.New(inner, listen.Config{TLS: serverTLS, SetupTimeout: 10 * time.Second}), func(c *listen.Conn) {
			_, err := c.Read(make([]byte, 1))
			first <- result{err, time.Now()}
		})
		start := time.Now()
		raw := inner.Dial()
		<-time.After(7 * time.Second) // of the fake clock
		client := tls.Client(raw, clientTLS)
		if err := client.Handshake(); err != nil {
			t.Fatal(err)
		}
		got := <-first
		if took := got.at.Sub(start); !errors.Is(got.err, os.ErrDeadlineExceeded) || took != 10*time.Second {
			t.Errorf("the first read ended after %v with %v, want the deadline after 10 s", took, got.err)
		}
		_ = stop()
	})
}

func TestPlainSpeechToATLSListenerIsRefused(t *testing.T) {
	t.Parallel()
	serverTLS, _ := newTLS(t)
	var log logBuffer
	inner := listentest.NewListener()
	stop := serve(listen.New(inner, listen.Config{TLS: serverTLS, Log: log.logger()}), func(*listen.Conn) {
		t.Error("a connection without TLS was handed over")
	})
	client := inner.Dial()
	_, _ = client.Write([]byte("\x10\x1a\x00\x04MQTT\x04\xc2\x00\x3c\x00\x01d\x00\x01u\x00\x07hunter2"))
	if !closed(client) {
		t.Error("the connection stays open")
	}
	_ = stop()
	if text := log.String(); !strings.Contains(text, "TLS handshake") || strings.Contains(text, "hunter2") {
		t.Errorf("want a line about the handshake that does not quote the peer:\n%s", text)
	}
}

func TestCloseDropsUnfinishedHandshakes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		serverTLS, _ := newTLS(t)
		inner := listentest.NewListener()
		stop := serve(listen.New(inner, listen.Config{TLS: serverTLS, SetupTimeout: time.Hour}), echo)
		client := inner.Dial()
		synctest.Wait()
		start := time.Now()
		if err := stop(); err != nil {
			t.Error(err)
		}
		if waited := time.Since(start); waited != 0 || !closed(client) {
			t.Errorf("Serve waited %v for a handshake nobody will use", waited)
		}
	})
}

// A peer that stops reading blocks its writer, on the socket or on the lock of
// the TLS connection. Abort frees it.
func TestAbortFreesAStuckWriter(t *testing.T) {
	t.Parallel()
	for _, secure := range []bool{false, true} {
		t.Run(map[bool]string{false: "plain", true: "TLS"}[secure], func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				serverTLS, clientTLS := newTLS(t)
				cfg := listen.Config{SetupTimeout: time.Hour}
				if secure {
					cfg.TLS = serverTLS
				}
				inner := listentest.NewListener()
				conns := make(chan *listen.Conn, 1)
				stuck := make(chan error, 1)
				stop := serve(listen.New(inner, cfg), func(c *listen.Conn) {
					conns <- c
					_, err := c.Write(make([]byte, 2*listentest.BufferSize))
					stuck <- err
				})
				raw := inner.Dial()
				if secure {
					if err := tls.Client(raw, clientTLS).Handshake(); err != nil {
						t.Fatal(err)
					}
				}
				c := <-conns
				synctest.Wait()
				select {
				case err := <-stuck:
					t.Fatalf("Write returned %v although nobody reads", err)
				default:
				}
				start := time.Now()
				c.Abort()
				c.Abort()
				if err := <-stuck; err == nil {
					t.Error("the aborted Write reports success")
				}
				if waited := time.Since(start); waited != 0 {
					t.Errorf("Abort took %v", waited)
				}
				_ = stop()
			})
		})
	}
}

// A goodbye could block on a peer that does not read, so Abort says none.
func TestAbortSendsNoAlert(t *testing.T) {
	t.Parallel()
	serverTLS, clientTLS := newTLS(t)
	clientTLS.MaxVersion = tls.VersionTLS12 // in which nothing follows the handshake
	inner := listentest.NewListener()
	abort := make(chan struct{})
	stop := serve(listen.New(inner, listen.Config{TLS: serverTLS}), func(c *listen.Conn) {
		<-abort
		c.Abort()
	})
	raw := inner.Dial()
	if err := tls.Client(raw, clientTLS).Handshake(); err != nil {
		t.Fatal(err)
	}
	close(abort)
	if rest, err := io.ReadAll(raw); len(rest) > 0 || err != nil {
		t.Errorf("% x, %v after Abort; want the connection closed and nothing more", rest, err)
	}
	_ = stop()
}

// A Conn made without a Listener, by a test or by another transport.
func TestAbortWithoutASocketClosesTheConnection(t *testing.T) {
	t.Parallel()
	ours, theirs := net.Pipe()
	(&listen.Conn{Conn: ours}).Abort()
	if !closed(theirs) {
		t.Error("the connection stays open")
	}
}

// Whoever wants to see a proof of a name sees it and gets no further, and a client that
// speaks something else is asked for a certificate as ever.
func TestProofOfAName(t *testing.T) {
	t.Parallel()
	serverTLS, clientTLS := newTLS(t)
	proving := serverTLS.Clone()
	proving.NextProtos = []string{"acme-tls/1"}
	serverTLS.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if len(hello.SupportedProtos) == 1 && hello.SupportedProtos[0] == "acme-tls/1" {
			return proving, nil
		}
		return nil, nil
	}
	l, err := listen.Listen(listen.Config{
		Name: "mqtts", Address: "127.0.0.1:0", TLS: serverTLS, RequestClientCert: func() bool { return true },
	})
	if err != nil {
		t.Fatal(err)
	}
	handled := make(chan string, 2)
	stop := serve(l, func(c *listen.Conn) {
		handled <- c.TLS.NegotiatedProtocol
		echo(c)
	})
	authority := clientTLS.Clone()
	authority.NextProtos = []string{"acme-tls/1"}
	conn, err := tls.Dial("tcp", l.Addr().String(), authority)
	if err != nil {
		t.Fatal(err)
	}
	if got := conn.ConnectionState().NegotiatedProtocol; got != "acme-tls/1" {
		t.Errorf("negotiated %q", got)
	}
	if n, err := conn.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Errorf("read %d bytes, %v", n, err)
	}
	_ = conn.Close()

	asked := false
	device := clientTLS.Clone()
	device.NextProtos = []string{"mqtt"}
	device.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		asked = true
		return &tls.Certificate{}, nil
	}
	conn, err = tls.Dial("tcp", l.Addr().String(), device)
	if err != nil {
		t.Fatal(err)
	}
	mustEcho(t, conn)
	_ = conn.Close()
	if err := stop(); err != nil {
		t.Error(err)
	}
	if !asked || len(handled) != 1 || <-handled != "" {
		t.Errorf("asked for a certificate: %v", asked)
	}
}
