package broker_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/broker/wire/wiretest"
	"github.com/cordon-mq/cordon/policy/opa"
	"github.com/cordon-mq/cordon/rego"
)

// openBundle is the example that lets everybody do everything, laid over the
// built-in bundle as an operator would, and compiled once for all tests.
var openBundle = sync.OnceValue(func() *opa.Bundle {
	files := fstest.MapFS{}
	for _, layer := range []fs.FS{rego.Bundle(), os.DirFS("../rego/examples/open")} {
		err := fs.WalkDir(layer, ".", func(name string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			text, err := fs.ReadFile(layer, name)
			files[name] = &fstest.MapFile{Data: text}
			return err
		})
		if err != nil {
			panic(err)
		}
	}
	bundle, report := opa.Load(ctx, files, rego.Schemas())
	if report.Err() != nil {
		panic(report.Err())
	}
	return bundle
})

// newOpenWorld is a broker with that bundle. Whoever comes is let into demo01.
func newOpenWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, openBundle())
	w.org("demo01")
	return w
}

// anybody needs no proof.
func anybody(clientID string) login { return login{clientID: clientID} }

// join connects anybody to a broker that is open to all.
func (w *world) join(clientID string, v wire.Version, options ...option) *client {
	w.t.Helper()
	return w.connect(w.t, anybody(clientID), v, options...)
}

// exchange is one block of testdata/conformance/exchanges*.txt: what clients
// send, byte by byte, and what they are sent. Its lines are
//
//	== 3.1.1, 5 | what it shows | MQTT-3.8.4-1 MQTT-3.8.4-2
//	c> 82 [ 0001 s"a" 00 ]     client c sends
//	c< 90 [ 0001 00 ]          client c is sent exactly this
//	c closed                   and nothing more: the broker has closed
//	c drop                     client c breaks its connection
//	c raw                      client c opens one and sends nothing
//
// A client's first line connects it, with its name as client ID and a clean
// session, unless that line is a CONNECT of its own or follows a drop. At the end
// whoever is still connected is sent nothing but the answer to a ping.
type exchange struct {
	where, title string
	versions     []wire.Version
	statements   []string
	steps        []step
}

type step struct{ where, client, verb, bytes string }

func readExchanges(t *testing.T) (all []exchange) {
	t.Helper()
	files, err := filepath.Glob("testdata/conformance/exchanges*.txt")
	must(t, err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		must(t, err)
		for n, line := range strings.Split(string(text), "\n") {
			where := fmt.Sprintf("%s:%d", filepath.Base(file), n+1)
			switch line = strings.TrimSpace(line); {
			case line == "" || strings.HasPrefix(line, "#"):
			case strings.HasPrefix(line, "== "):
				all = append(all, exchangeFrom(t, where, strings.TrimPrefix(line, "== ")))
			default:
				who, rest, _ := strings.Cut(line, " ")
				s := step{where: where, client: strings.TrimRight(who, "<>"), verb: strings.TrimLeft(who, "abcdefghijklmnopqrstuvwxyz"), bytes: rest}
				if s.verb == "" {
					s.verb, s.bytes = rest, ""
				}
				last := &all[len(all)-1]
				last.steps = append(last.steps, s)
			}
		}
	}
	return all
}

func exchangeFrom(t *testing.T, where, head string) exchange {
	t.Helper()
	columns := strings.Split(head, " | ")
	if len(columns) != 3 {
		t.Fatalf("%s: %d columns", where, len(columns))
	}
	e := exchange{where: where, title: columns[1], statements: strings.Fields(columns[2])}
	for _, name := range strings.Split(columns[0], ", ") {
		v, ok := map[string]wire.Version{"3.1": wire.V31, "3.1.1": wire.V311, "5": wire.V5}[name]
		if !ok {
			t.Fatalf("%s: version %q", where, name)
		}
		e.versions = append(e.versions, v)
	}
	return e
}

func TestExchanges(t *testing.T) {
	t.Parallel()
	for _, e := range readExchanges(t) {
		for _, v := range e.versions {
			t.Run(fmt.Sprintf("%s, MQTT %s, %s", e.title, v, e.where), func(t *testing.T) {
				t.Parallel()
				play{newOpenWorld(t), v, map[string]*client{}}.run(t, e)
			})
		}
	}
}

// play is one exchange under way.
type play struct {
	w       *world
	v       wire.Version
	clients map[string]*client // nil: dropped
}

func (p play) run(t *testing.T, e exchange) {
	t.Helper()
	for _, s := range e.steps {
		packet, err := wiretest.Bytes(s.bytes)
		if err != nil {
			t.Fatalf("%s: %v", s.where, err)
		}
		c := p.client(t, s, packet)
		t.Log(s.where)
		switch s.verb {
		case ">":
			c.Send(packet)
		case "<":
			c.ExpectBytes(packet)
		case "closed":
			if more := c.ExpectClosed(); len(more) > 0 {
				t.Fatalf("sent before it closed: %+v", more[0])
			}
			delete(p.clients, s.client)
		case "raw":
		case "drop":
			c.drop(p.w)
			p.clients[s.client] = nil
		default:
			t.Fatalf("%s: %q", s.where, s.verb)
		}
	}
	for name, c := range p.clients {
		if c != nil {
			t.Logf("at the end, client %s", name)
			c.Send(wiretest.Pingreq())
			c.ExpectBytes([]byte{0xd0, 0})
		}
	}
}

// client is the one that s names, connected if need be.
func (p play) client(t *testing.T, s step, packet []byte) *client {
	t.Helper()
	c, known := p.clients[s.client]
	if c != nil {
		return c
	}
	connects := len(packet) > 0 && packet[0]>>4 == byte(wire.TypeConnect)
	if c = p.w.dial(t, p.v); !known && !connects && s.verb != "raw" {
		c.Send(wiretest.Hello(p.v, s.client))
		c.Expect(wire.TypeConnack)
	}
	p.clients[s.client] = c
	return c
}
