package wasm

// Opcodes that the rewriting writes or looks at.
const (
	opBlock       = 0x02
	opLoop        = 0x03
	opIf          = 0x04
	opElse        = 0x05
	opEnd         = 0x0b
	opBr          = 0x0c
	opBrIf        = 0x0d
	opBrTable     = 0x0e
	opDrop        = 0x1a
	opGlobalGet   = 0x23
	opGlobalSet   = 0x24
	opMemorySize  = 0x3f
	opMemoryGrow  = 0x40
	opI32Const    = 0x41
	opI32GeU      = 0x4f
	opI32Add      = 0x6a
	opI32Sub      = 0x6b
	opI32ShrU     = 0x76
	opBulk        = 0xfc
	opVector      = 0xfd
	blockOfNobody = 0x40 // a block type: no parameter, no result
)

// instruction is what the rewriting wants to know of one.
type instruction struct {
	op     byte
	bulk   bool   // copies or fills as many elements as its topmost operand says
	labels uint32 // of br_table, but for the last
}

// instruction reads one, without its meaning: wazero validates what comes out.
// globals is how many the module has. An index of another one is refused here,
// because the rewriting adds globals that the guest must not reach.
func (r *reader) instruction(globals uint32) instruction {
	in := instruction{op: r.byte()}
	switch op := in.op; {
	case op <= 0x01, op == opElse, op == opEnd, op == 0x0f, op == opDrop, op == 0x1b, op >= 0x45 && op <= 0xc4, op == 0xd1:
	case op >= opBlock && op <= opIf:
		r.number(33)
	case op == opBr, op == opBrIf, op == 0x10, op >= 0x20 && op <= 0x22, op == 0x25, op == 0x26, op == 0xd2:
		r.u32()
	case op == opBrTable:
		in.labels = r.count("labels", blocksMost)
		for range in.labels {
			r.u32()
		}
		r.u32()
	case op == 0x11: // call_indirect
		r.u32()
		r.u32()
	case op == 0x1c: // select of a type
		r.take(r.count("types", 1))
	case op == opGlobalGet, op == opGlobalSet:
		if g := r.u32(); r.err == nil && g >= globals {
			r.failf("global %d of %d", g, globals)
		}
	case op >= 0x28 && op <= 0x3e: // load and store
		r.memoryArgument()
	case op == opMemorySize, op == opMemoryGrow, op == 0xd0: // the last is ref.null
		r.byte()
	case op == opI32Const:
		r.number(32)
	case op == 0x42:
		r.number(64)
	case op == 0x43:
		r.take(4)
	case op == 0x44:
		r.take(8)
	case op == opBulk:
		in.bulk = r.bulk()
	case op == opVector:
		r.vector()
	default:
		r.failf("instruction %#x is not of WebAssembly 2.0", op)
	}
	return in
}

func (r *reader) memoryArgument() {
	r.u32()
	r.u32()
}

// bulk reads what follows opBulk and reports whether it works through many elements.
func (r *reader) bulk() bool {
	switch sub := r.u32(); {
	case sub <= 7: // saturating conversions
		return false
	case sub == 9, sub == 13, sub == 16: // data.drop, elem.drop, table.size
		r.u32()
		return false
	case sub == 8, sub == 10, sub == 12, sub == 14: // memory.init, memory.copy, table.init, table.copy
		r.u32()
		r.u32()
	case sub == 11, sub == 15, sub == 17: // memory.fill, table.grow, table.fill
		r.u32()
	default:
		r.failf("instruction %#x %d is not of WebAssembly 2.0", opBulk, sub)
	}
	return true
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
