package opa

import (
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/topic"
)

const (
	// maxCoverings bounds the coverings one judge keeps: each is looked at for
	// every topic that is not the last one.
	maxCoverings = 8
	// sampleEvery is how many covered answers of one holder pass between two that
	// are checked, and sampleGap the least time between two of all holders: under
	// load the checks must not become a load of their own.
	sampleEvery = 1024
	sampleGap   = 25 * time.Millisecond
)

// theTopic is what a covering leaves out of the key.
const theTopic = readTopic | readLevels

// A covering is an answer that says, by covers, which other topics it holds for.
// Only the topic is free: every other field that the rules can read has to be
// equal. It is not used before it was probed, so a session that publishes one
// topic never pays for that; the second topic starts the probe.
type covering struct {
	remembered
	filters  [][]string // levels of the filters, inside the organisation
	spelling *spelling  // nil where no rule reads the client's spelling
	state    atomic.Uint32
	tries    int // proofs that came to no end; of the goroutine that checks
}

// States of a covering. Only a proven one answers.
const (
	unproven uint32 = iota
	proving
	proven
	unusable
)

// newCovering is nil for an answer that states no covers, that holds for every
// topic anyhow, or whose client spells its topics in no way that can be kept up.
func newCovering(m *remembered, entry *entryPoint, r *policy.Request) *covering {
	if len(m.decision.Covers) == 0 || entry.reads&theTopic == 0 {
		return nil
	}
	c := &covering{remembered: *m}
	c.request.Levels = slices.Clone(r.Levels)
	c.request.Topic = r.Topic
	for _, f := range m.decision.Covers {
		c.filters = append(c.filters, f.Levels())
	}
	if entry.reads&readTopic != 0 {
		if c.spelling = spellingOf(r.Topic.String(), r.Levels); c.spelling == nil {
			return nil
		}
	}
	return c
}

// reaches reports whether c states the answer to r. Whether it may be believed
// is its state.
func (c *covering) reaches(e *Engine, snap *snapshot, entry *entryPoint, r *policy.Request) bool {
	return c.generation == snap.generation &&
		c.request.Action == r.Action &&
		(entry.reads&^theTopic).same(&c.request, r) &&
		c.matches(r) &&
		(c.until.IsZero() || c.holds(e, r))
}

func (c *covering) matches(r *policy.Request) bool {
	for _, f := range c.filters {
		if covered(f, r.Levels) {
			return c.spelling == nil || c.spelling.fits(r.Topic.String(), r.Levels)
		}
	}
	return false
}

// covered is MQTT's matching of levels: + is any one, # the rest and its own
// parent. It is narrower in two things, where rules seldom mean what MQTT says:
// a wildcard covers no empty level, and in the first level nothing that begins
// with $ [MQTT-4.7.2-1].
func covered(filter, levels []string) bool {
	if len(levels) == 0 || isWildcard(filter[0]) && strings.HasPrefix(levels[0], "$") {
		return false
	}
	for i, f := range filter {
		switch {
		case f == "#":
			return !slices.Contains(levels[min(i, len(levels)):], "")
		case i == len(levels):
			return false
		case f == "+" && levels[i] == "", f != "+" && f != levels[i]:
			return false
		case i == len(levels)-1 && i == len(filter)-2:
			return filter[i+1] == "#"
		}
	}
	return len(filter) == len(levels)
}

func isWildcard(level string) bool { return level == "+" || level == "#" }

// A spelling is how a client wrote one topic: the prefix it used, and what
// stands for it inside the organisation. Two topics of one spelling differ, for
// a rule that reads input.topic, only as their levels do.
type spelling struct {
	client string   // empty, or ends in a slash
	org    []string // levels
}

// spellingOf takes away what name and levels have in common at their end. It is
// nil when that is nothing.
func spellingOf(name string, levels []string) *spelling {
	rest, i := name, len(levels)
	for i > 0 {
		level := levels[i-1]
		before, ok := strings.CutSuffix(rest, level)
		if !ok || before != "" && !strings.HasSuffix(before, "/") {
			break
		}
		i--
		if rest = strings.TrimSuffix(before, "/"); before == "" {
			break
		}
	}
	if i == len(levels) {
		return nil
	}
	s := &spelling{client: name[:len(name)-len(strings.Join(levels[i:], "/"))], org: slices.Clone(levels[:i])}
	if !s.fits(name, levels) {
		return nil
	}
	return s
}

