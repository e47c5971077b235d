package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// readyTopic has a retained message: whoever subscribes gets it when all its
// subscriptions are made.
const readyTopic = "ready"

// cordonProduct is cordon sub, which holds the client ID while it runs, and cordon
// pub. A message is a line of sub: that is all it says of one.
func cordonProduct() *product {
	return &product{name: "cordon", join: joinCordon, pings: true, onlyText: true}
}

// cordonArgs are what both commands are given.
func (s *site) cordonArgs(t *testing.T, l library, g greeting, command string) []string {
	t.Helper()
	address := s.address
	if l.ws {
		address = s.https
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	args := []string{command, "-V", l.version, "-h", "localhost", "-p", port, "--ca", s.caFile, "-k", strconv.Itoa(int(g.pulse()))}
	if l.ws {
		args = append(args, "--ws")
	}
	if g.id != "" {
		args = append(args, "-i", g.id)
	}
	if g.user != "" {
		args = append(args, "-u", g.user, "-P", g.password)
	}
	return args
}

func joinCordon(t *testing.T, s *site, l library, g greeting) (*peer, error) {
	p := newPeer(l, g.id)
	p.publish = func(m message) error { return cordonPub(t, s, l, g, m) }
	p.leave = func() {}
	if len(g.filters) == 0 {
		return p, nil
	}
	return p, cordonSub(t, s, l, g, p)
}

func cordonPub(t *testing.T, s *site, l library, g greeting, m message) error {
	if len(g.filters) > 0 {
		g.id = "" // it is in use
	}
	args := append(s.cordonArgs(t, l, g, "pub"), "-t", m.topic, "-q", strconv.Itoa(int(m.qos)))
	if m.payload == "" {
		args = append(args, "-n")
	} else {
		args = append(args, "-m", m.payload)
	}
	if m.retain {
		args = append(args, "-r")
	}
	if got := cordon(t, nil, args...); got.status != exitOK || got.errors != "" {
		return errors.New(got.errors)
	}
	return nil
}

// cordonSub starts sub and waits until it is subscribed.
func cordonSub(t *testing.T, s *site, l library, g greeting, p *peer) error {
	args := append(s.cordonArgs(t, l, g, "sub"), "-v", "-q", strconv.Itoa(int(g.qos)), "-t", readyTopic)
	for _, filter := range g.filters {
		args = append(args, "-t", filter)
	}
	if g.kept {
		args = append(args, "-c")
		if l.version == "5" {
			args = append(args, "--session-expiry", strconv.Itoa(int(g.expiry)))
		}
	}
	if w := g.will; w != nil {
		args = append(args, "--will-topic", w.topic, "--will-payload", w.payload, "--will-qos", strconv.Itoa(int(w.qos)))
	}
	ctx, cancel := context.WithCancel(context.Background())
	out, in := io.Pipe()
	var stderr bytes.Buffer
	go func() {
		run(ctx, args, in, &stderr, func(string) (string, bool) { return "", false })
		_ = in.Close()
	}()
	ready, gone := make(chan struct{}, 1), make(chan struct{})
	go func() {
		defer close(gone) // and stderr is complete
		p.readCordon(bufio.NewReader(out), ready)
	}()
	p.leave = func() { cancel(); <-gone }
	p.granted = func() []byte { // refusals are printed at leisure
		p.leave()
		return refusedCodes(g, stderr.String())
	}
	select {
	case <-ready:
		return nil
	case <-gone:
		cancel()
		return errors.New(stderr.String())
	case <-within(t).Done():
		p.leave()
		return fmt.Errorf("not subscribed: %s", stderr.String())
	}
}

// readCordon takes what sub prints until it ends.
func (p *peer) readCordon(out *bufio.Reader, ready chan<- struct{}) {
	for {
		line, err := out.ReadString('\n')
		if err != nil {
			return
		}
		if topic, payload, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " "); topic == readyTopic {
			select {
			case ready <- struct{}{}:
			default:
			}
		} else {
			p.inbox <- message{topic: topic, payload: payload}
		}
	}
}

// refusedCodes are the QoS that was asked for, but where sub says otherwise.
func refusedCodes(g greeting, stderr string) (codes []byte) {
	for _, filter := range g.filters {
		code := []byte{g.qos}
		refusal := regexp.MustCompile(regexp.QuoteMeta(fmt.Sprintf("subscribe to %q refused", filter)) + `.*\(0x([0-9A-F]{2})\)`)
		if found := refusal.FindStringSubmatch(stderr); found != nil {
			code, _ = hex.DecodeString(found[1])
		}
		codes = append(codes, code...)
	}
	return codes
}
