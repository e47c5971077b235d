package route_test

import (
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/cordon-mq/cordon/broker/route"
	"github.com/cordon-mq/cordon/policy/topic"
)

// Few levels and few words, so that generated topics and filters often meet.
func topics(wild bool) *rapid.Generator[string] {
	words := []string{"", "a", "b", "$x"}
	if wild {
		words = append(words, "+", "+")
	}
	return rapid.Custom(func(t *rapid.T) string {
		s := strings.Join(rapid.SliceOfN(rapid.SampledFrom(words), 1, 4).Draw(t, "levels"), "/")
		if wild && rapid.Bool().Draw(t, "hash") {
			s = strings.TrimPrefix(s+"/#", "/#/")
		}
		if s == "" {
			s = "a"
		}
		return s
	})
}

func TestIndexAgreesWithTheMatcher(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var index route.Index[int]
		filters := map[int]topic.RoutedFilter{}
		for i := range rapid.IntRange(1, 12).Draw(t, "filters") {
			f, err := topic.ParseRoutedFilter(topics(true).Draw(t, "filter"))
			if err != nil {
				t.Skip("not a filter")
			}
			filters[i] = f
			index.Add(f, i)
		}
		for i := range filters {
			if rapid.IntRange(0, 2).Draw(t, "remove") == 0 {
				if !index.Remove(filters[i], i) {
					t.Fatalf("%v was not there", filters[i])
				}
				delete(filters, i)
			}
		}
		name, err := topic.ParseRoutedName(topics(false).Draw(t, "name"))
		if err != nil {
			t.Skip("not a name")
		}
		var want, got []int
		for i, f := range filters {
			if f.Matches(name) {
				want = append(want, i)
			}
		}
		index.Match(name, func(i int) { got = append(got, i) })
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(want, got) {
			t.Fatalf("%q: index found %v, the matcher %v of %v", name, got, want, filters)
		}
		if index.Len() != len(filters) {
			t.Fatalf("Len %d, want %d", index.Len(), len(filters))
		}
	})
}

func TestNamesAgreeWithTheMatcher(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var names route.Names[string]
		kept := map[string]topic.RoutedName{}
		for range rapid.IntRange(1, 12).Draw(t, "names") {
			n, err := topic.ParseRoutedName(topics(false).Draw(t, "name"))
			if err != nil {
				t.Skip("not a name")
			}
			names.Set(n, n.String())
			kept[n.String()] = n
			if rapid.IntRange(0, 3).Draw(t, "delete") == 0 {
				names.Delete(n)
				delete(kept, n.String())
			}
		}
		f, err := topic.ParseRoutedFilter(topics(true).Draw(t, "filter"))
		if err != nil {
			t.Skip("not a filter")
		}
		var want []string
		for s, n := range kept {
			if f.Matches(n) {
				want = append(want, s)
			}
		}
		got := names.Match(f)
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(want, got) || names.Len() != len(kept) {
			t.Fatalf("%q: found %q, want %q", f, got, want)
		}
	})
}

func TestGenerationChangesOnlyWithTheSet(t *testing.T) {
	t.Parallel()
	var index route.Index[string]
	f, _ := topic.ParseRoutedFilter("a/+")
	start := index.Generation()
	if !index.Add(f, "s") || index.Generation() == start {
		t.Fatal("Add must change the generation")
	}
	after := index.Generation()
	if index.Add(f, "s") || index.Remove(f, "other") || index.Generation() != after {
		t.Fatal("a change of nothing must not change the generation")
	}
	if !index.Remove(f, "s") || index.Generation() == after {
		t.Fatal("Remove must change the generation")
	}
}

func TestIndexUnderConcurrentUse(t *testing.T) {
	t.Parallel()
	var index route.Index[int]
	f, _ := topic.ParseRoutedFilter("a/+/c")
	n, _ := topic.ParseRoutedName("a/b/c")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 500 {
				index.Add(f, i)
				found := false
				index.Match(n, func(s int) { found = found || s == i })
				if !found {
					t.Errorf("subscriber %d does not see its own subscription", i)
				}
				index.Remove(f, i)
			}
		})
	}
	wg.Wait()
	if index.Len() != 0 {
		t.Fatalf("%d entries left", index.Len())
	}
}
