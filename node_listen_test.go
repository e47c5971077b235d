package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/coder/websocket"
	mqtt3 "github.com/eclipse/paho.mqtt.golang"
)

// web is a demonstration with its HTTPS listener open.
type web struct {
	demonstration
	*process
}

// startWeb serves the demonstration with settings of the environment.
func startWeb(t *testing.T, settings ...string) *web {
	t.Helper()
	dir := t.TempDir()
	p, err := startProcess(dir, filepath.Join(dir, "log"), append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "GORACE=atexit_sleep_ms=10",
		"CORDON_DATA=" + filepath.Join(dir, "data"), "CORDON_MQTTS=127.0.0.1:0", "CORDON_HTTPS=127.0.0.1:0",
	}, settings...), "serve", "--demo")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.stop(); err != nil {
			t.Error(err)
		}
	})
	line, err := p.await(readyLine())
	if err != nil {
		t.Fatal(err)
	}
	printed := map[string]string{}
	for _, found := range tourVariable().FindAllStringSubmatch(p.stdout(), -1) {
		printed[found[1]] = found[2]
	}
	return &web{
		demonstration: demonstration{
			doors:  doors{addressIn(line, "mqtts"), addressIn(line, "https"), printed["CA"]},
			appKey: printed["APP_KEY"], appToken: printed["APP_TOKEN"], deviceToken: printed["DEVICE_TOKEN"],
		},
		process: p,
	}
}

// The port that serves REST takes WebSockets too, on two paths.
func TestWebSocketPort(t *testing.T) {
	t.Parallel()
	w := startWeb(t)
	for _, path := range []string{"/mqtt", "/"} {
		t.Run("MQTT on "+path, func(t *testing.T) {
			c := mqtt3.NewClient(w.deviceOptions(t, "wss://"+w.https+path))
			done(t, c.Connect())
			done(t, c.Publish(event, 1, false, "21"))
			c.Disconnect(100)
		})
	}
	t.Run("REST on the same port", func(t *testing.T) {
		for _, http2 := range []bool{true, false} {
			transport := &http.Transport{TLSClientConfig: w.tls(t), ForceAttemptHTTP2: http2}
			answer, err := (&http.Client{Transport: transport}).Get("https://" + w.https + "/healthz")
			if err != nil {
				t.Fatal(err)
			}
			_ = answer.Body.Close()
			if want := map[bool]int{true: 2, false: 1}[http2]; answer.StatusCode != http.StatusOK || answer.ProtoMajor != want {
				t.Errorf("%s %s, want HTTP/%d", answer.Proto, answer.Status, want)
			}
			transport.CloseIdleConnections()
		}
	})
}

// deviceOptions are those of the device, in MQTT 3.1.1.
func (w *web) deviceOptions(t *testing.T, broker string) *mqtt3.ClientOptions {
	t.Helper()
	return mqtt3.NewClientOptions().AddBroker(broker).SetTLSConfig(w.tls(t)).SetProtocolVersion(4).
		SetClientID(deviceID).SetUsername(deviceUser).SetPassword(w.deviceToken).
		SetConnectTimeout(patience).SetAutoReconnect(false)
}

// The address that a listed proxy names is the client's, on every listener, and
// without a header nobody gets in from there.
func TestProxyProtocol(t *testing.T) {
	t.Parallel()
	w := startWeb(t, "CORDON_PROXY_PROTOCOL=127.0.0.1")
	for name, test := range map[string]struct{ broker, address string }{
		"mqtts": {"ssl://" + w.address, w.address},
		"wss":   {"wss://" + w.https + "/mqtt", w.https},
	} {
		t.Run(name, func(t *testing.T) {
			peer := map[string]string{"mqtts": "203.0.113.8", "wss": "203.0.113.9"}[name]
			behind := func(ctx context.Context, network, address string) (net.Conn, error) {
				conn, err := new(net.Dialer).DialContext(ctx, network, address)
				if err == nil {
					_, err = fmt.Fprintf(conn, "PROXY TCP4 %s 192.0.2.1 4711 8883\r\n", peer)
				}
				return conn, err
			}
			options := w.deviceOptions(t, test.broker)
			if name == "mqtts" {
				options.SetCustomOpenConnectionFn(func(uri *url.URL, o mqtt3.ClientOptions) (net.Conn, error) {
					conn, err := behind(t.Context(), "tcp", uri.Host)
					return tls.Client(conn, o.TLSConfig), err
				})
			} else {
				options.SetCustomOpenConnectionFn(func(uri *url.URL, o mqtt3.ClientOptions) (net.Conn, error) {
					return webSocketOver(t.Context(), uri.String(), &http.Transport{TLSClientConfig: o.TLSConfig, DialContext: behind})
				})
			}
			c := mqtt3.NewClient(options)
			done(t, c.Connect())
			defer c.Disconnect(100)
			if _, err := w.await(regexp.MustCompile(`msg=connected .*address=` + regexp.QuoteMeta(peer))); err != nil {
				t.Error(err)
			}

			bare, err := net.Dial("tcp", test.address)
			if err != nil {
				t.Fatal(err)
			}
			defer bare.Close()
			if err := tls.Client(bare, w.tls(t)).HandshakeContext(within(t)); err == nil {
				t.Error("let in without a header")
			}
		})
	}
}

func TestConnectionsWith(t *testing.T) {
	t.Parallel()
	for files, want := range map[uint64]int{0: 0, 100: 50, 512: 256, 1024: 768, 65536: 65280, 1 << 62: 1<<20 - 256} {
		if got := connectionsWith(files); got != want {
			t.Errorf("%d open files allow %d connections, want %d", files, got, want)
		}
	}
}

// webSocketOver connects as any client would, over a given transport.
func webSocketOver(ctx context.Context, server string, transport *http.Transport) (net.Conn, error) {
	client, _, err := websocket.Dial(ctx, server, &websocket.DialOptions{
		HTTPClient: &http.Client{Transport: transport}, Subprotocols: []string{"mqtt"},
	})
	if err != nil {
		return nil, err
	}
	return websocket.NetConn(context.Background(), client, websocket.MessageBinary), nil
}
