package opa

import (
	"hash/maphash"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cordon-mq/cordon/policy"
)

// maxKeyBytes bounds the text of a request that is worth remembering: a stranger
// may send user properties of any size.
const maxKeyBytes = 2048

// remembered is one answer and the request it answers. It is immutable.
type remembered struct {
	generation policy.Generation
	until      time.Time
	request    policy.Request
	decision   *policy.Decision
}

// memory holds the answers one judge gave under one generation.
type memory struct {
	// last is the latest answer of each action, for the session that publishes
	// one topic over and over. It needs no lock.
	last [policy.ActionAdminister + 1]atomic.Pointer[remembered]

	// coverings are the answers that state those of other topics. The list is
	// replaced, under the lock of answers, and never changed.
	coverings atomic.Pointer[[]*covering]
	covered   atomic.Uint32 // answers given by them, to find those to check

	answers struct {
		sync.Mutex
		generation policy.Generation
		// byHash finds the candidate; the request itself is then compared. Of two
		// requests with one hash the later is kept.
		byHash map[uint64]*remembered
	}
}

// fits reports whether m answers r: it comes from the live bundle, still
// holds, and was given for a request that no rule can tell from r.
func (m *remembered) fits(e *Engine, snap *snapshot, entry *entryPoint, r *policy.Request) bool {
	return m.generation == snap.generation &&
		m.request.Action == r.Action &&
		entry.reads.same(&m.request, r) &&
		(m.until.IsZero() || m.holds(e, r))
}

func (m *remembered) holds(e *Engine, r *policy.Request) bool {
	now := r.Time
	if now.IsZero() {
		now = e.now()
	}
	return now.Before(m.until)
}

// recallLast answers what was asked last.
func (m *memory) recallLast(e *Engine, snap *snapshot, entry *entryPoint, r *policy.Request) *policy.Decision {
	if last := m.last[r.Action].Load(); last != nil && last.fits(e, snap, entry, r) {
		return last.decision
	}
	return nil
}

// recall answers what was asked before.
func (m *memory) recall(e *Engine, snap *snapshot, entry *entryPoint, r *policy.Request) *remembered {
	hash := entry.reads.hash(e.seed, r)
	m.answers.Lock()
	found := m.answers.byHash[hash]
	m.answers.Unlock()
	if found == nil || !found.fits(e, snap, entry, r) {
		return nil
	}
	m.last[r.Action].Store(found)
	return found
}

// keep remembers d. Answers of an older generation are dropped, and one that
// comes too late, from an older bundle, is not kept.
func (m *memory) keep(e *Engine, snap *snapshot, entry *entryPoint, r *policy.Request, d *policy.Decision) {
	if entry.reads.size(r) > maxKeyBytes {
		return
	}
	kept := &remembered{snap.generation, d.Until, entry.reads.part(r), d}
	hash := entry.reads.hash(e.seed, r)

	m.answers.Lock()
	defer m.answers.Unlock()
	if m.answers.generation > snap.generation {
		return
	}
	if m.answers.generation < snap.generation || m.answers.byHash == nil {
		m.answers.generation = snap.generation
		m.answers.byHash = map[uint64]*remembered{}
	}
	if _, replaces := m.answers.byHash[hash]; !replaces && len(m.answers.byHash) >= e.memoryEntries {
		for other := range m.answers.byHash { // in no order, so nobody can aim at one
			delete(m.answers.byHash, other)
			break
		}
	}
	m.answers.byHash[hash] = kept
	if c := newCovering(kept, entry, r); c != nil {
		m.coverLocked(e, snap, entry, r, c)
	}
	m.last[r.Action].Store(kept)
}

// same reports whether a and b are equal in every field of f.
func (f fields) same(a, b *policy.Request) bool {
	if f&readTopic != 0 && a.Topic != b.Topic ||
		f&readLevels != 0 && !slices.Equal(a.Levels, b.Levels) ||
		f&readFilter != 0 && a.Filter != b.Filter ||
		f&readQoS != 0 && a.QoS != b.QoS ||
		f&readRetain != 0 && a.Retain != b.Retain ||
		f&readSize != 0 && a.Size != b.Size ||
		f&readWill != 0 && a.Will != b.Will ||
		f&readShare != 0 && a.Share != b.Share {
		return false
	}
	const seldom = readProperties | readDevice | readMethod | readRoute | readTarget
	return f&seldom == 0 || f.sameSeldom(a, b)
}

