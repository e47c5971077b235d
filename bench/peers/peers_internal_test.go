package peers

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/bench/load"
)

func TestParseCPU(t *testing.T) {
	t.Parallel()
	const stat = "4711 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 150 25 0 0 20 0 1"
	if got, err := parseCPU(stat); err != nil || got != 1750*time.Millisecond {
		t.Errorf("%s, %v; want 1.75s", got, err)
	}
	for _, bad := range []string{"", "1 (x) S 1 2", "1 (x) S 1 2 3 4 5 6 7 8 9 10 x 25 0", "1 (x) S 1 2 3 4 5 6 7 8 9 10 150 x 0"} {
		if _, err := parseCPU(bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestParseResident(t *testing.T) {
	t.Parallel()
	if got, err := parseResident("Name:\tx\nVmRSS:\t   12 kB\nThreads:\t1\n"); err != nil || got != 12<<10 {
		t.Errorf("%d, %v; want 12 KiB", got, err)
	}
	for _, bad := range []string{"", "VmRSS: many kB\n"} {
		if _, err := parseResident(bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

// Mounted or not, the same device publishes to the same topics.
func TestPublishersSpeakTheirBrokersTopics(t *testing.T) {
	t.Parallel()
	who := func(int) load.Identity { return load.Identity{ClientID: "x"} }
	short := (&Peer{device: who, mounts: true}).Publisher(3).Topics
	long := (&Peer{device: who}).Publisher(3).Topics
	if len(short) != TopicsPerPublisher || short[2] != "iot-2/evt/e2/fmt/json" {
		t.Errorf("short topics %q", short)
	}
	for i := range short {
		if want := strings.Replace(short[i], "iot-2/", "iot-2/type/sensor/id/d3/", 1); long[i] != want {
			t.Errorf("long topic %q, want %q", long[i], want)
		}
	}
}

// The smallest peer is really built, started, loaded and stopped.
func TestBareIsRun(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("builds and starts a program")
	}
	var said []string
	lab, err := Open(t.Context(), Config{Root: "../..", Names: []string{Bare}, Say: func(f string, _ ...any) { said = append(said, f) }})
	t.Cleanup(func() {
		if err := lab.Close(); err != nil {
			t.Error(err)
		}
	})
	if err != nil || len(lab.Peers) != 1 || len(said) != 1 {
		t.Fatal(lab.Peers, said, err)
	}
	process, err := lab.Peers[0].Start(context.WithoutCancel(t.Context()), false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { process.Kill() }) // of the last one
	if process.Plain.Address != "" || process.TLS.TLS == nil {
		t.Errorf("it listens on %q, and on %q over TLS", process.Plain.Address, process.TLS.Address)
	}
	out, err := load.Storm{
		Target: process.TLS, Identities: []load.Identity{{ClientID: "a"}, {ClientID: "b"}}, Workers: 2, Span: time.Millisecond, Probe: process.CPU,
	}.Run(t.Context())
	if err != nil || out.Delivered < 4 {
		t.Errorf("%d connects, %v", out.Delivered, err)
	}
	if resident, err := process.Resident(); err != nil || resident < 1<<20 {
		t.Errorf("%d bytes resident, %v", resident, err)
	}
	first, at := process.PID(), process.TLS.Address
	process.Kill()
	if err := process.Restart(t.Context()); err != nil || process.PID() == first || process.TLS.Address != at {
		t.Errorf("after kill -9: process %d at %s, %v; want another one than %d at %s", process.PID(), process.TLS.Address, err, first, at)
	}
}

func TestMosquittoConf(t *testing.T) {
	t.Parallel()
	l := &Lab{dir: "/d", cert: "/d/c", key: "/d/k"}
	at := endpoints{plain: "127.0.0.1:1", tls: "127.0.0.1:2"}
	lines := strings.Split(l.mosquittoConf(at, false), "\n")
	for _, want := range []string{"listener 1 127.0.0.1", "listener 2 127.0.0.1", "certfile /d/c", "keyfile /d/k", "max_queued_messages 0"} {
		if !slices.Contains(lines, want) {
			t.Errorf("no line %q in %q", want, lines)
		}
	}
	if slices.Contains(lines, "persistence true") {
		t.Error("it stores what nobody asked it to")
	}
	if !strings.Contains(l.mosquittoConf(at, true), "persistence true\npersistence_location /d/\n") {
		t.Error("it does not store what it was asked to")
	}
}
