package load

import (
	"encoding/binary"
	"errors"
	"math"
	"strings"
)

// First bytes of the packets that a client sends (MQTT 3.1.1 §2.2).
const (
	firstConnect     = 0x10
	firstPublish     = 0x30
	firstPubrel      = 0x62
	firstSubscribe   = 0x82
	firstUnsubscribe = 0xa2
	firstDisconnect  = 0xe0
)

// Types of the packets that a server sends.
const (
	typeConnack  = 2
	typePublish  = 3
	typePuback   = 4
	typePubrec   = 5
	typePubrel   = 6
	typePubcomp  = 7
	typeSuback   = 9
	typeUnsuback = 11
)

var errTooLong = errors.New("text is longer than 65 535 bytes")

// appendConnect appends a CONNECT of MQTT 3.1.1 without keep alive and will.
func appendConnect(dst []byte, id Identity, clean bool) ([]byte, error) {
	flags := byte(0)
	if clean {
		flags |= 0x02
	}
	body := []byte{0, 4, 'M', 'Q', 'T', 'T', 4, 0, 0, 0}
	texts := []string{id.ClientID}
	if id.Username != "" {
		flags |= 0xc0
		texts = append(texts, id.Username, id.Password)
	}
	body[7] = flags
	for _, text := range texts {
		var err error
		if body, err = appendText(body, text); err != nil {
			return dst, err
		}
	}
	return appendPacket(dst, firstConnect, body), nil
}

func appendSubscribe(dst []byte, packetID uint16, qos byte, filters ...string) ([]byte, error) {
	body := binary.BigEndian.AppendUint16(nil, packetID)
	for _, filter := range filters {
		var err error
		if body, err = appendText(body, filter); err != nil {
			return dst, err
		}
		body = append(body, qos)
	}
	return appendPacket(dst, firstSubscribe, body), nil
}

func appendUnsubscribe(dst []byte, packetID uint16, filters ...string) ([]byte, error) {
	body := binary.BigEndian.AppendUint16(nil, packetID)
	for _, filter := range filters {
		var err error
		if body, err = appendText(body, filter); err != nil {
			return dst, err
		}
	}
	return appendPacket(dst, firstUnsubscribe, body), nil
}

// appendAck appends a packet of nothing but a packet identifier.
func appendAck(dst []byte, first byte, packetID uint16) []byte {
	return append(dst, first, 2, byte(packetID>>8), byte(packetID))
}

func appendPacket(dst []byte, first byte, body []byte) []byte {
	dst = append(dst, first)
	n := len(body)
	for ; n >= 0x80; n >>= 7 {
		dst = append(dst, byte(n)|0x80)
	}
	dst = append(dst, byte(n))
	return append(dst, body...)
}

func appendText(dst []byte, text string) ([]byte, error) {
	if len(text) > math.MaxUint16 {
		return dst, errTooLong
	}
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(text)))
	return append(dst, text...), nil
}

// template is a PUBLISH that is encoded but for its packet identifier and stamp.
type template struct {
	packet   []byte
	numberAt int // where the topic has Number; 0: nowhere
	idAt     int // where the packet identifier is; 0 at QoS 0
	stampAt  int
}

// newTemplate encodes a PUBLISH whose payload has size bytes, at least stampSize.
func newTemplate(topic string, qos byte, size int) (template, error) {
	body, err := appendText(nil, topic)
	if err != nil {
		return template{}, err
	}
	t := template{}
	if qos > 0 {
		t.idAt = len(body)
		body = append(body, 0, 0)
	}
	t.stampAt = len(body)
	body = append(body, make([]byte, max(size, stampSize))...)
	t.packet = appendPacket(nil, firstPublish|qos<<1, body)
	header := len(t.packet) - len(body)
	if at := strings.Index(topic, Number); at >= 0 {
		t.numberAt = header + 2 + at // after the topic's length
	}
	t.stampAt += header
	if qos > 0 {
		t.idAt += header
	}
	return t, nil
}

// append appends the packet with s in it. Packet identifiers go round; a window
// is much smaller than their number.
func (t *template) append(dst []byte, s stamp) []byte {
	at := len(dst)
	dst = append(dst, t.packet...)
	if t.idAt > 0 {
		binary.BigEndian.PutUint16(dst[at+t.idAt:], uint16(s.number%math.MaxUint16)+1)
	}
	if t.numberAt > 0 {
		digits := dst[at+t.numberAt:][:len(Number)]
		for i, n := len(digits)-1, s.number; n > 0 && i >= 0; i, n = i-1, n/10 {
			digits[i] = '0' + byte(n%10)
		}
	}
	s.put(dst[at+t.stampAt:])
	return dst
}

// stampSize is how many bytes of a payload are spoken for.
const stampSize = 24

// stamp is what a payload begins with.
type stamp struct {
	run       uint32 // of which Flow; a message of another one is not counted
	publisher uint32
	number    uint64 // from 0, per publisher
	due       int64  // nanoseconds since the Flow began
}

func (s stamp) put(dst []byte) {
	_ = dst[stampSize-1]
	binary.BigEndian.PutUint32(dst, s.run)
	binary.BigEndian.PutUint32(dst[4:], s.publisher)
	binary.BigEndian.PutUint64(dst[8:], s.number)
	binary.BigEndian.PutUint64(dst[16:], uint64(s.due))
}

// message is a PUBLISH as a reader sees it.
type message struct {
	stamp
	qos      byte
	packetID uint16
}

var errMalformed = errors.New("the broker sent a malformed packet")

// parseMessage decodes a PUBLISH of MQTT 3.1.1.
func parseMessage(first byte, body []byte) (message, error) {
	m := message{qos: first >> 1 & 3}
	if len(body) < 2 || m.qos == 3 {
		return m, errMalformed
	}
	at := 2 + int(binary.BigEndian.Uint16(body))
	if m.qos > 0 {
		if len(body) < at+2 {
			return m, errMalformed
		}
		m.packetID = binary.BigEndian.Uint16(body[at:])
		at += 2
	}
	if len(body) < at+stampSize {
		return m, errMalformed
	}
	payload := body[at:]
	m.run = binary.BigEndian.Uint32(payload)
	m.publisher = binary.BigEndian.Uint32(payload[4:])
	m.number = binary.BigEndian.Uint64(payload[8:])
	m.due = int64(binary.BigEndian.Uint64(payload[16:]))
	return m, nil
}
