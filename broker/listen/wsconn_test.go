package listen_test

import (
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cordon-mq/cordon/broker/listen"
)

// Upgrade → first packet has a deadline, which pings do not move.
func TestStalledUpgradeIsClosed(t *testing.T) {
	t.Parallel()
	for _, pings := range []bool{false, true} {
		t.Run(map[bool]string{true: "pinging", false: "silent"}[pings], func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := serveWeb(t, listen.WebSocketConfig{SetupTimeout: 10 * time.Second}, listen.AdmissionConfig{}, func(c *listen.Conn) {
					if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
						t.Errorf("Read = %v, want the deadline", err)
					}
				})
				client := connect(t, w)
				start := time.Now()
				if pings {
					go func() {
						for tick := range time.Tick(time.Second) {
							if _, err := io.WriteString(client, frame(wsFin|wsPing, "")); err != nil || tick.Sub(start) > time.Minute {
								return
							}
						}
					}()
				}
				_, _ = io.Copy(io.Discard, client.in)
				if took := time.Since(start); took != 10*time.Second {
					t.Errorf("ended after %v, want 10 s", took)
				}
				<-time.After(time.Minute) // the pings end
			})
		})
	}
}

// The timeouts of the HTTP server end with the upgrade.
func TestUpgradedConnectionOutlivesHTTPTimeouts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := serveWeb(t, listen.WebSocketConfig{}, listen.AdmissionConfig{}, func(c *listen.Conn) {
			_ = c.SetDeadline(time.Time{})
			echo(c)
		})
		client := connect(t, w)
		for range 3 {
			<-time.After(time.Hour) // of the fake clock
			client.send(t, frame(wsFin|wsBinary, "still there"))
			client.wants(t, wsFin|wsBinary, "still there")
		}
		_ = client.Close()
	})
}

func TestPingFloodCutsTheConnection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan error, 1)
		w := serveWeb(t, listen.WebSocketConfig{}, listen.AdmissionConfig{}, func(c *listen.Conn) {
			_ = c.SetDeadline(time.Time{})
			_, err := c.Read(make([]byte, 1))
			ended <- err
		})
		client := connect(t, w)
		for range 600 { // an hour of the patient
			client.send(t, frame(wsFin|wsPing, "hello?"))
			client.wants(t, wsFin|wsPong, "hello?")
			<-time.After(6 * time.Second) // of the fake clock
		}
		client.send(t, strings.Repeat(frame(wsFin|wsPing, "hello?"), 200))
		pongs := 0
		for {
			if _, _, err := client.next(); err != nil {
				break
			}
			pongs++
		}
		if err := <-ended; err == nil || pongs != 100 {
			t.Errorf("%d pongs and %v, want 100 and the end", pongs, err)
		}
	})
}

// The reader's deadlines interrupt it and can be moved, and the connection lives
// on: the broker interrupts its reader to say goodbye.
func TestWebSocketDeadlines(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		conns := make(chan *listen.Conn, 1)
		release := make(chan struct{})
		w := serveWeb(t, listen.WebSocketConfig{}, listen.AdmissionConfig{}, func(c *listen.Conn) {
			conns <- c
			<-release
		})
		client := connect(t, w)
		c := <-conns
		read := func() error { _, err := c.Read(make([]byte, 1)); return err }
		blocked := make(chan error, 1)
		interrupt := map[string]func(){
			"in the past":     func() { _ = c.SetReadDeadline(time.Unix(1, 0)) },
			"to come":         func() { _ = c.SetReadDeadline(time.Now().Add(time.Minute)) },
			"moved to sooner": func() { _ = c.SetReadDeadline(time.Now().Add(time.Hour)); _ = c.SetReadDeadline(time.Now()) },
		}
		for name, set := range interrupt {
			_ = c.SetDeadline(time.Time{})
			go func() { blocked <- read() }()
			synctest.Wait()
			set()
			if err := <-blocked; !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s: Read = %v, want the deadline", name, err)
			}
		}
		if _, err := c.Write([]byte("goodbye")); err != nil {
			t.Errorf("Write after an interrupted Read: %v", err)
		}
		client.wants(t, wsFin|wsBinary, "goodbye")

		_ = c.SetReadDeadline(time.Now().Add(time.Second))
		_ = c.SetReadDeadline(time.Time{})
		time.AfterFunc(time.Hour, func() { client.send(t, frame(wsFin|wsBinary, "x")) })
		if err := read(); err != nil {
			t.Errorf("Read = %v after the deadline was taken back", err)
		}

		_ = c.SetWriteDeadline(time.Now().Add(time.Second))
		<-time.After(time.Minute) // of the fake clock
		client.send(t, frame(wsFin|wsPing, "p"))
		client.wants(t, wsFin|wsPong, "p") // in spite of the deadline that has passed
		if _, err := c.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Write = %v after its deadline", err)
		}
		close(release)
	})
}

