package topic_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/cordon-mq/cordon/policy/topic"
)

func TestParseName(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		in   string
		want error
	}{
		{"iot-2/evt/status/fmt/json", nil},
		{"/iot-2/evt", nil},
		{"a//b", nil},
		{"/", nil},
		{"$SYS/x", nil},
		{"température/°C", nil},
		{"", topic.ErrEmpty},
		{"a/+", topic.ErrWildcard},
		{"a/#", topic.ErrWildcard},
		{"a+b", topic.ErrWildcard},
		{"a\x00b", topic.ErrCharacter},
		{"a\x1fb", topic.ErrCharacter},
		{"a\x7fb", topic.ErrCharacter},
		{"a\u0085b", topic.ErrCharacter},
		{"a\ufffeb", topic.ErrCharacter},
		{"a\ufdd0b", topic.ErrCharacter},
		{"a\xed\xa0\x80b", topic.ErrCharacter}, // a surrogate
		{"a\xffb", topic.ErrCharacter},
		{"a\xc0\x80b", topic.ErrCharacter}, // U+0000 the long way
		{strings.Repeat("a", 65535), nil},
		{strings.Repeat("a", 65536), topic.ErrTooLong},
	} {
		if _, err := topic.ParseName(tt.in); !errors.Is(err, tt.want) {
			t.Errorf("ParseName(%.20q) = %v, want %v", tt.in, err, tt.want)
		}
	}
}

func TestParseSubscription(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		in, share, filter string
		want              error
	}{
		{"a/+/b", "", "a/+/b", nil},
		{"#", "", "#", nil},
		{"+", "", "+", nil},
		{"a/#", "", "a/#", nil},
		{"$shared/g/a", "", "$shared/g/a", nil},
		{"$share/g/a/+", "g", "a/+", nil},
		{"$share/g//a", "g", "/a", nil},
		{"$SHARE/g/a", "", "", topic.ErrShare},
		{"$Share/g/a", "", "", topic.ErrShare},
		{"$share", "", "", topic.ErrShare},
		{"$share/g", "", "", topic.ErrShare},
		{"$share//a", "", "", topic.ErrShare},
		{"$share/+/a", "", "", topic.ErrShare},
		{"$share/g#/a", "", "", topic.ErrShare},
		{"$share/g/", "", "", topic.ErrEmpty},
		{"$share/g/$share/h/a", "g", "$share/h/a", nil}, // an ordinary topic that nobody can publish under a mount
		{"a+/b", "", "", topic.ErrFilter},
		{"a/+b", "", "", topic.ErrFilter},
		{"a/#/b", "", "", topic.ErrFilter},
		{"a#", "", "", topic.ErrFilter},
		{"", "", "", topic.ErrEmpty},
	} {
		share, f, err := topic.ParseSubscription(tt.in)
		if !errors.Is(err, tt.want) || err == nil && (share != tt.share || f.String() != tt.filter) {
			t.Errorf("ParseSubscription(%q) = %q, %q, %v; want %q, %q, %v", tt.in, share, f, err, tt.share, tt.filter, tt.want)
		}
	}
}

func TestRoutedBounds(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		in   string
		want error
	}{
		{strings.Repeat("a", 1024), nil},
		{strings.Repeat("a", 1025), topic.ErrTooLong},
		{strings.Repeat("/", 31), nil},
		{strings.Repeat("/", 32), topic.ErrTooDeep},
	} {
		if _, err := topic.ParseRoutedName(tt.in); !errors.Is(err, tt.want) {
			t.Errorf("ParseRoutedName of %d bytes = %v, want %v", len(tt.in), err, tt.want)
		}
		if _, err := topic.ParseRoutedFilter(tt.in); !errors.Is(err, tt.want) {
			t.Errorf("ParseRoutedFilter of %d bytes = %v, want %v", len(tt.in), err, tt.want)
		}
	}
}

// The examples of MQTT 5 §4.7.1 and §4.7.2, and the corners between them.
func TestMatches(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		filter, name string
		want         bool
	}{
		{"sport/tennis/player1/#", "sport/tennis/player1", true},
		{"sport/tennis/player1/#", "sport/tennis/player1/ranking", true},
		{"sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true},
		{"sport/#", "sport", true},
		{"sport/#", "sports", false},
		{"#", "a/b/c", true},
		{"sport/tennis/+", "sport/tennis/player1", true},
		{"sport/tennis/+", "sport/tennis/player1/ranking", false},
		{"sport/+", "sport", false},
		{"sport/+", "sport/", true},
		{"+/+", "/finance", true},
		{"/+", "/finance", true},
		{"+", "/finance", false},
		{"+", "finance", true},
		{"a/+/c", "a//c", true},
		{"a/b", "a/b/", false},
		{"a/b/", "a/b", false},
		{"#", "$SYS/x", false},
		{"+/monitor/Clients", "$SYS/monitor/Clients", false},
		{"$SYS/#", "$SYS/x", true},
		{"$SYS/monitor/+", "$SYS/monitor/Clients", true},
		{"a/+/+/#", "a/b", false},
		{"a/+/+/#", "a/b/c", true},
	} {
		f, err := topic.ParseFilter(tt.filter)
		if err != nil {
			t.Fatal(err)
		}
		n, err := topic.ParseName(tt.name)
		if err != nil {
			t.Fatal(err)
		}
		if got := f.Matches(n); got != tt.want {
			t.Errorf("%q matches %q = %v, want %v", tt.filter, tt.name, got, tt.want)
		}
	}
}

// matchesByLevels is the rule as the specification words it, on split levels:
// the oracle for the matcher that does not split.
func matchesByLevels(filter, name []string) bool {
	for i, f := range filter {
		switch {
		case f == "#":
			return true
		case i >= len(name):
			return false
		case f != "+" && f != name[i]:
			return false
		}
	}
	return len(filter) == len(name)
}

func FuzzMatchAgainstOracle(f *testing.F) {
	for _, seed := range [][2]string{
		{"a/+/#", "a/b"}, {"#", "/"}, {"+/", "a/"}, {"$x/#", "$x"}, {"+", "$x"}, {"a/#", "a"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, filter, name string) {
		pf, err := topic.ParseFilter(filter)
		if err != nil {
			return
		}
		pn, err := topic.ParseName(name)
		if err != nil {
			return
		}
		want := matchesByLevels(strings.Split(filter, "/"), strings.Split(name, "/"))
		// "a/#" stands for "a" too: the oracle's loop meets # at the end of name.
		if strings.HasPrefix(name, "$") && (filter[0] == '+' || filter[0] == '#') {
			want = false
		}
		if got := pf.Matches(pn); got != want {
			t.Errorf("%q matches %q = %v, the oracle says %v", filter, name, got, want)
		}
	})
}
