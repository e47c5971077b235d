package wasm

import (
	"errors"
	"fmt"
	"unicode/utf8"
)

var (
	errShort  = errors.New("ends too early")
	errNumber = errors.New("a number is too long")
)

// reader takes a WebAssembly binary apart. Its first error stays; everything it
// reads afterwards is zero.
type reader struct {
	b   []byte
	at  int
	err error

	in instruction // the last one
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.at = len(r.b)
}

func (r *reader) failf(format string, args ...any) { r.fail(fmt.Errorf(format, args...)) }

func (r *reader) done() bool { return r.at >= len(r.b) }

func (r *reader) byte() byte {
	if r.at < len(r.b) {
		r.at++
		return r.b[r.at-1]
	}
	r.fail(errShort)
	return 0
}

// take is the next n bytes themselves, not a copy.
func (r *reader) take(n uint32) []byte {
	if uint64(n) > uint64(len(r.b)-r.at) {
		r.fail(errShort)
		return nil
	}
	r.at += int(n)
	return r.b[r.at-int(n) : r.at]
}

// leb reads a LEB128 number of at most bits bits, signed or not.
func (r *reader) leb(bits uint, signed bool) uint64 {
	var n uint64
	for shift := uint(0); ; shift += 7 {
		b := r.byte()
		n |= uint64(b&0x7f) << shift
		if r.err != nil {
			return 0
		}
		if left := bits - shift; left < 7 {
			// The last byte: what does not fit must be zero or repeat the sign.
			over := b >> left
			fits := over == 0
			if signed {
				over = b >> (left - 1)
				fits = over == 0 || over == 0x7f>>(left-1)
			}
			if !fits {
				r.fail(errNumber)
				return 0
			}
		}
		if b&0x80 != 0 {
			continue
		}
		if signed && b&0x40 != 0 && shift+7 < 64 {
			n |= ^uint64(0) << (shift + 7)
		}
		return n
	}
}

// u32 is nearly always one byte, and a module has millions.
func (r *reader) u32() uint32 {
	if r.at < len(r.b) && r.b[r.at] < 0x80 {
		r.at++
		return uint32(r.b[r.at-1])
	}
	return uint32(r.leb(32, false))
}

// number passes over a number of at most bits bits, signed.
func (r *reader) number(bits uint) {
	if r.at < len(r.b) && r.b[r.at] < 0x80 {
		r.at++
		return
	}
	r.leb(bits, true)
}

// count reads the length of a vector, of which each element has at least one byte.
func (r *reader) count(what string, most uint32) uint32 {
	n := r.u32()
	switch {
	case r.err != nil:
		return 0
	case n > most:
		r.failf("%d %s, at most %d", n, what, most)
		return 0
	case int64(n) > int64(len(r.b)-r.at):
		r.fail(errShort)
		return 0
	}
	return n
}

func (r *reader) name() string {
	b := r.take(r.count("bytes of a name", 1<<10))
	if !utf8.Valid(b) {
		r.fail(errors.New("a name is not UTF-8"))
	}
	return string(b)
}

func appendU32(b []byte, n uint32) []byte {
	for n >= 0x80 {
		b = append(b, byte(n)|0x80)
		n >>= 7
	}
	return append(b, byte(n))
}

func appendS32(b []byte, n int32) []byte {
	for {
		low := byte(n & 0x7f)
		n >>= 7
		if n == 0 && low&0x40 == 0 || n == -1 && low&0x40 != 0 {
			return append(b, low)
		}
		b = append(b, low|0x80)
	}
}
