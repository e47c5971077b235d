package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/cordon-mq/cordon/bench/report"
)

// summary is a page of Markdown in the making.
type summary struct{ page strings.Builder }

func (s *summary) title(format string, args ...any) {
	fmt.Fprintf(&s.page, "## "+format+"\n\n", args...)
}

func (s *summary) text(format string, args ...any) {
	fmt.Fprintf(&s.page, format+"\n\n", args...)
}

func (s *summary) table(head []string, rows [][]string) {
	_, _ = report.Table{Head: head, Rows: rows}.WriteTo(&s.page) // a Builder never fails
}

// list prints items under a heading, or nothing where there are none.
func (s *summary) list(heading string, items []string) {
	if len(items) == 0 {
		return
	}
	fmt.Fprintf(&s.page, "%s:\n\n", heading)
	for _, item := range items {
		fmt.Fprintf(&s.page, "- %s\n", strings.ReplaceAll(strings.TrimSpace(item), "\n", "\n  "))
	}
	s.page.WriteString("\n")
}

// String is the page.
func (s *summary) String() string { return s.page.String() }

// WriteTo prints the page.
func (s *summary) WriteTo(w io.Writer) (int64, error) {
	n, err := io.WriteString(w, s.page.String())
	return int64(n), err
}
