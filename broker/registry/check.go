package registry

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cordon-mq/cordon/policy"
)

// Bounds of what administrators may store. Texts are counted in bytes, data in
// bytes of their JSON form.
const (
	maxName     = 256
	maxText     = 1024
	maxMetadata = 32 << 10
	maxData     = 64 << 10
	maxDepth    = 32 // of nested JSON
	maxRoles    = 32
	maxGroups   = 10
	maxQuota    = 1e15
	maxNumber   = 40  // characters of a number in free-form data
	maxExponent = 300 // its largest power of ten
)

// checkText accepts UTF-8 of at most limit bytes without control characters,
// except that it may have several lines.
func checkText(field, s string, limit int) error {
	if len(s) > limit || !utf8.ValidString(s) {
		return invalid(field, "must be UTF-8 of at most "+strconv.Itoa(limit)+" bytes")
	}
	for _, c := range s {
		if c < 0x20 && c != '\n' && c != '\t' || c >= 0x7f && c <= 0x9f {
			return invalid(field, "must not contain control characters")
		}
	}
	return nil
}

// checkTime makes t UTC in whole milliseconds, as records keep it. The zero
// time means none.
func checkTime(field string, t *time.Time) error {
	*t = t.UTC().Truncate(time.Millisecond)
	if !t.IsZero() && (t.Year() < 1970 || t.Year() > 9999) {
		return invalid(field, "must be a time from 1970 to 9999")
	}
	return nil
}

// checkJSON returns data as a reader of its JSON form sees it, nil when empty.
func checkJSON(field string, data map[string]any, limit int) (map[string]any, error) {
	if len(data) == 0 {
		return nil, nil
	}
	if depth(data, 0) > maxDepth {
		return nil, invalid(field, "must not be nested deeper than "+strconv.Itoa(maxDepth)+" levels")
	}
	if !countable(data) {
		return nil, invalid(field, "must not hold a number that is too long or too large")
	}
	text, err := json.Marshal(data)
	if err != nil {
		return nil, invalid(field, "must be JSON")
	}
	if len(text) > limit {
		return nil, invalid(field, "must be at most "+strconv.Itoa(limit)+" bytes of JSON")
	}
	return data, nil
}

// depth measures nested maps and slices and stops beyond maxDepth.
func depth(v any, above int) int {
	deepest := above
	if above > maxDepth {
		return deepest
	}
	switch v := v.(type) {
	case map[string]any:
		for _, inner := range v {
			deepest = max(deepest, depth(inner, above+1))
		}
	case []any:
		for _, inner := range v {
			deepest = max(deepest, depth(inner, above+1))
		}
	}
	return deepest
}

// countable reports whether all numbers in v are such that a policy can compute
// with them: 1e999999999 is short to write and takes gigabytes.
func countable(v any) bool {
	switch v := v.(type) {
	case map[string]any:
		for _, inner := range v {
			if !countable(inner) {
				return false
			}
		}
	case []any:
		return !slices.ContainsFunc(v, func(inner any) bool { return !countable(inner) })
	case json.Number:
		e := strings.IndexAny(string(v), "eE")
		if e < 0 || len(v) > maxNumber {
			return len(v) <= maxNumber
		}
		exponent, err := strconv.Atoi(string(v[e+1:]))
		return err == nil && exponent >= -maxExponent && exponent <= maxExponent
	}
	return true
}

// checkRoles accepts role names such as "PD_STANDARD_APP". No roles become
// fallback.
func checkRoles(roles []string, fallback string) ([]string, error) {
	if len(roles) == 0 {
		return []string{fallback}, nil
	}
	if len(roles) > maxRoles {
		return nil, invalid("roles", "must be at most "+strconv.Itoa(maxRoles))
	}
	var once []string
	for _, role := range roles {
		if _, err := policy.ParseID("roles", role); err != nil {
			return nil, err
		}
		if !slices.Contains(once, role) {
			once = append(once, role)
		}
	}
	return once, nil
}

// isGroup reports whether s can be the identifier of a group, such as
// "gw_def_res_grp:acme01:hub:g1": 1 to 128 of [A-Za-z0-9_.:-].
func isGroup(s string) bool {
	for i := range len(s) {
		if c := s[i]; !isAlphanumeric(c) && c != '_' && c != '.' && c != ':' && c != '-' {
			return false
		}
	}
	return len(s) >= 1 && len(s) <= 128
}

func isAlphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}
