package main

import (
	"math"

	"github.com/cordon-mq/cordon/bench/peers"
	"github.com/cordon-mq/cordon/bench/report"
)

// goal is what a figure is meant to be: the median of one, or its ratio to another.
type goal struct {
	what    string
	of      term
	against term // zero: the figure itself counts
	limit   float64
	atLeast bool // the limit is a lower one
	unit    string
}

// term is one figure.
type term struct {
	caseID, peer string
	metric       metric
}

// verdict of a goal.
const (
	met     = "met"
	missed  = "**missed**"
	unknown = "not measured"
)

// judge returns what was measured, NaN when something is missing, and whether that will do.
func (g goal) judge(r results) (measured float64, verdict string) {
	measured = r.spread(g.of.caseID, g.of.peer, g.of.metric).Median
	if g.against != (term{}) {
		measured /= r.spread(g.against.caseID, g.against.peer, g.against.metric).Median
	}
	switch {
	case math.IsNaN(measured) || math.IsInf(measured, 0):
		return math.NaN(), unknown
	case g.atLeast && measured >= g.limit, !g.atLeast && measured <= g.limit:
		return measured, met
	}
	return measured, missed
}

// wanted is the limit as people read it.
func (g goal) wanted() string {
	sign := "≤ "
	if g.atLeast {
		sign = "≥ "
	}
	return sign + report.Number(g.limit) + g.suffix()
}

func (g goal) suffix() string {
	if g.against != (term{}) {
		return " ×"
	}
	if g.unit == "" {
		return ""
	}
	return " " + g.unit
}

// goals lists what Cordon is meant to reach.
func goals() []goal {
	ratio := func(what, caseID string, m metric, peer string, limit float64) goal {
		return goal{what: what, of: term{caseID, peers.Cordon, m}, against: term{caseID, peer, m}, limit: limit}
	}
	figure := func(what, caseID string, m metric, limit float64, unit string) goal {
		return goal{what: what, of: term{caseID, peers.Cordon, m}, limit: limit, unit: unit}
	}
	atLeast := func(g goal) goal { g.atLeast = true; return g }
	crowd := goal{
		what: "fan-in QoS 0, CPU, among other subscriptions / quiet", limit: 1.5,
		of: term{"fan-in-crowd", peers.Cordon, cpuPerMessage}, against: term{"fan-in-qos0", peers.Cordon, cpuPerMessage},
	}
	churn := goal{
		what: "fan-in QoS 0, messages/s, topics that are always new / that take turns", limit: 0.6, atLeast: true,
		of: term{"churn", peers.Cordon, perSecond}, against: term{"fan-in-qos0", peers.Cordon, perSecond},
	}
	tlsConnects := goal{
		what: "connects/s, TLS, / bare Go TLS listener", limit: 0.85, atLeast: true,
		of: term{"connects-tls", peers.Cordon, connects}, against: term{"connects-tls", peers.Bare, connects},
	}
	pluginConnects := goal{
		what: "connects/s, tokens checked by a plugin / built-in tokens", limit: 0.7, atLeast: true,
		of: term{"connects-plugin", peers.Cordon, connects}, against: term{"connects", peers.Cordon, connects},
	}
	monitoring := goal{
		what: "connect and disconnect, CPU, / without monitoring", limit: 1.3,
		of: term{"connects", peers.Cordon, cpuPerConnect}, against: term{"connects-unmonitored", peers.Cordon, cpuPerConnect},
	}
	return []goal{
		ratio("fan-in QoS 0, CPU, / Mosquitto", "fan-in-qos0", cpuPerMessage, peers.Mosquitto, 0.30),
		ratio("fan-in QoS 1, CPU, / Mosquitto", "fan-in-qos1", cpuPerMessage, peers.Mosquitto, 0.30),
		ratio("fan-in QoS 0, CPU, / mochi", "fan-in-qos0", cpuPerMessage, peers.Mochi, 0.15),
		ratio("fan-in QoS 1, CPU, / mochi", "fan-in-qos1", cpuPerMessage, peers.Mochi, 0.15),
		ratio("fan-in QoS 0 over TLS, CPU, / Mosquitto", "fan-in-tls-qos0", cpuPerMessage, peers.Mosquitto, 0.6),
		ratio("fan-in QoS 1 over TLS, CPU, / Mosquitto", "fan-in-tls-qos1", cpuPerMessage, peers.Mosquitto, 0.6),
		crowd,
		churn,
		ratio("open arrival QoS 0, p50, / Mosquitto", "open-qos0", p50, peers.Mosquitto, 1),
		ratio("open arrival QoS 0, p99, / Mosquitto", "open-qos0", p99, peers.Mosquitto, 1),
		ratio("open arrival QoS 1, p50, / Mosquitto", "open-qos1", p50, peers.Mosquitto, 1),
		ratio("open arrival QoS 1, p99, / Mosquitto", "open-qos1", p99, peers.Mosquitto, 1),
		ratio("500 publishers one at a time, QoS 0, CPU, / Mosquitto", "one-at-a-time-qos0", cpuPerMessage, peers.Mosquitto, 0.85),
		ratio("500 publishers one at a time, QoS 1, CPU, / Mosquitto", "one-at-a-time-qos1", cpuPerMessage, peers.Mosquitto, 0.85),
		ratio("fan-out, CPU, / Mosquitto", "fan-out", cpuPerMessage, peers.Mosquitto, 0.15),
		ratio("fan-out, CPU, / nats-server", "fan-out", cpuPerMessage, peers.NATS, 0.6),
		figure("authorisation, part of all CPU", "authorisation", authShare, 10, "%"),
		atLeast(figure("pairs into persistent sessions", "pairs-kept", perSecond, 50_000, "messages/s")),
		atLeast(ratio("pairs into persistent sessions, messages/s, / nats-server", "pairs-kept", perSecond, peers.NATS, 3)),
		atLeast(figure("acknowledged messages kept after kill -9", "pairs-kept", keptShare, 100, "%")),
		figure("idle connection, plain", "idle", bytesPerConn, 12, "kB"),
		figure("idle connection, TLS", "idle-tls", bytesPerConn, 36, "kB"),
		atLeast(ratio("connects/s, plain, / mochi", "connects", connects, peers.Mochi, 0.9)),
		monitoring,
		pluginConnects,
		tlsConnects,
		figure("remembered decision, last topic", "decision-same", nanoseconds, 60, "ns"),
		figure("remembered decision, rotating topics", "decision-rotating", nanoseconds, 200, "ns"),
	}
}
