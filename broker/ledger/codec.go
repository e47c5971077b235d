package ledger

import (
	"encoding/binary"
	"time"

	"github.com/cordon-mq/cordon/policy"
)

// What is written at every connect has a layout of its own: a format byte, then
// numbers as varints and texts behind their lengths. The rest is JSON, and so is
// what an earlier version wrote.

func appendText[T ~string](b []byte, s T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// appendTime writes nanoseconds since 1970, and 0 for no time.
func appendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return append(b, 0)
	}
	return binary.AppendVarint(b, t.UnixNano())
}

// reader reads one value. After the first fault it answers zero values.
type reader struct {
	rest []byte
	bad  bool
}

// open begins to read what follows the format byte.
func open(value []byte) *reader {
	if len(value) == 0 || value[0] != formatOwn {
		return &reader{bad: true}
	}
	return &reader{rest: value[1:]}
}

func (r *reader) fail() { r.rest, r.bad = nil, true }

func (r *reader) uint() uint64 {
	n, size := binary.Uvarint(r.rest)
	if size <= 0 {
		r.fail()
		return 0
	}
	r.rest = r.rest[size:]
	return n
}

func (r *reader) text() string {
	n := r.uint()
	if n > uint64(len(r.rest)) {
		r.fail()
		return ""
	}
	s := string(r.rest[:n])
	r.rest = r.rest[n:]
	return s
}

func (r *reader) time() time.Time {
	n, size := binary.Varint(r.rest)
	if size <= 0 {
		r.fail()
		return time.Time{}
	}
	r.rest = r.rest[size:]
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

// finish reports whether everything was there.
func (r *reader) finish() error {
	if r.bad || len(r.rest) > 0 {
		return errDamaged
	}
	return nil
}

// Bits of a state.
const (
	bitConnected = 1 << iota
	bitSecure
	bitDurable
	bitArrived  // the last thing that happened was the connect
	bitDeparted // or the disconnect
)

// What activity is called where it is one of the two.
const (
	arrived  = "Connect"
	departed = "Disconnect"
)

// appendTo leaves out the client ID, which is in the key.
func (s *State) appendTo(b []byte) []byte {
	bits := byte(0)
	set := func(bit byte, on bool) {
		if on {
			bits |= bit
		}
	}
	set(bitConnected, s.Connected)
	set(bitSecure, s.Secure)
	set(bitDurable, s.Durable)
	switch {
	case s.ActivityEvent == arrived && s.ActivityTime.Equal(s.ConnectTime):
		bits |= bitArrived
	case s.ActivityEvent == departed && s.ActivityTime.Equal(s.DisconnectTime):
		bits |= bitDeparted
	}
	b = append(b, formatOwn, bits)
	b = appendText(b, s.Kind)
	b = appendText(b, s.Type)
	b = appendText(b, s.ID)
	b = appendText(b, s.App)
	b = binary.AppendUvarint(b, s.Device)
	b = appendText(b, s.Address)
	b = binary.AppendUvarint(b, uint64(s.Port))
	b = appendText(b, s.Protocol)
	b = appendText(b, s.User)
	b = appendText(b, s.CertName)
	b = appendTime(b, s.ConnectTime)
	b = appendTime(b, s.DisconnectTime)
	b = binary.AppendUvarint(b, uint64(s.CloseCode))
	b = appendPacked(b, s.Reason)
	for _, n := range [...]uint64{s.ReadBytes, s.ReadMessages, s.WrittenBytes, s.WrittenMessages} {
		b = binary.AppendUvarint(b, n)
	}
	if bits&(bitArrived|bitDeparted) != 0 {
		return b
	}
	return appendTime(appendText(b, s.ActivityEvent), s.ActivityTime)
}

func (s *State) parse(value []byte) error {
	r := open(value)
	bits := r.uint()
	s.Connected, s.Secure, s.Durable = bits&bitConnected != 0, bits&bitSecure != 0, bits&bitDurable != 0
	s.Kind = r.text()
	s.Type, s.ID, s.App, s.Device = policy.ID(r.text()), policy.ID(r.text()), policy.ID(r.text()), r.uint()
	s.Address, s.Port = r.text(), uint16(r.uint())
	s.Protocol, s.User, s.CertName = r.text(), r.text(), r.text()
	s.ConnectTime, s.DisconnectTime = r.time(), r.time()
	s.CloseCode, s.Reason = int(r.uint()), r.packed()
	s.ReadBytes, s.ReadMessages, s.WrittenBytes, s.WrittenMessages = r.uint(), r.uint(), r.uint(), r.uint()
	switch {
	case bits&bitArrived != 0:
		s.ActivityEvent, s.ActivityTime = arrived, s.ConnectTime
	case bits&bitDeparted != 0:
		s.ActivityEvent, s.ActivityTime = departed, s.DisconnectTime
	default:
		s.ActivityEvent, s.ActivityTime = r.text(), r.time()
	}
	return r.finish()
}

// page is some lines of a log that follow each other: those that its newest
// record has beside the number of all that there were, or a full slot.
type page struct {
	written uint64 // lines there ever were, in the newest record; 0 in a slot
	count   int    // of lines
	lines   []byte // encoded
}

func (p *page) add(l Line) {
	p.lines = appendTime(appendPacked(p.lines, l.Message), l.Time)
	p.written++
	p.count++
}

func (p *page) appendTo(b []byte) []byte {
	b = append(b, formatOwn)
	b = binary.AppendUvarint(b, p.written)
	b = binary.AppendUvarint(b, uint64(p.count))
	return append(b, p.lines...)
}

func (p *page) parse(value []byte) error {
	r := open(value)
	written, count := r.uint(), r.uint()
	if r.bad || count > pageLines {
		return errDamaged
	}
	p.written, p.count, p.lines = written, int(count), r.rest
	return nil
}

// each calls fn with the lines, in their order.
func (p *page) each(fn func(Line)) error {
	r := reader{rest: p.lines}
	for range p.count {
		l := Line{Message: r.packed(), Time: r.time()}
		if r.bad {
			return errDamaged
		}
		fn(l)
	}
	return r.finish()
}
