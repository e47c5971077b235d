package topic

import "strings"

// StartsWithWildcard reports whether the first level is + or #. Such a filter
// matches no topic that starts with $ [MQTT-4.7.2-1].
func (f Filter) StartsWithWildcard() bool { return f.s != "" && (f.s[0] == '+' || f.s[0] == '#') }

// IsDollar reports whether the name starts with $ [MQTT-4.7.2-1].
func (n Name) IsDollar() bool { return n.s != "" && n.s[0] == '$' }

// Matches reports whether n is one of the topics f stands for, by the whole
// rule of MQTT 5 §4.7.
func (f Filter) Matches(n Name) bool {
	return !(f.StartsWithWildcard() && n.IsDollar()) && match(f.s, n.s)
}

// Matches reports whether n is one of the topics f stands for, but for the rule
// about a leading $: that one speaks of the client's spelling, so whoever
// delivers applies it after mapping the name back.
func (f RoutedFilter) Matches(n RoutedName) bool { return match(f.s, n.s) }

// match compares level by level without allocating. # also stands for its own
// parent: "a/#" matches "a" [MQTT-4.7.1-2].
func match(filter, name string) bool {
	if filter == "" || name == "" {
		return false
	}
	for {
		f, frest, fmore := strings.Cut(filter, "/")
		if f == "#" {
			return true
		}
		n, nrest, nmore := strings.Cut(name, "/")
		if f != "+" && f != n {
			return false
		}
		switch {
		case !fmore && !nmore:
			return true
		case !nmore:
			return frest == "#"
		case !fmore:
			return false
		}
		filter, name = frest, nrest
	}
}
