package listen_test

import (
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cordon-mq/cordon/broker/listen"
)

func TestUpgrade(t *testing.T) {
	t.Parallel()
	const mqtt = "Sec-WebSocket-Protocol: mqtt"
	tests := map[string]struct {
		origins  []string
		request  string
		status   int
		protocol string
	}{
		"path /mqtt":                  {nil, request("/mqtt", mqtt), 101, "mqtt"},
		"path /":                      {nil, request("/", mqtt), 101, "mqtt"},
		"MQTT 3.1":                    {nil, request("/mqtt", "Sec-WebSocket-Protocol: mqttv3.1"), 101, "mqttv3.1"},
		"mqtt among others":           {nil, request("/mqtt", "Sec-WebSocket-Protocol: chat, mqttv3.1, mqtt"), 101, "mqtt"},
		"compression is not agreed":   {nil, request("/mqtt", mqtt, "Sec-WebSocket-Extensions: permessage-deflate"), 101, "mqtt"},
		"origin of the same host":     {nil, request("/mqtt", mqtt, "Origin: https://broker.test"), 101, "mqtt"},
		"origin listed":               {[]string{"https://console.example"}, request("/mqtt", mqtt, "Origin: https://console.example"), 101, "mqtt"},
		"origin listed by a pattern":  {[]string{"*.example"}, request("/mqtt", mqtt, "Origin: http://a.b.example"), 101, "mqtt"},
		"any origin":                  {[]string{"*"}, request("/mqtt", mqtt, "Origin: https://evil.example"), 101, "mqtt"},
		"no sub-protocol":             {nil, request("/mqtt"), 400, ""},
		"another sub-protocol":        {nil, request("/mqtt", "Sec-WebSocket-Protocol: chat, mqtt5"), 400, ""},
		"origin not listed":           {nil, request("/mqtt", mqtt, "Origin: https://evil.example"), 403, ""},
		"origin listed, other scheme": {[]string{"https://console.example"}, request("/mqtt", mqtt, "Origin: http://console.example"), 403, ""},
		"origin like a listed one":    {[]string{"https://console.example"}, request("/mqtt", mqtt, "Origin: https://console.example.evil"), 403, ""},
		"origin null":                 {nil, request("/mqtt", mqtt, "Origin: null"), 403, ""},
		"another version":             {nil, strings.Replace(request("/mqtt", mqtt), "Version: 13", "Version: 8", 1), 400, ""},
		"no key":                      {nil, strings.Replace(request("/mqtt", mqtt), "Sec-WebSocket-Key", "X-Key", 1), 400, ""},
		"another method":              {nil, strings.Replace(request("/mqtt", mqtt), "GET", "POST", 1), 405, ""},
		"no upgrade":                  {nil, "GET /mqtt HTTP/1.1\r\nHost: broker.test\r\n\r\n", 426, ""},
		"another path":                {nil, request("/other", mqtt), 200, ""},
		"path / without an upgrade":   {nil, "GET / HTTP/1.1\r\nHost: broker.test\r\n\r\n", 200, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := serveWeb(t, listen.WebSocketConfig{Origins: test.origins}, listen.AdmissionConfig{}, echo)
			client, response := upgrade(t, w.Dial(), test.request)
			defer client.Close()
			if response.StatusCode != test.status || response.Header.Get("Sec-WebSocket-Protocol") != test.protocol || response.Header.Get("Sec-WebSocket-Extensions") != "" {
				t.Fatalf("%s, sub-protocol %q, extensions %q; want %d, %q, none", response.Status,
					response.Header.Get("Sec-WebSocket-Protocol"), response.Header.Get("Sec-WebSocket-Extensions"), test.status, test.protocol)
			}
			if test.status == http.StatusSwitchingProtocols {
				client.send(t, frame(wsFin|wsBinary, "x"))
				client.wants(t, wsFin|wsBinary, "x")
			}
		})
	}
}

func TestWebSocketConnectionIsHandedOver(t *testing.T) {
	t.Parallel()
	got := make(chan listen.Conn, 1)
	w := serveWeb(t, listen.WebSocketConfig{}, listen.AdmissionConfig{}, func(c *listen.Conn) {
		got <- *c
		echo(c)
	})
	client, _ := upgrade(t, w.dialled("198.51.100.7:4711"), request("/mqtt", "Sec-WebSocket-Protocol: mqtt"))
	defer client.Close()
	if c := <-got; c.Listener != "wss" || c.Remote.String() != "198.51.100.7:4711" || c.RemoteAddr().String() != "198.51.100.7:4711" || c.TLS != nil {
		t.Errorf("Conn{Listener: %q, Remote: %v, RemoteAddr: %v, TLS: %v}", c.Listener, c.Remote, c.RemoteAddr(), c.TLS)
	}
}

