package durable

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/topic"
)

// Message is a message as it was published: the body of queue entries, and what
// is retained.
type Message struct {
	Topic    topic.RoutedName
	Response topic.RoutedName // zero: none
	Payload  []byte
	QoS      byte
	Retain   bool
	Props    *wire.PublishProperties // nil: none
	Expires  time.Time               // zero: never
	Origin   Origin
	// DeviceType and DeviceID name the device the topic names; empty: none.
	DeviceType, DeviceID policy.ID
}

// Origin is the session that published a message; zero for the broker's own.
type Origin struct {
	Subject policy.Subject
	Client  policy.ClientID
}

const (
	flagRetain = 1 << iota
	flagProps
	flagExpires
	flagResponse
	flagDevice
	flagOrigin
	flagsOfMessage = 1<<iota - 1
)

// Append writes the message, with its version.
func (m *Message) Append(b []byte) []byte {
	return m.appendBody(append(b, version))
}

// flags say which parts m has.
func (m *Message) flags() (flags byte) {
	set := func(flag byte, on bool) {
		if on {
			flags |= flag
		}
	}
	set(flagRetain, m.Retain)
	set(flagProps, m.Props != nil)
	set(flagExpires, !m.Expires.IsZero())
	set(flagResponse, !m.Response.IsZero())
	set(flagDevice, m.DeviceType != "")
	set(flagOrigin, m.Origin != Origin{})
	return flags
}

func (m *Message) appendBody(b []byte) []byte {
	b = append(b, m.flags(), m.QoS)
	b = appendBytes(b, m.Topic.String())
	if !m.Response.IsZero() {
		b = appendBytes(b, m.Response.String())
	}
	if !m.Expires.IsZero() {
		b = binary.AppendVarint(b, m.Expires.UnixMilli())
	}
	if m.DeviceType != "" {
		b = appendBytes(b, m.DeviceType)
		b = appendBytes(b, m.DeviceID)
	}
	if m.Origin != (Origin{}) {
		s := &m.Origin.Subject
		b = append(b, byte(s.Kind))
		b = appendBytes(b, s.Owner)
		b = appendBytes(b, s.Name)
		b = binary.AppendUvarint(b, s.Incarnation)
		b = appendBytes(b, m.Origin.Client)
	}
	if m.Props != nil {
		b = appendProperties(b, m.Props)
	}
	return appendBytes(b, m.Payload)
}

// ParseMessage reads a message. Its payload and correlation data are copies.
func ParseMessage(value []byte) (*Message, error) {
	d := decode(value)
	m, err := d.message()
	if err != nil {
		return nil, err
	}
	return m, d.finish()
}

func (d *decoder) message() (*Message, error) {
	flags := d.byte()
	has := func(flag byte) bool { return flags&flag != 0 }
	m := &Message{QoS: d.byte(), Retain: has(flagRetain)}
	name := d.string()
	response := ""
	if has(flagResponse) {
		response = d.string()
	}
	if has(flagExpires) {
		m.Expires = time.UnixMilli(d.int())
	}
	if has(flagDevice) {
		m.DeviceType, m.DeviceID = policy.ID(d.string()), policy.ID(d.string())
	}
	if has(flagOrigin) {
		m.Origin.Subject = policy.Subject{
			Kind: policy.PrincipalKind(d.byte()), Owner: d.string(), Name: d.string(), Incarnation: d.uint(math.MaxUint64),
		}
		m.Origin.Client = policy.ClientID(d.string())
	}
	if has(flagProps) {
		m.Props = d.properties()
	}
	m.Payload = append([]byte{}, d.bytes()...)
	if d.bad || flags > flagsOfMessage || m.QoS > 2 {
		return nil, ErrDamaged
	}
	var err error
	if m.Topic, err = topic.ParseRoutedName(name); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if has(flagResponse) {
		if m.Response, err = topic.ParseRoutedName(response); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
	}
	if m.flags() != flags { // a part that is said to be there and is empty
		return nil, ErrDamaged
	}
	return m, nil
}

