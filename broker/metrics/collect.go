package metrics

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cordon-mq/cordon/broker"
	"github.com/cordon-mq/cordon/policy"
)

// collector reads its sources at every scrape. It implements
// prometheus.Collector.
type collector struct {
	src   Sources
	descs catalogue

	broker  brokerMetrics
	policy  policyMetrics
	plugins pluginMetrics
	store   storeMetrics

	certificate metric
	rest        metric
	monitor     monitorMetrics
	decisionLog decisionLogMetrics
	devices     deviceMetrics
}

func newCollector(src Sources) *collector {
	c := &collector{src: src}
	d := &c.descs
	c.broker = newBrokerMetrics(d)
	c.policy = newPolicyMetrics(d)
	c.plugins = newPluginMetrics(d)
	c.store = newStoreMetrics(d)
	c.certificate = d.gauge("cordon_certificate_expiry_timestamp_seconds", "When a certificate expires.", "certificate")
	c.rest = d.counter("cordon_rest_refusals_total", "Calls that the REST interface did not let in, by what they asked for: an organisation's routes or the operator's.", "surface", "cause")
	c.monitor = newMonitorMetrics(d)
	c.decisionLog = newDecisionLogMetrics(d)
	c.devices = newDeviceMetrics(d)
	return c
}

type monitorMetrics struct{ dropped, full metric }

func newMonitorMetrics(d *catalogue) monitorMetrics {
	return monitorMetrics{
		dropped: d.counter("cordon_monitor_dropped_total", "Arrivals, departures and last events that came faster than they could be noted. Who is connected is put right afterwards."),
		full:    d.counter("cordon_monitor_full_total", "Last events that were not kept, because their organisation has no room for more."),
	}
}

func (m *monitorMetrics) collect(to sink, s Monitored) {
	put(to, m.dropped, s.Dropped)
	put(to, m.full, s.Full)
}

type deviceMetrics struct{ unheard, claimed, handed metric }

func newDeviceMetrics(d *catalogue) deviceMetrics {
	return deviceMetrics{
		unheard: d.counter("cordon_management_dropped_total", "Messages of device management for which there was no room. Whoever asked was told to try again."),
		claimed: d.counter("cordon_claims_spent_total", "Devices that were registered by a claim."),
		handed:  d.counter("cordon_claim_tokens_total", "Tokens that were handed to devices that showed a claim."),
	}
}