func (f fields) sameSeldom(a, b *policy.Request) bool {
	return (f&readMethod == 0 || a.Method == b.Method) &&
		(f&readRoute == 0 || a.Route == b.Route) &&
		(f&readTarget == 0 || maps.Equal(a.Target, b.Target)) &&
		(f&readDevice == 0 || sameDevice(a.Device, b.Device)) &&
		(f&readProperties == 0 || f.sameProperties(a.Properties, b.Properties))
}

func sameDevice(a, b *policy.Device) bool {
	if a == b || a == nil || b == nil {
		return a == b
	}
	return a.Type == b.Type && a.ID == b.ID && a.Registered == b.Registered &&
		a.Status == b.Status && slices.Equal(a.Groups, b.Groups)
}

func (f fields) sameProperties(a, b *policy.Properties) bool {
	if a == nil {
		a = &policy.Properties{}
	}
	if b == nil {
		b = &policy.Properties{}
	}
	return (f&readContentType == 0 || a.ContentType == b.ContentType) &&
		(f&readResponseTopic == 0 || a.ResponseTopic == b.ResponseTopic) &&
		(f&readMessageExpiry == 0 || sameExpiry(a.MessageExpiry, b.MessageExpiry)) &&
		(f&readUser == 0 || slices.Equal(a.User, b.User))
}

func sameExpiry(a, b *uint32) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

// hash need not tell every two requests apart: what it leaves out only makes
// them share a place.
func (f fields) hash(seed maphash.Seed, r *policy.Request) uint64 {
	h := uint64(r.Action)
	mix := func(s string) { h = h*0x9e3779b97f4a7c15 ^ maphash.String(seed, s) }
	number := func(n int) { h = h*0x9e3779b97f4a7c15 ^ uint64(n) }
	if f&(readTopic|readLevels) != 0 {
		mix(r.Topic.String())
	}
	if f&(readFilter|readLevels) != 0 {
		mix(r.Filter.String())
	}
	if f&readQoS != 0 {
		number(int(r.QoS))
	}
	if f&readSize != 0 {
		number(r.Size)
	}
	if f&readMethod != 0 {
		mix(r.Method)
	}
	if f&readRoute != 0 {
		mix(r.Route)
	}
	if p := r.Properties; p != nil {
		if f&readContentType != 0 {
			mix(p.ContentType)
		}
		if f&readUser != 0 {
			for _, u := range p.User {
				mix(u.Key)
				mix(u.Value)
			}
		}
	}
	return h
}

// part copies the fields of f, so that the asker may reuse its request.
func (f fields) part(r *policy.Request) policy.Request {
	p := policy.Request{Action: r.Action, QoS: r.QoS, Retain: r.Retain, Size: r.Size, Will: r.Will}
	if f&readTopic != 0 {
		p.Topic = r.Topic
	}
	if f&readLevels != 0 {
		p.Levels = slices.Clone(r.Levels)
	}
	if f&readFilter != 0 {
		p.Filter = r.Filter
	}
	if f&readShare != 0 {
		p.Share = r.Share
	}
	if f&readMethod != 0 {
		p.Method = r.Method
	}
	if f&readRoute != 0 {
		p.Route = r.Route
	}
	if f&readTarget != 0 {
		p.Target = maps.Clone(r.Target)
	}
	if f&readDevice != 0 {
		p.Device = r.Device
	}
	if f&readProperties != 0 && r.Properties != nil {
		p.Properties = f.partProperties(r.Properties)
	}
	return p
}

func (f fields) partProperties(r *policy.Properties) *policy.Properties {
	p := &policy.Properties{}
	if f&readContentType != 0 {
		p.ContentType = r.ContentType
	}
	if f&readResponseTopic != 0 {
		p.ResponseTopic = r.ResponseTopic
	}
	if f&readMessageExpiry != 0 && r.MessageExpiry != nil {
		seconds := *r.MessageExpiry
		p.MessageExpiry = &seconds
	}
	if f&readUser != 0 {
		p.User = slices.Clone(r.User)
	}
	return p
}

// size is about how many bytes part keeps.
func (f fields) size(r *policy.Request) int {
	n := 0
	if f&(readTopic|readLevels|readFilter) != 0 {
		n += len(r.Topic.String()) + len(r.Filter.String())
	}
	if f&readTarget != 0 {
		for k, v := range r.Target {
			n += 32 + len(k) + len(v)
		}
	}
	if d := r.Device; d != nil && f&readDevice != 0 {
		n += len(d.Type) + len(d.ID) + sizeOf(d.Groups)
	}
	if p := r.Properties; p != nil && f&readProperties != 0 {
		n += len(p.ContentType) + len(p.ResponseTopic)
		for _, u := range p.User {
			n += 32 + len(u.Key) + len(u.Value)
		}
	}
	return n
}
