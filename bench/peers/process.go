package peers

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/cordon-mq/cordon/bench/load"
)

const (
	startTime = 30 * time.Second // until a broker accepts a client
	stopTime  = 10 * time.Second // until it has ended, before it is killed
	tryEvery  = 50 * time.Millisecond
)

// endpoints are where a broker is told to listen.
type endpoints struct{ plain, tls string }

// Process is a broker that runs. It is not safe for concurrent use, except for CPU.
type Process struct {
	Plain load.Target // without address where the peer has no such listener
	TLS   load.Target

	peer *Peer
	at   endpoints
	keep bool
	cmd  *exec.Cmd
	said *bytes.Buffer // what it wrote to standard error; read after it has ended
	gone chan error
}

// Start runs the broker and waits until it accepts clients. With keep it stores
// sessions as well as it can. The caller ends it with Stop or Kill.
func (p *Peer) Start(ctx context.Context, keep bool) (*Process, error) {
	var at endpoints
	for _, address := range []*string{&at.plain, &at.tls} {
		var err error
		if *address, err = freeAddress(); err != nil {
			return nil, err
		}
	}
	r := &Process{peer: p, at: at, keep: keep}
	return r, r.start(ctx)
}

// Restart runs it again at the same addresses and with the same data.
func (r *Process) Restart(ctx context.Context) error { return r.start(ctx) }

func (r *Process) start(ctx context.Context) error {
	program, args, err := r.peer.launch(r.at, r.keep)
	if err != nil {
		return err
	}
	r.said = &bytes.Buffer{}
	r.cmd = exec.Command(program, args...)
	r.cmd.Stderr = r.said
	if err := r.cmd.Start(); err != nil {
		return err
	}
	gone, cmd := make(chan error, 1), r.cmd
	go func() { gone <- cmd.Wait() }() // Stop and Kill wait for it
	r.gone = gone
	if err := r.await(ctx); err != nil {
		r.Kill()
		return fmt.Errorf("start %s: %w\n%s", r.peer.Name, err, r.said)
	}
	return nil
}

// await connects as a client until that succeeds.
func (r *Process) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	for {
		err := r.reach(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case ended := <-r.gone:
			r.gone <- ended
			return fmt.Errorf("it ended: %w", errors.Join(ended, err))
		case <-time.After(tryEvery):
		}
	}
}

func (r *Process) reach(ctx context.Context) error {
	if r.peer.hasTLS {
		roots, err := readRoots(r.peer.caFile)
		if err != nil {
			return err
		}
		r.TLS = load.Target{Address: r.at.tls, TLS: &tls.Config{RootCAs: roots, ServerName: "localhost", MinVersion: tls.VersionTLS13}}
	}
	target := r.TLS
	if r.peer.Name != Bare {
		r.Plain = load.Target{Address: r.at.plain}
		target = r.Plain
	}
	c, err := load.Connect(ctx, target, r.peer.Application("start"), true)
	if err != nil {
		return err
	}
	return c.Disconnect()
}

// Stop ends the broker in good order.
func (r *Process) Stop() error {
	if err := r.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case err := <-r.gone:
		r.gone <- err
		return nil
	case <-time.After(stopTime):
		r.Kill()
		return fmt.Errorf("%s did not stop in %s", r.peer.Name, stopTime)
	}
}

// Kill ends it with kill -9, and waits until it is gone.
func (r *Process) Kill() {
	_ = r.cmd.Process.Kill() // it may be gone already
	err := <-r.gone
	r.gone <- err
}

// PID is that of the process.
func (r *Process) PID() int { return r.cmd.Process.Pid }

// userHZ is the unit of times in /proc on Linux, whatever the kernel ticks in.
const userHZ = 100

// CPU is what the process has used so far, user and system, to 10 ms.
func (r *Process) CPU() (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", r.PID()))
	if err != nil {
		return 0, err
	}
	return parseCPU(string(stat))
}

// parseCPU reads utime and stime: the 12th and 13th field after the name, which
// may hold anything and stands in parentheses.
func parseCPU(stat string) (time.Duration, error) {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return 0, errors.New("/proc/PID/stat is too short")
	}
	user, err := strconv.ParseInt(fields[11], 10, 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * (time.Second / userHZ), err
}

// Resident is how much memory the process has in RAM, in bytes.
func (r *Process) Resident() (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.PID()))
	if err != nil {
		return 0, err
	}
	return parseResident(string(status))
}

func parseResident(status string) (int64, error) {
	for line := range strings.Lines(status) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kilobytes, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			return kilobytes << 10, err
		}
	}
	return 0, errors.New("/proc/PID/status has no VmRSS")
}

// freeAddress is one that nobody listens on at this moment.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

func readRoots(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate", file)
	}
	return roots, nil
}
