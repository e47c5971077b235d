package wasm

import (
	"errors"
	"fmt"
	"slices"

	"github.com/tetratelabs/wazero/api"
)

// wazero can neither stop machine code nor let the garbage collector in, unless the
// guest leaves for Go by itself. (Its own check at every loop makes a guest half as
// fast, and a guest that never loops escapes it.) So the host puts the work a guest
// does on an account, and when that is used up, the guest has to ask for one page
// more than it can ever have. That request leads to linearMemory, which ends the
// guest when its time is over and otherwise says no.
//
// One unit stands for at most 256 bytes of code run once, or 4 KiB copied. A
// function is charged for all of its code when it is entered and each time a loop
// in it begins again; it has at most functionBytes, so that many units can be
// outstanding at once.
const (
	accountUnits   = 1024
	codeUnitShift  = 8
	bytesUnitShift = 12
)

// rewrite writes m with two globals more, one for the account and one to look at
// the operand of an instruction, and with a check at the beginning of each
// function and loop and before each instruction that works through many elements.
// Those that copy or fill memory become calls (bulk.go).
// Nothing else moves: indices, locals and exports stay. Tables get a maximum, and
// the memory one of checkPages, of which linearMemory grants fewer. A start function
// becomes an export, so that it is called like every other function.
func (m *module) rewrite(l Limits) ([]byte, error) {
	if m.memories != 1 || m.memoryMin > l.memoryPages() {
		return nil, errors.New("has no memory, or too much")
	}
	size := 64
	for _, s := range m.sections {
		size += len(s.content) + len(s.content)/8 // checks are far less in modules of real tool chains
	}
	out := append(make([]byte, 0, size), "\x00asm\x01\x00\x00\x00"...)
	w := &writer{has: m.bounds(), checkPages: l.checkPages()}
	code, err := m.rewriteCode(w)
	if err != nil {
		return nil, err
	}
	written := false
	for _, s := range m.sections {
		if !written && sectionOrder(s.id) >= sectionOrder(sectionGlobal) {
			out = appendSection(out, sectionGlobal, m.rewriteGlobals(s))
			written = true
			if s.id == sectionGlobal {
				continue
			}
		}
		content := s.content
		switch s.id {
		case sectionType:
			if w.bulk {
				content = appendEntries(content, 1, bulkType()...)
			}
		case sectionFunction:
			if w.bulk {
				content = appendEntries(content, 2, w.bulkFunctions()...)
			}
		case sectionExport:
			if m.starts && len(m.exported) > 0 {
				content = appendEntries(content, 1, m.startExport()...)
			}
		case sectionStart:
			if len(m.exported) > 0 {
				continue
			}
		case sectionTable:
			content = rewriteTables(content)
		case sectionMemory:
			content = appendU32(appendU32([]byte{1, 1}, m.memoryMin), l.checkPages())
		case sectionCode:
			content = code
		}
		out = appendSection(out, s.id, content)
	}
	return out, nil
}

func appendSection(out []byte, id byte, content []byte) []byte {
	out = append(out, id)
	out = appendU32(out, uint32(len(content)))
	return append(out, content...)
}

// rewriteGlobals appends the account and the operand to the globals of s, if it
// has some.
func (m *module) rewriteGlobals(s section) []byte {
	var rest []byte
	if s.id == sectionGlobal {
		r := &reader{b: s.content}
		r.u32()
		rest = s.content[r.at:]
	}
	out := append(appendU32(nil, m.globals+2), rest...)
	for range 2 {
		out = append(out, i32, 1, opI32Const, 0, opEnd)
	}
	return out
}

// rewriteTables gives every table a maximum, so that table.grow ends.
func rewriteTables(content []byte) []byte {
	r := &reader{b: content}
	n := r.u32()
	out := appendU32(nil, n)
	for range n {
		kind, low, high := r.table()
		out = appendU32(appendU32(append(out, kind, 1), low), high)
	}
	return out
}

// startExport is the entry of the start function among the exports.
func (m *module) startExport() []byte {
	name := append(appendU32(nil, uint32(len(exportStart))), exportStart...)
	return appendU32(append(name, api.ExternTypeFunc), m.start)
}

