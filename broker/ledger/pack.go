package ledger

import (
	"encoding/binary"
	"strings"
)

// Texts that are written at every connect consist of the same few phrases, so they
// are stored as codes. A code is a byte below ' '; a byte of the text that is below
// ' ' itself follows an escape.

// escape stands before a byte that is no code, lastPhrase is the last code.
const (
	escape     = 0
	lastPhrase = 15
)

// phrase is what a code stands for. Codes are stored: a phrase may change its
// place here only with the format byte.
func phrase(code byte) string {
	switch code {
	case 1:
		return "Connected: ClientID='"
	case 2:
		return "', ClientIP="
	case 3:
		return ", protocol mqtt"
	case 4:
		return "Closed connection from "
	case 5:
		return "Refused connection from "
	case 6:
		return " (code "
	case 7:
		return "). "
	case 8:
		return "The connection has completed normally."
	case 9:
		return "The connection was closed by the client."
	case 10:
		return "The connection was closed by the server."
	case 11:
		return "The connection was closed because the server was shut down."
	case 12:
		return "The connection was closed because the server was restarted."
	case 13:
		return "The keep-alive time ran out."
	case 14:
		return "The client ID was reused."
	case lastPhrase:
		return "The operation is not authorized."
	default:
		return ""
	}
}

// appendPacked writes s with its phrases as codes, behind the length of that.
func appendPacked(b []byte, s string) []byte {
	var room [128]byte
	packed := room[:0]
	for len(s) > 0 {
		if code := phraseAt(s); code != 0 {
			packed = append(packed, code)
			s = s[len(phrase(code)):]
			continue
		}
		if s[0] < ' ' {
			packed = append(packed, escape)
		}
		packed = append(packed, s[0])
		s = s[1:]
	}
	return append(binary.AppendUvarint(b, uint64(len(packed))), packed...)
}

// phraseAt is the code of the phrase that s begins with, 0 where it is none.
func phraseAt(s string) byte {
	switch s[0] { // most bytes begin none
	case 'C', 'R', 'T', '\'', ',', ' ', ')':
	default:
		return 0
	}
	for code := byte(1); code <= lastPhrase; code++ {
		if strings.HasPrefix(s, phrase(code)) {
			return code
		}
	}
	return 0
}

// packed reads what appendPacked wrote.
func (r *reader) packed() string {
	n := r.uint()
	if n > uint64(len(r.rest)) {
		r.fail()
		return ""
	}
	packed := r.rest[:n]
	r.rest = r.rest[n:]
	var s strings.Builder
	for i := 0; i < len(packed); i++ {
		switch c := packed[i]; {
		case c >= ' ':
			s.WriteByte(c)
		case c != escape:
			s.WriteString(phrase(c))
		case i+1 == len(packed):
			r.fail()
			return ""
		default:
			i++
			s.WriteByte(packed[i])
		}
	}
	return s.String()
}
