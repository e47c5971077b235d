package route

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cordon-mq/cordon/policy/topic"
)

// Index maps filters to subscribers of type S within one organisation. The zero
// value is empty and ready.
type Index[S comparable] struct {
	generation atomic.Uint64
	changes    changes

	guarded struct {
		sync.RWMutex
		root  node[S]
		count int
	}
}

// node is one level. The wildcards have fields of their own, so that a literal
// look-up is one map access.
type node[S comparable] struct {
	children map[string]*node[S]
	plus     *node[S]
	subs     []S // filters that end here
	hashSubs []S // filters that end in # below here
}

// Add enters s under f. Adding the same pair twice changes nothing and answers false.
func (x *Index[S]) Add(f topic.RoutedFilter, s S) bool {
	x.guarded.Lock()
	defer x.guarded.Unlock()
	n, hash := &x.guarded.root, false
	for rest, more := f.String(), true; more; {
		var level string
		level, rest, more = strings.Cut(rest, "/")
		if level == "#" {
			hash = true
			break
		}
		n = n.child(level, true)
	}
	list := &n.subs
	if hash {
		list = &n.hashSubs
	}
	if slices.Contains(*list, s) {
		return false
	}
	*list = append(*list, s)
	x.guarded.count++
	x.changedLocked(f)
	return true
}

// Remove takes s from under f and reports whether it was there.
func (x *Index[S]) Remove(f topic.RoutedFilter, s S) bool {
	x.guarded.Lock()
	defer x.guarded.Unlock()
	if !x.guarded.root.remove(f.String(), true, s) {
		return false
	}
	x.guarded.count--
	x.changedLocked(f)
	return true
}

// Match calls visit for every subscriber whose filter matches n, once per
// filter. visit may not call the Index.
func (x *Index[S]) Match(n topic.RoutedName, visit func(S)) {
	x.guarded.RLock()
	defer x.guarded.RUnlock()
	x.guarded.root.match(n.String(), true, visit)
}

// Len is how many pairs of filter and subscriber there are.
func (x *Index[S]) Len() int {
	x.guarded.RLock()
	defer x.guarded.RUnlock()
	return x.guarded.count
}

// Generation changes with every Add and Remove that changed something. Read it
// before Match to know how long the result holds.
func (x *Index[S]) Generation() uint64 { return x.generation.Load() }

// changedLocked begins the generation that a change of f makes.
func (x *Index[S]) changedLocked(f topic.RoutedFilter) {
	x.changes.note(x.generation.Load()+1, f)
	x.generation.Add(1)
}

func (n *node[S]) child(level string, create bool) *node[S] {
	if level == "+" {
		if n.plus == nil && create {
			n.plus = &node[S]{}
		}
		return n.plus
	}
	c := n.children[level]
	if c == nil && create {
		if n.children == nil {
			n.children = make(map[string]*node[S], 1)
		}
		c = &node[S]{}
		// The key would otherwise keep the whole packet's filter string alive.
		n.children[strings.Clone(level)] = c
	}
	return c
}

func (n *node[S]) remove(rest string, more bool, s S) bool {
	if !more {
		return cut(&n.subs, s)
	}
	level, after, again := strings.Cut(rest, "/")
	if level == "#" {
		return cut(&n.hashSubs, s)
	}
	c := n.child(level, false)
	if c == nil || !c.remove(after, again, s) {
		return false
	}
	if c.empty() {
		if level == "+" {
			n.plus = nil
		} else {
			delete(n.children, level)
		}
	}
	return true
}

func (n *node[S]) empty() bool {
	return len(n.children) == 0 && n.plus == nil && len(n.subs) == 0 && len(n.hashSubs) == 0
}

func (n *node[S]) match(rest string, more bool, visit func(S)) {
	for _, s := range n.hashSubs { // # stands for its parent too [MQTT-4.7.1-2]
		visit(s)
	}
	if !more {
		for _, s := range n.subs {
			visit(s)
		}
		return
	}
	level, after, again := strings.Cut(rest, "/")
	if c := n.children[level]; c != nil {
		c.match(after, again, visit)
	}
	if n.plus != nil {
		n.plus.match(after, again, visit)
	}
}

// cut removes s without keeping order; nothing promises one between subscribers.
func cut[S comparable](list *[]S, s S) bool {
	i := slices.Index(*list, s)
	if i < 0 {
		return false
	}
	last := len(*list) - 1
	(*list)[i] = (*list)[last]
	var zero S
	(*list)[last] = zero
	*list = (*list)[:last]
	return true
}
