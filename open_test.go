package main

import (
	"bytes"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	mqtt3 "github.com/eclipse/paho.mqtt.golang"

	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/broker/store/memstore"
	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
)

// TestOpen runs the broker with the policies of rego/examples/open: whoever
// comes is let in, and uses any topic.
func TestOpen(t *testing.T) {
	t.Parallel()
	o := startOpen(t)
	t.Run("messages go between versions", o.exchange)
	t.Run("pub and sub need no credential", o.commands)
	t.Run("MQTT 5 without a client ID", o.assigned)
	t.Run("MQTT 3.1.1 without a client ID", o.unnamed)
}

// open is a broker that is open to everybody, with and without TLS.
type open struct {
	doors
	mqtt string
	log  *processLog
}

func startOpen(t *testing.T) *open {
	t.Helper()
	dir := t.TempDir()
	policies, data := filepath.Join(dir, "policies"), filepath.Join(dir, "data")
	succeeds(t, "policy", "init", policies)
	layOver(t, policies, os.DirFS(filepath.Join("rego", "examples", "open")))
	succeeds(t, "init", "--data", data, "--org", demoOrg, "--json")
	p, err := startProcess(dir, filepath.Join(dir, "log"), []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "GORACE=atexit_sleep_ms=10",
	}, "serve", "--data", data, "--policy", policies, "--mqtt", "127.0.0.1:0", "--mqtts", "127.0.0.1:0", "--https", "127.0.0.1:0")
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
	return &open{
		doors: doors{addressIn(line, "mqtts"), addressIn(line, "https"), filepath.Join(data, "tls", "ca.crt")},
		mqtt:  addressIn(line, "mqtt"), log: p.log,
	}
}

// layOver puts the files of an example over those in dir.
func layOver(t *testing.T, dir string, example fs.FS) {
	t.Helper()
	err := fs.WalkDir(example, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := fs.ReadFile(example, name)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, filepath.FromSlash(name)), text, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// client5 connects over plain TCP, with nothing to show.
func (o *open) client5(t *testing.T, id string, keepAlive uint16) (*paho.Client, <-chan message, *paho.Connack) {
	t.Helper()
	conn, err := net.Dial("tcp", o.mqtt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	arrived := make(chan message, 8)
	c := paho.NewClient(paho.ClientConfig{
		Conn: packets.NewThreadSafeConn(conn), PacketTimeout: patience,
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(got paho.PublishReceived) (bool, error) {
			arrived <- message{topic: got.Packet.Topic, payload: string(got.Packet.Payload), qos: got.Packet.QoS}
			return true, nil
		}},
	})
	ack, err := c.Connect(within(t), &paho.Connect{ClientID: id, CleanStart: true, KeepAlive: keepAlive})
	if err != nil {
		t.Fatalf("connect as %q: %v", id, err)
	}
	t.Cleanup(func() { _ = c.Disconnect(&paho.Disconnect{}) })
	return c, arrived, ack
}

func (o *open) client3(t *testing.T, id string) (mqtt3.Client, <-chan message) {
	t.Helper()
	arrived := make(chan message, 8)
	c := mqtt3.NewClient(mqtt3.NewClientOptions().AddBroker("tcp://" + o.mqtt).
		SetProtocolVersion(4).SetClientID(id).SetConnectTimeout(patience).SetAutoReconnect(false).SetOrderMatters(true).
		SetDefaultPublishHandler(func(_ mqtt3.Client, m mqtt3.Message) {
			arrived <- message{topic: m.Topic(), payload: string(m.Payload()), qos: m.Qos()}
		}))
	done(t, c.Connect())
	t.Cleanup(func() { c.Disconnect(100) })
	return c, arrived
}

// wants waits for one message.
func wants(t *testing.T, arrived <-chan message, want message) {
	t.Helper()
	select {
	case got := <-arrived:
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	case <-within(t).Done():
		t.Errorf("nothing arrived, want %s", want)
	}
}

// done waits for what the older library was asked to do.
func done(t *testing.T, token mqtt3.Token) {
	t.Helper()
	if err := settled(token); err != nil {
		t.Fatal(err)
	}
}

func subscribe5(t *testing.T, c *paho.Client, filter string, want byte) {
	t.Helper()
	ack, err := c.Subscribe(within(t), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: filter, QoS: 2}}})
	if ack == nil || !bytes.Equal(ack.Reasons, []byte{want}) {
		t.Errorf("subscribe to %s: %+v, %v; want 0x%02X", filter, ack, err, want)
	}
}

