package wasm

import "errors"

// effort estimates how long the compiler is busy with a module.
type effort struct {
	blocks, branches int // of the function at hand
	loops            int // of the function at hand

	blocksAll, loopsAll, joinsAll int
}

// instruction counts one of the function at hand. A check is a block of its own, and
// every loop has one.
func (e *effort) instruction(in *instruction) {
	switch in.op {
	case opBlock, opElse:
		e.blocks++
	case opLoop:
		e.blocks += 3
		e.loops++
	case opIf:
		e.blocks += 3
		e.branches += 2
	case opBr:
		e.branches++
	case opBrIf:
		e.blocks++
		e.branches += 2
	case opBrTable:
		e.blocks += len(in.labels)
		e.branches += len(in.labels)
	}
}

// end ends a function of so many variables and says whether it, or all until now, is
// too much.
func (e *effort) end(variables int) error {
	blocks := e.blocks + 3
	e.blocksAll += blocks * blocks
	e.loopsAll += e.loops * variables
	e.joinsAll += (blocks + e.branches) * max(0, variables-fewVariables)
	e.blocks, e.branches, e.loops = 0, 0, 0
	if blocks > blocksMost {
		return errBranches
	}
	return e.judge()
}

// add takes over what other counted of other functions.
func (e *effort) add(other *effort) error {
	e.blocksAll += other.blocksAll
	e.loopsAll += other.loopsAll
	e.joinsAll += other.joinsAll
	return e.judge()
}

var errBranches = errors.New("too many branches for the compiler")

func (e *effort) judge() error {
	switch {
	case e.blocksAll > blocksAllMost:
		return errBranches
	case e.loopsAll > loopsMost:
		return errors.New("too many loops in functions of too many variables")
	case e.joinsAll > joinsMost:
		return errors.New("too many branches in functions of too many variables")
	default:
		return nil
	}
}
