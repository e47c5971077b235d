package topic_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/cordon-mq/cordon/policy/topic"
)

// device is what the default policies give device d1 of type sensor.
var device = []topic.Mount{
	{Client: "iot-2/", Org: "iot-2/type/sensor/id/d1/", Device: &topic.DeviceLevels{Type: 2, ID: 4}},
	{Client: "/iot-2/", Org: "iot-2/type/sensor/id/d1/", Device: &topic.DeviceLevels{Type: 2, ID: 4}},
}

func mustMounts(tb testing.TB, ms ...topic.Mount) topic.Mounts {
	tb.Helper()
	mounts, err := topic.NewMounts(ms)
	if err != nil {
		tb.Fatal(err)
	}
	return mounts
}

func mustName(tb testing.TB, s string) topic.Name {
	tb.Helper()
	n, err := topic.ParseName(s)
	if err != nil {
		tb.Fatal(err)
	}
	return n
}

func TestMountsMapBothSpellings(t *testing.T) {
	t.Parallel()
	mounts := mustMounts(t, device...)
	for client, org := range map[string]string{
		"iot-2/evt/status/fmt/json":  "iot-2/type/sensor/id/d1/evt/status/fmt/json",
		"/iot-2/evt/status/fmt/json": "iot-2/type/sensor/id/d1/evt/status/fmt/json",
		"iot-2/":                     "iot-2/type/sensor/id/d1/",
	} {
		routed, mount, err := mounts.In(mustName(t, client))
		if err != nil || routed.String() != org {
			t.Errorf("In(%q) = %q, %v; want %q", client, routed, err, org)
			continue
		}
		if back, ok := mounts.Out(mount, routed); !ok || back.String() != client {
			t.Errorf("Out(In(%q)) = %q, %v", client, back, ok)
		}
	}
	for _, outside := range []string{"iot-2", "/iot-2", "other/x", "iot-22/x", "iot-2evt/x", "//iot-2/x", "$SYS/x"} {
		if _, _, err := mounts.In(mustName(t, outside)); !errors.Is(err, topic.ErrNoMount) {
			t.Errorf("In(%q) = %v, want ErrNoMount", outside, err)
		}
	}
}

func TestFiltersLieUnderOneMount(t *testing.T) {
	t.Parallel()
	overlapping := []topic.Mount{{Client: "", Org: "x/"}, {Client: "a/", Org: "y/"}}
	identity := []topic.Mount{{}, {Client: "a/", Org: "y/"}}
	for _, tt := range []struct {
		mounts       []topic.Mount
		filter, want string
		err          error
	}{
		{device, "iot-2/cmd/+/fmt/+", "iot-2/type/sensor/id/d1/cmd/+/fmt/+", nil},
		{device, "/iot-2/cmd/+", "iot-2/type/sensor/id/d1/cmd/+", nil},
		{device, "iot-2/#", "iot-2/type/sensor/id/d1/#", nil},
		{device, "#", "", topic.ErrNoMount},
		{device, "+/cmd/x", "", topic.ErrNoMount},
		{device, "+/+/+/+/+", "", topic.ErrNoMount},
		{device, "iot-2", "", topic.ErrNoMount},
		{overlapping, "b/+", "x/b/+", nil},
		{overlapping, "a/+", "y/+", nil},
		{overlapping, "+/b", "", topic.ErrManyMounts},
		{overlapping, "#", "", topic.ErrManyMounts},
		{overlapping, "+", "x/+", nil}, // one level: it cannot reach below a/
		{identity, "#", "#", nil},
		{identity, "+/b", "+/b", nil},
		{nil, "a", "", topic.ErrNoMount},
	} {
		f, err := topic.ParseFilter(tt.filter)
		if err != nil {
			t.Fatal(err)
		}
		got, _, err := mustMounts(t, tt.mounts...).InFilter(f)
		if !errors.Is(err, tt.err) || err == nil && got.String() != tt.want {
			t.Errorf("InFilter(%q) = %q, %v; want %q, %v", tt.filter, got, err, tt.want, tt.err)
		}
	}
}