func (o *open) exchange(t *testing.T) {
	five, toFive, _ := o.client5(t, strings.Repeat("long", 50), 30)
	three, toThree := o.client3(t, "d:other1:sensor:d1") // says nothing here
	subscribe5(t, five, "TopicA/#", 2)
	subscribe5(t, five, "+/+/+/d", 2)
	done(t, three.Subscribe("$TopicB/+", 2, nil))
	for qos := range byte(3) {
		done(t, three.Publish("TopicA/x", qos, false, "from 3"))
		wants(t, toFive, message{topic: "TopicA/x", payload: "from 3", qos: qos})
		if _, err := five.Publish(within(t), &paho.Publish{Topic: "$TopicB/y", QoS: qos, Payload: []byte("from 5")}); err != nil {
			t.Fatal(err)
		}
		wants(t, toThree, message{topic: "$TopicB/y", payload: "from 5", qos: qos})
	}
}

func (o *open) commands(t *testing.T) {
	_, port, err := net.SplitHostPort(o.address)
	if err != nil {
		t.Fatal(err)
	}
	where := []string{"-h", "localhost", "-p", port, "--ca", o.caFile, "-q", "1", "-t", "one,topic with/commas"}
	sub := start(t, append([]string{"sub", "-C", "1", "-v"}, where...)...)
	got := sub.until(t, func() { succeeds(t, append([]string{"pub", "-V", "3.1.1", "-m", "hello"}, where...)...) })
	if want := (result{status: exitOK, out: "one,topic with/commas hello\n"}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func (o *open) assigned(t *testing.T) {
	for keepAlive, capped := range map[uint16]bool{0: true, 120: true, 61: true, 60: false, 10: false} {
		_, _, ack := o.client5(t, "", keepAlive)
		if ack.Properties == nil || ack.Properties.AssignedClientID == "" {
			t.Fatalf("no client ID was assigned: %+v", ack.Properties)
		}
		server := ack.Properties.ServerKeepAlive
		if (server != nil) != capped || server != nil && *server != 60 {
			t.Errorf("keep alive %d: the server's is %v", keepAlive, server)
		}
	}
}

func (o *open) unnamed(t *testing.T) {
	one, toOne := o.client3(t, "")
	other, _ := o.client3(t, "")
	done(t, one.Subscribe("unnamed", 1, nil))
	done(t, other.Publish("unnamed", 1, false, "hello"))
	wants(t, toOne, message{topic: "unnamed", payload: "hello", qos: 1})
}

// The policy names an organisation; the registry says whether it is in service.
func TestAnonymousStandsWithItsOrganisation(t *testing.T) {
	t.Parallel()
	st := memstore.New()
	t.Cleanup(func() { _ = st.Close() })
	r, err := registry.Open(st, registry.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	org, err := policy.ParseOrgID(demoOrg)
	if err != nil {
		t.Fatal(err)
	}
	arrive := func() (policy.Principal, error) {
		p, err := (plugins.Anonymous{}).ForOrg(org).Verify(t.Context(), &plugins.Credential{})
		if err != nil {
			t.Fatal(err)
		}
		return r.Refresh(t.Context(), &p)
	}
	if _, err := arrive(); plugins.CauseOf(err) != policy.CauseNoOrg {
		t.Errorf("no organisation: %v", err)
	}
	if _, err := r.CreateOrganisation(t.Context(), org, ""); err != nil {
		t.Fatal(err)
	}
	first, err := arrive()
	if err != nil || first.Incarnation == 0 || first.Version == 0 || first.Registered || first.ID != "anonymous" {
		t.Errorf("organisation in service: %+v, %v", first, err)
	}
	suspend := func(suspended bool) {
		if _, err := r.UpdateOrganisation(t.Context(), org, func(o *registry.Organisation) error {
			o.Suspended = suspended
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	suspend(true)
	if _, err := r.Refresh(t.Context(), &first); plugins.CauseOf(err) != policy.CauseDisabled {
		t.Errorf("suspended while connected: %v", err)
	}
	if _, err := arrive(); plugins.CauseOf(err) != policy.CauseDisabled {
		t.Errorf("suspended: %v", err)
	}
	suspend(false)
	if _, err := arrive(); err != nil {
		t.Errorf("in service again: %v", err)
	}
	if err := r.DeleteOrganisation(t.Context(), org); err != nil {
		t.Fatal(err)
	}
	if _, err := r.CreateOrganisation(t.Context(), org, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Refresh(t.Context(), &first); plugins.CauseOf(err) != policy.CauseRevoked {
		t.Errorf("a namesake of the organisation: %v", err)
	}
}
