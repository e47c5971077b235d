package registry

import (
	"cmp"
	"encoding/json"
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// What an AddressList is for.
const (
	AddressesAllowed = "allow" // connections come from these addresses alone
	AddressesDenied  = "deny"  // they come from any others
)

// MaxAddresses is how many entries an AddressList may have.
const MaxAddresses = 100

// maxAddressText is the longest entry, in bytes: two addresses of IPv6.
const maxAddressText = 96

// AddressList is a list of addresses that connections may come from, or may not. The
// zero value is none. It is immutable.
type AddressList struct {
	Mode    string         // AddressesAllowed, AddressesDenied; empty: there is no list
	entries []AddressRange // as they were given
	ranges  []AddressRange // sorted, none overlaps another
}

// AddressRange is a range of IPv4 or of IPv6 addresses, both ends included.
type AddressRange struct{ First, Last netip.Addr }

// ParseAddressRange reads 192.0.2.7, 192.0.2.0/24 or 192.0.2.7-192.0.2.9, or the same
// of IPv6. What a prefix has beyond its length is dropped. An IPv4 address in its IPv6
// form is the IPv4 address; zones are none of anybody's address elsewhere.
func ParseAddressRange(s string) (AddressRange, error) {
	if len(s) > maxAddressText {
		return AddressRange{}, errAddress
	}
	if text, bits, ok := strings.Cut(s, "/"); ok {
		a, err := netip.ParseAddr(text)
		n, numErr := strconv.ParseUint(bits, 10, 8)
		if err != nil || numErr != nil || a.Zone() != "" || bits != strconv.FormatUint(n, 10) {
			return AddressRange{}, errAddress
		}
		if a.Is4In6() {
			if n < 96 {
				return AddressRange{}, errAddress
			}
			a, n = a.Unmap(), n-96
		}
		prefix, err := a.Prefix(int(n))
		if err != nil {
			return AddressRange{}, errAddress
		}
		return AddressRange{prefix.Addr(), lastOf(prefix)}, nil
	}
	first, last, isRange := strings.Cut(s, "-")
	if !isRange {
		last = first
	}
	a, err := netip.ParseAddr(strings.Trim(first, " "))
	b, lastErr := netip.ParseAddr(strings.Trim(last, " "))
	if err != nil || lastErr != nil || a.Zone() != "" || b.Zone() != "" {
		return AddressRange{}, errAddress
	}
	a, b = a.Unmap(), b.Unmap()
	if a.Is4() != b.Is4() || b.Less(a) {
		return AddressRange{}, errors.New("must begin with the lower of two addresses of one kind")
	}
	return AddressRange{a, b}, nil
}

var errAddress = errors.New("must be an IP address, a range FIRST-LAST or a prefix such as 192.0.2.0/24")

// lastOf is the last address of a masked prefix.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	last, _ := netip.AddrFromSlice(b)
	return last
}

// String is the shortest spelling: an address, a prefix, or a range.
func (r AddressRange) String() string {
	if r.First == r.Last {
		return r.First.String()
	}
	// The longest prefix that begins where r does and has its last address.
	for bits := r.First.BitLen(); bits >= 0; bits-- {
		p, err := r.First.Prefix(bits)
		if err != nil || p.Addr() != r.First {
			break
		}
		if lastOf(p) == r.Last {
			return p.String()
		}
	}
	return r.First.String() + "-" + r.Last.String()
}

// NewAddressList checks the entries of a list. An empty mode has none.
func NewAddressList(mode string, entries []string) (AddressList, error) {
	switch mode {
	case AddressesAllowed, AddressesDenied:
	case "":
		if len(entries) > 0 {
			return AddressList{}, invalid("entries", "must be empty where there is no list")
		}
		return AddressList{}, nil
	default:
		return AddressList{}, invalid("mode", "must be allow, deny or off")
	}
	if len(entries) > MaxAddresses {
		return AddressList{}, invalid("entries", "must be at most "+strconv.Itoa(MaxAddresses))
	}
	if len(entries) == 0 {
		return AddressList{}, invalid("entries", "must not be empty: mode off is no list")
	}
	l := AddressList{Mode: mode}
	for i, entry := range entries {
		one, err := ParseAddressRange(entry)
		if err != nil {
			return AddressList{}, invalid("entries["+strconv.Itoa(i)+"]", err.Error())
		}
		if !slices.Contains(l.entries, one) {
			l.entries = append(l.entries, one)
		}
	}
	l.ranges = joined(l.entries)
	return l, nil
}

// joined are ranges of the same addresses, sorted, of which none overlaps another.
func joined(entries []AddressRange) (ranges []AddressRange) {
	sorted := slices.SortedFunc(slices.Values(entries), func(a, b AddressRange) int {
		return cmp.Or(a.First.Compare(b.First), a.Last.Compare(b.Last))
	})
	for _, next := range sorted {
		if n := len(ranges); n > 0 && ranges[n-1].First.Is4() == next.First.Is4() && !ranges[n-1].Last.Less(next.First) {
			if ranges[n-1].Last.Less(next.Last) {
				ranges[n-1].Last = next.Last
			}
			continue
		}
		ranges = append(ranges, next)
	}
	return ranges
}

// Has reports whether a is on the list. An address that nobody knows is not.
func (l AddressList) Has(a netip.Addr) bool {
	if !a.IsValid() {
		return false
	}
	a = a.Unmap().WithZone("")
	i, _ := slices.BinarySearchFunc(l.ranges, a, func(r AddressRange, a netip.Addr) int {
		switch {
		case r.Last.Less(a):
			return -1
		case a.Less(r.First):
			return 1
		default:
			return 0
		}
	})
	return i < len(l.ranges) && !a.Less(l.ranges[i].First) && !l.ranges[i].Last.Less(a)
}

// Entries are the entries in their canonical spelling, in the order in which they were
// given.
func (l AddressList) Entries() []string {
	texts := make([]string, len(l.entries))
	for i, r := range l.entries {
		texts[i] = r.String()
	}
	return texts
}

// IsZero reports whether there is no list.
func (l AddressList) IsZero() bool { return l.Mode == "" }

type addressListText struct {
	Mode    string   `json:"mode"`
	Entries []string `json:"entries"`
}

// MarshalJSON writes the canonical spelling.
func (l AddressList) MarshalJSON() ([]byte, error) {
	return json.Marshal(addressListText{l.Mode, l.Entries()})
}

// UnmarshalJSON parses like [NewAddressList].
func (l *AddressList) UnmarshalJSON(b []byte) error {
	var text addressListText
	if err := json.Unmarshal(b, &text); err != nil {
		return err
	}
	list, err := NewAddressList(text.Mode, text.Entries)
	*l = list
	return err
}
