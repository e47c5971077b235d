package wasm

// Opcodes that the rewriting writes or looks at.
const (
	opUnreachable = 0x00
	opBlock       = 0x02
	opLoop        = 0x03
	opIf          = 0x04
	opElse        = 0x05
	opEnd         = 0x0b
	opBr          = 0x0c
	opBrIf        = 0x0d
	opBrTable     = 0x0e
	opReturn      = 0x0f
	opCall        = 0x10
	opDrop        = 0x1a
	opSelect      = 0x1b
	opLocalGet    = 0x20
	opLocalSet    = 0x21
	opLocalTee    = 0x22
	opGlobalGet   = 0x23
	opGlobalSet   = 0x24
	opMemorySize  = 0x3f
	opMemoryGrow  = 0x40
	opI32Const    = 0x41
	opI64Const    = 0x42
	opI32LtU      = 0x49
	opI32GtU      = 0x4b
	opI32GeU      = 0x4f
	opI64GtU      = 0x56
	opI32Add      = 0x6a
	opI32Sub      = 0x6b
	opI32And      = 0x71
	opI32ShrU     = 0x76
	opI64Add      = 0x7c
	opI64Shl      = 0x86
	opI64ExtendU  = 0xad // of 32 bits without a sign
	opRefFunc     = 0xd2
	opBulk        = 0xfc
	opVector      = 0xfd
	bulkCopy      = 10   // of opBulk
	bulkFill      = 11   // of opBulk
	bulkTableGrow = 15   // of opBulk
	blockOfNobody = 0x40 // a block type: no parameter, no result
)

// instruction is what the rewriting wants to know of one.
type instruction struct {
	op     byte
	sub    uint32   // of opBulk
	bulk   bool     // copies or fills as many elements as its topmost operand says
	labels []uint32 // where a branch may lead
}

// leaves reports whether wazero does it in Go, and not always by way of linearMemory.
func (in *instruction) leaves() bool {
	return in.op == opMemoryGrow || in.op == opRefFunc || in.op == opBulk && in.sub == bulkTableGrow
}

// bounds is how many a module has of what the rewriting adds to.
type bounds struct{ globals, functions, types uint32 }

// instruction reads one, without its meaning: wazero validates what comes out. An
// index outside of has is refused here, because the guest must not reach what the
// rewriting adds. What it returns is valid until the next one is read.
func (r *reader) instruction(has bounds) *instruction {
	in := &r.in
	in.op, in.bulk, in.labels = r.byte(), false, in.labels[:0]
	// The most frequent come first: a module has millions.
	switch op := in.op; {
	case op >= opLocalGet && op <= opLocalTee, op == 0x25, op == 0x26:
		r.u32()
	case op == opI32Const:
		r.number(32)
	case op >= 0x45 && op <= 0xc4, op == opEnd:
	case op >= 0x28 && op <= 0x3e: // load and store
		r.memoryArgument()
	case op == opI64Const:
		r.number(64)
	case op == opGlobalGet, op == opGlobalSet:
		r.index("global", has.globals)
	case op >= opBlock && op <= opIf:
		r.blockType(has.types)
	case op == opCall, op == opRefFunc:
		r.index("function", has.functions)
	case op == opBr, op == opBrIf:
		in.labels = append(in.labels, r.u32())
	case op == opBrTable:
		for range r.count("labels", blocksMost) + 1 {
			in.labels = append(in.labels, r.u32())
		}
	case op <= 0x01, op == opElse, op == opReturn, op == opDrop, op == opSelect, op == 0xd1:
	case op == 0x11: // call_indirect
		r.index("type", has.types)
		r.u32()
	case op == 0x1c: // select of a type
		r.take(r.count("types", 1))
	case op == opMemorySize, op == opMemoryGrow, op == 0xd0: // the last is ref.null
		r.byte()
	case op == 0x43:
		r.take(4)
	case op == 0x44:
		r.take(8)
	case op == opBulk:
		in.sub, in.bulk = r.bulk()
	case op == opVector:
		r.vector()
	default:
		r.failf("instruction %#x is not of WebAssembly 2.0", op)
	}
	return in
}

// index reads one of which there are n.
func (r *reader) index(what string, n uint32) {
	if i := r.u32(); r.err == nil && i >= n {
		r.failf("%s %d of %d", what, i, n)
	}
}

// blockType reads a value type, nothing, or the index of a type, which is a number of
// 33 bits with a sign.
func (r *reader) blockType(types uint32) {
	start := r.at
	n := int64(r.leb(33, true))
	if r.err == nil && n >= int64(types) && r.b[start] != blockOfNobody {
		r.failf("type %d of %d", n, types)
	}
}

func (r *reader) memoryArgument() {
	r.u32()
	r.u32()
}

// bulk reads what follows opBulk and reports whether it works through many elements.
func (r *reader) bulk() (sub uint32, many bool) {
	switch sub = r.u32(); {
	case sub <= 7: // saturating conversions
		return sub, false
	case sub == 9, sub == 13, sub == 16: // data.drop, elem.drop, table.size
		r.u32()
		return sub, false
	case sub == bulkCopy:
		r.onlyMemory()
		r.onlyMemory()
	case sub == bulkFill:
		r.onlyMemory()
	case sub == 8, sub == 12, sub == 14: // memory.init, table.init, table.copy
		r.u32()
		r.u32()
	case sub == bulkTableGrow, sub == 17: // the last is table.fill
		r.u32()
	default:
		r.failf("instruction %#x %d is not of WebAssembly 2.0", opBulk, sub)
	}
	return sub, true
}

func (r *reader) onlyMemory() {
	if r.byte() != 0 {
		r.failf("instruction %#x is about another memory", opBulk)
	}
}

func (r *reader) vector() {
	switch sub := r.u32(); {
	case sub <= 11, sub == 92, sub == 93: // load and store
		r.memoryArgument()
	case sub == 12, sub == 13: // constant, shuffle
		r.take(16)
	case sub >= 21 && sub <= 34: // lane
		r.byte()
	case sub >= 84 && sub <= 91: // load and store of a lane
		r.memoryArgument()
		r.byte()
	case sub <= 255:
	default:
		r.failf("instruction %#x %d is not of WebAssembly 2.0", opVector, sub)
	}
}
