package route

import (
	"sync/atomic"

	"github.com/cordon-mq/cordon/policy/topic"
)

// changesKept is how many changes are remembered.
const changesKept = 64

// changes are the filters that were added or removed last, by generation. They
// let a remembered match outlive changes that do not concern it, which are
// nearly all where subscriptions come and go.
type changes struct {
	last [changesKept]atomic.Pointer[change]
}

type change struct {
	generation uint64
	filter     topic.RoutedFilter
}

// note records the change that makes generation, before anybody can read that
// number. Calls are serialised.
func (cs *changes) note(generation uint64, f topic.RoutedFilter) {
	cs.last[generation%changesKept].Store(&change{generation, f})
}

// concern reports whether a change after generation since, up to now, may have
// to do with n. It says so too where it does not remember.
func (cs *changes) concern(since, now uint64, n topic.RoutedName) bool {
	if now-since > changesKept {
		return true
	}
	for g := since + 1; g <= now; g++ {
		c := cs.last[g%changesKept].Load()
		if c == nil || c.generation != g || c.filter.Matches(n) {
			return true
		}
	}
	return false
}

// Changed reports whether what Match visits for n may have changed between two
// generations of the Index. It never fails to notice a change; it may see one
// where there is none.
func (x *Index[S]) Changed(since, now uint64, n topic.RoutedName) bool {
	return since != now && x.changes.concern(since, now, n)
}
