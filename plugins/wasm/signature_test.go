package wasm

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"hash"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// bench is a memory to call host functions on.
type bench struct {
	t      testing.TB
	memory api.Memory
	call   *call
	at     uint32
}

func newBench(t testing.TB) *bench {
	t.Helper()
	ctx := context.Background()
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter())
	t.Cleanup(func() { _ = r.Close(ctx) })
	m, err := r.Instantiate(ctx, guests(t)["good"])
	if err != nil {
		t.Fatal(err)
	}
	return &bench{t, m.Memory(), &call{log: newPluginLog((&lines{}).logger(), 1, time.Now)}, 0}
}

// run calls a host function. A byte string becomes its place and length, "out:N"
// a place for N bytes, which are returned.
func (b *bench) run(name string, operands ...any) (result uint32, out []byte) {
	b.t.Helper()
	b.at = 2048
	var stack []uint64
	var outAt, outLength uint32
	for _, o := range operands {
		switch o := o.(type) {
		case int:
			stack = append(stack, uint64(o))
		case []byte:
			if !b.memory.Write(b.at, o) {
				b.t.Fatal("no room")
			}
			stack = append(stack, uint64(b.at), uint64(len(o)))
			b.at += uint32(len(o))
		case place: // where results go: the folder says nothing, the name its length
			outAt, outLength = b.at, uint32(len(o.name))
			stack = append(stack, uint64(outAt))
			b.at += outLength
		}
	}
	for _, f := range imports() {
		if f.name != name {
			continue
		}
		if len(f.params) != len(stack) {
			b.t.Fatalf("%s has %d parameters, not %d", name, len(f.params), len(stack))
		}
		fr := frame{call: b.call, ctx: context.Background(), memory: b.memory, stack: stack}
		f.run(&fr)
		out, _ = b.memory.Read(outAt, outLength)
		return fr.result, out
	}
	b.t.Fatal("no such function: " + name)
	return 0, nil
}

func room(n int) place { return place{name: strings.Repeat("x", n)} }

func TestHMAC(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for name, h := range map[string]func() hash.Hash{"hmac_sha256": sha256.New, "hmac_sha384": sha512.New384, "hmac_sha512": sha512.New} {
		want := hmac.New(h, []byte("key"))
		want.Write([]byte("message"))
		if _, got := b.run(name, []byte("key"), []byte("message"), room(h().Size())); !hmac.Equal(got, want.Sum(nil)) {
			t.Errorf("%s: %x", name, got)
		}
	}
}

// signed is a signature and who calls which function with it.
type signed struct {
	name     string
	function string
	before   []any // operands up to the message, among them the key
	message  []byte
	mac      []byte
}

