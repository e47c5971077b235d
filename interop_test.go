package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	mqtt3 "github.com/eclipse/paho.mqtt.golang"
)

// TestInterop has clients of others speak with one real broker over TLS: each
// sends an event and a command at every QoS, and is refused what is not its own.
func TestInterop(t *testing.T) {
	t.Parallel()
	d := startDemonstration(t)
	for qos := range byte(3) {
		t.Run(fmt.Sprintf("Paho MQTT 3.1.1 QoS %d", qos), func(t *testing.T) { d.paho3(t, 4, qos) })
		t.Run(fmt.Sprintf("Paho MQTT 3.1 QoS %d", qos), func(t *testing.T) { d.paho3(t, 3, qos) })
		t.Run(fmt.Sprintf("Paho MQTT 5 QoS %d", qos), func(t *testing.T) { d.paho5(t, qos) })
		for _, version := range []string{"mqttv31", "mqttv311", "mqttv5"} {
			t.Run(fmt.Sprintf("Mosquitto %s QoS %d", version, qos), func(t *testing.T) { d.mosquitto(t, version, qos) })
		}
	}
	t.Run("Paho MQTT 3.1.1 is refused", d.paho3Refused)
	t.Run("Paho MQTT 5 is refused", d.paho5Refused)
	t.Run("Mosquitto is refused", d.mosquittoRefused)
}

// demonstration is a broker that serves the demonstration, and how to get in.
type demonstration struct {
	address, caFile               string
	appKey, appToken, deviceToken string
}

// What its clients are called and speak of.
const (
	appID      = "a:" + demoOrg + ":interop"
	deviceID   = "d:" + demoOrg + ":" + string(demoType) + ":" + string(demoDevice)
	deviceUser = "use-token-auth"

	devicesOwn    = "iot-2/type/" + string(demoType) + "/id/" + string(demoDevice) + "/"
	event         = "iot-2/evt/status/fmt/json" // as the device writes it
	eventInside   = devicesOwn + "evt/status/fmt/json"
	command       = "iot-2/cmd/reboot/fmt/json"
	commandInside = devicesOwn + "cmd/reboot/fmt/json"
	notItsOwn     = "iot-2/cmd/forged/fmt/json" // a device does not publish commands
)

func startDemonstration(t *testing.T) *demonstration {
	t.Helper()
	dir := t.TempDir()
	p, err := startProcess(dir, filepath.Join(dir, "log"), []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "GORACE=atexit_sleep_ms=10",
		"CORDON_DATA=" + filepath.Join(dir, "data"), "CORDON_MQTTS=127.0.0.1:0", "CORDON_HTTPS=off",
	}, "serve", "--demo")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the broker logged:\n%s", p.log)
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
	return &demonstration{
		address: addressIn(line, "mqtts"), caFile: printed["CA"],
		appKey: printed["APP_KEY"], appToken: printed["APP_TOKEN"], deviceToken: printed["DEVICE_TOKEN"],
	}
}

func (d *demonstration) tls(t *testing.T) *tls.Config {
	t.Helper()
	text, err := os.ReadFile(d.caFile)
	pool := x509.NewCertPool()
	if err != nil || !pool.AppendCertsFromPEM(text) {
		t.Fatalf("CA certificate: %v", err)
	}
	return &tls.Config{RootCAs: pool, ServerName: "localhost", MinVersion: tls.VersionTLS12}
}

// message is what a subscriber got.
type message struct {
	topic, payload string
	qos            byte
}

// wants waits for one message.
func wants(t *testing.T, arrived <-chan message, want message) {
	t.Helper()
	select {
	case got := <-arrived:
		if got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	case <-within(t).Done():
		t.Errorf("nothing arrived, want %+v", want)
	}
}

// within ends after as long as a test should wait for anything.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// done waits for what a client was asked to do.
func done(t *testing.T, token mqtt3.Token) {
	t.Helper()
	if !token.WaitTimeout(patience) || token.Error() != nil {
		t.Fatalf("not done: %v", token.Error())
	}
}

func (d *demonstration) paho3Options(t *testing.T, version uint, id, user, password string) *mqtt3.ClientOptions {
	t.Helper()
	return mqtt3.NewClientOptions().
		AddBroker("ssl://" + d.address).SetTLSConfig(d.tls(t)).SetProtocolVersion(version).
		SetClientID(id).SetUsername(user).SetPassword(password).
		SetConnectTimeout(patience).SetAutoReconnect(false).SetOrderMatters(true)
}

