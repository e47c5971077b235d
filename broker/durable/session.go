package durable

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/topic"
)

// Session is what is kept of a session beside what it queues. Raising it needs
// no token: it names who was verified, not how.
type Session struct {
	// Principal is who it belongs to, as judged last, without the registry's
	// metadata, which is asked for again.
	Principal policy.Principal
	// Client is the connection it had last.
	Client policy.Client
	// Limits and Mounts are those of the last connect decision. They count until
	// the session is judged again, which is before anything is sent.
	Limits policy.Limits
	Mounts []topic.Mount
	// Expiry is how long it outlives its connection.
	Expiry time.Duration
	// Offline is when its connection ended; zero while it had one.
	Offline time.Time
}

// Append writes the record. The error is a claim that is no JSON value.
func (s *Session) Append(b []byte) ([]byte, error) {
	kept := *s
	kept.Principal.Metadata = nil
	text, err := json.Marshal(&kept)
	if err != nil {
		return nil, fmt.Errorf("session record: %w", err)
	}
	return append(append(b, version), text...), nil
}

// ParseSession reads a record.
func ParseSession(value []byte) (*Session, error) {
	d := decode(value)
	if d.bad {
		return nil, ErrDamaged
	}
	var s Session
	if err := json.Unmarshal(d.rest, &s); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return &s, nil
}

// Subscription is one filter of a session, as granted.
type Subscription struct {
	Filter topic.Filter // as the client wrote it
	Named  string       // share name as the client wrote it; empty for an ordinary one
	Share  string       // share name inside the organisation
	Wanted byte         // QoS asked for
	QoS    byte         // QoS granted
	ID     uint32       // Subscription Identifier; 0: none

	NoLocal, AsPublished bool
}

const (
	flagNoLocal = 1 << iota
	flagAsPublished
)

// Append writes the record.
func (s *Subscription) Append(b []byte) []byte {
	flags := byte(0)
	if s.NoLocal {
		flags |= flagNoLocal
	}
	if s.AsPublished {
		flags |= flagAsPublished
	}
	b = append(b, version, flags, s.Wanted, s.QoS)
	b = binary.AppendUvarint(b, uint64(s.ID))
	b = appendBytes(b, s.Filter.String())
	b = appendBytes(b, s.Named)
	return appendBytes(b, s.Share)
}

// ParseSubscription reads a record.
func ParseSubscription(value []byte) (*Subscription, error) {
	d := decode(value)
	flags := d.byte()
	s := &Subscription{
		NoLocal: flags&flagNoLocal != 0, AsPublished: flags&flagAsPublished != 0,
		Wanted: d.byte(), QoS: d.byte(), ID: uint32(d.uint(math.MaxUint32)),
	}
	filter := d.string()
	s.Named, s.Share = d.string(), d.string()
	if err := d.finish(); err != nil || flags > flagNoLocal|flagAsPublished || s.Wanted > 2 || s.QoS > 2 {
		return nil, ErrDamaged
	}
	var err error
	if s.Filter, err = topic.ParseFilter(filter); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return s, nil
}
