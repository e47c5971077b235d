package wasm

import (
	"cmp"
	"errors"
	"fmt"
	"sync"

	"github.com/tetratelabs/wazero/api"
)

// wazero can neither stop machine code nor let the garbage collector in, unless the
// guest leaves for Go by itself. (Its own check at every loop makes a guest half as
// fast, and a guest that never loops escapes it.) So the host puts the work a guest
// does on an account, and when that is used up, the guest has to ask for one page
// more than it can ever have. That request leads to linearMemory, which ends the
// guest when its time is over and otherwise says no.
//
// The account is in bytes of code that runs. A function is charged when it is entered
// and each time a loop in it begins again: for as much of it as can run until it is
// charged again (path.go), and for the check itself. What wazero does in Go takes longer
// than other instructions, and copying costs a byte for each 4.
const (
	accountBytes = 256 << 10
	checkBytes   = 32
	leaveBytes   = 256
	copyShift    = 2
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
	w := &writer{has: m.bounds(), checkPages: l.checkPages()}
	code, err := m.rewriteCode(w)
	if err != nil {
		return nil, err
	}
	size := 64 + len(code)
	for _, s := range m.sections {
		if s.id != sectionCode {
			size += len(s.content) + 16
		}
	}
	out := append(make([]byte, 0, size), "\x00asm\x01\x00\x00\x00"...)
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
	if m.bodies == nil {
		return nil, nil
	}
	// Both halves at once: a module of several megabytes takes 20 ms otherwise.
	half, size := m.half()
	size += size / 8
	second := *w
	var rest []byte
	var errRest error
	var working sync.WaitGroup
	working.Go(func() { rest, errRest = second.bodies(make([]byte, 0, size/2), m, half, len(m.bodies)) })
	out, err := w.bodies(appendU32(make([]byte, 0, size), uint32(len(m.bodies))), m, 0, half)
	working.Wait()
	if err := cmp.Or(err, errRest, w.effort.add(&second.effort)); err != nil {
		return nil, err
	}
	w.bulk = w.bulk || second.bulk
	if out = append(out, rest...); w.bulk {
		out = appendEntries(out, 2, w.bulkBodies()...)
	}
	return out, nil
}

// half is how many functions have half of the code, of which size is all.
func (m *module) half() (n, size int) {
	for _, b := range m.bodies {
		size += len(b)
	}
	for left := size / 2; left > 0; n++ {
		left -= len(m.bodies[n])
	}
	return n, size
}

// writer writes function bodies with checks in them.
type writer struct {
	has        bounds // of the original: what is added comes after
	checkPages uint32
	bulk       bool // something copies or fills memory
	variables  int  // of the function at hand
	effort     effort
	path       path
	blanks     []int // where the charge of the function at hand is missing
}

// bodies writes those of m from index from to index to, each with its length.
func (w *writer) bodies(out []byte, m *module, from, to int) ([]byte, error) {
	for i, b := range m.bodies[from:to] {
		index := len(m.imports) + from + i
		w.variables = len(m.functions[index].params)
		// The length comes when it is known.
		at := len(out)
		var err error
		if out, err = w.body(append(out, 0, 0, 0, 0), b); err != nil {
			return nil, fmt.Errorf("function %d: %w", index, err)
		}
		fill(out[at:at+blankBytes], uint32(len(out)-at-blankBytes))
	}
	return out, nil
}

func (w *writer) body(out, body []byte) ([]byte, error) {
	r := &reader{b: body}
	w.variables += int(r.locals())
	out = append(out, r.b[:r.at]...)
	w.path.begin()
	w.blanks = w.blanks[:0]
	first := leadsToLoop(*r, w.has)
	if !first {
		out = w.chargeLater(out)
	}
	kept := r.at
	for !r.done() {
		start := r.at
		in := r.instruction(w.has)
		w.effort.instruction(in)
		size := r.at - start
		if in.leaves() {
			size += leaveBytes
		}
		if !w.path.step(in, size) {
			r.failf("a label or an end without a block")
		}
		switch {
		case in.op == opLoop:
			out = w.chargeLater(append(out, r.b[kept:r.at]...))
			kept = r.at
			if !first {
				w.path.checked()
			}
			first = false
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
		return nil, r.err
	}
	for _, at := range w.blanks {
		fill(out[at:at+blankBytes], uint32(w.path.longest+checkBytes))
	}
	return append(out, r.b[kept:]...), nil
}

// chargeLater is charge for what is not known yet.
func (w *writer) chargeLater(out []byte) []byte {
	out = append(w.global(out, opGlobalGet, 0), opI32Const)
	w.blanks = append(w.blanks, len(out))
	return w.check(append(out, 0, 0, 0, 0, opI32Add))
}

// blankBytes is how long a number is that is filled in later: room for 27 bits and a
// sign, for functionBytes of instructions that leave for Go.
const blankBytes = 4

// fill writes n over all of blank, as a number longer than it needs to be.
func fill(blank []byte, n uint32) {
	for i := range blank {
		blank[i] = byte(n&0x7f) | 0x80
		n >>= 7
	}
	blank[len(blank)-1] &= 0x7f
}

// charge puts n bytes on the account.
func (w *writer) charge(out []byte, n int32) []byte {
	out = w.global(out, opGlobalGet, 0)
	out = appendS32(append(out, opI32Const), n)
	return w.check(append(out, opI32Add))
}

// chargeOperand puts the topmost operand on the account; it stays where it is.
func (w *writer) chargeOperand(out []byte) []byte {
	out = w.global(out, opGlobalSet, 1)
	out = w.global(out, opGlobalGet, 1)
	out = w.global(out, opGlobalGet, 1)
	out = append(out, opI32Const, copyShift, opI32ShrU)
	out = w.global(out, opGlobalGet, 0)
	out = append(out, opI32Add)
	return w.check(append(constant(out, checkBytes), opI32Add))
}

// check keeps the topmost operand as the account. When it is full, it is emptied
// and the host is asked for all pages up to the one that nobody gets.
func (w *writer) check(out []byte) []byte {
	out = w.global(out, opGlobalSet, 0)
	out = w.global(out, opGlobalGet, 0)
	out = constant(out, accountBytes)
	out = append(out, opI32GeU, opIf, blockOfNobody, opI32Const, 0)
	out = w.global(out, opGlobalSet, 0)
	out = appendS32(append(out, opI32Const), int32(w.checkPages))
	return append(out, opMemorySize, 0, opI32Sub, opMemoryGrow, 0, opDrop, opEnd)
}

// global names the account (0) or the operand (1).
func (w *writer) global(out []byte, op byte, which uint32) []byte {
	return appendU32(append(out, op), w.has.globals+which)
}
