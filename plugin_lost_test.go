package main

import (
	"net"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
)

// lostPolicy asks a plugin about everybody.
const lostPolicy = `package cordon.connect

verifiers := [{"verifier": "plugin", "name": "good"}]

decision := {"allow": true, "mounts": [{"client": "", "org": ""}]}
`

// Whoever a plugin vouched for is disconnected when its file is gone, and stays
// while it is replaced or broken.
func TestAPluginThatIsTakenAwayEndsItsConnections(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts the program")
	}
	dir := t.TempDir()
	good, err := os.ReadFile(filepath.Join("plugins", "wasm", "testdata", "guests", "good.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	module := filepath.Join("plugins", demoOrg, "good.wasm")
	write(t, dir, module, string(good))
	write(t, dir, "policies/cordon/connect/connect.rego", lostPolicy)
	p, address := serveFolder(t, dir)

	gone := make(chan *paho.Disconnect, 1)
	connect := func() (*paho.Client, error) {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		c := paho.NewClient(paho.ClientConfig{
			Conn: packets.NewThreadSafeConn(conn), PacketTimeout: patience,
			OnServerDisconnect: func(d *paho.Disconnect) { gone <- d },
		})
		_, err = c.Connect(within(t), &paho.Connect{ClientID: "c", CleanStart: true, KeepAlive: 60, Username: "u", UsernameFlag: true, Password: []byte("x"), PasswordFlag: true})
		return c, err
	}
	c, err := connect()
	if err != nil {
		t.Fatal(err)
	}
	// Settings that are refused leave the version before at work, and who it vouched for.
	write(t, dir, filepath.Join("plugins", demoOrg, "good.yaml"), "unknown: 1\n")
	if _, err := p.await(regexp.MustCompile(`plugin refused.*kept_previous"?[=:]true`)); err != nil {
		t.Fatal(err)
	}
	if answer, _ := c.Publish(within(t), &paho.Publish{Topic: "a", QoS: 1, Payload: []byte("x")}); answer == nil {
		t.Error("the connection does not live")
	}
	if err := os.Remove(filepath.Join(dir, module)); err != nil {
		t.Fatal(err)
	}
	select {
	case d := <-gone:
		if d.ReasonCode != packets.DisconnectNotAuthorized && d.ReasonCode != packets.DisconnectAdministrativeAction {
			t.Errorf("disconnected with %#02x", d.ReasonCode)
		}
	case <-within(t).Done():
		t.Fatal("still connected")
	}
	if _, err := connect(); err == nil {
		t.Error("connected without a plugin")
	}
}
