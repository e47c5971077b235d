package opa

import (
	"errors"
	"math"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/cordon-mq/cordon/policy"
)

// limitFields read one limit each. What is unlimited by default is left out of
// the answer to be so: 0 would read like "none at all", so it is refused. Read only.
var limitFields = map[string]func(*policy.Limits, ast.Value) error{
	"publish_rate":       func(l *policy.Limits, v ast.Value) error { return rate(&l.PublishRate, v) },
	"publish_burst":      func(l *policy.Limits, v ast.Value) error { return count(&l.PublishBurst, v, 1, math.MaxInt32) },
	"bytes_rate":         func(l *policy.Limits, v ast.Value) error { return rate(&l.BytesRate, v) },
	"connections_max":    func(l *policy.Limits, v ast.Value) error { return count(&l.ConnectionsMax, v, 1, math.MaxInt32) },
	"payload_max":        func(l *policy.Limits, v ast.Value) error { return count(&l.PayloadMax, v, 0, 256<<20) },
	"inflight_max":       func(l *policy.Limits, v ast.Value) error { return count(&l.InflightMax, v, 1, 65535) },
	"queue_messages":     func(l *policy.Limits, v ast.Value) error { return count(&l.QueueMessages, v, 0, math.MaxInt32) },
	"queue_bytes":        func(l *policy.Limits, v ast.Value) error { return count(&l.QueueBytes, v, 0, 1<<40) },
	"subscriptions_max":  func(l *policy.Limits, v ast.Value) error { return count(&l.SubscriptionsMax, v, 0, math.MaxInt32) },
	"session_expiry_max": sessionExpiry,
	"keepalive_max":      keepAlive,
	"queue_overflow": func(l *policy.Limits, v ast.Value) (err error) {
		l.QueueOverflow, err = wordOf(v, policy.DropOldest, policy.DropNewest)
		return err
	},
	"qos_max": func(l *policy.Limits, v ast.Value) error {
		n, err := integerOf(v, 0, 2)
		l.QoSMax = byte(n)
		return err
	},
}

func limitsField(a *answer, v ast.Value) error {
	o, ok := v.(ast.Object)
	if !ok {
		return want("an object", v)
	}
	return eachField(o, "", func(name string, v ast.Value) error {
		read := limitFields[name]
		if read == nil {
			return errUnknownField
		}
		return read(&a.Limits, v)
	})
}

func rate(into *float64, v ast.Value) error {
	f, err := numberOf(v, 0, maxRate)
	if err == nil && f == 0 {
		err = errors.New("is 0; leave it out for no limit, or deny")
	}
	*into = f
	return err
}

func count(into *int, v ast.Value, least, most int64) error {
	n, err := integerOf(v, least, most)
	*into = int(n)
	return err
}

func sessionExpiry(l *policy.Limits, v ast.Value) error {
	s, err := numberOf(v, 0, math.MaxUint32) // the MQTT property has four bytes
	l.SessionExpiryMax = seconds(s)
	return err
}

func keepAlive(l *policy.Limits, v ast.Value) error {
	s, err := integerOf(v, 1, 65535)
	l.KeepAliveMax = seconds(float64(s))
	return err
}
