package wire_test

import (
	"fmt"
	"strings"

	"github.com/cordon-mq/cordon/broker/wire"
)

// describe writes a packet the way the vectors in testdata do: what is absent is left out.
func describe(p wire.Packet) string {
	var d description
	switch p := p.(type) {
	case *wire.Connect:
		d.add("CONNECT %s id=%q", p.Version, p.ClientID)
		d.when(p.CleanStart, "clean")
		d.add("keep=%d", p.KeepAlive)
		d.when(p.HasUsername, "user=%q", p.Username)
		d.when(p.HasPassword, "pass=%x", p.Password)
		d.when(p.HasSessionExpiry, "expiry=%d", p.SessionExpiry)
		d.when(p.ReceiveMaximum != 65535, "receive=%d", p.ReceiveMaximum)
		d.when(p.MaximumPacketSize != 0, "maxsize=%d", p.MaximumPacketSize)
		d.when(p.TopicAliasMaximum != 0, "aliases=%d", p.TopicAliasMaximum)
		d.when(p.RequestResponseInfo, "respinfo")
		d.when(!p.RequestProblemInfo, "noproblem")
		d.when(p.HasAuthMethod, "auth=%q", p.AuthMethod)
		d.when(p.AuthData != nil, "data=%x", p.AuthData)
		d.user(p.User)
		if w := p.Will; w != nil {
			var in description
			in.add("%q %q q%d", w.Topic, w.Payload, w.QoS)
			in.when(w.Retain, "retain")
			in.when(w.DelayInterval != 0, "delay=%d", w.DelayInterval)
			in.message(&w.Properties)
			d.add("will{%s}", in.String())
		}
	case *wire.Publish:
		d.add("PUBLISH %q %q q%d", p.Topic, p.Payload, p.QoS)
		d.when(p.PacketID != 0, "id=%d", p.PacketID)
		d.when(p.Dup, "dup")
		d.when(p.Retain, "retain")
		d.when(p.TopicAlias != 0, "alias=%d", p.TopicAlias)
		d.when(len(p.SubscriptionIDs) > 0, "subs=%d", p.SubscriptionIDs)
		if p.Properties != nil {
			var in description
			in.message(p.Properties)
			d.add("{%s}", in.String())
		}
	case *wire.Ack:
		d.add("%s id=%d", p.Kind, p.PacketID)
		d.reason(p.Code, p.ReasonString, p.User)
	case *wire.Subscribe:
		d.add("SUBSCRIBE id=%d", p.PacketID)
		d.when(p.SubscriptionID != 0, "sub=%d", p.SubscriptionID)
		for _, f := range p.Filters {
			d.add("%q:%d", f.Filter, f.QoS)
			d.when(f.NoLocal, "nolocal")
			d.when(f.RetainAsPublished, "asis")
			d.when(f.RetainHandling != 0, "handling=%d", f.RetainHandling)
		}
		d.user(p.User)
	case *wire.Unsubscribe:
		d.add("UNSUBSCRIBE id=%d", p.PacketID)
		for _, f := range p.Filters {
			d.add("%q", f)
		}
		d.user(p.User)
	case *wire.Disconnect:
		d.add("DISCONNECT")
		d.when(p.Code != 0, "0x%02X", byte(p.Code))
		d.when(p.HasSessionExpiry, "expiry=%d", p.SessionExpiry)
		d.when(p.ReasonString != "", "%q", p.ReasonString)
		d.when(p.ServerReference != "", "server=%q", p.ServerReference)
		d.user(p.User)
	case *wire.Auth:
		d.add("AUTH 0x%02X method=%q", byte(p.Code), p.Method)
		d.when(p.Data != nil, "data=%x", p.Data)
		d.when(p.ReasonString != "", "%q", p.ReasonString)
		d.user(p.User)
	default:
		d.add("%s", p.Type())
	}
	return d.String()
}

type description []string

func (d *description) add(format string, args ...any) { *d = append(*d, fmt.Sprintf(format, args...)) }

func (d *description) when(present bool, format string, args ...any) {
	if present {
		d.add(format, args...)
	}
}

func (d *description) String() string { return strings.Join(*d, " ") }

func (d *description) reason(code wire.Code, reason string, user []wire.UserProperty) {
	d.when(code != 0, "0x%02X", byte(code))
	d.when(reason != "", "%q", reason)
	d.user(user)
}

func (d *description) user(user []wire.UserProperty) {
	var pairs []string
	for _, u := range user {
		pairs = append(pairs, u.Key+"="+u.Value)
	}
	d.when(pairs != nil, "%s", pairs)
}

func (d *description) message(m *wire.PublishProperties) {
	d.when(m.HasPayloadFormat, "format=%d", m.PayloadFormat)
	d.when(m.HasMessageExpiry, "expires=%d", m.MessageExpiry)
	d.when(m.HasContentType, "type=%q", m.ContentType)
	d.when(m.ResponseTopic != "", "response=%q", m.ResponseTopic)
	d.when(m.CorrelationData != nil, "correlation=%x", m.CorrelationData)
	d.user(m.User)
}
