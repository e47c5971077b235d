package main

import (
	"context"
	"fmt"
	"os/exec"
	"time"

	"github.com/cordon-mq/cordon/bench/load"
	"github.com/cordon-mq/cordon/bench/peers"
)

// benchCase is one shape of load.
type benchCase struct {
	id, title string
	chart     string // cases of one chart have the same name and the same first metric
	peers     []string
	metrics   []metric // columns; the first is drawn
	keep      bool     // the broker stores sessions
	alone     bool     // it needs no broker
	needs     string   // a program
	run       func(context.Context, *trial) (sample, error)
}

// missing says why the case cannot run here.
func (c benchCase) missing() string {
	if c.needs == "" {
		return ""
	}
	if _, err := exec.LookPath(c.needs); err != nil {
		return c.needs + " is not installed"
	}
	return ""
}

// trial is one case and one peer, once.
type trial struct {
	*bench
	benchCase
	peer    *peers.Peer
	process *peers.Process
}

// size is how much of everything there is.
type size struct {
	warm, span  time.Duration
	storm       time.Duration // longer: connects are few
	crowd       int           // subscriptions of others
	idle        int           // connections
	left        int           // messages for each absent session
	settle      time.Duration // until memory stands still, at most
	publishers  int
	many        int // publishers, one message at a time
	subscribers int
	pairs       int
}

func sizes(scale float64) size {
	times := func(d time.Duration) time.Duration {
		return max(100*time.Millisecond, time.Duration(scale*float64(d)))
	}
	return size{
		warm: times(700 * time.Millisecond), span: times(2500 * time.Millisecond), storm: times(2500 * time.Millisecond),
		crowd: max(200, int(scale*100_000)), idle: min(max(100, int(scale*5000)), 8000), left: max(10, int(min(scale, 1)*200)),
		settle: 20 * time.Second, publishers: 50, many: 500, subscribers: 50, pairs: 50,
	}
}

// devices is how many different ones any case needs.
func (s size) devices() int { return max(s.many, s.idle, s.publishers, s.pairs) }

// Windows: messages each publisher has open.
const (
	fanInWindow  = 20
	fanOutWindow = 100
	pairsWindow  = 100
	payload      = 64 // bytes
)

