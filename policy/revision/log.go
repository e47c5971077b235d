package revision

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/cordon-mq/cordon/policy/topic"
)

// Bounds of an entry, in bytes.
const (
	maxWho   = 256
	maxWhy   = 1024
	maxEntry = 8 << 10
)

// Action is the closed set of what the log tells.
type Action string

// What happened to a revision.
const (
	Stored     Action = "stored"      // it passed the gate and waits, since another one is pinned
	Activated  Action = "activated"   // it passed the gate and became live
	Pinned     Action = "pinned"      // somebody made it live, and it stays
	RolledBack Action = "rolled_back" // like Pinned, and the one that was live is no longer in the way back
	Unpinned   Action = "unpinned"    // it is still live, and no longer stays
	Stale      Action = "stale"       // it passed the gate, and its source had offered a later build before: it is kept, and does not go live by itself
	Tried      Action = "tried"       // it passed the gate and judges some, beside the live one
	Pruned     Action = "pruned"      // its files were deleted, to make room; the log goes on naming it
)

// Author says who changed something, and why. Both are written into the log.
type Author struct {
	Who string // such as "operator" or a user's name; 1 to 256 bytes
	Why string // at most 1024 bytes
}

func (a Author) check() error {
	switch {
	case a.Who == "" || len(a.Who) > maxWho || !topic.CheckText(a.Who):
		return invalid("who", "must be 1 to 256 bytes without control characters")
	case len(a.Why) > maxWhy || !topic.CheckText(a.Why):
		return invalid("why", "must be at most 1024 bytes without control characters")
	}
	return nil
}

// Entry is one line of the log.
type Entry struct {
	Number   uint64    `json:"number"` // from 1, without gaps
	At       time.Time `json:"at"`     // UTC
	Action   Action    `json:"action"`
	Revision Digest    `json:"revision"`
	Sequence uint64    `json:"sequence,omitempty"` // of the build, where its source numbers them
	Who      string    `json:"who"`
	Why      string    `json:"why,omitempty"`
	Before   string    `json:"before,omitempty"` // Hash of the entry before; empty for the first
	Hash     string    `json:"hash"`             // of everything above
}

// Head names the last entry: whoever keeps it elsewhere can tell later whether
// the log still leads there.
type Head struct {
	Number uint64 `json:"number"`
	Hash   string `json:"hash"`
}

// sum hashes every field but Hash. Each is preceded by its length, so none can
// lend bytes to the next.
func (e *Entry) sum() string {
	h := sha256.New()
	put := func(b []byte) {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(b)))
		h.Write(length[:])
		h.Write(b)
	}
	var number [8]byte
	binary.BigEndian.PutUint64(number[:], e.Number)
	put([]byte("cordon policy log 1"))
	put(number[:])
	put([]byte(e.At.Format(time.RFC3339Nano)))
	for _, s := range []string{string(e.Action), string(e.Revision), e.Who, e.Why, e.Before} {
		put([]byte(s))
	}
	if e.Sequence != 0 { // after the others, so that an entry without one has the hash it always had
		binary.BigEndian.PutUint64(number[:], e.Sequence)
		put(number[:])
	}
	return hex.EncodeToString(h.Sum(nil))
}

// encode is the one way an entry is written, without a line end.
func (e *Entry) encode() ([]byte, error) {
	line, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encode log entry: %w", err)
	}
	return line, nil
}

func decodeEntry(line []byte) (e Entry, err error) {
	if len(line) > maxEntry {
		return e, errors.New("it is longer than 8 KiB")
	}
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil {
		return e, errors.New("it is no entry")
	}
	if len(e.Revision) != 64 || !isHex(string(e.Revision)) {
		return e, errors.New("it names no revision")
	}
	switch e.Action {
	case Stored, Activated, Pinned, RolledBack, Unpinned, Stale, Tried, Pruned:
	default:
		return e, errors.New("it tells of nothing that is known")
	}
	if again, err := e.encode(); err != nil || !bytes.Equal(again, line) {
		return e, errors.New("it was not written like this")
	}
	return e, nil
}

// BadEntry is what Verify found wrong first.
type BadEntry struct {
	Number uint64 // place in the log, from 1
	What   string
}

func (b *BadEntry) Error() string { return fmt.Sprintf("policy log: entry %d: %s", b.Number, b.What) }

// Verify follows the chain through lines, which come without line ends. head is
// how far the log reached at least; the zero Head asks for nothing. The error is
// a *BadEntry.
func Verify(lines [][]byte, head Head) ([]Entry, error) {
	entries := make([]Entry, 0, len(lines))
	var before Entry
	for i, line := range lines {
		bad := func(what string) error { return &BadEntry{uint64(i) + 1, what} }
		e, err := decodeEntry(line)
		switch {
		case err != nil:
			return nil, bad(err.Error())
		case e.Hash != e.sum():
			return nil, bad("its content was changed")
		case e.Number != uint64(i)+1:
			return nil, bad(fmt.Sprintf("entry %d stands here", e.Number))
		case e.Before != before.Hash:
			return nil, bad("it does not follow the entry before it")
		case e.Number == head.Number && e.Hash != head.Hash:
			return nil, bad("it is not the entry that was written")
		}
		entries = append(entries, e)
		before = e
	}
	if uint64(len(entries)) < head.Number {
		return nil, &BadEntry{uint64(len(entries)) + 1, fmt.Sprintf("it is missing; there were %d", head.Number)}
	}
	return entries, nil
}
