package revision_test

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/cordon-mq/cordon/policy/revision"
)

func TestDiff(t *testing.T) {
	t.Parallel()
	numbers := func(skip int) string {
		var b strings.Builder
		for i := range 30 {
			if i != skip {
				fmt.Fprintln(&b, i)
			}
		}
		return b.String()
	}
	before := []revision.File{
		{Path: "same", Text: []byte("x")}, {Path: "gone", Text: []byte("a\nb\n")}, {Path: "changed", Text: []byte(numbers(-1))}, {Path: "end", Text: []byte("a\nb")},
	}
	after := []revision.File{
		{Path: "same", Text: []byte("x")},
		{Path: "new/file", Text: []byte("c\n")},
		{Path: "changed", Text: []byte(strings.Replace(numbers(20), "2\n", "two\n", 1))},
		{Path: "end", Text: []byte("a\nc")},
	}
	const want = `--- r1/changed
+++ r2/changed
@@ -1,6 +1,6 @@
 0
 1
-2
+two
 3
 4
 5
@@ -18,7 +18,6 @@
 17
 18
 19
-20
 21
 22
 23
--- r1/end
+++ r2/end
@@ -1,2 +1,2 @@
 a
-b
\ No newline at end of file
+c
\ No newline at end of file
--- r1/gone
+++ /dev/null
@@ -1,2 +0,0 @@
-a
-b
--- /dev/null
+++ r2/new/file
@@ -0,0 +1,1 @@
+c
`
	if got := revision.Diff("r1", "r2", before, after); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := revision.Diff("r1", "r1", before, before); got != "" {
		t.Errorf("a bundle differs from itself:\n%s", got)
	}
}

// A patch says which lines go and which come: applied to the old text it gives
// the new one.
func TestDiffApplies(t *testing.T) {
	t.Parallel()
	text := rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"a\n", "b\n", "c\n", "\n"}), 0, 40).Draw(t, "lines"), "") + rapid.SampledFrom([]string{"", "end"}).Draw(t, "end")
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b := text.Draw(t, "a"), text.Draw(t, "b")
		if a == "" || b == "" {
			t.Skip("no file")
		}
		patch := revision.Diff("a", "b", []revision.File{{Path: "f", Text: []byte(a)}}, []revision.File{{Path: "f", Text: []byte(b)}})
		if got := apply(t, a, patch); got != b {
			t.Errorf("%q with\n%s\nis %q, want %q", a, patch, got, b)
		}
	})
}

func TestDiffOfTwoLargeStrangers(t *testing.T) {
	t.Parallel()
	a := strings.Repeat("a\n", 3000)
	b := strings.Repeat("b\n", 3000)
	patch := revision.Diff("a", "b", []revision.File{{Path: "f", Text: []byte(a)}}, []revision.File{{Path: "f", Text: []byte(b)}})
	if strings.Count(patch, "\n-a") != 3000 || strings.Count(patch, "\n+b") != 3000 {
		t.Error("the file was not replaced")
	}
}

func apply(t *rapid.T, text, patch string) string {
	old := strings.SplitAfter(text, "\n")
	if old[len(old)-1] == "" {
		old = old[:len(old)-1]
	}
	var out strings.Builder
	next := 0
	patch = strings.ReplaceAll(patch, "\n\\ No newline at end of file\n", "\x00")
	var lines []string
	for rest := patch; rest != ""; {
		i := strings.IndexAny(rest, "\n\x00") + 1
		lines = append(lines, strings.TrimSuffix(rest[:i], "\x00"))
		rest = rest[i:]
	}
	for _, line := range lines {
		var start, count, newStart, newCount int
		switch {
		case strings.HasPrefix(line, "--- ") || strings.HasPrefix(line, "+++ "):
		case line[0] == '@':
			if _, err := fmt.Sscanf(line, "@@ -%d,%d +%d,%d @@", &start, &count, &newStart, &newCount); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			for upTo := start - 1 + map[bool]int{true: 1}[count == 0]; next < upTo; next++ {
				out.WriteString(old[next])
			}
		case line[0] == '+':
			out.WriteString(line[1:])
		default:
			if old[next] != line[1:] {
				t.Fatalf("line %d is %q, and the patch says %q", next, old[next], line)
			}
			if line[0] == ' ' {
				out.WriteString(old[next])
			}
			next++
		}
	}
	for ; next < len(old); next++ {
		out.WriteString(old[next])
	}
	return out.String()
}
