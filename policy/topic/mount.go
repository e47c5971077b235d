package topic

import (
	"fmt"
	"slices"
	"strings"
)

// MaxMounts is how many mounts one client may have.
const MaxMounts = 8

// Mount maps a prefix of what a client writes to a prefix inside its
// organisation, and back. A device of type T and id D has, for example,
// {Client: "iot-2/", Org: "iot-2/type/T/id/D/"}; the identity mount is
// {Client: "", Org: ""}. A prefix is empty or ends in a slash.
type Mount struct {
	Client string
	Org    string
	// Device says which org-relative levels name a device, so that a policy gets
	// the registry's facts about it. Nil when none do.
	Device *DeviceLevels
}

// DeviceLevels are zero-based positions in the org-relative topic: in
// "iot-2/type/T/id/D/evt/…" the type is at 2 and the id at 4.
type DeviceLevels struct{ Type, ID int }

// Mounts is the immutable, validated set of mounts of one client. The zero
// value has none, so every topic is refused.
type Mounts struct{ list []Mount } // longest client prefix first

// NewMounts validates ms and keeps a copy. A client prefix may occur only once.
func NewMounts(ms []Mount) (Mounts, error) {
	if len(ms) > MaxMounts {
		return Mounts{}, errMountsCount
	}
	list := slices.Clone(ms)
	for i := range list {
		if err := list[i].validate(); err != nil {
			return Mounts{}, err
		}
	}
	slices.SortStableFunc(list, func(a, b Mount) int { return len(b.Client) - len(a.Client) })
	for i := range list {
		for _, other := range list[:i] {
			if other.Client == list[i].Client {
				return Mounts{}, fmt.Errorf("two mounts have the client prefix %q", other.Client)
			}
		}
	}
	return Mounts{list}, nil
}

func (m *Mount) validate() error {
	for _, prefix := range []string{m.Client, m.Org} {
		switch {
		case prefix == "":
		case !strings.HasSuffix(prefix, "/"):
			return fmt.Errorf("mount prefix %q does not end in /", prefix)
		case strings.ContainsAny(prefix, "+#"):
			return fmt.Errorf("mount prefix %q has a wildcard", prefix)
		case !CheckText(prefix):
			return fmt.Errorf("mount prefix %q has a control character", prefix)
		case checkRouted(prefix) != nil:
			return fmt.Errorf("mount prefix of %d bytes: %w", len(prefix), checkRouted(prefix))
		}
	}
	if d := m.Device; d != nil && (d.Type < 0 || d.ID < 0 || d.Type >= MaxRoutedLevels || d.ID >= MaxRoutedLevels || d.Type == d.ID) {
		return fmt.Errorf("mount %q names the device levels %d and %d; they must differ and lie between 0 and %d", m.Client, d.Type, d.ID, MaxRoutedLevels-1)
	}
	return nil
}

// List returns a copy of the mounts, longest client prefix first.
func (ms Mounts) List() []Mount { return slices.Clone(ms.list) }

// Equal reports whether both sets map every topic alike.
func (ms Mounts) Equal(other Mounts) bool {
	return slices.EqualFunc(ms.list, other.list, func(a, b Mount) bool {
		return a.Client == b.Client && a.Org == b.Org &&
			(a.Device == nil) == (b.Device == nil) && (a.Device == nil || *a.Device == *b.Device)
	})
}

// In maps a name into the organisation through the mount with the longest
// matching client prefix. The error is ErrNoMount, ErrTooLong or ErrTooDeep.
func (ms Mounts) In(n Name) (RoutedName, *Mount, error) {
	m := ms.longest(n.s)
	if m == nil || n.IsZero() {
		return RoutedName{}, nil, ErrNoMount
	}
	routed := m.Org + n.s[len(m.Client):]
	if routed == "" {
		return RoutedName{}, nil, ErrNoMount
	}
	return RoutedName{routed}, m, checkRouted(routed)
}

// InFilter maps a filter into the organisation. The filter must lie wholly
// under one mount: its text starts with the mount's client prefix and, unless
// that is the identity mount, it can match nothing under a longer one.
func (ms Mounts) InFilter(f Filter) (RoutedFilter, *Mount, error) {
	m := ms.longest(f.s)
	if m == nil || f.IsZero() {
		return RoutedFilter{}, nil, ErrNoMount
	}
	identity := m.Client == "" && m.Org == ""
	for i := range ms.list {
		longer := ms.list[i].Client
		if len(longer) > len(m.Client) && !identity && reaches(f.s, longer) {
			return RoutedFilter{}, nil, ErrManyMounts
		}
	}
	routed := m.Org + f.s[len(m.Client):]
	if routed == "" {
		return RoutedFilter{}, nil, ErrNoMount
	}
	return RoutedFilter{routed}, m, checkRouted(routed)
}

// Out maps a routed name back through m, one of ms, to what the client would
// write for it. It answers false for a name that has no such spelling: one
// outside the mount, or one whose spelling belongs to a longer mount.
func (ms Mounts) Out(m *Mount, n RoutedName) (Name, bool) {
	rest, ok := strings.CutPrefix(n.s, m.Org)
	if !ok || m.Client == "" && rest == "" {
		return Name{}, false
	}
	client := m.Client + rest
	if len(client) > MaxClientBytes {
		return Name{}, false
	}
	if back := ms.longest(client); back == nil || back.Client != m.Client {
		return Name{}, false
	}
	return Name{client}, true
}

// OutAny maps a routed name back through prefer or, where that has no spelling
// for it, the first mount that has: a Response Topic need not lie under the
// mount of the subscription that delivers it.
func (ms Mounts) OutAny(prefer *Mount, n RoutedName) (Name, bool) {
	if prefer != nil {
		if name, ok := ms.Out(prefer, n); ok {
			return name, true
		}
	}
	for i := range ms.list {
		if name, ok := ms.Out(&ms.list[i], n); ok {
			return name, true
		}
	}
	return Name{}, false
}

func (ms Mounts) longest(s string) *Mount {
	for i := range ms.list {
		if strings.HasPrefix(s, ms.list[i].Client) {
			return &ms.list[i]
		}
	}
	return nil
}

// reaches reports whether filter can match some name that starts with prefix,
// which ends in a slash.
func reaches(filter, prefix string) bool {
	for {
		p, prest, pmore := strings.Cut(prefix, "/")
		if !pmore {
			return true // every level of the prefix was met
		}
		f, frest, fmore := strings.Cut(filter, "/")
		switch {
		case f == "#":
			return true
		case f != "+" && f != p:
			return false
		case !fmore:
			return false // the filter ends above the prefix's last slash
		}
		filter, prefix = frest, prest
	}
}
