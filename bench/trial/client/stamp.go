package client

import (
	"encoding/binary"
	"fmt"
)

// StampSize is how many bytes a Stamp takes at the beginning of a payload.
const StampSize = 20

// Stamp says which message a payload belongs to.
type Stamp struct {
	Publisher uint32
	Number    uint64 // from 0, of that publisher
	Sent      int64  // nanoseconds, from whatever the trial counts them; may be 0
}

// Payload returns size bytes, at least StampSize, that begin with s.
func (s Stamp) Payload(size int) []byte {
	b := make([]byte, max(size, StampSize))
	binary.BigEndian.PutUint32(b, s.Publisher)
	binary.BigEndian.PutUint64(b[4:], s.Number)
	binary.BigEndian.PutUint64(b[12:], uint64(s.Sent))
	return b
}

// ParseStamp reads the beginning of a payload.
func ParseStamp(b []byte) (Stamp, error) {
	if len(b) < StampSize {
		return Stamp{}, fmt.Errorf("payload of %d bytes has no stamp", len(b))
	}
	return Stamp{
		Publisher: binary.BigEndian.Uint32(b), Number: binary.BigEndian.Uint64(b[4:]),
		Sent: int64(binary.BigEndian.Uint64(b[12:])),
	}, nil
}