func TestWhatHasNoSpellingIsNotDelivered(t *testing.T) {
	t.Parallel()
	mounts := mustMounts(t, topic.Mount{Client: "", Org: "x/"}, topic.Mount{Client: "a/", Org: "y/"})
	list := mounts.List()
	short, long := &list[1], &list[0]
	for _, tt := range []struct {
		mount  *topic.Mount
		routed string
		want   string
		ok     bool
	}{
		{short, "x/b", "b", true},
		{short, "x/a/b", "", false}, // "a/b" belongs to the longer mount
		{short, "z/b", "", false},
		{short, "x", "", false},
		{long, "y/b", "a/b", true},
	} {
		n, err := topic.ParseRoutedName(tt.routed)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := mounts.Out(tt.mount, n); ok != tt.ok || got.String() != tt.want {
			t.Errorf("Out(%q) = %q, %v; want %q, %v", tt.routed, got, ok, tt.want, tt.ok)
		}
	}
}

func TestNewMountsRefuses(t *testing.T) {
	t.Parallel()
	many := make([]topic.Mount, 9)
	for i := range many {
		many[i].Client = strings.Repeat("a", i+1) + "/"
	}
	for name, ms := range map[string][]topic.Mount{
		"no slash":     {{Client: "a", Org: "b/"}},
		"wildcard":     {{Client: "a/", Org: "+/"}},
		"control":      {{Client: "a\x01/", Org: "b/"}},
		"duplicate":    {{Client: "a/", Org: "b/"}, {Client: "a/", Org: "c/"}},
		"too many":     many,
		"too long":     {{Client: "a/", Org: strings.Repeat("b", 1024) + "/"}},
		"bad levels":   {{Client: "a/", Org: "b/", Device: &topic.DeviceLevels{Type: -1, ID: 2}}},
		"equal levels": {{Client: "a/", Org: "b/", Device: &topic.DeviceLevels{Type: 2, ID: 2}}},
	} {
		if _, err := topic.NewMounts(ms); err == nil {
			t.Errorf("%s: accepted %v", name, ms)
		}
	}
}

// A name that a mount takes in comes out as it was written, and mapping a
// filter keeps what it matches: what the client would see is what is delivered.
func FuzzMountRoundTrip(f *testing.F) {
	f.Add("iot-2/", "iot-2/type/t/id/d/", "", "", "iot-2/evt/e/fmt/json", "iot-2/evt/+/fmt/+")
	f.Add("", "x/", "a/", "y/", "a/b", "+/b")
	f.Add("", "", "a/", "y/", "a/b", "#")
	f.Add("/", "p/", "//", "q/", "//b", "//#")
	f.Fuzz(func(t *testing.T, c1, o1, c2, o2, name, filter string) {
		mounts, err := topic.NewMounts([]topic.Mount{{Client: c1, Org: o1}, {Client: c2, Org: o2}})
		if err != nil {
			return
		}
		n, err := topic.ParseName(name)
		if err != nil {
			return
		}
		routed, m, err := mounts.In(n)
		if err != nil {
			return
		}
		if back, ok := mounts.Out(m, routed); !ok || back != n {
			t.Fatalf("In(%q) = %q, which comes out as %q, %v", n, routed, back, ok)
		}
		if _, err := topic.ParseRoutedName(routed.String()); err != nil {
			t.Fatalf("In(%q) = %q: %v", n, routed, err)
		}
		pf, err := topic.ParseFilter(filter)
		if err != nil {
			return
		}
		rf, fm, err := mounts.InFilter(pf)
		if err != nil {
			return
		}
		if _, err := topic.ParseRoutedFilter(rf.String()); err != nil {
			t.Fatalf("InFilter(%q) = %q: %v", pf, rf, err)
		}
		// Delivered through the filter's mount, the name is one the filter matches.
		seen, ok := mounts.Out(fm, routed)
		delivered := ok && rf.Matches(routed) && !(pf.StartsWithWildcard() && seen.IsDollar())
		if delivered && !pf.Matches(seen) {
			t.Fatalf("%q is delivered for %q, which does not match it", seen, pf)
		}
		// And what it matches under that mount is delivered.
		if fm.Client == m.Client && pf.Matches(n) && !delivered {
			t.Fatalf("%q matches %q and is not delivered", pf, n)
		}
	})
}
