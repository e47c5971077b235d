package opa

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/topic"
)

// narrowFields are the closed set of fields that an organisation's decision may
// have. Read only.
var narrowFields = func() map[policy.Action]map[string]field {
	some := func(a policy.Action, names ...string) map[string]field {
		found := map[string]field{}
		for _, name := range append(names, "allow", "reason", "ttl") {
			found[name] = answerFields[a][name]
		}
		return found
	}
	all := map[policy.Action]map[string]field{
		policy.ActionConnect:   some(policy.ActionConnect, "on_deny", "expires_at"),
		policy.ActionPublish:   some(policy.ActionPublish, "on_deny", "retain", "covers"),
		policy.ActionSubscribe: some(policy.ActionSubscribe, "on_deny", "qos"),
		policy.ActionReceive:   some(policy.ActionReceive, "covers"),
	}
	all[policy.ActionConnect]["limits"] = narrowLimitsField
	return all
}()

// narrowLimits are the limits that can be lower. What a full queue does with the
// next message is none of them. Read only.
var narrowLimits = func() map[string]func(*policy.Limits, ast.Value) error {
	some := maps.Clone(limitFields)
	delete(some, "queue_overflow")
	return some
}()

func narrowLimitsField(a *answer, v ast.Value) error {
	o, ok := v.(ast.Object)
	if !ok {
		return want("an object", v)
	}
	return eachField(o, "", func(name string, v ast.Value) error {
		read := narrowLimits[name]
		if read == nil {
			return errUnknownField
		}
		return read(&a.Limits, v)
	})
}

// decodeNarrowing reads an organisation's answer as strictly as decode reads the
// platform's, which is under it: what is not stated stays.
func decodeNarrowing(action policy.Action, v ast.Value, under *answer) (answer, error) {
	a := answer{Decision: policy.Decision{
		Limits: under.Limits, ExpiresAt: under.ExpiresAt, Retain: under.Retain, MaxQoS: under.MaxQoS,
	}}
	return a.decode(action, narrowFields[action], v)
}

// narrower is what both layers allow: of each field the narrower one. A denial has
// the words of whoever denied.
func narrower(platform, own *answer) answer {
	n := *platform
	n.ttl, n.hasTTL = soonerTTL(platform, own)
	n.Covers = coveredByBoth(platform.Covers, own.Covers)
	if !own.Allow {
		no := *own
		no.ttl, no.hasTTL, no.Covers = n.ttl, n.hasTTL, n.Covers
		return no
	}
	n.Limits = narrowerLimits(&platform.Limits, &own.Limits)
	n.MaxQoS = min(platform.MaxQoS, own.MaxQoS)
	n.Retain = stricterRetain(platform.Retain, own.Retain)
	if !own.ExpiresAt.IsZero() && (n.ExpiresAt.IsZero() || own.ExpiresAt.Before(n.ExpiresAt)) {
		n.ExpiresAt = own.ExpiresAt
	}
	return n
}

func soonerTTL(a, b *answer) (time.Duration, bool) {
	switch {
	case !a.hasTTL:
		return b.ttl, b.hasTTL
	case !b.hasTTL:
		return a.ttl, true
	default:
		return min(a.ttl, b.ttl), true
	}
}

func stricterRetain(a, b policy.RetainMode) policy.RetainMode {
	rank := func(m policy.RetainMode) int {
		switch m {
		case policy.RetainKeep:
			return 0
		case policy.RetainStrip:
			return 1
		case policy.RetainRefuse:
			return 2
		}
		return 2
	}
	if rank(b) > rank(a) {
		return b
	}
	return a
}

func narrowerLimits(a, b *policy.Limits) policy.Limits {
	n := *a
	n.PublishRate = lower(a.PublishRate, b.PublishRate)
	n.PublishBurst = lower(a.PublishBurst, b.PublishBurst)
	if n.PublishRate > 0 && n.PublishBurst > 0 {
		// A burst of 0 is one second's worth, of the platform's rate where that is all
		// there is to go by.
		if a.PublishBurst == 0 && a.PublishRate > 0 {
			n.PublishBurst = min(n.PublishBurst, secondOf(a.PublishRate))
		}
	}
	n.BytesRate = lower(a.BytesRate, b.BytesRate)
	n.ConnectionsMax = lower(a.ConnectionsMax, b.ConnectionsMax)
	n.PayloadMax = min(a.PayloadMax, b.PayloadMax)
	n.InflightMax = min(a.InflightMax, b.InflightMax)
	n.QueueMessages = min(a.QueueMessages, b.QueueMessages)
	n.QueueBytes = min(a.QueueBytes, b.QueueBytes)
	n.SubscriptionsMax = min(a.SubscriptionsMax, b.SubscriptionsMax)
	n.SessionExpiryMax = min(a.SessionExpiryMax, b.SessionExpiryMax)
	n.KeepAliveMax = lower(a.KeepAliveMax, b.KeepAliveMax)
	n.QoSMax = min(a.QoSMax, b.QoSMax)
	return n
}

func secondOf(rate float64) int { return int(math.Max(1, math.Ceil(rate))) }

