package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/broker/store/badgerstore"
	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
)

// identity is what a client connects with; without a user it has no password.
type identity struct{ client, user, token string }

// peer is one broker under load, over plain TCP on the loopback interface.
type peer struct {
	name      string
	address   string
	process   *exec.Cmd
	publisher func(i int) identity
	reader    func(i int) identity
	topic     func(publisher, k int) string // as that publisher writes it
	clean     func()
}

const benchDevices = 50

// startPeers starts Cordon and whatever peer is installed here.
func startPeers() (peers []*peer, err error) {
	cordon, err := startCordon()
	if err != nil {
		return nil, err
	}
	peers = append(peers, cordon)
	if _, err := exec.LookPath("mosquitto"); err != nil {
		fmt.Fprintln(os.Stderr, "bench: mosquitto is not installed; Cordon alone")
		return peers, nil //nolint:nilerr // that was said, and is no failure
	}
	mosquitto, err := startMosquitto()
	if err != nil {
		return peers, err
	}
	return append(peers, mosquitto), nil
}

// startCordon builds and runs the program with its default policies: devices
// publish with their own token, applications read with an API key.
func startCordon() (*peer, error) {
	dir, err := os.MkdirTemp("", "cordon-bench-")
	if err != nil {
		return nil, err
	}
	clean := func() { _ = os.RemoveAll(dir) }
	binary := filepath.Join(dir, "cordon")
	if out, err := exec.Command("go", "build", "-o", binary, "github.com/cordon-mq/cordon").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build: %w\n%s", err, out)
	}
	key, token, devices, err := register(filepath.Join(dir, "data"))
	if err != nil {
		return nil, err
	}
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	cmd, err := command(binary, "serve", "--data", filepath.Join(dir, "data"), "--mqtt", address,
		"--mqtts", "off", "--https", "off", "--log-level", "error")
	if err != nil {
		return nil, err
	}
	return &peer{
		name: "Cordon, default policies", address: address, process: cmd, clean: clean,
		publisher: func(i int) identity {
			return identity{fmt.Sprintf("d:bench1:sensor:d%d", i), "use-token-auth", devices[i]}
		},
		reader: func(i int) identity { return identity{fmt.Sprintf("a:bench1:r%d", i), key, token} },
		topic:  func(_, k int) string { return fmt.Sprintf("iot-2/evt/e%d/fmt/json", k) },
	}, await(address)
}

func register(data string) (key, token string, devices []string, err error) {
	ctx := context.Background()
	st, err := badgerstore.Open(filepath.Join(data, "db"), badgerstore.Options{})
	if err != nil {
		return "", "", nil, err
	}
	defer func() { _ = st.Close() }()
	r, err := registry.Open(st, registry.Options{})
	if err != nil {
		return "", "", nil, err
	}
	defer r.Close()
	org, err := policy.ParseOrgID("bench1")
	if err != nil {
		return "", "", nil, err
	}
	seed, err := r.SeedOrganisation(ctx, org, "")
	if err != nil {
		return "", "", nil, err
	}
	if _, err := r.CreateType(ctx, org, registry.DeviceType{ID: "sensor"}); err != nil {
		return "", "", nil, err
	}
	for i := range benchDevices {
		_, t, err := r.CreateDevice(ctx, org, registry.Device{Type: "sensor", ID: policy.ID(fmt.Sprintf("d%d", i))}, plugins.Secret{})
		if err != nil {
			return "", "", nil, err
		}
		devices = append(devices, t)
	}
	return seed.APIKey.Key, seed.APIToken, devices, nil
}

// startMosquitto runs it without authentication and without persistence; its
// clients write the topics that Cordon's mounts make of theirs.
func startMosquitto() (*peer, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(address)
	file, err := os.CreateTemp("", "mosquitto-bench-*.conf")
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(file, "listener %s 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nmax_inflight_messages 100\nset_tcp_nodelay true\nlog_type error\n", port)
	if err := file.Close(); err != nil {
		return nil, err
	}
	cmd, err := command("mosquitto", "-c", file.Name())
	if err != nil {
		return nil, err
	}
	return &peer{
		name: "Mosquitto, allow all", address: address, process: cmd,
		clean:     func() { _ = os.Remove(file.Name()) },
		publisher: func(i int) identity { return identity{client: fmt.Sprintf("p%d", i)} },
		reader:    func(i int) identity { return identity{client: fmt.Sprintf("r%d", i)} },
		topic:     func(i, k int) string { return fmt.Sprintf("iot-2/type/sensor/id/d%d/evt/e%d/fmt/json", i, k) },
	}, await(address)
}

// freeAddress is one that nobody listens on at this moment.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// await waits until somebody accepts.
func await(address string) error {
	for range 100 {
		if c, err := net.Dial("tcp", address); err == nil {
			return c.Close()
		}
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("nobody listens on %s", address)
}

func (p *peer) stop() {
	_ = p.process.Process.Signal(os.Interrupt)
	_ = p.process.Wait()
	p.clean()
}

// cpu is what the process has used so far, user and system, from the kernel.
func (p *peer) cpu() (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.process.Process.Pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	user, err := strconv.ParseInt(fields[11], 10, 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond, err // in 1/100 s
}
