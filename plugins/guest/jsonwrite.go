package guest

import (
	"errors"
	"maps"
	"slices"
	"strconv"
	"unicode/utf8"
)

// errValue is returned for what JSON has no spelling for.
var errValue = errors.New("a value that JSON cannot hold")

// maxWritten is how deep an answer may be nested.
const maxWritten = MaxDepth + 2

// appendJSON writes value, members in the order of their names. It takes what
// [ParseJSON] makes, and []string, int, int64 and uint64.
func appendJSON(dst []byte, value any, depth int) ([]byte, error) {
	if depth > maxWritten { // of a value inside the last level
		return nil, ErrDepth
	}
	switch v := value.(type) {
	case nil:
		return append(dst, "null"...), nil
	case bool:
		return strconv.AppendBool(dst, v), nil
	case string:
		return appendString(dst, v), nil
	case Number:
		p := parser{text: string(v)}
		if p.number(); p.err != nil || p.at != len(p.text) {
			return nil, errValue
		}
		return append(dst, v...), nil
	case int:
		return strconv.AppendInt(dst, int64(v), 10), nil
	case int64:
		return strconv.AppendInt(dst, v, 10), nil
	case uint64:
		return strconv.AppendUint(dst, v, 10), nil
	case []string:
		return appendArray(dst, v, depth)
	case []any:
		return appendArray(dst, v, depth)
	case map[string]any:
		return appendObject(dst, v, depth)
	default:
		return nil, errValue
	}
}

func appendArray[T any](dst []byte, array []T, depth int) (_ []byte, err error) {
	dst = append(dst, '[')
	for i, value := range array {
		if i > 0 {
			dst = append(dst, ',')
		}
		if dst, err = appendJSON(dst, value, depth+1); err != nil {
			return nil, err
		}
	}
	return append(dst, ']'), nil
}

func appendObject(dst []byte, object map[string]any, depth int) (_ []byte, err error) {
	dst = append(dst, '{')
	for i, name := range slices.Sorted(maps.Keys(object)) {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendString(dst, name), ':')
		if dst, err = appendJSON(dst, object[name], depth+1); err != nil {
			return nil, err
		}
	}
	return append(dst, '}'), nil
}

// appendString quotes s. Bad UTF-8 becomes U+FFFD, so that what is written can
// always be read.
func appendString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	easy := plain(s)
	dst = append(append(dst, '"'), s[:easy]...)
	for _, r := range s[easy:] {
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r < ' ':
			dst = append(dst, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
		default:
			dst = utf8.AppendRune(dst, r)
		}
	}
	return append(dst, '"')
}