func signatures(t testing.TB) (all []signed) {
	t.Helper()
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	message := []byte("eyJhbGciOiJ4In0.e30")
	public, private, err := ed25519.GenerateKey(rand.Reader)
	must(err)
	all = append(all, signed{"EdDSA", "ed25519_verify", []any{[]byte(public)}, message, ed25519.Sign(private, message)})
	for bits, c := range map[int]elliptic.Curve{256: elliptic.P256(), 384: elliptic.P384(), 521: elliptic.P521()} {
		key, err := ecdsa.GenerateKey(c, rand.Reader)
		must(err)
		h := map[int]func() hash.Hash{256: sha256.New, 384: sha512.New384, 521: sha512.New}[bits]
		r, s, err := ecdsa.Sign(rand.Reader, key, digest(h, message))
		must(err)
		size := (bits + 7) / 8
		mac := append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...)
		point, err := key.PublicKey.Bytes()
		must(err)
		all = append(all, signed{"ES" + big.NewInt(int64(bits)).String(), "ecdsa_verify", []any{bits, point}, message, mac})
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	must(err)
	for bits, h := range map[int]crypto.Hash{256: crypto.SHA256, 384: crypto.SHA384, 512: crypto.SHA512} {
		sum := h.New()
		sum.Write(message)
		pkcs, err := rsa.SignPKCS1v15(rand.Reader, key, h, sum.Sum(nil))
		must(err)
		pss, err := rsa.SignPSS(rand.Reader, key, h, sum.Sum(nil), &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		must(err)
		all = append(all,
			signed{"RS", "rsa_verify", []any{schemePKCS1v15, bits, key.N.Bytes(), key.E}, message, pkcs},
			signed{"PS", "rsa_verify", []any{schemePSS, bits, key.N.Bytes(), key.E}, message, pss})
	}
	return all
}

// A signature holds for its message and key, and in no other case.
func TestSignatures(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for _, s := range signatures(t) {
		verify := func(message, mac []byte) uint32 {
			result, _ := b.run(s.function, append(append([]any{}, s.before...), message, mac)...)
			return result
		}
		if verify(s.message, s.mac) != 1 {
			t.Errorf("%s: a good signature does not hold", s.name)
		}
		flipped := append([]byte(nil), s.mac...)
		flipped[len(flipped)/2] ^= 1
		for name, got := range map[string]uint32{
			"another message":     verify([]byte("other"), s.mac),
			"another signature":   verify(s.message, flipped),
			"no signature":        verify(s.message, nil),
			"zeros":               verify(s.message, make([]byte, len(s.mac))),
			"a short signature":   verify(s.message, s.mac[1:]),
			"a longer signature":  verify(s.message, append(s.mac[:len(s.mac):len(s.mac)], 0)),
			"signature in front":  verify(s.message, append([]byte{0}, s.mac...)),
			"an empty message":    verify(nil, s.mac),
			"a message and a bit": verify(append(s.message[:len(s.message):len(s.message)], 0), s.mac),
		} {
			if got != 0 {
				t.Errorf("%s: %s holds", s.name, name)
			}
		}
		// Each operand of the key, spoilt.
		for i := range s.before {
			spoilt := append([]any{}, s.before...)
			switch o := spoilt[i].(type) {
			case int:
				spoilt[i] = 3
			case []byte:
				spoilt[i] = o[:len(o)-1]
			}
			if got, _ := b.run(s.function, append(spoilt, s.message, s.mac)...); got != 0 {
				t.Errorf("%s: holds with operand %d spoilt", s.name, i)
			}
		}
	}
	small := new(big.Int).Lsh(big.NewInt(1), 1023)
	if verifyRSA(schemePKCS1v15, 256, small.Bytes(), 65537, nil, make([]byte, 128)) ||
		verifyRSA(schemePKCS1v15, 256, nil, 65537, nil, nil) || verifyRSA(schemePSS, 256, make([]byte, 2000), 1, nil, nil) {
		t.Error("a weak key holds")
	}
}

func TestBase64AndComparison(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for _, tt := range []struct {
		function, text string
		room           int
		want           string // "-" for a refusal
	}{
		{"base64url_decode", "_-8", 10, "\xff\xef"},
		{"base64url_decode", "", 10, ""},
		{"base64url_decode", "_-8=", 10, "-"},
		{"base64url_decode", "/+8", 10, "-"},
		{"base64url_decode", "_-9", 10, "-"}, // bits left over
		{"base64url_decode", "_-\n8", 10, "-"},
		{"base64url_decode", "_-8", 1, "-"},
		{"base64_decode", "/+8=", 10, "\xff\xef"},
		{"base64_decode", "/+8", 10, "-"},
		{"base64_decode", "_-8=", 10, "-"},
	} {
		n, _ := b.run(tt.function, []byte(tt.text), 100, tt.room)
		got := "-"
		if n != ^uint32(0) {
			view, _ := b.memory.Read(100, n)
			got = string(view)
		}
		if got != tt.want {
			t.Errorf("%s of %q: %q", tt.function, tt.text, got)
		}
	}
	for _, tt := range []struct {
		a, b string
		want uint32
	}{{"a", "a", 1}, {"", "", 1}, {"a", "b", 0}, {"a", "aa", 0}} {
		if got, _ := b.run("constant_time_equal", []byte(tt.a), []byte(tt.b)); got != tt.want {
			t.Errorf("%q and %q: %d", tt.a, tt.b, got)
		}
	}
}

// An operand outside of the memory ends the guest, and nothing else.
func TestOperandsOutsideOfTheMemory(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for _, operands := range [][]any{
		{pageBytes, 1, 0, 0}, {0, operandBytes + 1, 0, 0}, {1<<32 - 1, 2, 0, 0}, {0, 0, pageBytes - 1, 2},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%v: accepted", operands)
				}
			}()
			b.run("constant_time_equal", operands...)
		}()
	}
}

// WASI leads nowhere, whatever it is asked with.
func FuzzHostFunctions(f *testing.F) {
	all := imports()
	for i := range all {
		f.Add(uint(i), uint64(16), uint64(8), uint64(1024), uint64(4), uint64(2048), []byte("text"))
	}
	f.Fuzz(func(t *testing.T, which uint, a, b, c, d, e uint64, content []byte) {
		bench := newBench(t)
		bench.memory.Write(0, content[:min(len(content), 60<<10)])
		h := all[which%uint(len(all))]
		stack := []uint64{a, b, c, d, e, a, b, c, d}[:max(len(h.params), len(h.results))]
		defer func() {
			if r := recover(); r != nil {
				if _, isError := r.(error); !isError {
					t.Errorf("%s panics with %v", h, r)
				}
				if strings.Contains(r.(error).Error(), "runtime error") {
					t.Errorf("%s: %v", h, r)
				}
			}
		}()
		h.run(&frame{call: bench.call, ctx: context.Background(), memory: bench.memory, stack: stack})
	})
}
