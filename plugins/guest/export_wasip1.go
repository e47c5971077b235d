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

// alloc gives the host a buffer to write n bytes into, or 0.
//
//go:wasmexport auth_alloc
func alloc(n int32) int32 {
	if n < 0 || n > maxInput {
		return 0
	}
	return int32(instance.hold(make([]byte, max(n, 1)))) // #nosec G115 -- addresses are 32 bits wide
}

//go:wasmexport auth_configure
func configure(pointer, length int32) int32 {
	input := instance.take(pointer, length)
	defer clear(input)
	if err := instance.plugin.Configure(input); err != nil {
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
	input := instance.take(pointer, length)
	defer clear(input)
	answer, err := instance.plugin.Verify(input)
	if err != nil {
		Log(Error, "no answer: "+err.Error())
		return 0
	}
	return int64(instance.hold(answer))<<32 | int64(len(answer))
}

// free forgets a buffer, and lets the collector have its turn: it works in
// goroutines of its own, and an exported function returns without them.
//
//go:wasmexport auth_free
func free(pointer, length int32) {
	clear(instance.take(pointer, length))
	runtime.Gosched()
}

// hold keeps buffer until it is taken, and returns its address.
func (m *module) hold(buffer []byte) uint32 {
	address := uint32(uintptr(unsafe.Pointer(unsafe.SliceData(buffer)))) // #nosec G103 G115 -- the host reads it there
	m.held[address] = buffer
	return address
}

// take gives up the first length bytes of the buffer at an address; nothing for
// one that is not held or is shorter.
func (m *module) take(pointer, length int32) []byte {
	address := uint32(pointer) // #nosec G115 -- the same 32 bits
	buffer := m.held[address]
	delete(m.held, address)
	if length < 0 || int(length) > len(buffer) {
		return nil
	}
	return buffer[:length]
}