// A peer that stops reading blocks its writer until a deadline or Abort.
func TestStuckWebSocketWriter(t *testing.T) {
	t.Parallel()
	for name, free := range map[string]func(*listen.Conn){
		"deadline": func(c *listen.Conn) { _ = c.SetWriteDeadline(time.Now()) },
		"abort":    func(c *listen.Conn) { c.Abort(); c.Abort() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				conns, stuck := make(chan *listen.Conn, 1), make(chan error, 1)
				w := serveWeb(t, listen.WebSocketConfig{SetupTimeout: time.Hour}, listen.AdmissionConfig{}, func(c *listen.Conn) {
					conns <- c
					_, err := c.Write(make([]byte, 1<<20))
					stuck <- err
				})
				client := connect(t, w)
				defer client.Close()
				c := <-conns
				synctest.Wait()
				select {
				case err := <-stuck:
					t.Fatalf("Write returned %v although nobody reads", err)
				default:
				}
				start := time.Now()
				free(c)
				if err := <-stuck; err == nil || time.Since(start) != 0 {
					t.Errorf("Write = %v after %v", err, time.Since(start))
				}
			})
		})
	}
}

// CloseWrite sends what was written and a close frame, throws away what still
// comes, and ends with the peer's answer or after a second.
func TestWebSocketGoodbye(t *testing.T) {
	t.Parallel()
	for _, answers := range []bool{true, false} {
		t.Run(map[bool]string{true: "answered", false: "ignored"}[answers], func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				took := make(chan time.Duration, 1)
				w := serveWeb(t, listen.WebSocketConfig{}, listen.AdmissionConfig{}, func(c *listen.Conn) {
					start := time.Now()
					_, _ = c.Write([]byte("goodbye"))
					_ = c.Conn.(interface{ CloseWrite() error }).CloseWrite()
					if n, err := io.Copy(io.Discard, c); n != 0 {
						t.Errorf("read %d bytes, %v after CloseWrite", n, err)
					}
					if _, err := c.Write([]byte("x")); err == nil {
						t.Error("Write after CloseWrite")
					}
					_ = c.Close()
					took <- time.Since(start)
				})
				client := connect(t, w)
				client.send(t, frame(wsFin|wsBinary, strings.Repeat("x", 20_000)))
				client.wants(t, wsFin|wsBinary, "goodbye")
				client.wantsClose(t, 1000)
				want := time.Second
				if answers {
					client.send(t, frame(wsFin|wsBinary, "y"), closeFrame(1000))
					want = 0
				}
				if got := <-took; got != want {
					t.Errorf("the end took %v, want %v", got, want)
				}
				if !closed(client.Conn) {
					t.Error("the connection stays open")
				}
			})
		})
	}
}

// Reads, writes, deadlines, goodbyes and aborts meet, while the client sends,
// pings and leaves.
func TestHammerWebSocket(t *testing.T) {
	t.Parallel()
	var turn, echoed atomic.Int32
	w := serveWeb(t, listen.WebSocketConfig{}, listen.AdmissionConfig{}, func(c *listen.Conn) {
		var all sync.WaitGroup
		end := turn.Add(1)
		all.Go(func() {
			b := make([]byte, 4)
			if _, err := io.ReadFull(c, b); err == nil {
				echoed.Add(1)
			}
			if end%3 == 0 {
				c.Abort()
			}
		})
		all.Go(func() { _, _ = io.WriteString(c, strings.Repeat("x", 100)) })
		all.Go(func() {
			for range 20 {
				_ = c.SetDeadline(time.Now().Add(time.Minute))
			}
		})
		all.Wait()
		all.Go(func() { _ = c.Conn.(interface{ CloseWrite() error }).CloseWrite() })
		all.Go(func() { _, _ = io.Copy(io.Discard, c) })
		all.Go(func() { _ = c.Close() })
		all.Wait()
	})
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			for range 20 {
				client := connect(t, w)
				_, _ = io.WriteString(client, frame(wsFin|wsBinary, "ab")+frame(wsFin|wsPing, "p")+frame(wsFin|wsBinary, "cd"))
				_, _ = io.WriteString(client, closeFrame(1000))
				_ = closed(client.Conn)
				_ = client.Close()
			}
		})
	}
	clients.Wait()
	_ = w.ws.Close()
	w.ws.Wait() // for owners that have something left to read
	if got := echoed.Load(); got != 8*20 {
		t.Errorf("%d connections were read, want %d", got, 8*20)
	}
}
