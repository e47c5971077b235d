package wasm

// A guest cannot be stopped within one memory.copy or memory.fill, nor can the
// garbage collector while it runs, and memory that was never used makes it slow: 64 MB
// took 33 ms. So these become calls of two functions that the rewriting appends, which do
// at most chunkBytes at a time and charge for each.
const (
	chunkBytes   = 1 << 20
	coveredBytes = 256 // what is shorter is paid for with the code around it
)

// bulkType is the type of both, (i32, i32, i32) -> ().
func bulkType() []byte { return []byte{0x60, 3, i32, i32, i32, 0} }

// bulkFunctions are the declarations of both.
func (w *writer) bulkFunctions() []byte {
	kind := appendU32(nil, w.has.types)
	return append(kind, kind...)
}

// bulkFunction is the index of the one that does what sub does.
func (w *writer) bulkFunction(sub uint32) uint32 {
	w.bulk = true
	return w.has.functions + sub - bulkCopy
}

// Parameters of both functions.
const (
	bulkTo    = 0
	bulkFrom  = 1 // or the value to fill with
	bulkBytes = 2
)

// bulkBodies are their bodies, each with its length.
func (w *writer) bulkBodies() []byte {
	var out []byte
	for _, body := range [][]byte{w.copying(), w.filling()} {
		out = append(appendU32(out, uint32(len(body))), body...)
	}
	return out
}

// copying is memory.copy: forwards, or backwards where the ends could overlap.
func (w *writer) copying() []byte {
	forwards := w.chunks(func(b []byte) []byte {
		b = append(b, opLocalGet, bulkTo, opLocalGet, bulkFrom)
		b = append(constant(b, chunkBytes), opBulk, bulkCopy, 0, 0)
		return move(move(move(b, bulkTo, opI32Add), bulkFrom, opI32Add), bulkBytes, opI32Sub)
	})
	backwards := w.chunks(func(b []byte) []byte {
		b = move(b, bulkBytes, opI32Sub)
		b = append(b, opLocalGet, bulkTo, opLocalGet, bulkBytes, opI32Add, opLocalGet, bulkFrom, opLocalGet, bulkBytes, opI32Add)
		return append(constant(b, chunkBytes), opBulk, bulkCopy, 0, 0)
	})
	// The higher of both addresses says whether all of it is inside.
	higher := []byte{
		opLocalGet, bulkTo, opLocalGet, bulkFrom, opLocalGet, bulkTo, opLocalGet, bulkFrom, opI32GtU, opSelect,
	}
	all := append([]byte{opLocalGet, bulkTo, opLocalGet, bulkFrom, opI32GtU, opIf, blockOfNobody}, backwards...)
	all = append(append(append(all, opElse), forwards...), opEnd)
	return w.whole(higher, all, opBulk, bulkCopy, 0, 0)
}

// filling is memory.fill.
func (w *writer) filling() []byte {
	forwards := w.chunks(func(b []byte) []byte {
		b = append(b, opLocalGet, bulkTo, opLocalGet, bulkFrom)
		b = append(constant(b, chunkBytes), opBulk, bulkFill, 0)
		return move(move(b, bulkTo, opI32Add), bulkBytes, opI32Sub)
	})
	return w.whole([]byte{opLocalGet, bulkTo}, forwards, opBulk, bulkFill, 0)
}

// whole is a body: it charges for less than a chunk, does the whole chunks, and
// then instruction does the rest. It is also what traps where not all bytes from
// address on are inside of the memory, before anything was written. What is short is
// paid for with the code around it.
func (w *writer) whole(address, chunks []byte, instruction ...byte) []byte {
	b := []byte{0} // local variables
	b = append(constant(append(b, opLocalGet, bulkBytes), coveredBytes), opI32GeU, opIf, blockOfNobody)
	b = append(constant(append(b, opLocalGet, bulkBytes), chunkBytes-1), opI32And, opI32Const, copyShift, opI32ShrU)
	b = w.global(b, opGlobalGet, 0)
	b = w.check(append(b, opI32Add))
	b = append(constant(append(b, opLocalGet, bulkBytes), chunkBytes), opI32LtU, opBrIf, 0)
	b = append(append(b, address...), opI64ExtendU, opLocalGet, bulkBytes, opI64ExtendU, opI64Add)
	b = append(b, opMemorySize, 0, opI64ExtendU, opI64Const, 16, opI64Shl, opI64GtU, opBrIf, 0)
	b = append(append(b, chunks...), opEnd)
	b = append(b, opLocalGet, bulkTo, opLocalGet, bulkFrom, opLocalGet, bulkBytes)
	return append(append(b, instruction...), opEnd)
}

// chunks does step, charges for it, and begins again while there is a whole chunk.
func (w *writer) chunks(step func([]byte) []byte) []byte {
	b := step([]byte{opLoop, blockOfNobody})
	b = w.charge(b, chunkBytes>>copyShift)
	return append(constant(append(b, opLocalGet, bulkBytes), chunkBytes), opI32GeU, opBrIf, 0, opEnd)
}

// move adds a chunk to a variable, or takes one from it.
func move(b []byte, variable, op byte) []byte {
	b = constant(append(b, opLocalGet, variable), chunkBytes)
	return append(b, op, opLocalSet, variable)
}

func constant(b []byte, n int32) []byte { return appendS32(append(b, opI32Const), n) }
