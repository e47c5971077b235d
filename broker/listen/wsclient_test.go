package listen_test

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/broker/listen"
	"github.com/cordon-mq/cordon/broker/listen/listentest"
)

// web is a listener for HTTP in memory, with MQTT over WebSocket behind it.
type web struct {
	*listentest.Listener
	ws  *listen.WebSocket
	log *logBuffer
}

// serveWeb serves MQTT connections with handle and other requests with their
// path, until the test ends.
func serveWeb(t *testing.T, cfg listen.WebSocketConfig, limits listen.AdmissionConfig, handle func(*listen.Conn)) *web {
	t.Helper()
	w := &web{Listener: listentest.NewListener(), log: new(logBuffer)}
	cfg.Handle, cfg.Log, limits.Log = handle, w.log.logger(), w.log.logger()
	w.ws = listen.NewWebSocket(cfg)
	l := listen.New(w.Listener, listen.Config{Name: "https", Admission: listen.NewAdmission(limits), Log: w.log.logger()})
	server := &http.Server{
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, WriteTimeout: time.Minute,
		Handler: w.ws.Before(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.URL.Path) })),
	}
	done := make(chan error, 1)
	go func() { done <- listen.ServeHTTP(l, server) }()
	t.Cleanup(func() {
		_ = server.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("ServeHTTP = %v", err)
		}
		_ = w.ws.Close()
		w.ws.Wait()
	})
	return w
}

// wsClient is the client's end of a WebSocket, one byte at a time if need be.
type wsClient struct {
	net.Conn
	in *bufio.Reader
}

const (
	wsContinue = 0
	wsText     = 1
	wsBinary   = 2
	wsClose    = 8
	wsPing     = 9
	wsPong     = 10

	wsFin = 0x80
)

// request is an upgrade to path; each header is a line of its own.
func request(path string, headers ...string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: broker.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" +
		strings.Join(append(headers, "\r\n"), "\r\n")
}

// upgrade sends a request and returns the answer.
func upgrade(t testing.TB, c net.Conn, request string) (*wsClient, *http.Response) {
	t.Helper()
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	client := &wsClient{Conn: c, in: bufio.NewReader(c)}
	response, err := http.ReadResponse(client.in, nil)
	if err != nil {
		t.Fatalf("no answer to the upgrade: %v", err)
	}
	return client, response
}

// connect is upgrade on /mqtt as an MQTT client does it.
func connect(t testing.TB, w *web) *wsClient {
	t.Helper()
	client, response := upgrade(t, w.Dial(), request("/mqtt", "Sec-WebSocket-Protocol: mqtt"))
	if response.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("the upgrade is answered %s", response.Status)
	}
	return client
}

// frame is a masked frame; first is the opcode, with wsFin in the last frame of
// a message.
func frame(first byte, payload string) string {
	f := []byte{first}
	switch n := len(payload); {
	case n < 126:
		f = append(f, 0x80|byte(n))
	case n < 1<<16:
		f = binary.BigEndian.AppendUint16(append(f, 0x80|126), uint16(n))
	default:
		f = binary.BigEndian.AppendUint64(append(f, 0x80|127), uint64(n))
	}
	mask := [4]byte{1, 2, 3, 4}
	f = append(f, mask[:]...)
	for i := range len(payload) {
		f = append(f, payload[i]^mask[i%4])
	}
	return string(f)
}

func (c *wsClient) send(t testing.TB, frames ...string) {
	t.Helper()
	if _, err := io.WriteString(c, strings.Join(frames, "")); err != nil {
		t.Fatalf("send: %v", err)
	}
}

// next reads the server's next frame.
func (c *wsClient) next() (first byte, payload string, err error) {
	var head [2]byte
	if _, err := io.ReadFull(c.in, head[:]); err != nil {
		return 0, "", err
	}
	length := uint64(head[1])
	switch length {
	case 126:
		var n uint16
		if err := binary.Read(c.in, binary.BigEndian, &n); err != nil {
			return 0, "", err
		}
		length = uint64(n)
	case 127:
		if err := binary.Read(c.in, binary.BigEndian, &length); err != nil {
			return 0, "", err
		}
	}
	if length > 1<<20 {
		return 0, "", fmt.Errorf("a frame of %d bytes from the server", length)
	}
	body := make([]byte, length)
	_, err = io.ReadFull(c.in, body)
	return head[0], string(body), err
}

// wants reads the next frame, which has to be this one.
func (c *wsClient) wants(t testing.TB, first byte, payload string) {
	t.Helper()
	gotFirst, got, err := c.next()
	if err != nil || gotFirst != first || got != payload {
		t.Fatalf("frame %#x %.40q (%d bytes), %v; want %#x %.40q (%d bytes)", gotFirst, got, len(got), err, first, payload, len(payload))
	}
}

// wantsClose reads until the close frame, which has to have this status, and
// then the end.
func (c *wsClient) wantsClose(t testing.TB, status uint16) {
	t.Helper()
	for {
		first, payload, err := c.next()
		if err != nil {
			t.Fatalf("ended with %v, want a close frame with %d", err, status)
		}
		if first != wsFin|wsClose {
			continue
		}
		if len(payload) < 2 || binary.BigEndian.Uint16([]byte(payload)) != status {
			t.Fatalf("closed with % x, want status %d", payload, status)
		}
		return
	}
}

func closeFrame(status uint16) string {
	return frame(wsFin|wsClose, string(binary.BigEndian.AppendUint16(nil, status)))
}

// dialled is the address that a test dials from.
func (w *web) dialled(address string) net.Conn { return w.DialFrom(netip.MustParseAddrPort(address)) }
