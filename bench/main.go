package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"time"
)

// scenario is one shape of traffic.
type scenario struct {
	name       string
	publishers int
	readers    int // each receives every message
	qos        byte
	messages   int // in all, published
	window     int // per publisher: unacknowledged at QoS 1, not yet received at QoS 0
}

// result is what one scenario cost one peer.
type result struct {
	cpu       time.Duration // of the broker, per delivered message
	rate      float64       // delivered messages a second
	delivered float64       // share of what was due
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	rounds := flag.Int("rounds", 3, "how often each case runs; the median is printed")
	scale := flag.Float64("scale", 1, "multiplies the number of messages")
	flag.Parse()
	peers, err := startPeers()
	defer func() {
		for _, p := range peers {
			p.stop()
		}
	}()
	if err != nil {
		return err
	}
	scenarios := []scenario{
		{"fan-in 50→1, QoS 0", 50, 1, 0, 600_000, 100},
		{"fan-in 50→1, QoS 1", 50, 1, 1, 300_000, 20},
		{"fan-out 1→50, QoS 0", 1, 50, 0, 20_000, 100},
		{"one at a time, 50 publishers, QoS 1", 50, 1, 1, 100_000, 1},
	}
	fmt.Println("| case | peer | CPU per delivered message, µs | × first peer | messages/s | delivered |")
	fmt.Println("| --- | --- | ---: | ---: | ---: | ---: |")
	for _, sc := range scenarios {
		sc.messages = int(float64(sc.messages) * *scale)
		found := make([][]result, len(peers))
		for round := range *rounds + 1 { // in turn, so that a slower hour is everybody's
			for i, p := range peers {
				r, err := measure(p, sc)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", sc.name, p.name, err)
				}
				if round > 0 { // the first is a warm-up
					found[i] = append(found[i], r)
				}
			}
		}
		first := median(found[0])
		for i, p := range peers {
			m := median(found[i])
			fmt.Printf("| %s | %s | %.2f | %.2f | %.0f | %.1f %% |\n", sc.name, p.name,
				m.cpu.Seconds()*1e6, m.cpu.Seconds()/first.cpu.Seconds(), m.rate, m.delivered*100)
		}
	}
	return nil
}

// median is that of the CPU time, with the other figures of that round.
func median(rs []result) result {
	sorted := slices.SortedFunc(slices.Values(rs), func(a, b result) int { return int(a.cpu - b.cpu) })
	return sorted[len(sorted)/2]
}

// measure runs one scenario against one peer.
func measure(p *peer, sc scenario) (result, error) {
	before, err := p.cpu()
	if err != nil {
		return result{}, err
	}
	started := time.Now()
	delivered, err := load(p, sc)
	if err != nil {
		return result{}, err
	}
	took := time.Since(started)
	after, err := p.cpu()
	if err != nil || delivered == 0 {
		return result{}, errors.Join(err, errors.New("nothing was delivered"))
	}
	return result{
		cpu:       (after - before) / time.Duration(delivered),
		rate:      float64(delivered) / took.Seconds(),
		delivered: float64(delivered) / float64(sc.messages*sc.readers),
	}, nil
}

// command starts a program and returns it running.
func command(name string, args ...string) (*exec.Cmd, error) {
	cmd := exec.Command(name, args...)
	cmd.Stderr = os.Stderr
	return cmd, cmd.Start()
}
