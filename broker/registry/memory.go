package registry

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"sync"
)

// maxRemembered is how many successful slow checks are remembered: about 10 MB.
const maxRemembered = 100_000

// memory remembers successful checks of slow hashes, so that a fleet that
// reconnects does not pay for them again. It holds keyed hashes under a key of
// this process, and no failures. The version is part of what is hashed and no
// version is used twice, so a replaced credential can never be found.
//
// It has two halves: when the young one is full it becomes the old one, and the
// old one is forgotten. What is found in the old one becomes young again.
type memory struct {
	key  [32]byte
	half int

	known struct {
		sync.Mutex
		young, old map[mark]struct{}
	}
}

// mark stands for one credential, version and token.
type mark [sha256.Size]byte

func newMemory(size int) *memory {
	m := &memory{half: max(1, size/2)}
	fill(m.key[:])
	m.known.young = make(map[mark]struct{})
	return m
}

// mark computes the mark of a check; versions are never used for two credentials.
func (m *memory) mark(id credentialID, version uint64, token []byte) (k mark) {
	d := hmac.New(sha256.New, m.key[:])
	var number [8]byte
	binary.BigEndian.PutUint64(number[:], version)
	d.Write(number[:])
	binary.BigEndian.PutUint64(number[:], uint64(len(id)))
	d.Write(number[:])
	d.Write([]byte(id))
	d.Write(token)
	d.Sum(k[:0])
	return k
}

func (m *memory) has(k mark) bool {
	m.known.Lock()
	defer m.known.Unlock()
	if _, ok := m.known.young[k]; ok {
		return true
	}
	_, ok := m.known.old[k]
	if ok {
		m.addLocked(k)
	}
	return ok
}

func (m *memory) add(k mark) {
	m.known.Lock()
	defer m.known.Unlock()
	m.addLocked(k)
}

func (m *memory) addLocked(k mark) {
	if len(m.known.young) >= m.half {
		m.known.young, m.known.old = make(map[mark]struct{}), m.known.young
	}
	m.known.young[k] = struct{}{}
}
