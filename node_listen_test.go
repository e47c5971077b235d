package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/paho"
	mqtt3 "github.com/eclipse/paho.mqtt.golang"
)

// web is a demonstration with its HTTPS listener open.
type web struct {
	demonstration
	https string
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
			address: addressIn(line, "mqtts"), caFile: printed["CA"],
			appKey: printed["APP_KEY"], appToken: printed["APP_TOKEN"], deviceToken: printed["DEVICE_TOKEN"],
		},
		https: addressIn(line, "https"), process: p,
	}
}

// longPayload takes several WebSocket messages.
func longPayload() string { return strings.Repeat("0123456789", 10_000) }

// Clients of others speak MQTT over WebSocket, on the port that serves REST.
func TestWebSocketClients(t *testing.T) {
	t.Parallel()
	w := startWeb(t)
	for _, path := range []string{"/mqtt", "/"} {
		for _, version := range []uint{3, 4} {
			t.Run(fmt.Sprintf("Paho MQTT 3, version %d, path %s", version, path), func(t *testing.T) { w.paho3(t, version, path) })
		}
	}
	t.Run("Paho MQTT 5", w.paho5)
	t.Run("MQTT.js", w.mqttJS)
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

func (w *web) paho3(t *testing.T, version uint, path string) {
	connect := func(id, user, password string) mqtt3.Client {
		options := w.paho3Options(t, version, id, user, password)
		options.Servers = nil
		c := mqtt3.NewClient(options.AddBroker("wss://" + w.https + path))
		done(t, c.Connect())
		t.Cleanup(func() { c.Disconnect(100) })
		return c
	}
	app, device := connect(appID, w.appKey, w.appToken), connect(deviceID, deviceUser, w.deviceToken)
	arrived := make(chan message, 8)
	done(t, app.Subscribe(eventInside, 1, func(_ mqtt3.Client, m mqtt3.Message) {
		arrived <- message{m.Topic(), string(m.Payload()), m.Qos()}
	}))
	done(t, device.Publish(event, 1, false, longPayload()))
	wants(t, arrived, message{eventInside, longPayload(), 1})
}

func (w *web) paho5(t *testing.T) {
	server := &url.URL{Scheme: "wss", Host: w.https, Path: "/mqtt"}
	arrived := make(chan message, 8)
	connect := func(id, user, password string) *autopaho.ConnectionManager {
		ctx, cancel := context.WithCancel(context.Background())
		c, err := autopaho.NewConnection(ctx, autopaho.ClientConfig{
			ServerUrls: []*url.URL{server}, TlsCfg: w.tls(t), KeepAlive: 60, CleanStartOnInitialConnection: true,
			ConnectUsername: user, ConnectPassword: []byte(password),
			ClientConfig: paho.ClientConfig{ClientID: id, OnPublishReceived: []func(paho.PublishReceived) (bool, error){
				func(got paho.PublishReceived) (bool, error) {
					arrived <- message{got.Packet.Topic, string(got.Packet.Payload), got.Packet.QoS}
					return true, nil
				},
			}},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Disconnect(within(t)); cancel(); <-c.Done() })
		if err := c.AwaitConnection(within(t)); err != nil {
			t.Fatal(err)
		}
		return c
	}
	app, device := connect(appID, w.appKey, w.appToken), connect(deviceID, deviceUser, w.deviceToken)
	if _, err := app.Subscribe(within(t), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: eventInside, QoS: 2}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := device.Publish(within(t), &paho.Publish{Topic: event, QoS: 2, Payload: []byte(longPayload())}); err != nil {
		t.Fatal(err)
	}
	wants(t, arrived, message{eventInside, longPayload(), 2})
}

// mqttScript is a device and an application in the JavaScript client. It prints
// what arrives; secrets come by the environment.
const mqttScript = `
const mqtt = require('mqtt')
const env = process.env
const connect = (clientId, username, password, protocolVersion) => mqtt.connect('wss://' + env.HTTPS + '/mqtt', {
  clientId, username, password, protocolVersion, ca: require('fs').readFileSync(env.CA), servername: 'localhost', reconnectPeriod: 0,
}).on('error', (err) => { console.error(String(err)); process.exit(1) })
const app = connect(env.APP_ID, env.APP_KEY, env.APP_TOKEN, 5)
app.on('message', (topic, payload) => {
  console.log(topic, payload.length)
  device.end(false, () => app.end())
})
let device
app.subscribe(env.FILTER, { qos: 1 }, () => {
  device = connect(env.DEVICE_ID, env.DEVICE_USER, env.DEVICE_TOKEN, 4)
  device.publish(env.EVENT, '0123456789'.repeat(10000), { qos: 1 })
})
`

func (w *web) mqttJS(t *testing.T) {
	if !installed("node") || exec.CommandContext(t.Context(), "node", "-e", "require.resolve('mqtt')").Run() != nil {
		t.Skip("node or its package mqtt is not installed; NODE_PATH may name the folder it is in")
	}
	cmd := exec.CommandContext(within(t), "node", "-e", mqttScript)
	cmd.Env = append(os.Environ(), "HTTPS="+w.https, "CA="+w.caFile, "APP_ID="+appID, "APP_KEY="+w.appKey, "APP_TOKEN="+w.appToken,
		"DEVICE_ID="+deviceID, "DEVICE_USER="+deviceUser, "DEVICE_TOKEN="+w.deviceToken, "FILTER="+eventInside, "EVENT="+event)
	out, err := cmd.CombinedOutput()
	if want := fmt.Sprintf("%s %d\n", eventInside, len(longPayload())); err != nil || string(out) != want {
		t.Errorf("%v, printed %q, want %q", err, out, want)
	}
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
			options := w.paho3Options(t, 4, deviceID, deviceUser, w.deviceToken)
			options.Servers = nil
			options.AddBroker(test.broker)
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
