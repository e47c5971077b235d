package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"

	"github.com/cordon-mq/cordon/plugins/scaffold"
)

// challengeMethod is the Authentication Method of the plugin below.
const challengeMethod = "HMAC-CHALLENGE"

// challengeKey is what plugin and client share; everybody may know it.
const challengeKey = "0123456789abcdef0123456789abcdef"

// challengeGuest asks who has the key, and believes who answers with the HMAC of
// what it asked. The level it claims for the client is what that began with.
const challengeGuest = `package main

import (
	"fmt"
	"strings"

	"example.com/plugin/guest"
)

var _ = guest.ServeFunc(verify)

func main() {}

func verify(r *guest.Request) guest.Answer {
	if r.Auth == nil || r.Auth.Method != "HMAC-CHALLENGE" {
		return guest.Pass()
	}
	if r.State == nil {
		asked := fmt.Appendf(nil, "%s %d", r.Auth.Data, r.NowMS)
		return guest.Continue(asked, asked)
	}
	if !guest.Equal(r.Auth.Data, guest.HMAC(guest.SHA256, []byte("0123456789abcdef0123456789abcdef"), r.State)) {
		return guest.Refuse("that is not the answer")
	}
	level, _, _ := strings.Cut(string(r.State), " ")
	a := guest.Accept(guest.Subject{Kind: guest.Device, Type: "sensor", ID: "d1"})
	a.Claims = map[string]any{"level": level}
	a.ExpiresAtMS = r.NowMS + 3_600_000
	a.Data = []byte("welcome")
	return a
}
`

// challengePolicy asks the plugin about everybody, and has claims decide about
// every message.
const challengePolicy = `package cordon.connect

verifiers := [{"verifier": "plugin", "name": "challenge"}]

decision := {"allow": true, "mounts": [{"client": "", "org": ""}]}
`

const challengePublish = `package cordon.publish

decision := {"allow": input.principal.claims.level == "full", "reason": "not of the full level"}
`

// answering is the client's side of the exchange.
type answering struct{ key string }

func (a answering) Authenticate(asked *paho.Auth) *paho.Auth {
	mac := hmac.New(sha256.New, []byte(a.key))
	_, _ = mac.Write(asked.Properties.AuthData)
	return &paho.Auth{
		ReasonCode: packets.AuthContinueAuthentication,
		Properties: &paho.AuthProperties{AuthMethod: challengeMethod, AuthData: mac.Sum(nil)},
	}
}

func (answering) Authenticated() {}

// serveChallenge runs a broker with that plugin, and returns its plain address.
func serveChallenge(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, "policies/cordon/connect/connect.rego", challengePolicy)
	write(t, dir, "policies/cordon/publish/publish.rego", challengePublish)
	if err := scaffold.Write(scaffold.Go, dir, "challenge"); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "challenge/main.go", challengeGuest)
	plugins := filepath.Join(dir, "plugins", demoOrg)
	if err := os.MkdirAll(plugins, 0o700); err != nil {
		t.Fatal(err)
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-buildmode=c-shared", "-trimpath", "-ldflags=-s -w",
		"-o", filepath.Join(plugins, "challenge.wasm"), ".")
	build.Dir = filepath.Join(dir, "challenge")
	build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOPROXY=off", "GOFLAGS=", "GOWORK=off", "GOTOOLCHAIN=local")
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, said)
	}
	_, address := serveFolder(t, dir)
	return address
}

// write makes a file of dir, and the folders that it is in.
func write(t *testing.T, dir, name, text string) {
	t.Helper()
	target := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(target, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// serveFolder runs a broker of one organisation with the policies and plugins of dir,
// and returns its plain address.
func serveFolder(t *testing.T, dir string) (p *process, address string) {
	t.Helper()
	data := filepath.Join(dir, "data")
	succeeds(t, "init", "--data", data, "--org", demoOrg, "--json")
	p, err := startProcess(dir, filepath.Join(dir, "log"), []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "GORACE=atexit_sleep_ms=10",
	}, "serve", "--data", data, "--policy", filepath.Join(dir, "policies"), "--plugins", filepath.Join(dir, "plugins"),
		"--mqtt", "127.0.0.1:0", "--mqtts", "off", "--https", "off")
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
	return p, addressIn(line, "mqtt")
}

// A WebAssembly module leads exchanges with a client that was not written for
// these tests: at CONNECT, and again on the live connection.
func TestPluginLeadsAnExchange(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("builds a plugin and starts the program")
	}
	address := serveChallenge(t)
	connect := func(key string) (*paho.Client, *paho.Connack, error) {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		c := paho.NewClient(paho.ClientConfig{
			Conn: packets.NewThreadSafeConn(conn), PacketTimeout: patience, AuthHandler: answering{key},
		})
		ack, err := c.Connect(within(t), &paho.Connect{
			ClientID: "c", CleanStart: true, KeepAlive: 60,
			Properties: &paho.ConnectProperties{AuthMethod: challengeMethod, AuthData: []byte("half")},
		})
		return c, ack, err
	}
	publish := func(c *paho.Client) byte {
		t.Helper()
		answer, err := c.Publish(within(t), &paho.Publish{Topic: "a", QoS: 1, Payload: []byte("x")})
		if answer == nil {
			t.Fatalf("publish: %v", err)
		}
		return answer.ReasonCode
	}

	if _, ack, err := connect(strings.Repeat("x", len(challengeKey))); err == nil || ack == nil || ack.ReasonCode != packets.ConnackNotAuthorized {
		t.Errorf("with another key: %+v, %v", ack, err)
	}
	c, ack, err := connect(challengeKey)
	if err != nil {
		t.Fatal(err)
	}
	if ack.Properties.AuthMethod != challengeMethod || !bytes.Equal(ack.Properties.AuthData, []byte("welcome")) {
		t.Errorf("CONNACK %+v", ack.Properties)
	}
	if code := publish(c); code != packets.PubackNotAuthorized {
		t.Errorf("at half the level: %#02x", code)
	}
	again, err := c.Authenticate(within(t), &paho.Auth{
		ReasonCode: packets.AuthReauthenticate,
		Properties: &paho.AuthProperties{AuthMethod: challengeMethod, AuthData: []byte("full")},
	})
	if err != nil || !again.Success {
		t.Fatalf("re-authentication: %+v, %v", again, err)
	}
	if code := publish(c); code >= 0x80 {
		t.Errorf("at the full level: %#02x", code)
	}
	if err := c.Disconnect(&paho.Disconnect{}); err != nil {
		t.Errorf("goodbye: %v", err)
	}
}
