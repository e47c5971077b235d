package guest

import (
	"runtime"
	"unsafe"
)

// minor is the contract's minor version that this SDK speaks.
const minor = 0

// maxInput bounds what the host may ask to allocate: a configuration with a key
// set is the largest.
const maxInput = 1 << 20

//go:wasmexport auth_abi_v1
func abi() int32 { return minor }

// alloc gives the host a buffer to write n bytes into, or 0. It is the same one
// each time where that is large enough.
//
//go:wasmexport auth_alloc
func alloc(n int32) int32 {
	if n < 0 || n > maxInput {
		return 0
	}
	instance.input.grow(max(int(n), usualBuffer))
	return instance.input.address()
}

//go:wasmexport auth_configure
func configure(pointer, length int32) int32 {
	input := instance.input.take(pointer, length)
	err := instance.plugin.Configure(input)
	clear(input)
	instance.input = buffer{} // a configuration is larger than any request
	if err != nil {
		Log(Error, "settings refused: "+err.Error())
		return 1
	}
	return 0
}

// verify returns the address and the length of the answer, which the host frees;
// 0 if there is none.
//
//go:wasmexport auth_verify
func verify(pointer, length int32) int64 {
	input := instance.input.take(pointer, length)
	instance.output.grow(usualBuffer)
	answer, err := instance.plugin.appendVerdict(instance.output.b[:0], input)
	clear(input)
	if err != nil {
		Log(Error, "no answer: "+err.Error())
		return 0
	}
	instance.output.b = answer
	return int64(uint32(instance.output.address()))<<32 | int64(len(answer)) // #nosec G115 -- addresses are 32 bits wide
}

// free forgets an answer, and now and then lets the collector have its turn: it
// works in goroutines of its own, and an exported function returns without them.
//
//go:wasmexport auth_free
func free(pointer, length int32) {
	clear(instance.output.take(pointer, length))
	if instance.calls++; instance.calls%callsPerTurn == 0 {
		runtime.Gosched()
	}
}

const (
	usualBuffer  = 1 << 10
	callsPerTurn = 16
)

// shared is the memory that the host reads or writes.
type shared struct {
	input, output buffer // the answer is in output until the host frees it
	calls         uint
}

// buffer is memory that the host reads or writes. It stays where it is: Go's
// collector moves nothing on the heap.
type buffer struct{ b []byte }

// grow makes room for n bytes.
func (b *buffer) grow(n int) {
	if cap(b.b) < n {
		b.b = make([]byte, n)
	}
}

// address is where the host finds the buffer.
func (b *buffer) address() int32 {
	return int32(uintptr(unsafe.Pointer(unsafe.SliceData(b.b)))) // #nosec G103 G115 -- the host reads it there
}

// take is the first length bytes of the buffer, nothing where pointer is not its
// address or it is shorter.
func (b *buffer) take(pointer, length int32) []byte {
	if pointer != b.address() || length < 0 || int(length) > cap(b.b) {
		return nil
	}
	return b.b[:length]
}