// lower is the lower of two limits of which 0 is none.
func lower[N int | float64 | time.Duration](a, b N) N {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// coveredByBoth are filters of exactly the topics that a filter of each list
// covers. What there is no room for is left out, and not covered then.
func coveredByBoth(a, b []topic.RoutedFilter) (both []topic.RoutedFilter) {
	for _, f := range a {
		for _, g := range b {
			levels, ok := intersect(f.Levels(), g.Levels(), true)
			if !ok || len(both) == maxCovers {
				continue
			}
			if filter, err := topic.ParseRoutedFilter(strings.Join(levels, "/")); err == nil {
				both = append(both, filter)
			}
		}
	}
	return both
}

// intersect is the filter of what both cover, as covered says; false: nothing.
func intersect(f, g []string, first bool) ([]string, bool) {
	if len(f) == 0 || len(g) == 0 {
		if len(f) == 0 && len(g) == 0 || len(f) == 1 && f[0] == "#" || len(g) == 1 && g[0] == "#" {
			return nil, true // # is also its own parent
		}
		return nil, false
	}
	if f[0] == "#" {
		f, g = g, f
	}
	if g[0] == "#" {
		for i, level := range f {
			if level == "" || first && i == 0 && strings.HasPrefix(level, "$") {
				return nil, false // no wildcard covers it
			}
		}
		return f, true
	}
	level := f[0]
	switch {
	case f[0] == g[0]:
	case f[0] == "+" || g[0] == "+":
		if level == "+" {
			level = g[0]
		}
		if level == "" || first && strings.HasPrefix(level, "$") {
			return nil, false
		}
	default:
		return nil, false
	}
	rest, ok := intersect(f[1:], g[1:], false)
	if !ok {
		return nil, false
	}
	return append([]string{level}, rest...), true
}

var errNotNarrow = errors.New("an organisation's bundle can only narrow")

// platformKey is the name of the platform's answer in input. Read only.
var platformKey = ast.StringTerm("platform")

// platformTerm is the platform's answer as the organisation's rules see it: with
// every field that counts, those by default included. What is unlimited is absent.
func platformTerm(action policy.Action, a *answer) *ast.Term {
	o := object{}
	o.put("allow", ast.InternedTerm(a.Allow))
	o.text("reason", a.Reason)
	if a.hasTTL {
		o.put("ttl", number(a.ttl.Seconds()))
	}
	switch action {
	case policy.ActionConnect:
		mounts := make([]*ast.Term, 0, len(a.Mounts.List()))
		for _, m := range a.Mounts.List() {
			one := object{}
			one.put("client", ast.StringTerm(m.Client))
			one.put("org", ast.StringTerm(m.Org))
			if m.Device != nil {
				device := object{}
				device.put("type", ast.InternedTerm(m.Device.Type))
				device.put("id", ast.InternedTerm(m.Device.ID))
				one.put("device", device.term())
			}
			mounts = append(mounts, one.term())
		}
		o.put("mounts", ast.ArrayTerm(mounts...))
		if a.Roles != nil {
			o.put("roles", texts(a.Roles))
		}
		if a.Groups != nil {
			o.put("groups", texts(a.Groups))
		}
		o.put("limits", limitsTerm(&a.Limits))
		if !a.ExpiresAt.IsZero() {
			o.put("expires_at", milliseconds(a.ExpiresAt))
		}
		o.text("share", a.Share)
		o.text("on_deny", a.OnDeny.String())
	case policy.ActionPublish:
		o.text("retain", a.Retain.String())
		o.text("on_deny", a.OnDeny.String())
		o.put("covers", filterTerms(a.Covers))
	case policy.ActionSubscribe:
		o.put("qos", ast.InternedTerm(int(a.MaxQoS)))
		o.text("on_deny", a.OnDeny.String())
	case policy.ActionReceive:
		o.put("covers", filterTerms(a.Covers))
	case policy.ActionNone, policy.ActionAdminister: // not narrowed
	}
	return o.term()
}

func filterTerms(filters []topic.RoutedFilter) *ast.Term {
	terms := make([]*ast.Term, len(filters))
	for i, f := range filters {
		terms[i] = ast.StringTerm(f.String())
	}
	return ast.ArrayTerm(terms...)
}

func limitsTerm(l *policy.Limits) *ast.Term {
	o := object{}
	unless0 := func(name string, n float64) {
		if n != 0 {
			o.put(name, number(n))
		}
	}
	unless0("publish_rate", l.PublishRate)
	unless0("publish_burst", float64(l.PublishBurst))
	unless0("bytes_rate", l.BytesRate)
	unless0("connections_max", float64(l.ConnectionsMax))
	unless0("keepalive_max", l.KeepAliveMax.Seconds())
	for name, n := range map[string]int{
		"payload_max": l.PayloadMax, "inflight_max": l.InflightMax, "queue_messages": l.QueueMessages, "queue_bytes": l.QueueBytes,
		"subscriptions_max": l.SubscriptionsMax, "qos_max": int(l.QoSMax),
	} {
		o.put(name, ast.InternedTerm(n))
	}
	o.put("session_expiry_max", number(l.SessionExpiryMax.Seconds()))
	o.text("queue_overflow", l.QueueOverflow.String())
	return o.term()
}

func number(f float64) *ast.Term {
	if f == math.Trunc(f) && math.Abs(f) < 1<<53 {
		return ast.InternedTerm(int(f))
	}
	return ast.FloatNumberTerm(f)
}

// forbidden says why a field of the platform's decision is none of an
// organisation's; empty for one that nobody knows.
func forbidden(action policy.Action, name string) string {
	if answerFields[action][name] == nil || narrowFields[action][name] != nil {
		return ""
	}
	return fmt.Sprintf("%v: %s is the platform's to say", errNotNarrow, name)
}
