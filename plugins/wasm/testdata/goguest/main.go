// The guest of the tests that want one made by Go: it accepts a token that is the
// HMAC-SHA256 of the client ID, in hexadecimal, under the configured secret.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"time"
	"unsafe"
)

// pinned are buffers that the host has the addresses of. A module is
// single-threaded.
var (
	pinned = map[uint32][]byte{}
	secret []byte
)

//go:wasmimport cordon hmac_sha256
func hmacSHA256(key unsafe.Pointer, keyLen uint32, message unsafe.Pointer, messageLen uint32, out unsafe.Pointer)

//go:wasmimport cordon constant_time_equal
func constantTimeEqual(a unsafe.Pointer, aLen uint32, b unsafe.Pointer, bLen uint32) uint32

func main() {}

//go:wasmexport auth_abi_v1
func version() uint32 { return 0 }

//go:wasmexport auth_alloc
func alloc(n uint32) uint32 {
	clear(pinned)
	return pin(make([]byte, max(n, 1)))
}

func pin(b []byte) uint32 {
	at := uint32(uintptr(unsafe.Pointer(unsafe.SliceData(b))))
	pinned[at] = b
	return at
}

//go:wasmexport auth_free
func free(at, _ uint32) {
	delete(pinned, at)
	runtime.Gosched() // the collector runs when somebody lets it
}

//go:wasmexport auth_configure
func configure(at, n uint32) uint32 {
	var c struct {
		Secrets map[string][]byte `json:"secrets"`
	}
	if json.Unmarshal(pinned[at][:n], &c) != nil {
		return 1
	}
	secret = c.Secrets["key"]
	fmt.Fprintln(os.Stderr, "configured", time.Unix(0, 0).UTC().Year())
	return 0
}

//go:wasmexport auth_verify
func verify(at, n uint32) uint64 {
	var r struct {
		ClientID string `json:"client_id"`
		Token    []byte `json:"token"`
	}
	if json.Unmarshal(pinned[at][:n], &r) != nil {
		return 0
	}
	if string(r.Token) == "sleep" {
		time.Sleep(time.Hour) // the clock moves, the host does not wait
	}
	message, mac := []byte(r.ClientID), make([]byte, 32)
	hmacSHA256(unsafe.Pointer(unsafe.SliceData(secret)), uint32(len(secret)),
		unsafe.Pointer(unsafe.SliceData(message)), uint32(len(message)), unsafe.Pointer(unsafe.SliceData(mac)))
	want := []byte(fmt.Sprintf("%x", mac))
	answer := map[string]any{"ok": false, "reason": "another token"}
	if constantTimeEqual(unsafe.Pointer(unsafe.SliceData(want)), uint32(len(want)),
		unsafe.Pointer(unsafe.SliceData(r.Token)), uint32(len(r.Token))) == 1 {
		answer = map[string]any{"ok": true, "subject": map[string]string{"kind": "device", "type": "sensor", "id": "d1"}}
	}
	b, err := json.Marshal(answer)
	if err != nil {
		return 0
	}
	return uint64(pin(b))<<32 | uint64(len(b))
}