func (d *demonstration) paho3(t *testing.T, version uint, qos byte) {
	arrived := make(chan message, 8)
	receive := func(_ mqtt3.Client, m mqtt3.Message) {
		arrived <- message{m.Topic(), string(m.Payload()), m.Qos()}
	}
	connect := func(id, user, password string) mqtt3.Client {
		c := mqtt3.NewClient(d.paho3Options(t, version, id, user, password))
		done(t, c.Connect())
		t.Cleanup(func() { c.Disconnect(100) })
		return c
	}
	app, device := connect(appID, d.appKey, d.appToken), connect(deviceID, deviceUser, d.deviceToken)
	done(t, app.Subscribe("iot-2/type/+/id/+/evt/+/fmt/+", qos, receive))
	done(t, device.Subscribe("iot-2/cmd/+/fmt/+", qos, receive))
	done(t, device.Publish(event, qos, false, "21"))
	wants(t, arrived, message{eventInside, "21", qos})
	done(t, app.Publish(commandInside, qos, false, "now"))
	wants(t, arrived, message{command, "now", qos})
}

func (d *demonstration) paho3Refused(t *testing.T) {
	c := mqtt3.NewClient(d.paho3Options(t, 4, deviceID, deviceUser, "wrong-token"))
	token := c.Connect()
	if !token.WaitTimeout(patience) || token.Error() == nil || !strings.Contains(strings.ToLower(token.Error().Error()), "not authorized") {
		t.Errorf("connect: %v", token.Error())
	}
	lost := make(chan struct{}, 1)
	options := d.paho3Options(t, 4, deviceID, deviceUser, d.deviceToken)
	options.SetConnectionLostHandler(func(mqtt3.Client, error) { lost <- struct{}{} })
	c = mqtt3.NewClient(options)
	done(t, c.Connect())
	subscription := c.Subscribe("iot-2/evt/#", 1, nil).(*mqtt3.SubscribeToken)
	if !subscription.WaitTimeout(patience) || subscription.Result()["iot-2/evt/#"] != 0x80 {
		t.Errorf("subscribe: %v", subscription.Result())
	}
	c.Publish(notItsOwn, 0, false, "no")
	select {
	case <-lost:
	case <-within(t).Done():
		t.Error("still connected")
	}
}

func (d *demonstration) paho5Client(t *testing.T, id, user, password string) (*paho.Client, <-chan message, *paho.Connack, error) {
	t.Helper()
	conn, err := (&tls.Dialer{Config: d.tls(t)}).DialContext(within(t), "tcp", d.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	arrived := make(chan message, 8)
	c := paho.NewClient(paho.ClientConfig{
		Conn: packets.NewThreadSafeConn(conn), PacketTimeout: patience,
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(got paho.PublishReceived) (bool, error) {
			arrived <- message{got.Packet.Topic, string(got.Packet.Payload), got.Packet.QoS}
			return true, nil
		}},
	})
	ack, err := c.Connect(within(t), &paho.Connect{
		ClientID: id, CleanStart: true, KeepAlive: 60,
		UsernameFlag: true, Username: user, PasswordFlag: true, Password: []byte(password),
	})
	if err == nil {
		t.Cleanup(func() { _ = c.Disconnect(&paho.Disconnect{}) })
	}
	return c, arrived, ack, err
}

func (d *demonstration) paho5(t *testing.T, qos byte) {
	app, events, _, err := d.paho5Client(t, appID, d.appKey, d.appToken)
	if err != nil {
		t.Fatal(err)
	}
	device, commands, _, err := d.paho5Client(t, deviceID, deviceUser, d.deviceToken)
	if err != nil {
		t.Fatal(err)
	}
	for c, filter := range map[*paho.Client]string{app: "iot-2/type/+/id/+/evt/+/fmt/+", device: "iot-2/cmd/+/fmt/+"} {
		ack, err := c.Subscribe(within(t), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: filter, QoS: qos}}})
		if err != nil || !bytes.Equal(ack.Reasons, []byte{qos}) {
			t.Fatalf("subscribe to %s: %+v, %v", filter, ack, err)
		}
	}
	if _, err := device.Publish(within(t), &paho.Publish{Topic: event, QoS: qos, Payload: []byte("21")}); err != nil {
		t.Fatal(err)
	}
	wants(t, events, message{eventInside, "21", qos})
	if _, err := app.Publish(within(t), &paho.Publish{Topic: commandInside, QoS: qos, Payload: []byte("now")}); err != nil {
		t.Fatal(err)
	}
	wants(t, commands, message{command, "now", qos})
}

