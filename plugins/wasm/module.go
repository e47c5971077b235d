package wasm

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tetratelabs/wazero/api"
)

// Bounds of what a module may declare. wazero sets memory aside for each of
// these before it has judged the module, some of it far more than the module is
// long.
const (
	typesMost      = 1 << 16
	paramsMost     = 1 << 8
	resultsMost    = 1 << 4
	functionsMost  = 1 << 17
	importsMost    = 1 << 10
	exportsMost    = 1 << 14
	globalsMost    = 1 << 16
	tablesMost     = 16
	tableMost      = 1 << 16 // elements
	segmentsMost   = 1 << 17
	elementsMost   = 1 << 17 // of all segments together
	localsMost     = 50_000  // of one function
	localsAllMost  = 1 << 22 // of all functions
	localKindsMost = 1 << 16
	functionBytes  = 128 << 10

	// The compiler takes more than linear time for a function: in its blocks, and in
	// the paths into them times the variables that each may carry. Within the bounds
	// above, 30 kB could keep it busy for a minute. These are two to ten times the most
	// seen in modules of real tool chains, among them one of 10 MB made by Go.
	blocksMost    = 1 << 14 // of one function
	blocksAllMost = 1 << 29 // the sum of their squares
	loopsMost     = 1 << 16 // the sum, over all loops, of the variables of their function
	joinsMost     = 1 << 21 // the sum of blocks and branches, times the variables over fewVariables
	fewVariables  = 32      // which optimising tool chains seldom exceed
)

// Sections of a binary, in the order they come.
const (
	sectionCustom = iota
	sectionType
	sectionImport
	sectionFunction
	sectionTable
	sectionMemory
	sectionGlobal
	sectionExport
	sectionStart
	sectionElement
	sectionCode
	sectionData
	sectionDataCount
)

// sectionOrder has the data count where it belongs, before the code.
func sectionOrder(id byte) int {
	if id == sectionDataCount {
		return 2*sectionElement + 1
	}
	return 2 * int(id)
}

type section struct {
	id      byte
	content []byte
}

type imported struct {
	module, name string
	signature
}

func (i imported) String() string { return i.module + "." + i.name }

// module is a binary taken apart as far as the host needs to judge and rewrite
// it. The bytes are those of the file.
type module struct {
	sections []section
	types    []signature
	imports  []imported
	// functions are the types of all, the imported ones first.
	functions   []signature
	globals     uint32
	memories    int
	memoryMin   uint32 // pages
	memoryMax   uint32 // pages; as declared, else the limit of WebAssembly
	exported    map[string]api.ExternType
	exportedFns map[string]signature
	bodies      [][]byte // of the functions that are not imported
	starts      bool     // it has a start function
	start       uint32
}

// parse takes a binary apart. It is strict about structure and bounds and leaves
// the rest, above all the types of instructions, to wazero.
func parse(binary []byte) (*module, error) {
	m := &module{exported: map[string]api.ExternType{}, exportedFns: map[string]signature{}}
	header, ok := bytes.CutPrefix(binary, []byte("\x00asm\x01\x00\x00\x00"))
	if !ok {
		return nil, errors.New("not a WebAssembly module of version 1")
	}
	r := &reader{b: header}
	last := 0
	for !r.done() {
		s := section{id: r.byte()}
		s.content = r.take(r.u32())
		if r.err != nil {
			return nil, fmt.Errorf("section %d: %w", s.id, r.err)
		}
		if s.id > sectionDataCount {
			return nil, fmt.Errorf("section %d is not of WebAssembly 2.0", s.id)
		}
		if s.id != sectionCustom {
			if order := sectionOrder(s.id); order <= last {
				return nil, fmt.Errorf("section %d is out of order", s.id)
			} else {
				last = order
			}
		}
		in := &reader{b: s.content}
		keep := m.section(s.id, in)
		if in.err == nil && !in.done() {
			in.fail(errors.New("has bytes left over"))
		}
		if in.err != nil {
			return nil, fmt.Errorf("section %d: %w", s.id, in.err)
		}
		if keep {
			m.sections = append(m.sections, s)
		}
	}
	if len(m.bodies) != len(m.functions)-len(m.imports) {
		return nil, errors.New("function bodies are missing")
	}
	return m, nil
}

