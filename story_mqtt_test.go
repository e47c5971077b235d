package main

import (
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/broker/wire/wiretest"
)

// client is an MQTT client of a story.
type client struct {
	*wiretest.Client
	arrived []*wire.Publish // while something else was awaited
	last    uint16          // packet identifier
}

// mqtt is the command of that name: mqtt NAME and then one of
//
//	connect [-v 3.1|3.1.1|5] [-u USER] [-P PASSWORD] [-keep] [-will TOPIC=PAYLOAD]
//	        [-tls 1.1|1.2|1.3] [-sni NAME] [-cert NAME] [-plain] CLIENTID
//	                            prints "connack CODE", with "present" for a session
//	                            that was there; or "handshake: ERROR". -keep asks
//	                            for a session that outlives the connection
//	subscribe [-q QOS] FILTER...             prints "suback CODE..."
//	unsubscribe FILTER...                    prints "unsuback CODE..."
//	publish [-q QOS] [-r] TOPIC PAYLOAD      prints "puback CODE", "pubrec CODE",
//	                            "pubcomp CODE" as they come; for QoS 0 nothing
//	expect                      waits for a message: "q1 TOPIC PAYLOAD", or
//	                            "q1 retained TOPIC PAYLOAD"; it is acknowledged
//	ping                        prints "pingresp"
//	closed                      waits for the end: "closed", in MQTT 5 after
//	                            "disconnect CODE"
//	disconnect                  says goodbye and waits for the end
//	drop                        goes without a word
//
// A code is a number such as 0x87, with the reason string after it where there
// is one. A connection that ends instead of an answer prints what closed does.
// That nothing arrives is shown with a fence: another message, sent later, which
// has to be the next one.
func (s *story) mqtt(args []string) {
	if len(args) < 2 {
		s.ts.Fatalf("mqtt NAME COMMAND")
	}
	name, command, args := args[0], args[1], args[2:]
	set := flag.NewFlagSet("mqtt "+command, 0)
	c := s.clients[name]
	switch {
	case command == "connect" && c == nil:
		s.connect(name, set, args)
		return
	case command == "connect":
		s.ts.Fatalf("%s is connected", name)
	case c == nil:
		s.ts.Fatalf("%s is not connected", name)
	}
	qos := set.Uint("q", 0, "QOS")
	retain := set.Bool("r", false, "retain")
	switch command {
	case "subscribe":
		p := &wire.Subscribe{PacketID: c.next()}
		for _, filter := range s.options(set, args, 1, -1) {
			p.Filters = append(p.Filters, wire.Subscription{Filter: filter, QoS: byte(*qos)})
		}
		c.send(wiretest.Subscribe(c.Version, p))
		s.receive(name, wire.TypeSuback)
	case "unsubscribe":
		c.send(wiretest.Unsubscribe(c.Version, &wire.Unsubscribe{PacketID: c.next(), Filters: s.options(set, args, 1, -1)}))
		s.receive(name, wire.TypeUnsuback)
	case "publish":
		args = s.options(set, args, 2, 2)
		s.publish(name, &wire.Publish{Topic: []byte(args[0]), Payload: []byte(args[1]), QoS: byte(*qos), Retain: *retain})
	case "expect":
		s.options(set, args, 0, 0)
		if len(c.arrived) == 0 {
			s.receive(name, wire.TypePublish)
			return
		}
		s.show(c.arrived[0])
		c.arrived = c.arrived[1:]
	case "ping":
		s.options(set, args, 0, 0)
		c.send(wiretest.Pingreq())
		s.receive(name, wire.TypePingresp)
	case "closed":
		s.options(set, args, 0, 0)
		s.receive(name, 0)
	case "disconnect", "drop":
		s.options(set, args, 0, 0)
		if command == "disconnect" {
			c.send(wiretest.Disconnect(c.Version, &wire.Disconnect{}))
			c.ExpectClosed()
		}
		c.Close()
		delete(s.clients, name)
	default:
		s.ts.Fatalf("mqtt NAME %s: no such command", command)
	}
}

// connect opens a connection and waits for its CONNACK.
func (s *story) connect(name string, set *flag.FlagSet, args []string) {
	protocol := set.String("v", "5", "protocol")
	user := set.String("u", "", "USER")
	password := set.String("P", "", "PASSWORD")
	keep := set.Bool("keep", false, "keep the session")
	will := set.String("will", "", "TOPIC=PAYLOAD")
	secure := set.String("tls", "1.3", "version")
	serverName := set.String("sni", "localhost", "NAME")
	shown := set.String("cert", "", "NAME")
	plain := set.Bool("plain", false, "without TLS")
	id := s.options(set, args, 1, 1)[0]

	p := &wire.Connect{
		ClientID: id, KeepAlive: 60, CleanStart: !*keep,
		HasUsername: *user != "", Username: *user, HasPassword: *password != "", Password: []byte(*password),
	}
	switch *protocol {
	case "3.1":
		p.Version = wire.V31
	case "3.1.1":
		p.Version = wire.V311
	case "5":
		p.Version = wire.V5
		if *keep {
			p.HasSessionExpiry, p.SessionExpiry = true, 3600
		}
	default:
		s.ts.Fatalf("-v %s", *protocol)
	}
	if topic, payload, ok := strings.Cut(*will, "="); ok {
		p.Will = &wire.Will{Topic: topic, Payload: []byte(payload), QoS: 1}
	}
	conn, err := s.dial(*plain, *secure, *serverName, *shown)
	if err != nil {
		s.printf("handshake: %v\n", err)
		return
	}
	c := &client{Client: wiretest.NewClient(s.tb, conn, p.Version)}
	s.clients[name] = c
	c.send(wiretest.Connect(p))
	s.receive(name, wire.TypeConnack)
}