func (d *decoder) int() int64 {
	n, size := binary.Varint(d.rest)
	if size <= 0 {
		d.fail()
		return 0
	}
	d.rest = d.rest[size:]
	return n
}

const (
	flagFormat = 1 << iota
	flagMessageExpiry
	flagContentType
	flagCorrelation
	flagsOfProperties = 1<<iota - 1
)

// appendProperties writes the properties that a client gave a message.
func appendProperties(b []byte, p *wire.PublishProperties) []byte {
	at := len(b)
	b = append(b, 0)
	if p.HasPayloadFormat {
		b[at] |= flagFormat
		b = append(b, p.PayloadFormat)
	}
	if p.HasMessageExpiry {
		b[at] |= flagMessageExpiry
		b = binary.AppendUvarint(b, uint64(p.MessageExpiry))
	}
	if p.HasContentType {
		b[at] |= flagContentType
		b = appendBytes(b, p.ContentType)
	}
	if p.CorrelationData != nil {
		b[at] |= flagCorrelation
		b = appendBytes(b, p.CorrelationData)
	}
	b = appendBytes(b, p.ResponseTopic)
	b = binary.AppendUvarint(b, uint64(len(p.User)))
	for _, u := range p.User {
		b = appendBytes(appendBytes(b, u.Key), u.Value)
	}
	return b
}

func (d *decoder) properties() *wire.PublishProperties {
	flags := d.byte()
	p := &wire.PublishProperties{}
	if p.HasPayloadFormat = flags&flagFormat != 0; p.HasPayloadFormat {
		p.PayloadFormat = d.byte()
	}
	if p.HasMessageExpiry = flags&flagMessageExpiry != 0; p.HasMessageExpiry {
		p.MessageExpiry = uint32(d.uint(math.MaxUint32))
	}
	if p.HasContentType = flags&flagContentType != 0; p.HasContentType {
		p.ContentType = d.string()
	}
	if flags&flagCorrelation != 0 {
		p.CorrelationData = append([]byte{}, d.bytes()...)
	}
	p.ResponseTopic = d.string()
	if n := d.count(2); n > 0 {
		p.User = make([]wire.UserProperty, 0, n)
		for range n {
			p.User = append(p.User, wire.UserProperty{Key: d.string(), Value: d.string()})
		}
	}
	if flags > flagsOfProperties || p.PayloadFormat > 1 {
		d.fail()
	}
	return p
}

// Will is the will of a kept session, in the client's own spelling: it is
// mapped and judged when it fires.
type Will struct {
	Name    topic.Name
	Payload []byte
	QoS     byte
	Retain  bool
	Delay   time.Duration
	Props   *wire.PublishProperties
}

// Append writes the record.
func (w *Will) Append(b []byte) []byte {
	flags := byte(0)
	if w.Retain {
		flags |= flagRetain
	}
	if w.Props != nil {
		flags |= flagProps
	}
	b = append(b, version, flags, w.QoS)
	b = binary.AppendUvarint(b, uint64(w.Delay/time.Second))
	b = appendBytes(b, w.Name.String())
	if w.Props != nil {
		b = appendProperties(b, w.Props)
	}
	return appendBytes(b, w.Payload)
}

// ParseWill reads a record. Its payload is a copy.
func ParseWill(value []byte) (*Will, error) {
	d := decode(value)
	flags := d.byte()
	w := &Will{Retain: flags&flagRetain != 0, QoS: d.byte()}
	w.Delay = time.Duration(d.uint(math.MaxUint32)) * time.Second
	name := d.string()
	if flags&flagProps != 0 {
		w.Props = d.properties()
	}
	w.Payload = append([]byte{}, d.bytes()...)
	if err := d.finish(); err != nil || flags > flagRetain|flagProps || w.QoS > 2 {
		return nil, ErrDamaged
	}
	var err error
	if w.Name, err = topic.ParseName(name); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return w, nil
}
