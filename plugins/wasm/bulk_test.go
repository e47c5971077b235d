package wasm

import (
	"bytes"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
)

// bulkGuest is the guest bulk, as its file has it or rewritten, with a memory of which
// no two pieces are alike.
func bulkGuest(t *testing.T, rewrite bool) api.Module {
	t.Helper()
	b := guests(t)["bulk"]
	parsed, err := parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if rewrite {
		b = rewritten(b)
	}
	ctx := (&call{}).until(time.Now().Add(time.Hour))
	r := wazero.NewRuntime(ctx)
	t.Cleanup(func() { _ = r.Close(ctx) })
	memory, _ := newLinearMemory(&budget{most: 1 << 30}, parsed, Limits{}.withDefaults())
	memory.until(ctx)
	m, err := r.Instantiate(experimental.WithMemoryAllocator(ctx, memory), b)
	if err != nil {
		t.Fatal(err)
	}
	n := uint32(1)
	for at := range memory.b {
		n = n*1664525 + 1013904223
		memory.b[at] = byte(n >> 24)
	}
	return m
}

// Copying and filling in chunks does what one instruction does: with overlapping
// ends, up to the end of the memory, and beyond it, where nothing may be written.
func TestBulkOperationsKeepTheirMeaning(t *testing.T) {
	t.Parallel()
	const chunk, memory = chunkBytes, 96 * pageBytes
	before, after := bulkGuest(t, false), bulkGuest(t, true)
	for _, tt := range []struct {
		name     string
		to, from uint64
		bytes    uint64
	}{
		{"nothing", 5, 9, 0},
		{"a byte", 5, 9, 1},
		{"less than a chunk", 7, 100, chunk - 1},
		{"a chunk", 7, 100, chunk},
		{"more, forwards", 7, 100, 3*chunk + 17},
		{"more, backwards", 100, 7, 3*chunk + 17},
		{"far apart", 3 * chunk, 1, 2*chunk + 1},
		{"onto itself", 11, 11, 2 * chunk},
		{"up to the end", memory - 2*chunk, 3, 2 * chunk},
		{"from the end", 3, memory - 2*chunk, 2 * chunk},
		{"beyond the end", memory - 2*chunk + 1, 3, 2 * chunk},
		{"from beyond the end", 3, memory - 2*chunk + 1, 2 * chunk},
		{"nothing beyond the end", memory + 1, 0, 0},
		{"more than all", 1, 0, 1<<32 - 1},
		{"far beyond", 1<<32 - 1, 1<<32 - 1, 1<<32 - 1},
	} {
		for _, name := range []string{"copy", "fill"} {
			_, want := before.ExportedFunction(name).Call(t.Context(), tt.to, tt.from, tt.bytes)
			_, got := after.ExportedFunction(name).Call(t.Context(), tt.to, tt.from, tt.bytes)
			if (want == nil) != (got == nil) {
				t.Errorf("%s, %s: %v before and %v after", name, tt.name, want, got)
			}
			a, _ := before.Memory().Read(0, memory)
			b, _ := after.Memory().Read(0, memory)
			if !bytes.Equal(a, b) {
				t.Fatalf("%s, %s: the memory is another", name, tt.name)
			}
		}
	}
}
