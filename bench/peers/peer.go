package peers

import (
	"fmt"
	"strings"

	"github.com/cordon-mq/cordon/bench/load"
)

// Names of the peers, in the order they are listed.
const (
	Cordon    = "cordon"
	Mosquitto = "mosquitto"
	Mochi     = "mochi"
	NATS      = "nats"
	Bare      = "bare"
)

// Names lists every peer there may be.
func Names() []string { return []string{Cordon, Mosquitto, Mochi, NATS, Bare} }

// TopicsPerPublisher is how many topics each device rotates over.
const TopicsPerPublisher = 10

// Peer is a broker that can be started.
type Peer struct {
	Name    string // one of the constants
	Title   string // for tables
	Version string // as it says itself
	Setup   string // how it is run, for people

	lab    *Lab
	launch func(e endpoints, keep bool) (program string, args []string, err error)
	hasTLS bool
	device func(i int) load.Identity
	app    func(id string) load.Identity
	mounts bool // devices write short topics
	caFile string

	plugged   func(i int) load.Identity // nil: no plugins
	uncovered []string                  // arguments for policies without covers; nil: it has no policies
}

// Devices is how many different devices may publish or connect.
func (p *Peer) Devices() int { return p.lab.devices }

// Device is who device i connects as; i is less than Devices.
func (p *Peer) Device(i int) load.Identity { return p.device(i) }

// Application is who an application connects as; id is short and of [a-z0-9].
func (p *Peer) Application(id string) load.Identity { return p.app(id) }

// Publisher is device i with its topics.
func (p *Peer) Publisher(i int) load.Publisher {
	prefix := "iot-2/"
	if !p.mounts {
		prefix = fmt.Sprintf("iot-2/type/sensor/id/d%d/", i)
	}
	topics := make([]string, TopicsPerPublisher)
	for k := range topics {
		topics[k] = fmt.Sprintf("%sevt/e%d/fmt/json", prefix, k)
	}
	return load.Publisher{Identity: p.device(i), Topics: topics}
}

// FreshPublisher is device i that writes each message to a topic of its own.
func (p *Peer) FreshPublisher(i int) load.Publisher {
	one := p.Publisher(i)
	return load.Publisher{Identity: one.Identity, Topics: []string{strings.Replace(one.Topics[0], "e0", load.Number, 1)}}
}

// Uncovered is a Cordon whose policies say of each topic only what holds for it:
// their answers cover no others. Nil for any other peer.
func (p *Peer) Uncovered() *Peer {
	if p.uncovered == nil {
		return nil
	}
	other := *p
	other.launch = func(e endpoints, keep bool) (string, []string, error) {
		program, args, err := p.launch(e, keep)
		return program, append(args, p.uncovered...), err
	}
	return &other
}

// FilterAll matches every event of every device.
const FilterAll = "iot-2/type/+/id/+/evt/+/fmt/+"

// FilterOf matches every event of one device. Devices of publishers are d0, d1, …
func FilterOf(device string) string {
	return "iot-2/type/sensor/id/" + device + "/evt/+/fmt/+"
}

// Reader is an application that reads every event.
func (p *Peer) Reader(i int) load.Reader {
	return load.Reader{Identity: p.app(fmt.Sprintf("r%d", i)), Filters: []string{FilterAll}}
}

// ReaderOf is an application that reads the events of device i alone.
func (p *Peer) ReaderOf(i int) load.Reader {
	return load.Reader{
		Identity: p.app(fmt.Sprintf("r%d", i)),
		Filters:  []string{FilterOf(fmt.Sprintf("d%d", i))}, From: []int{i},
	}
}