func (m *deviceMetrics) collect(to sink, s Devices) {
	put(to, m.unheard, s.Unheard)
	put(to, m.claimed, s.Claimed)
	put(to, m.handed, s.Handed)
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(to chan<- *prometheus.Desc) {
	for _, desc := range c.descs {
		to <- desc
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	if c.src.Broker != nil {
		c.broker.collect(to, c.src.Broker.Stats())
	}
	if c.src.Policy != nil {
		c.policy.collect(to, c.src.Policy())
	}
	if c.src.Plugins != nil {
		c.plugins.collect(to, c.src.Plugins())
	}
	if c.src.Store != nil {
		c.store.collect(to, c.src.Store())
	}
	if c.src.REST != nil {
		for what, n := range c.src.REST() {
			put(to, c.rest, n, what.Surface, string(what.Cause))
		}
	}
	if c.src.Monitor != nil {
		c.monitor.collect(to, c.src.Monitor())
	}
	if c.src.DecisionLog != nil {
		c.decisionLog.collect(to, c.src.DecisionLog())
	}
	if c.src.Devices != nil {
		c.devices.collect(to, c.src.Devices())
	}
	if c.src.Certificates != nil {
		for _, certificate := range c.src.Certificates() {
			put(to, c.certificate, seconds(certificate.Expires), certificate.Name)
		}
	}
}

// seconds is t as Prometheus writes times.
func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

type brokerMetrics struct {
	messages, traffic, dropped, refusals, rejudged, takeOvers metric

	connections, sessions, subscriptions         metric
	retained, retainedBytes, queued, queuedBytes metric
	inFlight, buffer, bufferMax                  metric
}

func newBrokerMetrics(d *catalogue) brokerMetrics {
	return brokerMetrics{
		messages:  d.counter("cordon_messages_total", "Messages that were admitted (in) and that were sent to receivers (out).", "direction", "qos"),
		traffic:   d.counter("cordon_mqtt_bytes_total", "Bytes of MQTT packets, without what TLS and WebSocket add.", "direction"),
		dropped:   d.counter("cordon_messages_dropped_total", "Messages that a session was to have and did not get.", "reason"),
		refusals:  d.counter("cordon_refusals_total", "Refusals over MQTT, by a policy or by anything else.", "action", "cause"),
		rejudged:  d.counter("cordon_sessions_rejudged_total", "Sessions that were judged again, with everything they hold."),
		takeOvers: d.counter("cordon_session_takeovers_total", "Connections that were closed because another one took over their session."),

		connections:   d.gauge("cordon_connections", "Open MQTT connections; https: clients of HTTP messaging that take messages.", "listener"),
		sessions:      d.gauge("cordon_sessions", "Sessions, by whether they have a connection.", "state"),
		subscriptions: d.gauge("cordon_subscriptions", "Subscriptions of all sessions."),
		retained:      d.gauge("cordon_retained_messages", "Retained messages."),
		retainedBytes: d.gauge("cordon_retained_bytes", "Size of the retained messages, as quotas count it."),
		queued:        d.gauge("cordon_queued_messages", "Messages that wait in sessions to be sent."),
		queuedBytes:   d.gauge("cordon_queued_bytes", "Size of the messages that wait in sessions, as quotas count it."),
		inFlight:      d.gauge("cordon_inflight_messages", "Messages that were sent and not acknowledged yet."),
		buffer:        d.gauge("cordon_buffer_bytes", "Memory of packets and messages that wait for their clients."),
		bufferMax:     d.gauge("cordon_buffer_max_bytes", "Bound of cordon_buffer_bytes."),
	}
}

func (m *brokerMetrics) collect(to sink, s broker.Stats) {
	for direction, t := range map[string]*broker.Traffic{directionIn: &s.In, directionOut: &s.Out} {
		put(to, m.traffic, t.Bytes, direction)
		for qos, n := range t.Messages {
			put(to, m.messages, n, direction, strconv.Itoa(qos))
		}
	}
	for reason, n := range s.Dropped {
		put(to, m.dropped, n, string(reason))
	}
	for what, n := range s.Refused {
		put(to, m.refusals, n, what.Action.String(), string(what.Cause))
	}
	put(to, m.rejudged, s.Rejudged)
	put(to, m.takeOvers, s.TakeOvers)
	for listener, n := range s.Connections {
		put(to, m.connections, n, listener)
	}
	put(to, m.sessions, s.Online, "online")
	put(to, m.sessions, s.Offline, "offline")
	put(to, m.subscriptions, s.Subscriptions)
	put(to, m.retained, s.Retained.Messages)
	put(to, m.retainedBytes, s.Retained.Bytes)
	put(to, m.queued, s.Queued.Messages)
	put(to, m.queuedBytes, s.Queued.Bytes)
	put(to, m.inFlight, s.InFlight)
	put(to, m.buffer, s.Buffer)
	put(to, m.bufferMax, s.BufferMax)
}

type policyMetrics struct {
	info, activated, decisions, remembered, covered, mismatches metric
}

func newPolicyMetrics(d *catalogue) policyMetrics {
	return policyMetrics{
		info:       d.gauge("cordon_policy_info", "The live policy; the value is always 1.", "revision"),
		activated:  d.gauge("cordon_policy_activated_timestamp_seconds", "When the live policy became live in this process."),
		decisions:  d.counter("cordon_policy_decisions_total", "Answers of the policy, remembered or evaluated.", "action", "outcome", "cause"),
		remembered: d.counter("cordon_policy_cache_hits_total", "Answers of the policy that were given from memory.", "action"),
		covered:    d.counter("cordon_policy_cover_hits_total", "Answers from memory for a topic that another answer covers.", "action"),
		mismatches: d.counter("cordon_policy_cover_mismatches_total", "Answers that covers stated and an evaluation contradicted."),
	}
}

func (m *policyMetrics) collect(to sink, p Policy) {
	if p.Revision != "" {
		put(to, m.info, 1, p.Revision)
		put(to, m.activated, seconds(p.Activated))
	}
	for action, d := range p.Actions {
		name := action.String()
		put(to, m.decisions, d.Allowed, name, outcomeAllow, causeNone)
		for cause, n := range d.Denied {
			put(to, m.decisions, n, name, outcomeDeny, string(cause))
		}
		if _, counted := d.Denied[policy.CausePolicy]; !counted {
			put(to, m.decisions, 0, name, outcomeDeny, string(policy.CausePolicy))
		}
		put(to, m.remembered, d.Remembered, name)
		put(to, m.covered, d.Covered, name)
	}
	put(to, m.mismatches, p.CoverMismatches)
}

type storeMetrics struct{ pending, free, short metric }

func newStoreMetrics(d *catalogue) storeMetrics {
	return storeMetrics{
		pending: d.gauge("cordon_store_pending_bytes", "Size of what waits to be written to the store."),
		free:    d.gauge("cordon_storage_free_bytes", "Free space on the disk of the data folder."),
		short:   d.gauge("cordon_storage_short", "1 while free space is so short that QoS 1 and 2 messages are refused."),
	}
}

func (m *storeMetrics) collect(to sink, s Store) {
	put(to, m.pending, s.Pending)
	if s.FreeKnown {
		put(to, m.free, s.Free)
	}
	put(to, m.short, flag(s.Short))
}
