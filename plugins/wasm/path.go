package wasm

// path measures how much code of a function can run between two checks, in bytes.
// Code goes back only to the beginning of a loop, where there is a check; everything
// else goes forwards. So one look at each instruction, in the order of the code, finds
// the longest way to it.
type path struct {
	here    int // bytes from the last check to here, on the longest way; none where no way leads here
	longest int // to anywhere
	blocks  []block
}

// none is where code cannot be reached.
const none = -1

// block is one that is open at the instruction at hand.
type block struct {
	loop bool
	end  int // the longest way out of it that leads to its end
	skip int // of an if: to where its condition does not hold, as long as no else came
}

func (p *path) begin() {
	p.here, p.longest = 0, 0
	p.blocks = append(p.blocks[:0], block{end: none, skip: none})
}

// checked says that there is a check here.
func (p *path) checked() { p.here = min(p.here, 0) }

// step passes an instruction of so many bytes. It is false where a label leads
// nowhere, or an end ends nothing.
func (p *path) step(in *instruction, size int) bool {
	if p.here != none {
		p.here += size
		p.longest = max(p.longest, p.here)
	}
	switch {
	case len(p.blocks) == 0:
		return false
	case in.op > opReturn: // nearly all
		return true
	}
	top := &p.blocks[len(p.blocks)-1]
	switch in.op {
	case opBlock, opLoop:
		p.blocks = append(p.blocks, block{loop: in.op == opLoop, end: none, skip: none})
	case opIf:
		p.blocks = append(p.blocks, block{end: none, skip: p.here})
	case opElse:
		top.end = max(top.end, p.here)
		p.here, top.skip = top.skip, none
	case opEnd:
		p.here = max(p.here, top.end, top.skip)
		p.blocks = p.blocks[:len(p.blocks)-1]
	case opBr, opBrIf, opBrTable:
		for _, label := range in.labels {
			if label >= uint32(len(p.blocks)) {
				return false
			}
			if to := &p.blocks[len(p.blocks)-1-int(label)]; !to.loop {
				to.end = max(to.end, p.here)
			}
		}
		if in.op != opBrIf {
			p.here = none
		}
	case opReturn, opUnreachable:
		p.here = none
	}
	return true
}

// leadsToLoop reports whether what r reads next comes to a loop without any choice, and
// without a call: a check at the loop is then one for what is before it, too. Nearly
// every function made by Go begins like this.
func leadsToLoop(r reader, has bounds) bool {
	for !r.done() {
		switch in := r.instruction(has); in.op {
		case opLoop:
			return r.err == nil
		case opBlock, opLocalGet, opLocalSet, opLocalTee, opGlobalGet, opGlobalSet, opI32Const, opI64Const, opI32Add, opI32Sub:
		default:
			return false
		}
	}
	return false
}