// section reads one and reports whether it is worth keeping.
func (m *module) section(id byte, r *reader) bool {
	switch id {
	case sectionCustom:
		r.at = len(r.b)
		return false // names and debug information are of no use here, and wazero would decode them
	case sectionType:
		m.readTypes(r)
	case sectionImport:
		m.readImports(r)
	case sectionFunction:
		for range r.count("functions", functionsMost) {
			m.functions = append(m.functions, m.typeAt(r))
		}
	case sectionTable:
		for range r.count("tables", tablesMost) {
			r.table()
		}
	case sectionMemory:
		m.readMemory(r)
	case sectionGlobal:
		n := r.count("globals", globalsMost)
		for range n {
			r.take(2) // type and mutability
			r.constant(bounds{n, uint32(len(m.functions)), uint32(len(m.types))})
		}
		m.globals = n
	case sectionExport:
		m.readExports(r)
	case sectionStart:
		m.start, m.starts = r.u32(), true
		switch {
		case int64(m.start) >= int64(len(m.functions)):
			r.failf("the start function %d leads nowhere", m.start)
		case !m.functions[m.start].equal(signature{}):
			r.failf("the start function is of type %s", m.functions[m.start])
		}
	case sectionDataCount:
		r.u32()
	case sectionElement:
		m.readElements(r)
	case sectionData:
		m.readData(r)
	case sectionCode:
		m.readCode(r)
	}
	return true
}

func (m *module) readTypes(r *reader) {
	for range r.count("types", typesMost) {
		if r.byte() != 0x60 {
			r.fail(errors.New("a type is not that of a function"))
		}
		params := r.take(r.count("parameters", paramsMost))
		m.types = append(m.types, signature{params, r.take(r.count("results", resultsMost))})
	}
}

func (m *module) typeAt(r *reader) signature {
	i := r.u32()
	if int64(i) >= int64(len(m.types)) {
		r.failf("type %d of %d", i, len(m.types))
		return signature{}
	}
	return m.types[i]
}

func (m *module) readImports(r *reader) {
	for range r.count("imports", importsMost) {
		i := imported{module: r.name(), name: r.name()}
		if kind := r.byte(); kind != 0 && r.err == nil {
			r.failf("imports %q, which is not a function", i)
		}
		i.signature = m.typeAt(r)
		if r.err != nil {
			return
		}
		m.imports = append(m.imports, i)
		m.functions = append(m.functions, i.signature)
	}
}

func (m *module) readMemory(r *reader) {
	m.memories = int(r.count("memories", 1))
	for range m.memories {
		m.memoryMin, m.memoryMax = r.limits(1 << 16)
		if m.memoryMin > 1<<16 {
			r.failf("a memory of %d pages", m.memoryMin)
		}
	}
}

// table reads a table and returns how many elements it may have.
func (r *reader) table() (kind byte, low, high uint32) {
	kind = r.byte()
	low, high = r.limits(tableMost)
	if low > tableMost {
		r.failf("a table of %d elements, at most %d", low, tableMost)
	}
	return kind, low, min(high, tableMost)
}

// limits reads a minimum and a maximum, which is otherwise where none is declared.
func (r *reader) limits(otherwise uint32) (low, high uint32) {
	switch flag := r.byte(); flag {
	case 0:
		return r.u32(), otherwise
	case 1:
		low, high = r.u32(), r.u32()
		if high < low {
			r.fail(errors.New("a maximum is less than its minimum"))
		}
		return low, high
	default:
		r.failf("limits of kind %d", flag)
		return 0, 0
	}
}

// constant reads a constant expression.
func (r *reader) constant(has bounds) {
	for r.err == nil && r.instruction(has).op != opEnd {
	}
}

// bounds are those of the indices that instructions may name.
func (m *module) bounds() bounds {
	return bounds{m.globals, uint32(len(m.functions)), uint32(len(m.types))}
}

func (m *module) readExports(r *reader) {
	for range r.count("exports", exportsMost) {
		name, kind, index := r.name(), r.byte(), r.u32()
		switch {
		case r.err != nil:
			return
		case m.hasExport(name):
			r.failf("exports %q twice", name)
		case name == exportStart:
			r.failf("exports %q, which is a name of the host's", name)
		case kind == api.ExternTypeFunc && int64(index) >= int64(len(m.functions)),
			kind == api.ExternTypeGlobal && index >= m.globals, kind > api.ExternTypeGlobal:
			r.failf("export %q leads nowhere", name)
		case kind == api.ExternTypeFunc:
			m.exportedFns[name] = m.functions[index]
		}
		m.exported[name] = kind
	}
}

func (m *module) hasExport(name string) bool {
	_, ok := m.exported[name]
	return ok
}

