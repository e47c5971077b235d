package revision

import (
	"fmt"
	"slices"
	"strings"
)

const (
	around   = 3    // lines before and after a change
	maxEdits = 1000 // beyond, a file is shown as replaced: the search is quadratic
)

// Diff writes the differences of two sets of files in the unified format, file
// by file in the order of their paths. from and to are what the two are called.
func Diff(from, to string, before, after []File) string {
	texts := map[string][2]*string{}
	for side, files := range [][]File{before, after} {
		for _, f := range files {
			text, pair := string(f.Text), texts[f.Path]
			pair[side] = &text
			texts[f.Path] = pair
		}
	}
	paths := make([]string, 0, len(texts))
	for path := range texts {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	var b strings.Builder
	for _, path := range paths {
		pair := texts[path]
		names := [2]string{from + "/" + path, to + "/" + path}
		var lines [2][]string
		for side, text := range pair {
			if text == nil {
				names[side] = "/dev/null"
				continue
			}
			lines[side] = slices.Collect(strings.Lines(*text))
		}
		if pair[0] != nil && pair[1] != nil && *pair[0] == *pair[1] {
			continue
		}
		fmt.Fprintf(&b, "--- %s\n+++ %s\n", names[0], names[1])
		writeHunks(&b, edits(lines[0], lines[1]))
	}
	return b.String()
}

// edit is one line: kept (' '), taken away ('-') or added ('+').
type edit struct {
	kind byte
	line string
}

// edits finds a shortest way from a to b. What both begin and end with is set
// aside first.
func edits(a, b []string) []edit {
	var head, tail []edit
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		head = append(head, edit{' ', a[0]})
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		tail = append(tail, edit{' ', a[len(a)-1]})
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	slices.Reverse(tail)
	return slices.Concat(head, shortest(a, b), tail)
}

// shortest is the greedy search of Myers (1986): reach[k] is how far into a one
// gets on diagonal k with d edits. Each round is kept, to walk back.
func shortest(a, b []string) []edit {
	most := min(len(a)+len(b), maxEdits)
	reach := make([]int, 2*most+3)
	at := func(k int) *int { return &reach[k+most+1] }
	var rounds [][]int
	for d := 0; d <= most; d++ {
		rounds = append(rounds, slices.Clone(reach[most+1-d:most+2+d])) // diagonals -d to d, before this round
		for k := -d; k <= d; k += 2 {
			x := 0
			switch {
			case d == 0:
			case k == -d || k != d && *at(k - 1) < *at(k + 1):
				x = *at(k + 1)
			default:
				x = *at(k - 1) + 1
			}
			for x < len(a) && x-k < len(b) && a[x] == b[x-k] {
				x++
			}
			*at(k) = x
			if x >= len(a) && x-k >= len(b) {
				return walkBack(a, b, rounds)
			}
		}
	}
	all := make([]edit, 0, len(a)+len(b))
	for _, line := range a {
		all = append(all, edit{'-', line})
	}
	for _, line := range b {
		all = append(all, edit{'+', line})
	}
	return all
}

func walkBack(a, b []string, rounds [][]int) []edit {
	var all []edit
	x, y := len(a), len(b)
	for d := len(rounds) - 1; d >= 0; d-- {
		k := x - y
		fromX, fromY := 0, 0
		if d > 0 {
			before := func(k int) int { return rounds[d][k+d] }
			from := k - 1
			if k == -d || k != d && before(k-1) < before(k+1) {
				from = k + 1
			}
			fromX = before(from)
			fromY = fromX - from
		}
		for x > fromX && y > fromY {
			x, y = x-1, y-1
			all = append(all, edit{' ', a[x]})
		}
		if d == 0 {
			break
		}
		if x > fromX {
			x--
			all = append(all, edit{'-', a[x]})
		} else {
			y--
			all = append(all, edit{'+', b[y]})
		}
	}
	slices.Reverse(all)
	return all
}

// writeHunks writes the changes with a few lines around them.
func writeHunks(b *strings.Builder, all []edit) {
	for i := 0; i < len(all); {
		if all[i].kind == ' ' {
			i++
			continue
		}
		first, end := max(0, i-around), i
		for j := i; j < len(all) && j-end < 2*around+1; j++ {
			if all[j].kind != ' ' {
				end = j + 1
			}
		}
		last := min(len(all), end+around)
		writeHunk(b, all, first, last)
		i = last
	}
}

func writeHunk(b *strings.Builder, all []edit, first, last int) {
	var start, count [2]int
	for i, e := range all[:last] {
		for side, other := range []byte{'+', '-'} {
			if e.kind == other {
				continue
			}
			if i < first {
				start[side]++
			} else {
				count[side]++
			}
		}
	}
	for side := range start {
		if count[side] > 0 {
			start[side]++ // the first line of the hunk; of none, the line before
		}
	}
	fmt.Fprintf(b, "@@ -%d,%d +%d,%d @@\n", start[0], count[0], start[1], count[1])
	for _, e := range all[first:last] {
		b.WriteByte(e.kind)
		b.WriteString(e.line)
		if !strings.HasSuffix(e.line, "\n") {
			b.WriteString("\n\\ No newline at end of file\n")
		}
	}
}
