package route

import (
	"strings"
	"sync"

	"github.com/cordon-mq/cordon/policy/topic"
)

// Names maps topic names to values of type V within one organisation: the
// retained messages. The zero value is empty and ready.
type Names[V any] struct {
	guarded struct {
		sync.RWMutex
		root  nameNode[V]
		count int
	}
}

type nameNode[V any] struct {
	children map[string]*nameNode[V]
	value    V
	set      bool
}

// Set stores v under n and returns what was there before.
func (x *Names[V]) Set(n topic.RoutedName, v V) (old V, had bool) {
	x.guarded.Lock()
	defer x.guarded.Unlock()
	at := &x.guarded.root
	for level := range strings.SplitSeq(n.String(), "/") {
		c := at.children[level]
		if c == nil {
			if at.children == nil {
				at.children = make(map[string]*nameNode[V], 1)
			}
			c = &nameNode[V]{}
			at.children[strings.Clone(level)] = c
		}
		at = c
	}
	old, had = at.value, at.set
	at.value, at.set = v, true
	if !had {
		x.guarded.count++
	}
	return old, had
}

// Get returns what is under n.
func (x *Names[V]) Get(n topic.RoutedName) (v V, has bool) {
	x.guarded.RLock()
	defer x.guarded.RUnlock()
	at := &x.guarded.root
	for level := range strings.SplitSeq(n.String(), "/") {
		if at = at.children[level]; at == nil {
			return v, false
		}
	}
	return at.value, at.set
}

// Delete removes what is under n and returns it.
func (x *Names[V]) Delete(n topic.RoutedName) (old V, had bool) {
	x.guarded.Lock()
	defer x.guarded.Unlock()
	old, had = x.guarded.root.delete(n.String(), true)
	if had {
		x.guarded.count--
	}
	return old, had
}

// Match returns the values of all names that f stands for.
func (x *Names[V]) Match(f topic.RoutedFilter) []V {
	x.guarded.RLock()
	defer x.guarded.RUnlock()
	var found []V
	x.guarded.root.match(f.String(), true, &found)
	return found
}

// All returns every value.
func (x *Names[V]) All() []V {
	x.guarded.RLock()
	defer x.guarded.RUnlock()
	found := make([]V, 0, x.guarded.count)
	x.guarded.root.all(&found)
	return found
}

// Len is how many names have a value.
func (x *Names[V]) Len() int {
	x.guarded.RLock()
	defer x.guarded.RUnlock()
	return x.guarded.count
}

func (n *nameNode[V]) delete(rest string, more bool) (old V, had bool) {
	if !more {
		old, had = n.value, n.set
		var zero V
		n.value, n.set = zero, false
		return old, had
	}
	level, after, again := strings.Cut(rest, "/")
	c := n.children[level]
	if c == nil {
		return old, false
	}
	old, had = c.delete(after, again)
	if !c.set && len(c.children) == 0 {
		delete(n.children, level)
	}
	return old, had
}

func (n *nameNode[V]) match(rest string, more bool, found *[]V) {
	if !more {
		if n.set {
			*found = append(*found, n.value)
		}
		return
	}
	level, after, again := strings.Cut(rest, "/")
	switch level {
	case "#":
		n.all(found)
	case "+":
		for _, c := range n.children {
			c.match(after, again, found)
		}
	default:
		if c := n.children[level]; c != nil {
			c.match(after, again, found)
		}
	}
}

// all collects this node, which # stands for as its parent, and everything below.
func (n *nameNode[V]) all(found *[]V) {
	if n.set {
		*found = append(*found, n.value)
	}
	for _, c := range n.children {
		c.all(found)
	}
}