// Packets may begin and end anywhere in a message, and a message may be many
// frames with control frames between them [MQTT-6.0.0-2].
func TestMessagesAreOneStream(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("0123456789", 5000)
	tests := map[string]struct{ frames, want string }{
		"one message":        {frame(wsFin|wsBinary, "packet"), "packet"},
		"a packet over two":  {frame(wsFin|wsBinary, "pac") + frame(wsFin|wsBinary, "ket"), "packet"},
		"two packets in one": {frame(wsFin|wsBinary, "packetpacket"), "packetpacket"},
		"fragments":          {frame(wsBinary, "p") + frame(wsContinue, "ack") + frame(wsFin|wsContinue, "et"), "packet"},
		"pings in between":   {frame(wsBinary, "p") + frame(wsFin|wsPing, "hello?") + frame(wsFin|wsContinue, "acket"), "packet"},
		"empty messages":     {frame(wsFin|wsBinary, "") + frame(wsBinary, "") + frame(wsFin|wsContinue, "") + frame(wsFin|wsBinary, "packet"), "packet"},
		"larger than buffer": {frame(wsFin|wsBinary, long), long},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := make(chan string, 1)
			w := serveWeb(t, listen.WebSocketConfig{}, listen.AdmissionConfig{}, func(c *listen.Conn) {
				read := make([]byte, len(test.want))
				_, _ = io.ReadFull(c, read)
				got <- string(read)
				_ = c.Close()
			})
			client := connect(t, w)
			client.send(t, test.frames)
			if read := <-got; read != test.want {
				t.Errorf("read %.40q, want %.40q", read, test.want)
			}
			client.wantsClose(t, 1000)
			client.send(t, closeFrame(1000))
		})
	}
}

// A long write is several messages, all binary, and arrives whole
// [MQTT-6.0.0-1].
func TestLongWrite(t *testing.T) {
	t.Parallel()
	sent := strings.Repeat("0123456789", 10_000)
	w := serveWeb(t, listen.WebSocketConfig{}, listen.AdmissionConfig{}, func(c *listen.Conn) {
		if n, err := io.WriteString(c, sent); n != len(sent) || err != nil {
			t.Errorf("Write = %d, %v", n, err)
		}
		_ = c.Close()
	})
	client := connect(t, w)
	var got strings.Builder
	for got.Len() < len(sent) {
		first, payload, err := client.next()
		if err != nil || first != wsFin|wsBinary {
			t.Fatalf("frame %#x, %v", first, err)
		}
		got.WriteString(payload)
	}
	if got.String() != sent {
		t.Error("something else arrived")
	}
	client.wantsClose(t, 1000)
	client.send(t, closeFrame(1000))
}

func TestBadFramesCloseTheConnection(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		frames string
		status uint16 // of the close frame; 0: none
	}{
		"text":                         {frame(wsFin|wsText, "packet"), 1003},
		"text after a message":         {frame(wsFin|wsBinary, "x") + frame(wsFin|wsText, "packet"), 1003},
		"message too large":            {frame(wsFin|wsBinary, strings.Repeat("x", 2000)), 1009},
		"fragments too large together": {frame(wsBinary, strings.Repeat("x", 800)) + frame(wsFin|wsContinue, strings.Repeat("x", 800)), 1009},
		"a huge length":                {"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\x01\x02\x03\x04" + strings.Repeat("x", 2000), 1009},
		"continuation of nothing":      {frame(wsFin|wsContinue, "x"), 1002},
		"message inside a message":     {frame(wsBinary, "x") + frame(wsFin|wsBinary, "y"), 1002},
		"reserved bit":                 {frame(wsFin|0x40|wsBinary, "x"), 1002},
		"reserved opcode":              {frame(wsFin|3, "x"), 1002},
		"long control frame":           {frame(wsFin|wsPing, strings.Repeat("x", 126)), 1002},
		"fragmented control frame":     {frame(wsPing, "x"), 1002},
		"half a status":                {frame(wsFin|wsClose, "x"), 1002},
		"not masked":                   {"\x82\x01x", 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ended := make(chan error, 1)
				w := serveWeb(t, listen.WebSocketConfig{MaxMessage: 1000}, listen.AdmissionConfig{}, func(c *listen.Conn) {
					_, err := io.Copy(io.Discard, c)
					ended <- err
					_ = c.Close()
				})
				client := connect(t, w)
				client.send(t, test.frames)
				if test.status != 0 {
					client.wantsClose(t, test.status)
				}
				_, _ = io.WriteString(client, closeFrame(1000)) // if it is still open
				if err := <-ended; err == nil || strings.Contains(err.Error(), "xx") {
					t.Errorf("the reader got %v, want an error that does not quote the peer", err)
				}
				if !closed(client.Conn) {
					t.Error("the connection stays open")
				}
			})
		})
	}
}