// appendEntries makes a vector longer by n entries.
func appendEntries(content []byte, n uint32, entries ...byte) []byte {
	r := &reader{b: content}
	out := appendU32(make([]byte, 0, len(content)+len(entries)+1), r.u32()+n)
	return append(append(out, r.b[r.at:]...), entries...)
}

// rewriteCode returns what the code section becomes, nil where there is none.
func (m *module) rewriteCode(w *writer) ([]byte, error) {
	at := slices.IndexFunc(m.sections, func(s section) bool { return s.id == sectionCode })
	if at < 0 {
		return nil, nil
	}
	content := m.sections[at].content
	r := &reader{b: content}
	n := r.u32()
	out := appendU32(make([]byte, 0, len(content)+len(content)/8), n)
	var body []byte
	for i := range n {
		w.variables = len(m.functions[len(m.imports)+int(i)].params)
		body = w.body(body[:0], r)
		if r.err != nil {
			return nil, fmt.Errorf("function %d: %w", int(i)+len(m.imports), r.err)
		}
		out = append(appendU32(out, uint32(len(body))), body...)
	}
	if w.bulk {
		out = appendEntries(out, 2, w.bulkBodies()...)
	}
	return out, nil
}

// writer writes function bodies with checks in them.
type writer struct {
	has        bounds // of the original: what is added comes after
	checkPages uint32
	bulk       bool // something copies or fills memory
	variables  int  // of the function at hand
	effort     effort
}

func (w *writer) body(out []byte, outer *reader) []byte {
	r := &reader{b: outer.take(outer.u32())}
	w.variables += int(r.locals())
	code := int32(1 + len(r.b)>>codeUnitShift)
	out = append(out, r.b[:r.at]...)
	out = w.charge(out, code)
	kept := r.at
	for !r.done() {
		start := r.at
		in := r.instruction(w.has)
		w.effort.instruction(in)
		switch {
		case in.op == opLoop:
			out = w.charge(append(out, r.b[kept:r.at]...), code)
			kept = r.at
		case in.op == opBulk && (in.sub == bulkCopy || in.sub == bulkFill):
			out = appendU32(append(append(out, r.b[kept:start]...), opCall), w.bulkFunction(in.sub))
			kept = r.at
		case in.bulk:
			out = w.chargeOperand(append(out, r.b[kept:start]...))
			kept = start
		}
	}
	if r.err == nil {
		r.err = w.effort.end(w.variables)
	}
	if r.err != nil {
		outer.fail(r.err)
	}
	return append(out, r.b[kept:]...)
}

// charge puts units on the account.
func (w *writer) charge(out []byte, units int32) []byte {
	out = w.global(out, opGlobalGet, 0)
	out = appendS32(append(out, opI32Const), units)
	return w.check(append(out, opI32Add))
}

// chargeOperand puts the topmost operand on the account; it stays where it is.
func (w *writer) chargeOperand(out []byte) []byte {
	out = w.global(out, opGlobalSet, 1)
	out = w.global(out, opGlobalGet, 1)
	out = w.global(out, opGlobalGet, 1)
	out = append(out, opI32Const, bytesUnitShift, opI32ShrU)
	out = w.global(out, opGlobalGet, 0)
	out = append(out, opI32Add, opI32Const, 1, opI32Add)
	return w.check(out)
}

// check keeps the topmost operand as the account. When it is full, it is emptied
// and the host is asked for all pages up to the one that nobody gets.
func (w *writer) check(out []byte) []byte {
	out = w.global(out, opGlobalSet, 0)
	out = w.global(out, opGlobalGet, 0)
	out = appendS32(append(out, opI32Const), accountUnits)
	out = append(out, opI32GeU, opIf, blockOfNobody, opI32Const, 0)
	out = w.global(out, opGlobalSet, 0)
	out = appendS32(append(out, opI32Const), int32(w.checkPages))
	return append(out, opMemorySize, 0, opI32Sub, opMemoryGrow, 0, opDrop, opEnd)
}

// global names the account (0) or the operand (1).
func (w *writer) global(out []byte, op byte, which uint32) []byte {
	return appendU32(append(out, op), w.has.globals+which)
}
