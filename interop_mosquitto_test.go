package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// mosquittoProduct is mosquitto_sub, which holds the client ID while it runs, and
// mosquitto_pub. Their shortest keep alive is five seconds. In MQTT 5 mosquitto_sub
// asks for its will when it is told to stop.
func mosquittoProduct() *product {
	return &product{name: "Mosquitto", join: joinMosquitto, properties: true, leavesWill: true}
}

// mosquittoMissing says what is not installed.
func mosquittoMissing() string {
	for _, program := range []string{"mosquitto_pub", "mosquitto_sub", "stdbuf"} {
		if !installed(program) {
			return program + " is not installed"
		}
	}
	return ""
}

func joinMosquitto(t *testing.T, s *site, l library, g greeting) (*peer, error) {
	p := newPeer(l, g.id)
	p.publish = func(m message) error { return mosquittoPub(t, s, l, g, m) }
	p.leave = func() {}
	if len(g.filters) == 0 {
		return p, nil
	}
	return p, mosquittoSub(t, s, l, g, p)
}

// mosquittoArgs are what both programs are given. What they do is printed by -d.
func (s *site) mosquittoArgs(t *testing.T, l library, g greeting) []string {
	host, port, err := net.SplitHostPort(s.address)
	if err != nil {
		t.Fatal(err)
	}
	version := map[string]string{"3.1": "mqttv31", "3.1.1": "mqttv311", "5": "mqttv5"}[l.version]
	args := []string{"-d", "-V", version, "-h", host, "-p", port, "--cafile", s.caFile}
	if g.id != "" {
		args = append(args, "-i", g.id)
	}
	if g.user != "" {
		args = append(args, "-u", g.user, "-P", g.password)
	}
	return args
}

func mosquittoPub(t *testing.T, s *site, l library, g greeting, m message) error {
	if len(g.filters) > 0 {
		g.id = "" // it is in use
	}
	args := append(s.mosquittoArgs(t, l, g), "-t", m.topic, "-q", strconv.Itoa(int(m.qos)))
	if m.payload == "" {
		args = append(args, "-n")
	} else {
		args = append(args, "-m", m.payload)
	}
	if m.retain {
		args = append(args, "-r")
	}
	property := func(values ...string) { args = append(append(args, "-D", "publish"), values...) }
	if m.expiry > 0 {
		property("message-expiry-interval", strconv.Itoa(int(m.expiry)))
	}
	if m.response != "" {
		property("response-topic", m.response)
	}
	if m.correlation != "" {
		property("correlation-data", m.correlation)
	}
	for _, pair := range pairs(m.user) {
		property("user-property", pair[0], pair[1])
	}
	out, err := exec.CommandContext(within(t), "mosquitto_pub", args...).CombinedOutput()
	// A refusal of MQTT 5 is a warning to it.
	if err != nil || bytes.Contains(out, []byte("Warning: Publish")) {
		return fmt.Errorf("mosquitto_pub: %v\n%s", err, out) //nolint:errorlint // the exit status is text here
	}
	return nil
}

// mosquittoSub starts mosquitto_sub and waits until it is subscribed.
func mosquittoSub(t *testing.T, s *site, l library, g greeting, p *peer) error {
	args := append(s.mosquittoArgs(t, l, g), "-q", strconv.Itoa(int(g.qos)), "-k", strconv.Itoa(int(g.pulse())),
		"-F", mosquittoFormat())
	for _, filter := range g.filters {
		args = append(args, "-t", filter)
	}
	if g.kept {
		args = append(args, "-c")
		if l.version == "5" {
			args = append(args, "-x", strconv.Itoa(int(g.expiry)))
		}
	}
	if w := g.will; w != nil {
		args = append(args, "--will-topic", w.topic, "--will-payload", w.payload, "--will-qos", strconv.Itoa(int(w.qos)))
	}
	out, in := io.Pipe()
	// A line has to come when it is written: the next step waits for it.
	cmd := exec.CommandContext(within(t), "stdbuf", append([]string{"-oL", "mosquitto_sub"}, args...)...)
	cmd.Stdout, cmd.Stderr = in, in
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() { _ = in.CloseWithError(cmd.Wait()) }()
	subscribed, gone := make(chan []byte, 1), make(chan struct{})
	var printed []string
	go func() {
		defer close(gone)
		printed = p.readMosquitto(bufio.NewReader(out), subscribed)
	}()
	p.leave = func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it says DISCONNECT
		<-gone
	}
	select {
	case codes := <-subscribed:
		p.granted = func() []byte { return codes }
		return nil
	case <-gone:
		return fmt.Errorf("mosquitto_sub ended: %s", strings.Join(printed, "\n"))
	}
}

// mosquittoFormat has mosquitto_sub print a message in one line.
func mosquittoFormat() string {
	return strings.Join([]string{"got", "%q", "%r", "%t", "%E", "%R", "%D", "%P", "%p"}, "\t")
}

// readMosquitto takes what mosquitto_sub prints until it ends, and returns what
// it had to say besides.
func (p *peer) readMosquitto(out *bufio.Reader, subscribed chan<- []byte) (rest []string) {
	for {
		line, err := out.ReadString('\n')
		if err != nil {
			return rest
		}
		line = strings.TrimSuffix(line, "\n")
		if codes, ok := strings.CutPrefix(line, "Subscribed (mid: 1): "); ok {
			subscribed <- numbers(strings.Split(codes, ", ")...)
		} else if fields := strings.SplitN(line, "\t", 9); len(fields) == 9 && fields[0] == "got" {
			expiry, _ := strconv.ParseUint(fields[4], 10, 32) // empty: none
			p.inbox <- message{
				topic: fields[3], payload: fields[8], qos: numbers(fields[1])[0], retain: fields[2] == "1",
				properties: properties{
					expiry: uint32(expiry), response: fields[5], correlation: fields[6],
					user: strings.NewReplacer(":", "=", " ", ",").Replace(fields[7]),
				},
			}
		} else {
			rest = append(rest, line)
		}
		if found := assignedID().FindStringSubmatch(line); p.id == "" && found != nil {
			p.id = found[1]
		}
	}
}

// assignedID is in the line of a CONNACK.
func assignedID() *regexp.Regexp { return regexp.MustCompile(`^Client (\S+) received CONNACK`) }

// numbers are small ones, 0 where it is none.
func numbers(texts ...string) (all []byte) {
	for _, text := range texts {
		n, _ := strconv.ParseUint(text, 10, 8)
		all = append(all, byte(n))
	}
	return all
}
