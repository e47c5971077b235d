package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// mqttJSProduct is the client of Node.js and of browsers.
func mqttJSProduct() *product {
	return &product{
		name: "MQTT.js", join: joinMQTTJS,
		properties: true, aliases: true, resolves: true, unsubscribes: true, pings: true, showsResumed: true,
	}
}

// mqttJSMissing says what is not installed.
func mqttJSMissing() string {
	if !installed("node") || exec.Command("node", "-e", "require.resolve('mqtt')").Run() != nil {
		return "node or its package mqtt is not installed; NODE_PATH may name the folder it is in"
	}
	return ""
}

// script is a process of broker/testdata/mqttjs/client.js. All clients of a
// site are in one.
type script struct {
	stdin io.WriteCloser
	ended chan struct{} // closed when it is gone

	state struct {
		sync.Mutex
		commands int // how many were given
		answers  map[int]chan answer
		inboxes  map[string]chan message
	}
}

// order is a line to the script.
type order map[string]any

// answer is a line from it: to a command, or a message for a client.
type answer struct {
	Seq     int
	Error   string
	Resumed bool
	ID      string
	Granted []int
	Aliased int // messages that came and went without their topic

	Client  string
	Message *struct {
		Topic, Payload              string
		QoS                         byte
		Retain                      bool
		Expiry                      uint32
		Response, Correlation, User string
	}
}

// startScript returns nil where there is no MQTT.js.
func startScript(t *testing.T) *script {
	t.Helper()
	if mqttJSMissing() != "" {
		return nil
	}
	cmd := exec.Command("node", filepath.Join("broker", "testdata", "mqttjs", "client.js"))
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr := new(bytes.Buffer)
	cmd.Stderr = stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := &script{stdin: stdin, ended: make(chan struct{})}
	s.state.answers, s.state.inboxes = map[int]chan answer{}, map[string]chan message{}
	go func() {
		defer close(s.ended)
		s.read(stdout)
	}()
	t.Cleanup(func() {
		_ = stdin.Close()
		<-s.ended
		if err := cmd.Wait(); err != nil || stderr.Len() > 0 {
			t.Errorf("MQTT.js: %v\n%s", err, stderr)
		}
	})
	return s
}

// read hands out what the script prints until it ends.
func (s *script) read(stdout io.Reader) {
	lines := json.NewDecoder(bufio.NewReader(stdout))
	for {
		var a answer
		if lines.Decode(&a) != nil {
			return
		}
		s.state.Lock()
		inbox, waiting := s.state.inboxes[a.Client], s.state.answers[a.Seq]
		delete(s.state.answers, a.Seq)
		s.state.Unlock()
		if m := a.Message; m != nil {
			inbox <- message{
				topic: m.Topic, payload: m.Payload, qos: m.QoS, retain: m.Retain,
				properties: properties{expiry: m.Expiry, response: m.Response, correlation: m.Correlation, user: m.User},
			}
		} else if waiting != nil {
			waiting <- a
		}
	}
}

// ask gives the script a command for a client and waits for its answer.
func (s *script) ask(client, what string, c order) (answer, error) {
	answered := make(chan answer, 1)
	s.state.Lock()
	s.state.commands++
	seq := s.state.commands
	c["seq"], c["client"], c["command"] = seq, client, what
	s.state.answers[seq] = answered
	line, err := json.Marshal(c)
	if err == nil {
		_, err = s.stdin.Write(append(line, '\n'))
	}
	s.state.Unlock()
	if err != nil {
		return answer{}, err
	}
	select {
	case a := <-answered:
		if a.Error != "" {
			return a, fmt.Errorf("%s: %s", what, a.Error)
		}
		return a, nil
	case <-s.ended:
		return answer{}, errors.New("the script ended")
	case <-time.After(patience):
		return answer{}, errors.New(what + ": no answer")
	}
}

func joinMQTTJS(t *testing.T, s *site, l library, g greeting) (*peer, error) {
	p, client := newPeer(l, g.id), s.name()
	s.js.state.Lock()
	s.js.state.inboxes[client] = p.inbox
	s.js.state.Unlock()
	p.publish = func(m message) error {
		_, err := s.js.ask(client, "publish", order{"topic": m.topic, "payload": m.payload, "options": optionsJS(l, m)})
		return err
	}
	p.unsubscribe = func(filter string) error {
		_, err := s.js.ask(client, "unsubscribe", order{"filters": []string{filter}})
		return err
	}
	p.aliased = func() int {
		a, err := s.js.ask(client, "count", order{})
		if err != nil {
			t.Error(err)
		}
		return a.Aliased
	}
	p.leave = func() { _, _ = s.js.ask(client, "end", order{}) }

	welcome, err := s.js.ask(client, "connect", order{"url": s.url(l, "mqtts").String(), "ca": s.caFile, "options": connectJS(l, g)})
	if err != nil {
		return nil, err
	}
	p.resumed, p.id = welcome.Resumed, welcome.ID
	if len(g.filters) == 0 {
		return p, nil
	}
	subscribed, err := s.js.ask(client, "subscribe", order{"filters": g.filters, "qos": g.qos})
	if err != nil {
		p.leave()
		return nil, err
	}
	p.granted = func() (codes []byte) {
		for _, code := range subscribed.Granted {
			codes = append(codes, byte(code))
		}
		return codes
	}
	return p, nil
}

// connectJS are the library's options.
func connectJS(l library, g greeting) order {
	options := order{
		"clientId": g.id, "clean": !g.kept, "keepalive": g.pulse(),
		"protocolVersion": map[string]int{"3.1.1": 4, "5": 5}[l.version],
	}
	if g.user != "" {
		options["username"], options["password"] = g.user, g.password
	}
	if w := g.will; w != nil {
		options["will"] = order{"topic": w.topic, "payload": w.payload, "qos": w.qos, "retain": w.retain}
	}
	connect := order{}
	if g.kept && l.version == "5" {
		connect["sessionExpiryInterval"] = g.expiry
	}
	if g.aliases {
		options["autoAssignTopicAlias"], connect["topicAliasMaximum"] = true, 4
	}
	if len(connect) > 0 {
		options["properties"] = connect
	}
	return options
}

func optionsJS(l library, m message) order {
	options := order{"qos": m.qos, "retain": m.retain}
	if l.version != "5" {
		return options
	}
	set, user := order{}, map[string][]string{}
	for _, pair := range pairs(m.user) {
		user[pair[0]] = append(user[pair[0]], pair[1])
	}
	if len(user) > 0 {
		set["userProperties"] = user
	}
	if m.expiry > 0 {
		set["messageExpiryInterval"] = m.expiry
	}
	if m.response != "" {
		set["responseTopic"], set["correlationData"] = m.response, m.correlation
	}
	options["properties"] = set
	return options
}