// readElements checks how long segments of tables are. wazero makes room for as many
// elements as each says it has.
func (m *module) readElements(r *reader) {
	all := uint32(0)
	for range r.count("segments", segmentsMost) {
		kind := r.u32()
		if kind > 7 {
			r.failf("a segment of kind %d", kind)
		}
		passive, expressions := kind&1 != 0, kind&4 != 0
		if !passive {
			if kind&2 != 0 {
				r.u32() // its table
			}
			r.constant(m.bounds())
		}
		if kind&3 != 0 {
			r.byte() // the kind or type of its elements
		}
		n := r.count("elements", elementsMost)
		if all += n; all > elementsMost {
			r.failf("more than %d elements", elementsMost)
		}
		for range n {
			if r.err != nil {
				return
			}
			if expressions {
				r.constant(m.bounds())
			} else if f := r.u32(); int64(f) >= int64(len(m.functions)) {
				r.failf("element function %d of %d", f, len(m.functions))
			}
		}
	}
}

// readData checks how long segments of memory are.
func (m *module) readData(r *reader) {
	for range r.count("segments", segmentsMost) {
		kind := r.u32()
		switch kind {
		case 0:
		case 1: // passive
		case 2:
			r.u32() // its memory
		default:
			r.failf("a segment of kind %d", kind)
		}
		if kind != 1 {
			r.constant(m.bounds())
		}
		r.take(r.u32())
		if r.err != nil {
			return
		}
	}
}

// readCode checks bodies up to their instructions.
func (m *module) readCode(r *reader) {
	n := r.count("function bodies", functionsMost)
	m.bodies = make([][]byte, 0, n)
	all := uint64(0)
	for i := range n {
		size := r.u32()
		if size > functionBytes {
			r.failf("function %d has %d bytes, at most %d", int(i)+len(m.imports), size, functionBytes)
		}
		m.bodies = append(m.bodies, r.take(size))
		body := &reader{b: m.bodies[i]}
		n := body.locals()
		all += n
		if body.err != nil {
			r.failf("function %d: %w", int(i)+len(m.imports), body.err)
		}
		if n > localsMost || all > localsAllMost {
			r.failf("function %d has too many local variables", int(i)+len(m.imports))
		}
		if r.err != nil {
			return
		}
	}
}

// locals reads the declarations at the beginning of a body.
func (r *reader) locals() (all uint64) {
	for range r.count("declarations", localKindsMost) {
		all += uint64(r.u32())
		r.byte()
	}
	return all
}

// check holds the module against auth_abi v1 and the limits. Every complaint is
// in the error.
func (m *module) check(limits Limits, offered map[string]signature) error {
	var wrong []string
	for _, e := range exports() {
		have, ok := m.exportedFns[e.name]
		switch {
		case !ok && (e.needed || m.hasExport(e.name)):
			wrong = append(wrong, fmt.Sprintf("does not export the function %s %s", e.name, e.signature))
		case ok && !have.equal(e.signature):
			wrong = append(wrong, fmt.Sprintf("exports %s as %s, not %s", e.name, have, e.signature))
		}
	}
	if kind, ok := m.exported[exportMemory]; !ok || kind != api.ExternTypeMemory || m.memories != 1 {
		wrong = append(wrong, "does not export its memory as memory")
	}
	if m.memoryMin > limits.memoryPages() {
		wrong = append(wrong, fmt.Sprintf("wants %d pages of memory at least, of which %d are allowed", m.memoryMin, limits.memoryPages()))
	}
	for _, i := range m.imports {
		offer, ok := offered[i.String()]
		switch {
		case !ok:
			wrong = append(wrong, fmt.Sprintf("imports %q, which is not offered", i))
		case !offer.equal(i.signature):
			wrong = append(wrong, fmt.Sprintf("imports %s as %s, not %s", i, i.signature, offer))
		}
	}
	if wrong != nil {
		return errors.New(strings.Join(wrong, "; "))
	}
	return nil
}

func (s signature) equal(t signature) bool {
	return slices.Equal(s.params, t.params) && slices.Equal(s.results, t.results)
}

// String is written as in ABI.md, such as "(i32, i32) -> i64".
func (s signature) String() string {
	list := func(types []api.ValueType) string {
		names := make([]string, len(types))
		for i, t := range types {
			names[i] = api.ValueTypeName(t)
		}
		return strings.Join(names, ", ")
	}
	if len(s.results) == 1 {
		return "(" + list(s.params) + ") -> " + list(s.results)
	}
	return "(" + list(s.params) + ") -> (" + list(s.results) + ")"
}
