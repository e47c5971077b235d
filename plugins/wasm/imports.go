package wasm

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"hash"
	"log/slog"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// hostFunction is a function a guest may import.
type hostFunction struct {
	module, name string
	signature
	run func(f *frame)
}

func (h hostFunction) String() string { return h.module + "." + h.name }

// frame is one call of a host function: the operands, one after the other, and
// the result.
type frame struct {
	*call
	ctx    context.Context
	memory api.Memory
	stack  []uint64
	at     int
	result uint32
}

// u32 is the next operand.
func (f *frame) u32() uint32 {
	f.at++
	return api.DecodeU32(f.stack[f.at-1])
}

// u64 is the next operand.
func (f *frame) u64() uint64 {
	f.at++
	return f.stack[f.at-1]
}

// bytes are what the next two operands point to: the guest's memory itself,
// good until the host function returns.
func (f *frame) bytes() []byte {
	at, length := f.u32(), f.u32()
	return f.view(at, length)
}

func (f *frame) view(at, length uint32) []byte {
	if length > operandBytes {
		panic(fmt.Errorf("an operand of %d bytes, at most %d", length, operandBytes))
	}
	b, ok := f.memory.Read(at, length)
	if !ok {
		panic(fmt.Errorf("%d bytes at %d are outside of the memory", length, at))
	}
	return b
}

// put writes b where the next operand says.
func (f *frame) put(b []byte) { copy(f.view(f.u32(), uint32(len(b))), b) }

func (f *frame) hold(ok bool) {
	f.result = 0
	if ok {
		f.result = 1
	}
}

// imports are all functions a guest may import.
func imports() []hostFunction {
	n := func(params int) []api.ValueType {
		t := make([]api.ValueType, params)
		for i := range t {
			t[i] = i32
		}
		return t
	}
	authenticate := func(make func() hash.Hash) func(*frame) {
		return func(f *frame) {
			key, message := f.bytes(), f.bytes()
			f.put(hmacOf(make, key, message))
		}
	}
	return append([]hostFunction{
		{moduleCordon, "hmac_sha256", signature{n(5), nil}, authenticate(sha256.New)},
		{moduleCordon, "hmac_sha384", signature{n(5), nil}, authenticate(sha512.New384)},
		{moduleCordon, "hmac_sha512", signature{n(5), nil}, authenticate(sha512.New)},
		{moduleCordon, "ed25519_verify", signature{n(6), n(1)}, func(f *frame) {
			key, message, signature := f.bytes(), f.bytes(), f.bytes()
			f.hold(verifyEd25519(key, message, signature))
		}},
		{moduleCordon, "ecdsa_verify", signature{n(7), n(1)}, func(f *frame) {
			curve, point, message, signature := f.u32(), f.bytes(), f.bytes(), f.bytes()
			f.hold(verifyECDSA(curve, point, message, signature))
		}},
		{moduleCordon, "rsa_verify", signature{n(9), n(1)}, func(f *frame) {
			scheme, bits, modulus, exponent := f.u32(), f.u32(), f.bytes(), f.u32()
			message, signature := f.bytes(), f.bytes()
			f.hold(verifyRSA(scheme, bits, modulus, exponent, message, signature))
		}},
		{moduleCordon, "constant_time_equal", signature{n(4), n(1)}, func(f *frame) {
			a, b := f.bytes(), f.bytes()
			f.hold(subtle.ConstantTimeCompare(a, b) == 1)
		}},
		{moduleCordon, "base64_decode", signature{n(4), n(1)}, decodeBase64(base64.StdEncoding.Strict())},
		{moduleCordon, "base64url_decode", signature{n(4), n(1)}, decodeBase64(base64.RawURLEncoding.Strict())},
		{moduleCordon, "log", signature{n(3), nil}, func(f *frame) {
			level, text := f.u32(), f.bytes()
			f.write(f.ctx, slog.Level(4*int(min(level, 3))-4), text)
		}},
		{moduleEnv, "abort", signature{n(4), nil}, func(*frame) {
			panic(fmt.Errorf("the guest called abort"))
		}},
	}, wasi()...)
}

// decodeBase64 decodes into a buffer of its own: source and destination may
// overlap, and nothing is written that does not fit.
func decodeBase64(encoding *base64.Encoding) func(*frame) {
	return func(f *frame) {
		text, at, room := f.bytes(), f.u32(), f.u32()
		f.result = ^uint32(0)
		// The decoder skips line ends, which would give one token many spellings.
		for _, c := range text {
			if c == '\n' || c == '\r' {
				return
			}
		}
		b, err := encoding.AppendDecode(nil, text)
		if err == nil && len(b) <= int(room) {
			copy(f.view(at, uint32(len(b))), b)
			f.result = uint32(len(b))
		}
	}
}

// offered maps the imports by their names.
func offered(functions []hostFunction) map[string]signature {
	all := make(map[string]signature, len(functions))
	for _, f := range functions {
		all[f.String()] = f.signature
	}
	return all
}

// offer puts the functions into r, for the modules that will be instantiated there.
func offer(ctx context.Context, r wazero.Runtime, functions []hostFunction) error {
	builders := map[string]wazero.HostModuleBuilder{}
	for _, f := range functions {
		b := builders[f.module]
		if b == nil {
			b = r.NewHostModuleBuilder(f.module)
			builders[f.module] = b
		}
		b.NewFunctionBuilder().WithGoModuleFunction(f.guarded(), f.params, f.results).Export(f.name)
	}
	for name, b := range builders {
		if _, err := b.Instantiate(ctx); err != nil {
			return fmt.Errorf("offer module %q: %w", name, err)
		}
	}
	return nil
}

// guarded ends the guest instead of serving it when its time is over: a guest
// that calls the host again and again need not come past a check of its own.
func (h hostFunction) guarded() api.GoModuleFunc {
	return func(ctx context.Context, m api.Module, stack []uint64) {
		c := callOf(ctx)
		now := time.Now()
		deadline, _ := ctx.Deadline()
		if c == nil || !now.Before(deadline) {
			panic(errDeadline)
		}
		c.turn.pass(now, deadline)
		f := &c.frame // one at a time: a host function calls no guest
		*f = frame{call: c, ctx: ctx, memory: m.Memory(), stack: stack}
		h.run(f)
		if len(h.results) == 1 {
			stack[0] = uint64(f.result)
		}
	}
}