// fits reports whether name is how a client of this spelling writes levels.
func (s *spelling) fits(name string, levels []string) bool {
	if len(levels) <= len(s.org) || !slices.Equal(levels[:len(s.org)], s.org) {
		return false
	}
	rest, ok := strings.CutPrefix(name, s.client)
	for i, level := range levels[len(s.org):] {
		if i > 0 && ok {
			rest, ok = strings.CutPrefix(rest, "/")
		}
		if ok {
			rest, ok = strings.CutPrefix(rest, level)
		}
	}
	return ok && rest == ""
}

// write is how the client writes levels; false when it cannot.
func (s *spelling) write(levels []string) (topic.Name, bool) {
	if len(levels) <= len(s.org) || !slices.Equal(levels[:len(s.org)], s.org) {
		return topic.Name{}, false
	}
	name, err := topic.ParseName(s.client + strings.Join(levels[len(s.org):], "/"))
	return name, err == nil
}

// at is c's request asked about other levels; nil when its client could not.
func (c *covering) at(levels []string) *policy.Request {
	r := c.request
	r.Levels = levels
	if c.spelling != nil {
		name, ok := c.spelling.write(levels)
		if !ok {
			return nil
		}
		r.Topic = name
	}
	return &r
}

// recallCovered answers r from a covering, and lets some of these answers be
// checked. It allocates for those alone.
func (j *judge) recallCovered(snap *snapshot, entry *entryPoint, r *policy.Request) *policy.Decision {
	list := j.memory.coverings.Load()
	if list == nil || snap.coversDistrusted() {
		return nil
	}
	for _, c := range *list {
		if c.state.Load() != proven || !c.reaches(j.engine, snap, entry, r) {
			continue
		}
		j.sampleCovered(snap, entry, c, r)
		j.noteAnswer(r, nil, c)
		return c.decision
	}
	return nil
}

// sampleCovered has one in many covered answers checked.
func (j *judge) sampleCovered(snap *snapshot, entry *entryPoint, c *covering, r *policy.Request) {
	if j.memory.covered.Add(1)%sampleEvery == 1 && j.engine.sampleDue() {
		j.engine.checks.add(newCheck(j, snap, entry, c, r))
	}
}

// askedBeside starts the proof of a covering that states the answer to r, which
// just had to be evaluated.
func (j *judge) askedBeside(snap *snapshot, entry *entryPoint, r *policy.Request) {
	list := j.memory.coverings.Load()
	if list == nil || snap.coversDistrusted() {
		return
	}
	for _, c := range *list {
		if c.state.Load() == unproven && !entry.reads.same(&c.request, r) && c.reaches(j.engine, snap, entry, r) &&
			c.state.CompareAndSwap(unproven, proving) {
			if !j.engine.checks.add(newCheck(j, snap, entry, c, r)) {
				c.state.Store(unproven)
			}
			return
		}
	}
}

// coverLocked keeps c beside the coverings that still hold, the oldest of too many
// left out. What another covering states already is not kept twice. The caller
// holds the lock of answers.
func (m *memory) coverLocked(e *Engine, snap *snapshot, entry *entryPoint, r *policy.Request, c *covering) {
	var kept []*covering
	if list := m.coverings.Load(); list != nil {
		for _, old := range *list {
			if old.generation != snap.generation || !old.until.IsZero() && !old.holds(e, r) {
				continue
			}
			if old.reaches(e, snap, entry, r) {
				return
			}
			kept = append(kept, old)
		}
	}
	if len(kept) == maxCoverings {
		kept = slices.Delete(kept, 0, 1)
	}
	kept = append(kept, c)
	m.coverings.Store(&kept)
}

// sampleDue reports whether it is time for another check of a covered answer.
func (e *Engine) sampleDue() bool {
	now := e.now().UnixNano()
	next := e.nextSample.Load()
	return now >= next && e.nextSample.CompareAndSwap(next, now+int64(sampleGap))
}