// cases lists everything in the order it runs. Fan-in comes before open
// arrival, whose rate it finds.
func cases() []benchCase {
	brokers := []string{peers.Cordon, peers.Mosquitto, peers.Mochi, peers.NATS}
	withTLS := []string{peers.Cordon, peers.Mosquitto}
	flow := []metric{cpuPerMessage, perSecond, delivered, p50, p99, ownCPU}
	open := []metric{p99, p50, cpuPerMessage, perSecond, delivered, ownCPU}
	var list []benchCase
	for _, qos := range []byte{0, 1} {
		at := func(id string) string { return fmt.Sprintf("%s-qos%d", id, qos) }
		list = append(list,
			benchCase{
				id: at("fan-in"), title: fmt.Sprintf("Fan-in 50→1, QoS %d", qos), chart: "fan-in", peers: brokers, metrics: flow,
				run: func(ctx context.Context, t *trial) (sample, error) { return t.flow(ctx, t.fanIn(qos, t.process.Plain)) },
			},
			benchCase{
				id: at("fan-in-tls"), title: fmt.Sprintf("Fan-in 50→1 over TLS 1.3, QoS %d", qos), chart: "fan-in-tls", peers: withTLS, metrics: flow,
				run: func(ctx context.Context, t *trial) (sample, error) { return t.flow(ctx, t.fanIn(qos, t.process.TLS)) },
			},
			benchCase{
				id: at("open"), title: fmt.Sprintf("Open arrival, QoS %d", qos), chart: "open-arrival", peers: brokers, metrics: open,
				run: func(ctx context.Context, t *trial) (sample, error) { return t.openArrival(ctx, qos) },
			},
			benchCase{
				id: at("one-at-a-time"), title: fmt.Sprintf("500 publishers, one message at a time, QoS %d", qos), chart: "one-at-a-time", peers: brokers, metrics: flow,
				run: func(ctx context.Context, t *trial) (sample, error) {
					f := t.fanIn(qos, t.process.Plain)
					f.Publishers, f.Window = t.publishers(t.size.many), 1
					return t.flow(ctx, f)
				},
			},
		)
	}
	return append(list,
		benchCase{
			id: "fan-in-crowd", title: "Fan-in 50→1, QoS 0, among other subscriptions that come and go", chart: "fan-in-crowd",
			peers: withTLS, metrics: flow, run: func(ctx context.Context, t *trial) (sample, error) { return t.crowded(ctx) },
		},
		benchCase{
			id: "churn", title: "Fan-in 50→1, QoS 0, each message to a topic that nobody used before", chart: "churn",
			peers: withTLS, metrics: flow, run: func(ctx context.Context, t *trial) (sample, error) {
				return t.flow(ctx, t.churn(t.process.Plain))
			},
		},
		benchCase{
			id: "churn-uncovered", title: "The same with policies whose answers cover no other topics", chart: "churn",
			peers: []string{peers.Cordon}, alone: true, metrics: flow,
			run: func(ctx context.Context, t *trial) (sample, error) { return t.uncovered(ctx) },
		},
		benchCase{
			id: "authorisation", title: "Authorisation, part of all CPU of fan-in QoS 0", chart: "authorisation", peers: []string{peers.Cordon},
			metrics: []metric{authShare}, needs: "perf", run: func(ctx context.Context, t *trial) (sample, error) { return t.profile(ctx) },
		},
		benchCase{
			id: "fan-out", title: "Fan-out 1→50, QoS 0", chart: "fan-out", peers: brokers, metrics: flow,
			run: func(ctx context.Context, t *trial) (sample, error) { return t.flow(ctx, t.fanOut()) },
		},
		benchCase{
			id: "pairs-kept", title: "50 pairs 1→1, QoS 1, into persistent sessions", chart: "pairs", keep: true,
			peers:   []string{peers.Cordon, peers.Mosquitto, peers.NATS},
			metrics: []metric{perSecond, cpuPerMessage, delivered, keptShare, p50, p99, ownCPU},
			run:     func(ctx context.Context, t *trial) (sample, error) { return t.pairsKept(ctx) },
		},
		benchCase{
			id: "idle", title: "Idle connection, plain", chart: "idle", peers: brokers, metrics: []metric{bytesPerConn},
			run: func(ctx context.Context, t *trial) (sample, error) { return t.idle(ctx, t.process.Plain) },
		},
		benchCase{
			id: "idle-tls", title: "Idle connection, TLS 1.3", chart: "idle", peers: withTLS, metrics: []metric{bytesPerConn},
			run: func(ctx context.Context, t *trial) (sample, error) { return t.idle(ctx, t.process.TLS) },
		},
		benchCase{
			id: "connects", title: "Connect and disconnect, plain", chart: "connects", peers: brokers,
			metrics: []metric{connects, cpuPerConnect, p50, p99},
			run:     func(ctx context.Context, t *trial) (sample, error) { return t.storm(ctx, t.process.Plain) },
		},
		benchCase{
			id: "connects-unmonitored", title: "Connect and disconnect, plain, nobody told of it", chart: "connects",
			peers: []string{peers.Cordon}, alone: true, metrics: []metric{connects, cpuPerConnect, p50, p99},
			run: func(ctx context.Context, t *trial) (sample, error) { return t.unmonitored(ctx) },
		},
		benchCase{
			id: "connects-plugin", title: "Connect and disconnect, plain, tokens checked by the plugin jwt", chart: "connects",
			peers: []string{peers.Cordon}, metrics: []metric{connects, cpuPerConnect, p50, p99},
			run: func(ctx context.Context, t *trial) (sample, error) { return t.pluggedStorm(ctx, t.process.Plain) },
		},
		benchCase{
			id: "connects-tls", title: "Connect and disconnect, TLS 1.3, full handshake", chart: "connects",
			peers:   []string{peers.Cordon, peers.Mosquitto, peers.Bare},
			metrics: []metric{connects, cpuPerConnect, p50, p99},
			run:     func(ctx context.Context, t *trial) (sample, error) { return t.storm(ctx, t.process.TLS) },
		},
		benchCase{
			id: "decision-same", title: "Remembered decision, the session's last topic", chart: "decision", peers: []string{peers.Cordon}, alone: true,
			metrics: []metric{nanoseconds}, run: func(ctx context.Context, t *trial) (sample, error) { return t.decision(ctx, "BenchmarkLastTopic") },
		},
		benchCase{
			id: "decision-rotating", title: "Remembered decision, rotating topics", chart: "decision", peers: []string{peers.Cordon}, alone: true,
			metrics: []metric{nanoseconds}, run: func(ctx context.Context, t *trial) (sample, error) { return t.decision(ctx, "BenchmarkRemembered") },
		},
	)
}

func (t *trial) publishers(n int) []load.Publisher {
	list := make([]load.Publisher, n)
	for i := range list {
		list[i] = t.peer.Publisher(i)
	}
	return list
}

func (t *trial) readers(n int) []load.Reader {
	list := make([]load.Reader, n)
	for i := range list {
		list[i] = t.peer.Reader(i)
	}
	return list
}

func (t *trial) fanIn(qos byte, target load.Target) load.Flow {
	return load.Flow{
		Target: target, Publishers: t.publishers(t.size.publishers), Readers: t.readers(1), QoS: qos,
		Payload: payload, Window: fanInWindow,
		Warm: t.size.warm, WarmMessages: 2 * peers.TopicsPerPublisher, Span: t.size.span,
	}
}

// churn is fan-in without a topic that comes twice.
func (t *trial) churn(target load.Target) load.Flow {
	f := t.fanIn(0, target)
	for i := range f.Publishers {
		f.Publishers[i] = t.peer.FreshPublisher(i)
	}
	return f
}

func (t *trial) fanOut() load.Flow {
	f := t.fanIn(0, t.process.Plain)
	f.Publishers, f.Readers, f.Window = t.publishers(1), t.readers(t.size.subscribers), fanOutWindow
	return f
}
