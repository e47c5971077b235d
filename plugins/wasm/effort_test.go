package wasm

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"
)

// bomb is a module of so many functions with such a body and so many variables.
func bomb(functions, variables int, code []byte) []byte {
	all := func(n int, b []byte) []byte { return append(appendU32(nil, uint32(n)), bytes.Repeat(b, n)...) }
	body := append(append(appendU32([]byte{1}, uint32(variables)), i32), code...)
	body = append(body, opEnd)
	b := []byte("\x00asm\x01\x00\x00\x00")
	b = appendSection(b, sectionType, []byte("\x01\x60\x00\x00"))
	b = appendSection(b, sectionFunction, all(functions, []byte{0}))
	b = appendSection(b, sectionMemory, []byte{1, 0, 1})
	return appendSection(b, sectionCode, all(functions, append(appendU32(nil, uint32(len(body))), body...)))
}

// What keeps a compiler busy for long is refused before it sees it.
func TestBombsForTheCompilerAreRefused(t *testing.T) {
	t.Parallel()
	repeat := func(n int, b ...byte) []byte { return bytes.Repeat(b, n) }
	ends := func(n int) []byte { return repeat(n, opEnd) }
	always := []byte{opI32Const, 1}
	table := append(append(appendU32([]byte{opI32Const, 1, opBrTable}, 4000), make([]byte, 4000)...), 0)
	for _, tt := range []struct {
		name      string
		functions int
		variables int
		code      []byte
		why       string
	}{
		{"blocks in one another", 1, 1, append(repeat(blocksMost, opBlock, blockOfNobody), ends(blocksMost)...), "too many branches"},
		{"conditions", 1, 1, repeat(blocksMost/3, append(always, opIf, blockOfNobody, opEnd)...), "too many branches"},
		{"branches", 1, 1, repeat(blocksMost, append(always, opBrIf, 0)...), "too many branches"},
		{"labels", 1, 1, bytes.Repeat(table, 5), "too many branches"},
		{"one long table", 1, 1, append(append(appendU32([]byte{opI32Const, 1, opBrTable}, blocksMost+1), make([]byte, blocksMost+1)...), 0), "labels, at most"},
		{"many functions", 40, 1, repeat(1300, append(always, opIf, blockOfNobody, opEnd)...), "too many branches for"},
		{"loops among variables", 1, 10_000, append(repeat(10, opLoop, blockOfNobody), ends(10)...), "too many loops"},
		{"conditions among variables", 1, 1000, repeat(1000, append(always, opIf, blockOfNobody, opEnd)...), "too many branches in functions"},
		{"a long function", 1, 1, repeat(functionBytes, 0x01), "bytes, at most"},
	} {
		m, err := parse(bomb(tt.functions, tt.variables, tt.code))
		if err == nil {
			_, err = m.rewrite(Limits{}.withDefaults())
		}
		if err == nil || !strings.Contains(err.Error(), tt.why) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.why)
		}
	}
}

// A compilation is stopped between two functions.
func TestACompilationEndsAtItsDeadline(t *testing.T) {
	t.Parallel()
	l := Limits{}.withDefaults()
	m, err := parse(bomb(200, 1, bytes.Repeat([]byte{0x10, 0}, 20_000)))
	if err != nil {
		t.Fatal(err)
	}
	l.CompileDeadline = 50 * time.Millisecond
	h, err := newHost(Options{Limits: l})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	p := &plugin{source: &source{}, limits: l, module: m, log: h.log}
	if err := h.compile(context.Background(), p, nil); err != errCompile { //nolint:errorlint // the very value
		t.Errorf("got %v", err)
	}
}

// Settings that change do not cost a compilation.
func TestVersionsShareMachineCode(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	lay(t, dir, "acme01/it", "good", "")
	h := open(t, Options{Dir: dir, Limits: patient()})
	p, v := h.table.Load().plugins[place{"acme01", "it"}], find(t, h, "it", "")
	lay(t, dir, "acme01/it", "good", "settings: {n: 1}")
	if err := h.scan(t.Context()); err != nil {
		t.Fatal(err)
	}
	next := h.table.Load().plugins[place{"acme01", "it"}]
	if next == p || next.machine != p.machine {
		t.Error("the machine code was made again")
	}
	h.retiring.Wait()
	mustVerify(t, v, token("x"))
	lay(t, dir, "acme01/it", "token_answers", "")
	if err := h.scan(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.retiring.Wait()
	if n := p.machine.users.Load(); n != 0 {
		t.Errorf("%d versions still use the old machine code", n)
	}
	mustVerify(t, v, token(okAnswer))
}
