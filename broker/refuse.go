package broker

import (
	"maps"
	"strings"
	"sync"

	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/policy"
)

// refusal is one no: why, what the client is told, and where it goes in the log.
type refusal struct {
	action   policy.Action
	cause    policy.Cause
	code     wire.Code // what MQTT 5 says; 0 means codeOf(cause)
	decision *policy.Decision
	detail   string // for the log alone
	topic    string // as the client wrote it
	onDeny   policy.OnDeny
	device   *policy.Device // whom the topic names; nil: nobody
	notice   policy.Notice  // where a message says why; zero: nowhere
	message  string         // what it says; empty: the public reason
}

// denied turns a decision that denies into a refusal.
func denied(action policy.Action, d *policy.Decision, topic string) *refusal {
	return &refusal{action: action, cause: d.Cause, decision: d, detail: d.Detail, topic: topic, onDeny: d.OnDeny, notice: d.Notify}
}

func (r *refusal) reasonCode() wire.Code {
	if r.code != 0 {
		return r.code
	}
	return codeOf(r.cause)
}

// publicReason is what an MQTT 5 client may read: a policy's words and a
// decision ID, never what went wrong inside.
func (r *refusal) publicReason() string {
	if r.decision != nil {
		return r.decision.PublicReason()
	}
	return r.cause.Public()
}

// refusals counts every no by what was asked and why not.
type refusals struct {
	guarded struct {
		sync.Mutex
		counts map[Refusal]uint64
	}
}

func (rs *refusals) count(r *refusal) {
	rs.guarded.Lock()
	defer rs.guarded.Unlock()
	if rs.guarded.counts == nil {
		rs.guarded.counts = make(map[Refusal]uint64)
	}
	rs.guarded.counts[Refusal{r.action, r.cause}]++
}

func (rs *refusals) snapshot() map[Refusal]uint64 {
	rs.guarded.Lock()
	defer rs.guarded.Unlock()
	return maps.Clone(rs.guarded.counts)
}

// shortened keeps a line of the log readable: a topic may be 64 KiB long.
func shortened(s string) string {
	const most = 256
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// logRefusal writes the one line a refusal gets, unless it is an equal one that is
// counted. A client ID and a topic are the client's text; slog quotes them, and
// neither is a secret.
func (b *Broker) logRefusal(org string, client policy.ClientID, r *refusal) {
	b.refused.count(r)
	line := refusedLine{
		org: org, client: client, action: r.action, topic: shortened(r.topic),
		reason: string(r.cause), cause: string(r.cause), detail: r.detail,
	}
	if r.decision != nil {
		line.id = r.decision.ID
		if r.decision.Reason != "" {
			line.reason = r.decision.Reason
		}
	}
	// Whoever was not verified has no session: equal lines come from as many clients.
	if org == "" || b.lines.fold(line, b.flushRefused) {
		b.writeRefused(line, 0)
	}
}
