package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// library is one way in which somebody else's client speaks MQTT, or Cordon's
// own commands do.
type library struct {
	*product
	version string // "3.1", "3.1.1" or "5"
	ws      bool   // over WebSocket
}

// product is what libraries have in common that one client program makes.
type product struct {
	name string
	// join connects and subscribes.
	join func(t *testing.T, s *site, l library, g greeting) (*peer, error)

	properties   bool // sets and shows the properties of MQTT 5 messages
	aliases      bool // sends topic aliases
	resolves     bool // takes topic aliases
	unsubscribes bool
	pings        bool // with a keep alive as short as a test wants it
	showsResumed bool // says whether the session was there already
	leavesWill   bool // leaves MQTT 5 with reason 0x04, Disconnect with Will Message
	onlyText     bool // shows topic and payload, and nothing else of a message
}

func (l library) String() string {
	transport := "mqtts"
	if l.ws {
		transport = "wss"
	}
	return fmt.Sprintf("%s MQTT %s %s", l.name, l.version, transport)
}

// libraries are all of them, no product beside itself: most tests have a library
// speak to the next one.
func libraries() []library {
	paho3, paho5, mosquitto, mqttJS, commands := paho3Product(), paho5Product(), mosquittoProduct(), mqttJSProduct(), cordonProduct()
	return []library{
		{paho3, "3.1", false},
		{mosquitto, "3.1", false},
		{mqttJS, "3.1.1", false},
		{paho5, "5", false},
		{commands, "5", false},
		{paho3, "3.1.1", false},
		{mosquitto, "3.1.1", false},
		{mqttJS, "5", false},
		{commands, "3.1.1", true},
		{paho3, "3.1", true},
		{paho5, "5", true},
		{mosquitto, "5", false},
		{mqttJS, "3.1.1", true},
		{commands, "5", true},
		{paho3, "3.1.1", true},
		{mqttJS, "5", true},
		{commands, "3.1.1", false},
	}
}

// greeting is what a client says first: its CONNECT and its SUBSCRIBE.
type greeting struct {
	id, user, password string
	kept               bool   // the session outlives the connection
	expiry             uint32 // by so many seconds, in MQTT 5
	keepAlive          uint16 // seconds; 0: half a minute
	will               *message
	aliases            bool // topic aliases, as far as the library has them
	filters            []string
	qos                byte
}

// pulse is the keep alive, in seconds.
func (g greeting) pulse() uint16 {
	if g.keepAlive == 0 {
		return 30
	}
	return g.keepAlive
}

// peer is a client that is connected. Its functions are those of its library.
type peer struct {
	library
	id      string // that it chose, or was given
	resumed bool   // CONNACK said that the session was there
	inbox   chan message

	granted     func() []byte // the codes of SUBACK
	publish     func(message) error
	unsubscribe func(filter string) error
	aliased     func() int // how many messages came and went without their topic
	leave       func()     // with a DISCONNECT

	lost <-chan struct{} // closed when the connection ends, of the libraries of Paho
}

// newPeer has room for what arrives: nothing that a test sends waits for it.
func newPeer(l library, id string) *peer {
	return &peer{library: l, id: id, inbox: make(chan message, 256)}
}

// message is one on its way out or in.
type message struct {
	topic, payload string
	qos            byte
	retain         bool
	properties
}

// properties are those of MQTT 5. User properties are written "a=1,a=2".
type properties struct {
	expiry                      uint32
	response, correlation, user string
}

// shown is what a library says of a message that arrived.
func (l library) shown(m message) message {
	if l.onlyText {
		return message{topic: m.topic, payload: m.payload}
	}
	if !l.properties || l.version != "5" {
		m.properties = properties{}
	}
	return m
}

// wants waits for one message, and nothing before it.
func (p *peer) wants(t *testing.T, want message) {
	t.Helper()
	if got, want := p.next(t), p.shown(want); got != want {
		t.Errorf("%s got %s, want %s", p, got, want)
	}
}

func (p *peer) next(t *testing.T) message {
	t.Helper()
	select {
	case got := <-p.inbox:
		return got
	case <-within(t).Done():
		t.Fatalf("nothing arrived at %s", p)
		return message{}
	}
}

