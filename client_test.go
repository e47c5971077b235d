package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestPubAndSubUsage(t *testing.T) {
	t.Parallel()
	pub := func(args ...string) []string { return append([]string{"pub", "-t", "a", "-m", "x"}, args...) }
	sub := func(args ...string) []string { return append([]string{"sub", "-t", "a"}, args...) }
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"pub", "-m", "x"}, "missing flags: --topic"},
		{[]string{"pub", "-t", "a"}, "missing flags: --message"},
		{[]string{"sub"}, "missing flags: --topic"},
		{pub("-n"), "can't be used together"},
		{pub("-l"), "can't be used together"},
		{[]string{"pub", "-t", "", "-m", "x"}, "--topic"},
		{[]string{"pub", "-t", "a/#", "-m", "x"}, "--topic"},
		{sub("-t", "a/#/b"), "--topic"},
		{sub("-t", "$share//a"), "--topic"},
		{pub("-q", "3"), "--qos"},
		{pub("-V", "4"), "--protocol-version"},
		{pub("-h", ""), "--host"},
		{pub("-p", "65536"), "--port"},
		{pub("-P", "x"), "--password needs --user"},
		{pub("--plain", "--ca", "x"), "--plain"},
		{pub("--plain", "--insecure"), "--plain"},
		{pub("--insecure", "--ca", "x"), "--insecure"},
		{pub("--will-payload", "x"), "--will-topic"},
		{pub("--will-topic", "+"), "--will-topic"},
		{sub("-c"), "-i"},
		{sub("--session-expiry", "9"), "-c"},
		{sub("-c", "-i", "x", "-V", "3.1.1", "--session-expiry", "9"), "MQTT 5"},
		{sub("-C", "-1"), "--count"},
		{sub("-W", "soon"), "--wait"},
	} {
		got := cordon(t, nil, test.args...)
		if got.status != exitUsage || got.out != "" || !strings.Contains(got.errors, test.want) {
			t.Errorf("%q: %+v, want %q", test.args, got, test.want)
		}
	}
}

// -h is the host; help is --help, everywhere.
func TestHostIsNotHelp(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"-h"}, {"version", "-h"}, {"policy", "check", "-h"}} {
		if got := cordon(t, nil, args...); got.status != exitUsage || !strings.Contains(got.errors, "unknown flag -h") {
			t.Errorf("%q: %+v", args, got)
		}
	}
	for _, command := range []string{"pub", "sub"} {
		if got := cordon(t, nil, command, "--help"); got.status != exitOK || !strings.Contains(got.out, "-h, --host=HOST") {
			t.Errorf("%s: %+v", command, got)
		}
	}
}

func TestDefaultPorts(t *testing.T) {
	t.Parallel()
	for want, f := range map[uint16]connectFlags{
		8883: {}, 8443: {WS: true}, 1883: {Plain: true}, 7: {Port: 7, Plain: true},
	} {
		if got := f.port(); got != want {
			t.Errorf("%+v: %d, want %d", f, got, want)
		}
	}
	if got := (&connectFlags{WS: true, Plain: true}).port(); got != 1883 {
		t.Errorf("a WebSocket without TLS: %d", got)
	}
}

// A reason comes from the other side of the network.
func TestReasonsDoNotSteerTheTerminal(t *testing.T) {
	t.Parallel()
	err := &refusedError{what: "connection refused", code: "Not authorized", number: 0x87, reason: "no\x1b[2J \u202eso"}
	if got, want := err.Error(), "connection refused: Not authorized (0x87): no\uFFFD[2J \uFFFDso"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Whoever asks for a WebSocket does not follow the server to somewhere else.
func TestWebSocketIsNotRedirected(t *testing.T) {
	t.Parallel()
	asked := make(chan string, 4)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.URL.Path
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	}))
	t.Cleanup(server.Close)
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	for _, version := range []string{"5", "3.1.1"} {
		got := cordon(t, nil, "pub", "-V", version, "--plain", "--ws", "-h", "127.0.0.1", "-p", port, "-t", "a", "-m", "x")
		if got.status != exitFailed || !strings.Contains(got.errors, "307") {
			t.Errorf("MQTT %s: %+v", version, got)
		}
		if path := <-asked; path != "/mqtt" || len(asked) > 0 {
			t.Errorf("MQTT %s: asked for %s and %d more", version, path, len(asked))
		}
	}
}

// A host that accepts and says nothing must not hold anybody who gives up.
func TestSilentBroker(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"5", "3.1.1"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		_, port, _ := net.SplitHostPort(l.Addr().String())
		sub := start(t, "sub", "-V", version, "--plain", "-h", "127.0.0.1", "-p", port, "-t", "a")
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Read(make([]byte, 1)); err != nil { // CONNECT
			t.Fatal(err)
		}
		sub.stop()
		<-sub.ended
		if sub.got.status != exitFailed || sub.got.errors != "cordon: interrupted\n" {
			t.Errorf("MQTT %s: %+v", version, sub.got)
		}
		_ = conn.Close()
	}
}
