package wasm

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
)

// guests are the modules of testdata by name.
func guests(t testing.TB) map[string][]byte {
	t.Helper()
	paths, err := filepath.Glob("testdata/guests/*.wasm")
	if err != nil || len(paths) == 0 {
		t.Fatal("no guests", err)
	}
	all := map[string][]byte{}
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all[strings.TrimSuffix(filepath.Base(path), ".wasm")] = b
	}
	return all
}

// rewritten is b after the rewriting, nil where it is refused.
func rewritten(b []byte) []byte {
	m, err := parse(b)
	if err != nil {
		return nil
	}
	out, err := m.rewrite(Limits{}.withDefaults())
	if err != nil {
		return nil
	}
	return out
}

// valid asks wazero about a module. The interpreter is quicker to ask.
func valid(t testing.TB, b []byte) error {
	t.Helper()
	r := wazero.NewRuntimeWithConfig(t.Context(), wazero.NewRuntimeConfigInterpreter().
		WithCoreFeatures(api.CoreFeaturesV2).WithMemoryLimitPages(1025))
	defer r.Close(t.Context())
	_, err := r.CompileModule(t.Context(), b)
	return err
}

func TestRewritingKeepsModulesValid(t *testing.T) {
	t.Parallel()
	for name, b := range guests(t) {
		if valid(t, b) != nil {
			continue
		}
		out := rewritten(b)
		if out == nil {
			if name != "table_bomb" && name != "imports_memory" && name != "memory_bomb" {
				t.Errorf("%s: not rewritten", name)
			}
			continue
		}
		if err := valid(t, out); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The same numbers come out before and after.
func TestRewritingKeepsTheMeaning(t *testing.T) {
	t.Parallel()
	b := guests(t)["features"]
	m, err := parse(b)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []uint64{1, 2, 3, 100, 4000} {
		before, after := work(t, m, b, n), work(t, m, rewritten(b), n)
		if before != after || before == 0 {
			t.Errorf("work(%d) is %d before and %d after", n, before, after)
		}
	}
}

// work runs b, which is what became of parsed.
func work(t *testing.T, parsed *module, b []byte, n uint64) uint64 {
	t.Helper()
	ctx := (&call{log: newPluginLog((&lines{}).logger(), 1, time.Now)}).until(time.Now().Add(time.Hour))
	r := wazero.NewRuntime(ctx)
	defer r.Close(ctx)
	if err := offer(ctx, r, imports()); err != nil {
		t.Fatal(err)
	}
	memory, _ := newLinearMemory(&budget{most: 1 << 30}, parsed, Limits{}.withDefaults())
	memory.until(ctx)
	m, err := r.Instantiate(experimental.WithMemoryAllocator(ctx, memory), b)
	if err != nil {
		t.Fatal(err)
	}
	if start := m.ExportedFunction(exportStart); start != nil {
		if _, err := start.Call(ctx); err != nil {
			t.Fatal(err)
		}
	}
	result, err := m.ExportedFunction("work").Call(ctx, n)
	if err != nil {
		t.Fatal(err)
	}
	return result[0]
}

// A module cannot name the globals that the rewriting adds: it could keep its
// own account.
func TestGuestCannotReachTheAccount(t *testing.T) {
	t.Parallel()
	b := guests(t)["features"] // four globals: the next is 4
	for name, reach := range map[string][2][]byte{
		"set":    {{opGlobalSet, 0}, {opGlobalSet, 4}},
		"get":    {{opGlobalGet, 0}, {opGlobalGet, 5}},
		"export": {{'g', api.ExternTypeGlobal, 0}, {'g', api.ExternTypeGlobal, 4}},
	} {
		changed := bytes.Replace(b, reach[0], reach[1], 1)
		if bytes.Equal(changed, b) {
			t.Fatalf("%s: the module does not have it", name)
		}
		if rewritten(changed) != nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	header := "\x00asm\x01\x00\x00\x00"
	for _, tt := range []struct{ name, binary, why string }{
		{"nothing", "", "not a WebAssembly module"},
		{"a component", "\x00asm\x0d\x00\x01\x00", "not a WebAssembly module of version 1"},
		{"a long number", header + "\x01\x80\x80\x80\x80\x10", "a number is too long"},
		{"a section that ends too early", header + "\x01\x05\x00", "ends too early"},
		{"an unknown section", header + "\x0d\x00", "not of WebAssembly 2.0"},
		{"sections out of order", header + "\x03\x01\x00\x01\x01\x00", "out of order"},
		{"a section twice", header + "\x01\x01\x00\x01\x01\x00", "out of order"},
		{"bytes left over", header + "\x01\x02\x00\x00", "left over"},
		{"too many of everything", header + "\x01\x05\xff\xff\xff\xff\x0f", "at most"},
		{"two memories", header + "\x05\x05\x02\x00\x01\x00\x01", "2 memories, at most 1"},
		{"a shared memory", header + "\x05\x04\x01\x03\x01\x01", "limits of kind 3"},
		{"a memory of 64 bits", header + "\x05\x03\x01\x04\x01", "limits of kind 4"},
		{"bodies without functions", header + "\x0a\x04\x01\x02\x00\x0b", "bodies are missing"},
		{"a bomb of elements", header + "\x01\x04\x01\x60\x00\x00\x04\x04\x01\x70\x00\x01\x09\x09\x01\x01\x00\xff\xff\xff\xff\x0f\x00", "elements, at most"},
		{"a bomb of element expressions", header + "\x04\x04\x01\x70\x00\x01\x09\x09\x01\x05\x70\xff\xff\xff\xff\x0f\x00", "elements, at most"},
		{"an element that leads nowhere", header + "\x04\x04\x01\x70\x00\x01\x09\x05\x01\x01\x00\x01\x07", "element function 7"},
		{"a bomb of data", header + "\x05\x03\x01\x00\x01\x0b\x08\x01\x01\xff\xff\xff\xff\x0f\x00", "ends too early"},
		{"a start that leads nowhere", header + "\x08\x01\x05", "the start function 5"},
		{"many results", header + "\x01\x15\x01\x60\x00\x11" + strings.Repeat("\x7f", 17), "results, at most"},
		{"functions without bodies", header + "\x01\x04\x01\x60\x00\x00\x03\x02\x01\x00", "bodies are missing"},
		{"a bomb of local variables", header + "\x01\x04\x01\x60\x00\x00\x03\x02\x01\x00\x0a\x0a\x01\x08\x01\xff\xff\xff\xff\x0f\x7f\x0b", "too many local variables"},
	} {
		if _, err := parse([]byte(tt.binary)); err == nil || !strings.Contains(err.Error(), tt.why) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.why)
		}
	}
}

// kept is a module as it is, without the sections that mean nothing.
func kept(b []byte) []byte {
	out := bytes.Clone(b[:8])
	if m, err := parse(b); err == nil {
		for _, s := range m.sections {
			out = appendSection(out, s.id, s.content)
		}
	}
	return out
}

// Whatever wazero accepts before it must accept afterwards, and what it refuses
// it must not be made to accept.
func FuzzRewrite(f *testing.F) {
	for _, b := range guests(f) {
		if len(b) < 4<<10 {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 64<<10 {
			return
		}
		out := rewritten(b)
		if out == nil {
			return
		}
		before, after := valid(t, kept(b)), valid(t, out)
		if (before == nil) != (after == nil) {
			t.Errorf("before: %v\nafter: %v", before, after)
		}
	})
}
