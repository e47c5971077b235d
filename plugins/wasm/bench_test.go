package wasm

import (
	"strconv"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
)

// BenchmarkCrossing is a verification of which the guest does nothing.
func BenchmarkCrossing(b *testing.B) {
	_, v, _ := one(b, "token_answers", "", patient())
	c := token(okAnswer)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(b.Context(), c); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRemembered is a verification whose answer is repeated.
func BenchmarkRemembered(b *testing.B) {
	_, v, _ := one(b, "good", "", patient())
	c := token("x")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(b.Context(), c); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkGoGuest is a verification by a module made by Go.
func BenchmarkGoGuest(b *testing.B) {
	_, v := goHost(b, patient())
	i := 0
	for b.Loop() {
		i++
		if _, err := v.Verify(b.Context(), goToken("c"+strconv.Itoa(i%100))); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkStart is a new instance, as each credential of a plugin of several
// organisations needs it where the policy names none.
func BenchmarkStart(b *testing.B) {
	for name, open := range map[string]func() *Host{
		"small": func() *Host { h, _, _ := one(b, "good", "", patient()); return h },
		"go":    func() *Host { h, _ := goHost(b, patient()); return h },
	} {
		b.Run(name, func(b *testing.B) {
			p := open().table.Load().plugins[place{"acme01", "it"}]
			for b.Loop() {
				p.closeIdle(time.Now().Add(time.Hour))
				if err := p.tryStart(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkLoad is loading a module made by Go whose machine code is in the cache: from
// the file in the folder to the plugin in the table. Beside it, what wazero alone takes to
// compile the same file.
func BenchmarkLoad(b *testing.B) {
	binary := goGuest(b)
	b.Run("plugin", func(b *testing.B) {
		dir := b.TempDir()
		layBytes(b, dir, "acme01/it", binary, "")
		for b.Loop() {
			h, err := Open(b.Context(), Options{Dir: dir, Limits: patient(), CacheDir: machineCode(b)})
			if err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			if err := h.Close(); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
	})
	b.Run("wazero alone", func(b *testing.B) {
		for b.Loop() {
			cache, err := wazero.NewCompilationCacheWithDir(machineCode(b))
			if err != nil {
				b.Fatal(err)
			}
			r := wazero.NewRuntimeWithConfig(b.Context(), wazero.NewRuntimeConfig().WithCompilationCache(cache))
			if _, err := r.CompileModule(b.Context(), binary); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			_ = r.Close(b.Context())
			_ = cache.Close(b.Context())
			b.StartTimer()
		}
	})
}