func TestPeerEndsTheConnection(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		end  func(t *testing.T, c *wsClient)
		want error
	}{
		"politely":           {func(t *testing.T, c *wsClient) { c.send(t, closeFrame(1000)); c.wantsClose(t, 1000) }, io.EOF},
		"going away":         {func(t *testing.T, c *wsClient) { c.send(t, closeFrame(1001)); c.wantsClose(t, 1001) }, io.EOF},
		"without a status":   {func(t *testing.T, c *wsClient) { c.send(t, frame(wsFin|wsClose, "")) }, io.EOF},
		"without a word":     {func(_ *testing.T, c *wsClient) { _ = c.Conn.Close() }, io.ErrUnexpectedEOF},
		"in the midst of it": {func(t *testing.T, c *wsClient) { c.send(t, "\x82\x85abcd"); _ = c.Conn.Close() }, io.ErrUnexpectedEOF},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ended := make(chan error, 1)
			w := serveWeb(t, listen.WebSocketConfig{}, listen.AdmissionConfig{}, func(c *listen.Conn) {
				b := make([]byte, 1)
				_, _ = io.ReadFull(c, b)
				_, err := c.Read(b)
				ended <- err
			})
			client := connect(t, w)
			client.send(t, frame(wsFin|wsBinary, "x"))
			test.end(t, client)
			if err := <-ended; !errors.Is(err, test.want) {
				t.Errorf("Read = %v, want %v", err, test.want)
			}
		})
	}
}

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

func TestWebSocketHandlerPanicCostsOneConnection(t *testing.T) {
	t.Parallel()
	w := serveWeb(t, listen.WebSocketConfig{}, listen.AdmissionConfig{}, func(c *listen.Conn) {
		b := make([]byte, 7)
		if _, err := io.ReadFull(c, b); err == nil {
			panic("bad packet " + string(b))
		}
	})
	bad, good := connect(t, w), connect(t, w)
	bad.send(t, frame(wsFin|wsBinary, "hunter2"))
	if !closed(bad.Conn) {
		t.Error("the connection survived the panic of its handler")
	}
	good.send(t, frame(wsFin|wsPing, "alive?"))
	good.wants(t, wsFin|wsPong, "alive?")
	_ = good.Close()
	if text := w.log.String(); !strings.Contains(text, "panic=string") || strings.Contains(text, "hunter2") {
		t.Errorf("want a line about the panic that does not quote the peer:\n%s", text)
	}
}

func TestWebSocketLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := serveWeb(t, listen.WebSocketConfig{MaxConns: 1}, listen.AdmissionConfig{}, echo)
		first := connect(t, w)
		second, response := upgrade(t, w.Dial(), request("/mqtt", "Sec-WebSocket-Protocol: mqtt"))
		if response.StatusCode != http.StatusServiceUnavailable || !strings.Contains(w.log.String(), "too many WebSocket connections") {
			t.Errorf("one too many is answered %s:\n%s", response.Status, w.log)
		}
		_ = second.Close()
		_ = first.Close()
		synctest.Wait()
		third := connect(t, w)
		_ = third.Close()
	})
}

// Close refuses new upgrades and leaves the rest alone; Wait waits for them.
func TestWebSocketClose(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := serveWeb(t, listen.WebSocketConfig{}, listen.AdmissionConfig{}, echo)
		client := connect(t, w)
		_ = w.ws.Close()
		_ = w.ws.Close()
		refused, response := upgrade(t, w.Dial(), request("/mqtt", "Sec-WebSocket-Protocol: mqtt"))
		if response.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("an upgrade after Close is answered %s", response.Status)
		}
		_ = refused.Close()
		waited := make(chan struct{})
		go func() { w.ws.Wait(); close(waited) }()
		synctest.Wait()
		select {
		case <-waited:
			t.Error("Wait returned while a connection is open")
		default:
		}
		client.send(t, frame(wsFin|wsBinary, "x"))
		client.wants(t, wsFin|wsBinary, "x")
		_ = client.Close()
		<-waited
	})
}

// Whatever frames a client sends, its owner reads no more than was sent, and
// the connection ends with the client.
func FuzzWebSocketFrames(f *testing.F) {
	for _, frames := range []string{
		frame(wsFin|wsBinary, "packet"), frame(wsBinary, "a") + frame(wsFin|wsContinue, "b"), frame(wsFin|wsText, "t"),
		frame(wsFin|wsPing, "p"), closeFrame(1000), "\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff", "\x82\x01x", frame(wsFin|0x40|wsBinary, "z"), "",
	} {
		f.Add([]byte(frames))
	}
	f.Fuzz(func(t *testing.T, frames []byte) {
		if len(frames) > 16<<10 { // what a server with an unread answer can take
			return
		}
		read := make(chan int64, 1)
		w := serveWeb(t, listen.WebSocketConfig{MaxMessage: 1 << 10}, listen.AdmissionConfig{}, func(c *listen.Conn) {
			n, _ := io.Copy(io.Discard, c)
			read <- n
		})
		client := connect(t, w)
		_, _ = client.Write(frames)
		_ = client.Conn.Close()
		if n := <-read; n > int64(len(frames)) {
			t.Errorf("%d bytes read of %d sent", n, len(frames))
		}
	})
}
