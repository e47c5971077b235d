package topic

import (
	"errors"
	"strings"
	"unicode/utf8"
)

// Bounds of a routed topic. A client's own spelling may be as long as MQTT
// allows ([MaxClientBytes]); what it becomes inside the organisation may not.
const (
	MaxClientBytes  = 65535 // MQTT 5 §1.5.4: a UTF-8 string has a two-byte length
	MaxRoutedBytes  = 1024
	MaxRoutedLevels = 32
)

// What can be wrong with a topic. The texts are public: they say what the
// sender can change, and never repeat what it sent.
var (
	ErrEmpty       = errors.New("topic is empty")                                               // [MQTT-4.7.3-1]
	ErrTooLong     = errors.New("topic is longer than 1024 bytes inside the organisation")      //
	ErrTooDeep     = errors.New("topic has more than 32 levels inside the organisation")        //
	ErrCharacter   = errors.New("topic has a control character or is not valid UTF-8")          // [MQTT-1.5.4-1], [MQTT-1.5.4-2]
	ErrWildcard    = errors.New("topic name has a wildcard")                                    // [MQTT-3.3.2-2]
	ErrFilter      = errors.New("wildcard does not fill its level, or # is not the last level") // [MQTT-4.7.1-1], [MQTT-4.7.1-2]
	ErrShare       = errors.New("shared subscription is not $share/{group}/{filter}")           // [MQTT-4.8.2-1], [MQTT-4.8.2-2]
	ErrNoMount     = errors.New("topic is under no mount of this client")
	ErrManyMounts  = errors.New("filter reaches over more than one mount of this client")
	errMountsCount = errors.New("more than 8 mounts")
)

// Name is a topic name as a client wrote it, such as "iot-2/evt/status/fmt/json".
type Name struct{ s string }

// Filter is a topic filter as a client wrote it, such as "iot-2/cmd/+/fmt/+",
// without the "$share/{group}/" of a shared subscription.
type Filter struct{ s string }

// RoutedName is a topic name inside an organisation, such as
// "iot-2/type/sensor/id/d1/evt/status/fmt/json": at most [MaxRoutedBytes] and
// [MaxRoutedLevels].
type RoutedName struct{ s string }

// RoutedFilter is a topic filter inside an organisation, within the same bounds.
type RoutedFilter struct{ s string }

func (n Name) String() string         { return n.s }
func (f Filter) String() string       { return f.s }
func (n RoutedName) String() string   { return n.s }
func (f RoutedFilter) String() string { return f.s }

// IsZero reports whether n was never parsed.
func (n Name) IsZero() bool { return n.s == "" }

// IsZero reports whether f was never parsed.
func (f Filter) IsZero() bool { return f.s == "" }

// IsZero reports whether n was never parsed.
func (n RoutedName) IsZero() bool { return n.s == "" }

// IsZero reports whether f was never parsed.
func (f RoutedFilter) IsZero() bool { return f.s == "" }

// ParseName checks a topic name as it arrives from a client.
func ParseName(s string) (Name, error) {
	if err := checkText(s); err != nil {
		return Name{}, err
	}
	if strings.ContainsAny(s, "+#") {
		return Name{}, ErrWildcard
	}
	return Name{s}, nil
}

// ParseFilter checks a topic filter as it arrives from a client. A shared
// subscription is split off first, by [ParseSubscription].
func ParseFilter(s string) (Filter, error) {
	if err := checkText(s); err != nil {
		return Filter{}, err
	}
	if err := checkWildcards(s); err != nil {
		return Filter{}, err
	}
	return Filter{s}, nil
}

// ParseRoutedName checks a topic name that is already relative to its
// organisation: one that the broker itself makes, or reads back from its store.
func ParseRoutedName(s string) (RoutedName, error) {
	n, err := ParseName(s)
	if err != nil {
		return RoutedName{}, err
	}
	return RoutedName(n), checkRouted(s)
}

// ParseRoutedFilter checks a topic filter that is already relative to its
// organisation, such as one a policy names in covers.
func ParseRoutedFilter(s string) (RoutedFilter, error) {
	f, err := ParseFilter(s)
	if err != nil {
		return RoutedFilter{}, err
	}
	return RoutedFilter(f), checkRouted(s)
}

// ParseSubscription splits "$share/{group}/{filter}" and checks both parts;
// share is empty for an ordinary filter. Only this exact spelling is a shared
// subscription: another case of "$share" is refused, because a reader that
// compared without regard to case would see another filter than the one judged.
func ParseSubscription(s string) (share string, f Filter, err error) {
	first, rest, _ := strings.Cut(s, "/")
	if !strings.EqualFold(first, "$share") {
		f, err = ParseFilter(s)
		return "", f, err
	}
	group, inner, ok := strings.Cut(rest, "/")
	if first != "$share" || !ok || group == "" || strings.ContainsAny(group, "+#") {
		return "", Filter{}, ErrShare
	}
	if err := checkText(group); err != nil {
		return "", Filter{}, err
	}
	f, err = ParseFilter(inner)
	return group, f, err
}

// CheckText reports whether s may stand in an MQTT string: valid UTF-8 without
// control characters or non-characters. MQTT only demands that U+0000 and
// surrogates are refused [MQTT-1.5.4-1] [MQTT-1.5.4-2] and leaves the others to
// the receiver; they have no use but to confuse whoever reads a log.
func CheckText(s string) bool {
	for i := 0; i < len(s); {
		if c := s[i]; c < utf8.RuneSelf {
			if c < 0x20 || c == 0x7f {
				return false
			}
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && size == 1 || r <= 0x9f || r&0xfffe == 0xfffe || r >= 0xfdd0 && r <= 0xfdef {
			return false
		}
		i += size
	}
	return true
}

func checkText(s string) error {
	switch {
	case s == "":
		return ErrEmpty
	case len(s) > MaxClientBytes:
		return ErrTooLong
	case !CheckText(s):
		return ErrCharacter
	}
	return nil
}

func checkWildcards(s string) error {
	for rest := s; rest != ""; {
		level, after, more := strings.Cut(rest, "/")
		if strings.ContainsAny(level, "+#") && len(level) > 1 || level == "#" && more {
			return ErrFilter
		}
		rest = after
	}
	return nil
}

func checkRouted(s string) error {
	if len(s) > MaxRoutedBytes {
		return ErrTooLong
	}
	if strings.Count(s, "/") >= MaxRoutedLevels {
		return ErrTooDeep
	}
	return nil
}

// Levels splits the name at its slashes. A leading or trailing slash makes an
// empty level, as MQTT 5 §4.7.1 wants.
func (n RoutedName) Levels() []string { return strings.Split(n.s, "/") }

// Levels splits the filter at its slashes.
func (f RoutedFilter) Levels() []string { return strings.Split(f.s, "/") }

// IsSystem reports whether the name belongs to the broker itself: "$SYS" and
// everything below it.
func (n RoutedName) IsSystem() bool { return n.s == "$SYS" || strings.HasPrefix(n.s, "$SYS/") }
