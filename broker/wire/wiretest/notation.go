package wiretest

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// Bytes reads a packet in a notation for test vectors. Tokens are separated by spaces:
//
//	82 0001     hexadecimal bytes
//	"text"      the bytes of a Go string literal
//	s"text"     the same after its length in two bytes
//	[ ... ]     what stands between after its length as a variable byte integer
//	00*40       a byte, forty times
//
// So a SUBSCRIBE is 82 [ 0001 [] s"a/b" 00 ], and only what a test gets wrong
// on purpose needs a length written out. Nothing is checked beyond the notation.
func Bytes(notation string) ([]byte, error) {
	groups := [][]byte{nil}
	for rest := strings.TrimSpace(notation); rest != ""; rest = strings.TrimSpace(rest) {
		var err error
		top := &groups[len(groups)-1]
		switch {
		case rest[0] == '[':
			groups, rest = append(groups, nil), rest[1:]
		case rest[0] == ']' && len(groups) > 1:
			inner := *top
			groups, rest = groups[:len(groups)-1], rest[1:]
			outer := &groups[len(groups)-1]
			*outer = append(appendVarint(*outer, len(inner)), inner...)
		case rest[0] == '"', strings.HasPrefix(rest, `s"`):
			*top, rest, err = appendText(*top, rest)
		default:
			*top, rest, err = appendHex(*top, rest)
		}
		if err != nil {
			return nil, fmt.Errorf("notation %q: %w", notation, err)
		}
	}
	if len(groups) != 1 {
		return nil, fmt.Errorf("notation %q: [ without ]", notation)
	}
	return groups[0], nil
}

// MustBytes is Bytes for notations in a test's own source. It panics on an error.
func MustBytes(notation string) []byte {
	b, err := Bytes(notation)
	if err != nil {
		panic(err)
	}
	return b
}

func appendText(dst []byte, rest string) ([]byte, string, error) {
	counted := rest[0] == 's'
	if counted {
		rest = rest[1:]
	}
	literal, err := strconv.QuotedPrefix(rest)
	if err != nil {
		return nil, "", err
	}
	text, err := strconv.Unquote(literal)
	if err != nil {
		return nil, "", err
	}
	if counted {
		dst = binary.BigEndian.AppendUint16(dst, uint16(len(text)))
	}
	return append(dst, text...), rest[len(literal):], nil
}

func appendHex(dst []byte, rest string) ([]byte, string, error) {
	end := strings.IndexAny(rest, " \t]")
	if end < 0 {
		end = len(rest)
	}
	digits, times, repeated := strings.Cut(rest[:end], "*")
	b, err := hex.DecodeString(digits)
	if err != nil {
		return nil, "", err
	}
	if len(b) == 0 {
		return nil, "", fmt.Errorf("no bytes at %q", rest)
	}
	count := 1
	if repeated {
		if count, err = strconv.Atoi(times); err != nil {
			return nil, "", err
		}
	}
	for range count {
		dst = append(dst, b...)
	}
	return dst, rest[end:], nil
}

func appendVarint(dst []byte, n int) []byte {
	for n >= 0x80 {
		dst = append(dst, byte(n)|0x80)
		n >>= 7
	}
	return append(dst, byte(n))
}
