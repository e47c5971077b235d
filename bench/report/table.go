package report

import (
	"io"
	"strings"
)

// Table is a table in Markdown. Columns after the first are aligned right
// unless Left says so.
type Table struct {
	Head []string
	Rows [][]string
	Left bool
}

// WriteTo writes it, with an empty line after it.
func (t Table) WriteTo(w io.Writer) (int64, error) {
	var b strings.Builder
	row := func(cells []string) {
		for _, cell := range cells {
			b.WriteString("| ")
			b.WriteString(strings.ReplaceAll(cell, "|", `\|`))
			b.WriteString(" ")
		}
		b.WriteString("|\n")
	}
	row(t.Head)
	rule := make([]string, len(t.Head))
	for i := range rule {
		rule[i] = "---"
		if i > 0 && !t.Left {
			rule[i] = "---:"
		}
	}
	row(rule)
	for _, cells := range t.Rows {
		row(cells)
	}
	b.WriteString("\n")
	n, err := io.WriteString(w, b.String())
	return int64(n), err
}
