package durable

import (
	"encoding/binary"
	"errors"
)

// ErrDamaged says that a value is not what this package writes.
var ErrDamaged = errors.New("durable: damaged record")

// version is the layout of every value here.
const version = 1

func appendBytes[T ~string | ~[]byte](b []byte, s T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// decoder reads one value. After the first fault it answers zero values, and
// finish reports it.
type decoder struct {
	rest []byte
	bad  bool
}

// decode begins to read a value of this version.
func decode(value []byte) *decoder {
	d := &decoder{rest: value}
	if d.byte() != version {
		d.fail()
	}
	return d
}

func (d *decoder) fail() { d.rest, d.bad = nil, true }

func (d *decoder) byte() byte {
	if len(d.rest) == 0 {
		d.fail()
		return 0
	}
	b := d.rest[0]
	d.rest = d.rest[1:]
	return b
}

// uint reads a number of at most most.
func (d *decoder) uint(most uint64) uint64 {
	n, size := binary.Uvarint(d.rest)
	if size <= 0 || n > most {
		d.fail()
		return 0
	}
	d.rest = d.rest[size:]
	return n
}

// bytes reads what appendBytes wrote, without copying it.
func (d *decoder) bytes() []byte {
	n := d.uint(uint64(len(d.rest)))
	if d.bad || n > uint64(len(d.rest)) {
		d.fail()
		return nil
	}
	b := d.rest[:n:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) string() string { return string(d.bytes()) }

// count reads how many items follow, each of at least size bytes: a claim that
// the rest of the value cannot hold is a fault, not an allocation.
func (d *decoder) count(size int) int {
	n := d.uint(uint64(len(d.rest) / size))
	return int(n)
}

// finish reports whether everything was there and nothing is left.
func (d *decoder) finish() error {
	if d.bad || len(d.rest) > 0 {
		return ErrDamaged
	}
	return nil
}
