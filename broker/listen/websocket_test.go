package listen_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

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
