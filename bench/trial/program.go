package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/cordon-mq/cordon/bench/trial/client"
	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/broker/store/badgerstore"
	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/policy"
)

// organisation is the one that everybody in a trial belongs to.
const organisation = "trial1"

// program is the built program and a data folder with one organisation, whose
// API key every client uses.
type program struct {
	binary string
	dir    string // everything that is written
	data   string
	mqtt   string // addresses, the same in every run
	mqtts  string // empty: off
	args   []string
	env    []string
	watch  func(line string) // what sees each line of the log; may be nil

	key, token string // secrets of a registry that is thrown away
}

// prepare builds the program, unless binary names one, and registers.
// The caller calls remove, also after an error.
func prepare(ctx context.Context, binary string) (*program, error) {
	dir, err := os.MkdirTemp("", "cordon-trial-")
	if err != nil {
		return &program{}, err
	}
	p := &program{binary: binary, dir: dir, data: filepath.Join(dir, "data")}
	if binary == "" {
		say("building the program")
		p.binary = filepath.Join(dir, "cordon")
		if out, err := exec.CommandContext(ctx, "go", "build", "-o", p.binary, "github.com/cordon-mq/cordon").CombinedOutput(); err != nil {
			return p, fmt.Errorf("build: %w\n%s", err, out)
		}
	}
	if p.mqtt, err = listenAddress(); err != nil {
		return p, err
	}
	return p, p.register(ctx)
}

// remove deletes everything that was written.
func (p *program) remove() {
	if p.dir != "" {
		_ = os.RemoveAll(p.dir)
	}
}

func (p *program) register(ctx context.Context) (err error) {
	st, err := badgerstore.Open(filepath.Join(p.data, "db"), badgerstore.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	r, err := registry.Open(st, registry.Options{DefaultConnectionLevel: registry.LevelTLSOptional})
	if err != nil {
		return err
	}
	defer r.Close()
	org, err := policy.ParseOrgID(organisation)
	if err != nil {
		return err
	}
	seed, err := r.SeedOrganisation(ctx, org, "")
	p.key, p.token = seed.APIKey.Key, seed.APIToken
	return err
}

// listenAddress is a free one with a port that the system gives to nobody who
// connects. A client that dials while the broker is dead could otherwise be
// given the very port, and be connected with itself.
func listenAddress() (string, error) {
	for range 100 {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(20_000+rand.IntN(10_000))) //nolint:gosec // a port is no secret
		if l, err := net.Listen("tcp", address); err == nil {
			return address, l.Close()
		}
	}
	return "", errors.New("no free port")
}

// application is what application n connects with.
func (p *program) application(n string, v wire.Version, clean bool) client.Config {
	return client.Config{
		Address: p.mqtt, Version: v, Clean: clean,
		ClientID: fmt.Sprintf("a:%s:%s", organisation, n), Username: p.key, Password: p.token,
	}
}

// tlsConfig trusts the authority of the data folder, which the first start makes.
func (p *program) tlsConfig() (*tls.Config, error) {
	text, err := os.ReadFile(filepath.Join(p.data, "tls", "ca.crt"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, errors.New("ca.crt holds no certificate")
	}
	return &tls.Config{RootCAs: roots, ServerName: "localhost", MinVersion: tls.VersionTLS13}, nil
}

// broker is one run of the program.
type broker struct {
	cmd     *exec.Cmd
	log     *brokerLog
	started time.Time
	gone    chan struct{} // closed when it has ended
	err     error         // how; read after gone
}

// start runs the program; it may not be ready yet. The caller ends it with kill
// or stop.
func (p *program) start() (*broker, error) {
	mqtts := p.mqtts
	if mqtts == "" {
		mqtts = "off"
	}
	args := append([]string{"serve", "--data", p.data, "--mqtt", p.mqtt, "--mqtts", mqtts, "--https", "off"}, p.args...)
	b := &broker{cmd: exec.Command(p.binary, args...), log: newBrokerLog(), started: time.Now(), gone: make(chan struct{})}
	b.cmd.Env = append(os.Environ(), p.env...)
	b.log.watch = p.watch
	b.cmd.Stderr = b.log
	if err := b.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { // kill and stop wait for it
		b.err = b.cmd.Wait()
		close(b.gone)
	}()
	return b, nil
}

// startTime bounds a start. It is far above what any takes.
const startTime = 10 * time.Minute

// ready waits for the line that says so and returns how long the start took.
func (b *broker) ready(ctx context.Context) (time.Duration, error) {
	timer := time.NewTimer(startTime)
	defer timer.Stop()
	select {
	case at := <-b.log.ready:
		b.log.ready <- at
		return at.Sub(b.started), nil
	case <-b.gone:
		return 0, fmt.Errorf("the program ended before it was ready: %w\n%s", b.err, b.log.tail())
	case <-timer.C:
		return 0, fmt.Errorf("not ready after %s\n%s", startTime, b.log.tail())
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

// run starts the program and waits until it is ready.
func (p *program) run(ctx context.Context) (*broker, error) {
	b, err := p.start()
	if err != nil {
		return nil, err
	}
	if _, err := b.ready(ctx); err != nil {
		b.kill()
		return nil, err
	}
	return b, nil
}

// kill ends it with SIGKILL and waits until it is gone.
func (b *broker) kill() {
	_ = b.cmd.Process.Kill() // it may be gone already
	<-b.gone
}

// stop ends it in good order.
func (b *broker) stop() error {
	const patience = time.Minute
	if err := b.cmd.Process.Signal(os.Interrupt); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-b.gone:
		if b.err != nil {
			return fmt.Errorf("the program ended with %w\n%s", b.err, b.log.tail())
		}
		return nil
	case <-time.After(patience):
		b.kill()
		return fmt.Errorf("the program did not stop in %s", patience)
	}
}

// died reports an end that nobody asked for.
func (b *broker) died() error {
	select {
	case <-b.gone:
		return fmt.Errorf("the program died: %w\n%s", b.err, b.log.tail())
	default:
		return nil
	}
}

func (b *broker) pid() int { return b.cmd.Process.Pid }