// sends publishes what has to be accepted.
func (p *peer) sends(t *testing.T, m message) {
	t.Helper()
	if err := p.publish(m); err != nil {
		t.Fatalf("%s publishes %s: %v", p, m, err)
	}
}

// String keeps long payloads out of what a test prints.
func (m message) String() string {
	if len(m.payload) > 100 {
		m.payload = fmt.Sprintf("%s… of %d bytes", m.payload[:20], len(m.payload))
	}
	return fmt.Sprintf("{%s %q QoS %d retain %t %+v}", m.topic, m.payload, m.qos, m.retain, m.properties)
}

// doors are where clients find a broker.
type doors struct {
	address, https string // of MQTT over TLS, and of HTTPS
	caFile         string
}

// tls trusts the broker's own authority.
func (d doors) tls(t *testing.T) *tls.Config {
	t.Helper()
	text, err := os.ReadFile(d.caFile)
	pool := x509.NewCertPool()
	if err != nil || !pool.AppendCertsFromPEM(text) {
		t.Fatalf("CA certificate: %v", err)
	}
	return &tls.Config{RootCAs: pool, ServerName: "localhost", MinVersion: tls.VersionTLS12}
}

// url is the door for a library, with the scheme it has for TLS.
func (d doors) url(l library, scheme string) *url.URL {
	if l.ws {
		return &url.URL{Scheme: "wss", Host: d.https, Path: "/mqtt"}
	}
	return &url.URL{Scheme: scheme, Host: d.address}
}

// site is a broker that runs, and what its clients need there.
type site struct {
	doors
	log      *processLog
	js       *script     // nil where there is no MQTT.js
	settings *tls.Config // in the place of those of the doors

	names *atomic.Int32 // how many were given
}

func newSite(t *testing.T, d doors, log *processLog) *site {
	t.Helper()
	return &site{doors: d, log: log, js: startScript(t), names: new(atomic.Int32)}
}

// tls is what the libraries of Paho connect with.
func (s *site) tls(t *testing.T) *tls.Config {
	t.Helper()
	if s.settings != nil {
		return s.settings.Clone()
	}
	return s.doors.tls(t)
}

// name is one that nobody else has there: for client IDs and topics. It is short
// enough for MQTT 3.1.
func (s *site) name() string { return fmt.Sprintf("n%d", s.names.Add(1)) }

// join has a client come that has to be let in.
func (s *site) join(t *testing.T, l library, g greeting) *peer {
	t.Helper()
	p, err := s.tries(t, l, g)
	if err != nil {
		t.Fatalf("%s as %q: %v", l, g.id, err)
	}
	return p
}

// tries has a client come that may be refused.
func (s *site) tries(t *testing.T, l library, g greeting) (*peer, error) {
	t.Helper()
	p, err := l.product.join(t, s, l, g)
	if err != nil {
		return nil, err
	}
	p.leave = sync.OnceFunc(p.leave)
	t.Cleanup(p.leave)
	return p, nil
}

// parts has a client leave, and waits until the broker knows.
func (s *site) parts(t *testing.T, p *peer) {
	t.Helper()
	line := []byte("msg=disconnected org=" + demoOrg + " client=" + p.id + "\n")
	logged := func() (int, <-chan struct{}) {
		s.log.state.Lock()
		defer s.log.state.Unlock()
		return bytes.Count(s.log.state.text, line), s.log.state.changed
	}
	before, _ := logged()
	p.leave()
	for {
		now, changed := logged()
		if now > before {
			return
		}
		select {
		case <-changed:
		case <-within(t).Done():
			t.Fatalf("the broker did not notice that %s left", p)
		}
	}
}

// within ends after as long as a test should wait for anything.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// pairs are user properties, taken apart.
func pairs(user string) [][2]string {
	var all [][2]string
	for pair := range strings.SplitSeq(user, ",") {
		if key, value, ok := strings.Cut(pair, "="); ok {
			all = append(all, [2]string{key, value})
		}
	}
	return all
}
