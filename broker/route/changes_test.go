package route_test

import (
	"testing"

	"github.com/cordon-mq/cordon/broker/route"
	"github.com/cordon-mq/cordon/policy/topic"
)

// A match that is remembered holds until a change concerns it, or until more
// changes than are remembered have passed.
func TestChanged(t *testing.T) {
	t.Parallel()
	name := func(s string) topic.RoutedName {
		n, err := topic.ParseRoutedName(s)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	filter := func(s string) topic.RoutedFilter {
		f, err := topic.ParseRoutedFilter(s)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	var x route.Index[int]
	begin := x.Generation()
	if x.Changed(begin, begin, name("a/b")) {
		t.Error("changed, though nothing was")
	}
	x.Add(filter("other/#"), 1)
	x.Add(filter("+/c"), 1)
	if x.Changed(begin, x.Generation(), name("a/b")) {
		t.Error("changed by what does not concern it")
	}
	x.Add(filter("a/+"), 1)
	if !x.Changed(begin, x.Generation(), name("a/b")) {
		t.Error("a new subscription was not noticed")
	}
	added := x.Generation()
	x.Remove(filter("a/+"), 1)
	if !x.Changed(added, x.Generation(), name("a/b")) {
		t.Error("a subscription that went was not noticed")
	}
	removed := x.Generation()
	for i := range 64 {
		x.Add(filter("other"), i)
	}
	if x.Changed(removed, x.Generation(), name("a/b")) {
		t.Error("as many changes as are remembered, and none concerns it")
	}
	x.Add(filter("other"), 64)
	if !x.Changed(removed, x.Generation(), name("a/b")) {
		t.Error("more changes than are remembered must count as one")
	}
}
