package wasm

import (
	"math/rand/v2"
	"testing"
)

// body is a function as [path] sees it.
type body []instruction

// measured is the longest way between checks that path finds, of which each
// instruction has one byte.
func (c body) measured(t *testing.T) int {
	t.Helper()
	var p path
	p.begin()
	for i := range c {
		if !p.step(&c[i], 1) {
			t.Fatalf("instruction %d, %#x, is refused", i, c[i].op)
		}
		if c[i].op == opLoop {
			p.checked()
		}
	}
	return p.longest
}

func TestLongestPath(t *testing.T) {
	t.Parallel()
	const nop = 0x01
	plain := func(ops ...byte) (c body) {
		for _, op := range ops {
			c = append(c, instruction{op: op})
		}
		return c
	}
	branch := func(op byte, labels ...uint32) body { return body{{op: op, labels: labels}} }
	join := func(parts ...body) (c body) {
		for _, p := range parts {
			c = append(c, p...)
		}
		return c
	}
	for _, tt := range []struct {
		name string
		code body
		want int
	}{
		{"nothing", plain(opEnd), 1},
		{"straight on", plain(nop, nop, opEnd), 3},
		{"after a return", plain(nop, opReturn, nop, nop, nop, nop, opEnd), 2},
		{"the longer of two", plain(opIf, nop, opElse, nop, nop, nop, opEnd, opEnd), 6},
		{"an if alone", plain(opIf, nop, nop, opEnd, opEnd), 5},
		{"an if that returns", plain(opIf, opReturn, opEnd, nop, nop, nop, opEnd), 5},
		{"an if left early", join(plain(opIf, nop, nop), branch(opBr, 0), plain(opElse, opEnd, nop, opEnd)), 6},
		{"a block left early", join(plain(opBlock), branch(opBr, 0), plain(nop, nop, nop, nop, opEnd, opEnd)), 3},
		{"a block left perhaps", join(plain(opBlock), branch(opBrIf, 0), plain(nop, nop, opEnd, opEnd)), 6},
		{"a loop begins anew", plain(nop, nop, opLoop, nop, opEnd, opEnd), 3},
		{"a loop that goes on", join(plain(opLoop, nop), branch(opBr, 0), plain(nop, nop, nop, opEnd, opEnd)), 2},
		{"a table, as Go makes it", join(
			plain(opLoop, opBlock, opBlock), branch(opBrTable, 0, 1), // 3 bytes after the check
			plain(opEnd, nop, nop), branch(opBr, 1), // 3 more behind the end, back to the loop
			plain(opEnd, nop, opReturn, opEnd, opEnd)), 6},
	} {
		if got := tt.code.measured(t); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}

func TestPathRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]body{
		"a label too far":    {{op: opBr, labels: []uint32{1}}},
		"more after the end": {{op: opEnd}, {op: opEnd}},
	} {
		var p path
		p.begin()
		fine := true
		for i := range c {
			fine = fine && p.step(&c[i], 1)
		}
		if fine {
			t.Errorf("%s: accepted", name)
		}
	}
}

// FuzzPath runs through functions at random: nobody comes further without a check than
// path says.
func FuzzPath(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(seed, seed)
	}
	f.Fuzz(func(t *testing.T, seed, way uint64) {
		c := randomCode(rand.New(rand.NewPCG(seed, 1))) // #nosec G404
		longest := c.measured(t)
		choose := rand.New(rand.NewPCG(way, 2)) // #nosec G404
		for range 50 {
			if went := c.walk(choose); went > longest {
				t.Fatalf("somebody ran %d bytes without a check, the longest way is %d: %v", went, longest, c)
			}
		}
	})
}

// randomCode is a function of blocks in one another.
func randomCode(r *rand.Rand) (c body) {
	var ifs []bool // of the open blocks: may still get an else
	for range 60 {
		in := instruction{op: 0x01}
		switch r.IntN(12) {
		case 0:
			in.op = opBlock
		case 1:
			in.op = opLoop
		case 2:
			in.op = opIf
		case 3:
			in.op = opBr
		case 4:
			in.op = opBrIf
		case 5:
			in.op = opBrTable
		case 6:
			in.op = opReturn
		case 7, 8:
			in.op = opEnd
		case 9:
			in.op = opElse
		}
		n := len(ifs)
		switch in.op {
		case opBlock, opLoop, opIf:
			ifs = append(ifs, in.op == opIf)
		case opElse:
			if n == 0 || !ifs[n-1] {
				continue
			}
			ifs[n-1] = false
		case opEnd:
			if n == 0 {
				continue
			}
			ifs = ifs[:n-1]
		case opBr, opBrIf:
			in.labels = []uint32{r.Uint32N(uint32(n) + 1)}
		case opBrTable:
			in.labels = []uint32{r.Uint32N(uint32(n) + 1), r.Uint32N(uint32(n) + 1)}
		}
		c = append(c, in)
	}
	for range len(ifs) + 1 {
		c = append(c, instruction{op: opEnd})
	}
	return c
}

// walk runs through c with any condition true or not, and returns how far it came
// between two checks.
func (c body) walk(choose *rand.Rand) (most int) {
	since, at := 0, 0
	var open []int // where the blocks around here begin
	for range 500 {
		in := c[at]
		since++
		most = max(most, since)
		to, jumps := uint32(0), false
		switch in.op {
		case opReturn:
			return most
		case opBlock, opLoop:
			open = append(open, at)
			if in.op == opLoop {
				since = 0
			}
		case opIf:
			open = append(open, at)
			if other, end := c.otherwise(at), c.end(at); choose.IntN(2) == 0 {
				at = max(other, 0)
				if other < 0 {
					at, open = end, open[:len(open)-1]
				}
			}
		case opElse: // the first half is over
			at = c.end(open[len(open)-1])
			open = open[:len(open)-1]
		case opEnd:
			if len(open) == 0 {
				return most
			}
			open = open[:len(open)-1]
		case opBr:
			to, jumps = in.labels[0], true
		case opBrIf:
			to, jumps = in.labels[0], choose.IntN(2) == 0
		case opBrTable:
			to, jumps = in.labels[choose.IntN(2)], true
		}
		if jumps {
			if int(to) >= len(open) {
				return most
			}
			target := open[len(open)-1-int(to)]
			open = open[:len(open)-1-int(to)]
			if at = c.end(target); c[target].op == opLoop {
				at, since = target, 0
				open = append(open, target)
			}
		}
		at++
	}
	return most
}

// end is the end of the block that begins at, and otherwise its else, if it has one.
func (c body) end(at int) int       { return c.find(at, opEnd) }
func (c body) otherwise(at int) int { return c.find(at, opElse) }

func (c body) find(at int, op byte) int {
	depth := 0
	for i := at + 1; i < len(c); i++ {
		switch {
		case depth == 0 && c[i].op == op:
			return i
		case c[i].op == opBlock, c[i].op == opLoop, c[i].op == opIf:
			depth++
		case c[i].op == opEnd && depth == 0:
			return -1
		case c[i].op == opEnd:
			depth--
		}
	}
	return -1
}