func (s *story) dial(plain bool, version, serverName, shown string) (net.Conn, error) {
	dialer := &net.Dialer{Timeout: patience}
	if plain {
		return dialer.DialContext(s.tb.Context(), "tcp", s.ts.Getenv("MQTT"))
	}
	settings := s.trusting(serverName)
	if shown != "" {
		settings.Certificates = []tls.Certificate{s.issued.leaves[shown].TLS()}
	}
	switch version {
	case "1.1":
		settings.MinVersion = tls.VersionTLS11
	case "1.2":
		settings.MinVersion = tls.VersionTLS12
	case "1.3":
		settings.MinVersion = tls.VersionTLS13
	default:
		s.ts.Fatalf("-tls %s", version)
	}
	settings.MaxVersion = settings.MinVersion
	return (&tls.Dialer{NetDialer: dialer, Config: settings}).DialContext(s.tb.Context(), "tcp", s.ts.Getenv("MQTTS"))
}

// publish sends p and goes through its acknowledgements.
func (s *story) publish(name string, p *wire.Publish) {
	c := s.clients[name]
	if p.QoS > 0 {
		p.PacketID = c.next()
	}
	c.send(wiretest.Publish(c.Version, p))
	switch p.QoS {
	case 1:
		s.receive(name, wire.TypePuback)
	case 2:
		if ack, ok := s.receive(name, wire.TypePubrec).(*wire.Ack); ok && ack.Code < 0x80 {
			c.send(wiretest.Ack(c.Version, wire.Ack{Kind: wire.TypePubrel, PacketID: ack.PacketID}))
			s.receive(name, wire.TypePubcomp)
		}
	}
}

// receive waits for a packet of type want, or with 0 for the end of the
// connection, and prints it. Messages that come before are acknowledged and kept
// for expect. At the end it prints how that came, and returns nil.
func (s *story) receive(name string, want wire.Type) wire.Packet {
	c := s.clients[name]
	for {
		packet, err := c.Receive()
		switch p := packet.(type) {
		case nil:
			if errors.Is(err, os.ErrDeadlineExceeded) {
				s.ts.Fatalf("%s waited for %s in vain", name, want)
			}
			if len(c.arrived) > 0 {
				s.ts.Fatalf("%s has messages that nobody expected", name)
			}
			s.printf("closed\n")
			c.Close()
			delete(s.clients, name)
			return nil
		case *wire.Disconnect:
			s.show(p)
			continue
		case *wire.Publish:
			c.acknowledge(p)
			if want != wire.TypePublish && want != 0 {
				c.arrived = append(c.arrived, p)
				continue
			}
		case *wire.Ack:
			if p.Kind == wire.TypePubrel {
				c.send(wiretest.Ack(c.Version, wire.Ack{Kind: wire.TypePubcomp, PacketID: p.PacketID}))
				continue
			}
		}
		s.show(packet)
		if packet.Type() != want {
			s.ts.Fatalf("%s got %s, not %s", name, packet.Type(), want)
		}
		return packet
	}
}

// show prints one packet on one line.
func (s *story) show(packet wire.Packet) {
	name := strings.ToLower(packet.Type().String())
	switch p := packet.(type) {
	case *wire.Connack:
		if p.SessionPresent {
			name += " present"
		}
		s.showCodes(name, p.ReasonString, p.Code)
	case *wire.Disconnect:
		s.showCodes(name, p.ReasonString, p.Code)
	case *wire.Suback:
		s.showCodes(name, p.ReasonString, p.Codes...)
	case *wire.Unsuback:
		s.showCodes(name, p.ReasonString, p.Codes...)
	case *wire.Ack:
		s.showCodes(name, p.ReasonString, p.Code)
	case *wire.Publish:
		retained := ""
		if p.Retain {
			retained = " retained"
		}
		s.answer = p.Payload
		s.learn() // a message may hand something over
		s.printf("q%d%s %s %s\n", p.QoS, retained, p.Topic, s.secrets.masked(string(p.Payload)))
	default:
		s.printf("%s\n", name)
	}
}

func (s *story) showCodes(name, reason string, codes ...wire.Code) {
	for _, code := range codes {
		name += fmt.Sprintf(" 0x%02x", byte(code))
	}
	if reason != "" {
		name += fmt.Sprintf(" %q", reason)
	}
	s.printf("%s\n", name)
}

func (s *story) printf(format string, args ...any) {
	_, err := fmt.Fprintf(s.ts.Stdout(), format, args...)
	s.ts.Check(err)
}

// send writes a packet. A connection that is gone shows when it is read from;
// and no error may quote the packet, which can have a password in it.
func (c *client) send(packet []byte) {
	_ = c.Conn.SetWriteDeadline(time.Now().Add(wiretest.Patience))
	_, _ = c.Conn.Write(packet)
}

func (c *client) acknowledge(p *wire.Publish) {
	kind := map[byte]wire.Type{1: wire.TypePuback, 2: wire.TypePubrec}[p.QoS]
	if p.QoS > 0 {
		c.send(wiretest.Ack(c.Version, wire.Ack{Kind: kind, PacketID: p.PacketID}))
	}
}

// next is a packet identifier that is free.
func (c *client) next() uint16 {
	c.last++
	return c.last
}
