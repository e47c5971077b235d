package wire

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// validText reports whether b is a UTF-8 Encoded String this package accepts:
// well-formed, without surrogates and U+0000 [MQTT-1.5.4-1] [MQTT-1.5.4-2],
// and without the control characters and non-characters that the
// specification lets a server refuse (MQTT 5 §1.5.4).
func validText[T []byte | string](b T) bool {
	for i := 0; i < len(b); {
		if c := b[i]; 0x20 <= c && c < 0x7F {
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(string(b[i:min(i+utf8.UTFMax, len(b))]))
		if r == utf8.RuneError && size == 1 || !acceptable(r) {
			return false
		}
		i += size
	}
	return true
}

func acceptable(r rune) bool {
	switch {
	case r < 0x20, 0x7F <= r && r <= 0x9F: // C0, DEL, C1
		return false
	case 0xFDD0 <= r && r <= 0xFDEF, r&0xFFFE == 0xFFFE: // non-characters
		return false
	}
	return true
}

// hasWildcard reports whether a topic name holds a character that only filters may hold.
func hasWildcard[T []byte | string](topic T) bool {
	for i := 0; i < len(topic); i++ {
		if topic[i] == '+' || topic[i] == '#' {
			return true
		}
	}
	return false
}

// maxReason bounds the reason strings this package sends, in bytes.
const maxReason = 1024

// reasonText makes a reason string fit to be sent: unacceptable characters
// are dropped and the rest is cut between characters at maxReason.
func reasonText(s string) string {
	if len(s) > maxReason {
		cut := maxReason
		for cut > 0 && !utf8.RuneStart(s[cut]) {
			cut--
		}
		s = s[:cut]
	}
	if validText(s) {
		return s
	}
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !acceptable(r) {
			return -1
		}
		return r
	}, s)
}

// cloneBytes copies b, keeping an empty slice apart from nil.
func cloneBytes(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return bytes.Clone(b)
}