func (d *demonstration) paho5Refused(t *testing.T) {
	_, _, connack, err := d.paho5Client(t, deviceID, deviceUser, "wrong-token")
	if err == nil || connack == nil || connack.ReasonCode != 0x87 {
		t.Errorf("connect: %+v, %v", connack, err)
	}
	c, _, _, err := d.paho5Client(t, deviceID, deviceUser, d.deviceToken)
	if err != nil {
		t.Fatal(err)
	}
	suback, err := c.Subscribe(within(t), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "iot-2/evt/#", QoS: 1}}})
	if suback == nil || !bytes.Equal(suback.Reasons, []byte{0x87}) {
		t.Errorf("subscribe: %+v, %v", suback, err)
	}
	for qos := byte(1); qos <= 2; qos++ {
		answer, err := c.Publish(within(t), &paho.Publish{Topic: notItsOwn, QoS: qos, Payload: []byte("no")})
		if answer == nil || answer.ReasonCode != 0x87 || answer.Properties == nil || !strings.Contains(answer.Properties.ReasonString, "(decision ") {
			t.Errorf("publish with QoS %d: %+v, %v", qos, answer, err)
		}
	}
}

// mosquittoArgs are what both programs are given.
func (d *demonstration) mosquittoArgs(t *testing.T, version string, qos byte, id, user, password, topic string) []string {
	t.Helper()
	host, port, ok := strings.Cut(d.address, ":")
	for _, program := range []string{"mosquitto_pub", "mosquitto_sub", "stdbuf"} {
		if !ok || !installed(program) {
			t.Skipf("%s is not installed", program)
		}
	}
	return []string{
		"-V", version, "-h", host, "-p", port, "--cafile", d.caFile, "-d",
		"-i", id, "-u", user, "-P", password, "-t", topic, "-q", strconv.Itoa(int(qos)),
	}
}

func (d *demonstration) mosquitto(t *testing.T, version string, qos byte) {
	subscribe := func(id, user, password, filter string) *subscriber {
		args := d.mosquittoArgs(t, version, qos, id, user, password, filter)
		return startSubscriber(t, append(args, "-C", "1", "-F", "got %q %t %p"))
	}
	publish := func(id, user, password, topic, payload string) {
		args := d.mosquittoArgs(t, version, qos, id, user, password, topic)
		if out, err := exec.CommandContext(within(t), "mosquitto_pub", append(args, "-m", payload)...).CombinedOutput(); err != nil {
			t.Fatalf("mosquitto_pub: %v\n%s", err, out)
		}
	}
	events := subscribe(appID, d.appKey, d.appToken, "iot-2/type/+/id/+/evt/+/fmt/+")
	publish(deviceID, deviceUser, d.deviceToken, event, "21")
	events.wants(fmt.Sprintf("got %d %s 21", qos, eventInside))
	commands := subscribe(deviceID, deviceUser, d.deviceToken, "iot-2/cmd/+/fmt/+")
	publish(appID, d.appKey, d.appToken, commandInside, "now")
	commands.wants(fmt.Sprintf("got %d %s now", qos, command))
}

func (d *demonstration) mosquittoRefused(t *testing.T) {
	args := d.mosquittoArgs(t, "mqttv311", 1, deviceID, deviceUser, "wrong-token", event)
	out, err := exec.CommandContext(within(t), "mosquitto_pub", append(args, "-m", "no")...).CombinedOutput()
	if err == nil || !strings.Contains(strings.ToLower(string(out)), "not authori") {
		t.Errorf("connect: %v\n%s", err, out)
	}
	args = d.mosquittoArgs(t, "mqttv5", 1, deviceID, deviceUser, d.deviceToken, notItsOwn)
	out, _ = exec.CommandContext(within(t), "mosquitto_pub", append(args, "-m", "no")...).CombinedOutput()
	if !strings.Contains(strings.ToLower(string(out)), "not authori") && !strings.Contains(string(out), "RC:135") {
		t.Errorf("publish:\n%s", out)
	}
}

// subscriber is a mosquitto_sub that is subscribed.
type subscriber struct {
	t     *testing.T
	lines *bufio.Scanner
}

func startSubscriber(t *testing.T, args []string) *subscriber {
	t.Helper()
	out, in := io.Pipe()
	// A line has to come when it is written: the next step waits for it.
	cmd := exec.CommandContext(within(t), "stdbuf", append([]string{"-oL", "mosquitto_sub"}, args...)...)
	cmd.Stdout, cmd.Stderr = in, in
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_ = in.CloseWithError(cmd.Wait())
	}()
	t.Cleanup(func() { _ = out.Close(); <-gone })
	s := &subscriber{t: t, lines: bufio.NewScanner(out)}
	s.wants("SUBACK")
	return s
}

// wants reads up to a line that has text in it.
func (s *subscriber) wants(text string) {
	s.t.Helper()
	var seen []string
	for s.lines.Scan() {
		seen = append(seen, s.lines.Text())
		if strings.Contains(s.lines.Text(), text) {
			return
		}
	}
	s.t.Fatalf("no %q from mosquitto_sub: %v\n%s", text, s.lines.Err(), strings.Join(seen, "\n"))
}
