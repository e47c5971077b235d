package peers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cordon-mq/cordon/bench/load"
)

// Config says what a Lab prepares.
type Config struct {
	Root    string   // folder of Cordon's module
	Names   []string // of the peers wanted
	Devices int      // that Cordon's registry knows
	Binary  string   // of Cordon; empty: it is built
	// Say is told what is prepared and who is absent.
	Say func(format string, args ...any)
}

// Lab is the peers of one run and the folder they live in.
type Lab struct {
	Peers []*Peer // in the order of Names

	dir     string
	root    string
	devices int
	cert    string // PEM files
	key     string
}

// errAbsent is a peer that cannot be run here.
var errAbsent = errors.New("absent")

// Open builds and prepares every peer of c.Names. One that is absent is said and left out.
// The caller closes the Lab, also after an error.
func Open(ctx context.Context, c Config) (*Lab, error) {
	dir, err := os.MkdirTemp("", "cordon-bench-")
	if err != nil {
		return &Lab{}, err
	}
	l := &Lab{dir: dir, root: c.Root, devices: c.Devices}
	if err := l.makeCertificate(); err != nil {
		return l, err
	}
	prepare := map[string]func(context.Context) (*Peer, error){
		Cordon:    func(ctx context.Context) (*Peer, error) { return l.cordon(ctx, c.Binary) },
		Mosquitto: l.mosquitto,
		Mochi:     l.mochi,
		NATS:      l.nats,
		Bare:      l.bare,
	}
	for _, name := range Names() {
		if !slices.Contains(c.Names, name) {
			continue
		}
		c.Say("preparing %s", name)
		p, err := prepare[name](ctx)
		switch {
		case errors.Is(err, errAbsent):
			c.Say("%s is left out: %v", name, err)
			continue
		case err != nil:
			return l, fmt.Errorf("prepare %s: %w", name, err)
		}
		p.Name, p.lab = name, l
		l.Peers = append(l.Peers, p)
	}
	return l, nil
}

// Close removes everything that the peers have written.
func (l *Lab) Close() error {
	if l.dir == "" {
		return nil
	}
	return os.RemoveAll(l.dir)
}

// build compiles a package; folder is relative to Cordon's module.
func (l *Lab) build(ctx context.Context, name, folder string) (string, error) {
	binary := filepath.Join(l.dir, name)
	cmd := exec.CommandContext(ctx, "go", "build", "-o", binary, ".")
	cmd.Dir = filepath.Join(l.root, folder)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", folder, err, out)
	}
	return binary, nil
}

// module builds a peer that is a module of its own. Where the versions it names
// cannot be had, it is absent.
func (l *Lab) module(ctx context.Context, name, path string) (binary, version string, err error) {
	folder := filepath.Join("bench", "peers", name)
	if _, err := os.Stat(filepath.Join(l.root, folder, "go.mod")); errors.Is(err, fs.ErrNotExist) {
		return "", "", fmt.Errorf("%w: no folder %s", errAbsent, folder)
	}
	if binary, err = l.build(ctx, name, folder); err != nil {
		return "", "", fmt.Errorf("%w: %w", errAbsent, err)
	}
	cmd := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Version}}", path)
	cmd.Dir = filepath.Join(l.root, folder)
	out, err := cmd.Output()
	return binary, string(bytes.TrimSpace(out)), err
}

// nameless are the identities of a broker that asks nobody who he is.
func nameless(p *Peer) *Peer {
	p.device = func(i int) load.Identity { return load.Identity{ClientID: fmt.Sprintf("d%d", i)} }
	p.app = func(id string) load.Identity { return load.Identity{ClientID: "a" + id} }
	return p
}

func (l *Lab) mochi(ctx context.Context) (*Peer, error) {
	binary, version, err := l.module(ctx, Mochi, "github.com/mochi-mqtt/server/v2")
	return nameless(&Peer{
		Title: "mochi", Version: version, Setup: "its server with the hook that allows everything",
		launch: func(e endpoints, _ bool) (string, []string, error) {
			return binary, []string{"-mqtt", e.plain}, nil
		},
	}), err
}

func (l *Lab) nats(ctx context.Context) (*Peer, error) {
	binary, version, err := l.module(ctx, NATS, "github.com/nats-io/nats-server/v2")
	return nameless(&Peer{
		Title: "nats-server", Version: version, Setup: "embedded, its MQTT listener, JetStream in files",
		launch: func(e endpoints, _ bool) (string, []string, error) {
			return binary, []string{"-mqtt", e.plain, "-data", filepath.Join(l.dir, "jetstream")}, nil
		},
	}), err
}

func (l *Lab) bare(ctx context.Context) (*Peer, error) {
	binary, err := l.build(ctx, Bare, filepath.Join("bench", "peers", "bare"))
	return nameless(&Peer{
		Title: "bare TLS", Setup: "crypto/tls and a CONNACK, nothing else", hasTLS: true, caFile: l.cert,
		launch: func(e endpoints, _ bool) (string, []string, error) {
			return binary, []string{"-mqtts", e.tls, "-cert", l.cert, "-key", l.key}, nil
		},
	}), err
}

// mosquitto runs without authentication. Limits that would make it drop what
// others have to carry are off.
func (l *Lab) mosquitto(context.Context) (*Peer, error) {
	binary, err := exec.LookPath("mosquitto")
	if err != nil {
		return nil, fmt.Errorf("%w: it is not installed", errAbsent)
	}
	return nameless(&Peer{
		Title: "Mosquitto", Version: mosquittoVersion(binary), hasTLS: true, caFile: l.cert,
		Setup: "anonymous, no limit on queues, 100 in flight; where sessions are kept, with persistence at its defaults",
		launch: func(e endpoints, keep bool) (string, []string, error) {
			file := filepath.Join(l.dir, "mosquitto.conf")
			return binary, []string{"-c", file}, os.WriteFile(file, []byte(l.mosquittoConf(e, keep)), 0o600)
		},
	}), nil
}

func mosquittoVersion(binary string) string {
	out, _ := exec.Command(binary, "-h").Output() // help ends with status 3
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimPrefix(strings.TrimSpace(line), "mosquitto version ")
}

func (l *Lab) mosquittoConf(e endpoints, keep bool) string {
	var conf strings.Builder
	fmt.Fprintf(&conf, "user root\nallow_anonymous true\nlog_type error\nset_tcp_nodelay true\n")
	fmt.Fprintf(&conf, "max_queued_messages 0\nmax_inflight_messages 100\n")
	if keep {
		fmt.Fprintf(&conf, "persistence true\npersistence_location %s/\n", l.dir)
	}
	fmt.Fprintf(&conf, "listener %s 127.0.0.1\n", port(e.plain))
	fmt.Fprintf(&conf, "listener %s 127.0.0.1\ncertfile %s\nkeyfile %s\n", port(e.tls), l.cert, l.key)
	return conf.String()
}

func port(address string) string { return address[strings.LastIndexByte(address, ':')+1:] }
