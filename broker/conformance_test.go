package broker_test

import (
	"flag"
	"fmt"
	"go/ast"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cordon-mq/cordon/broker/wire"
)

var updateConformance = flag.Bool("update-conformance", false, "write CONFORMANCE.md anew")

// specifications are the tables of testdata/conformance.
var specifications = []struct {
	title, file string
	version     wire.Version
}{
	{"MQTT 5.0", "testdata/conformance/mqtt5.txt", wire.V5},
	{"MQTT 3.1.1", "testdata/conformance/mqtt311.txt", wire.V311},
}

// statement is one line of a table.
type statement struct {
	where, number, of, asks string
	shown                   []string // tests; empty: not shown
	reason                  string   // why it is not shown
	narrowed                string   // what is deliberately not done of it
}

// notYet stands in a table for a statement that is due and has no test.
const notYet = "not shown yet"

func (s *statement) isNotYet() bool { return s.of == "server" && s.reason == notYet }

func readStatements(t *testing.T, file string) (all []statement) {
	t.Helper()
	text, err := os.ReadFile(file)
	must(t, err)
	for n, line := range strings.Split(string(text), "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		where := fmt.Sprintf("%s:%d", file, n+1)
		columns := strings.Split(line, " | ")
		if len(columns) != 4 {
			t.Fatalf("%s: %d columns", where, len(columns))
		}
		s := statement{where: where, number: columns[0], of: columns[1], asks: columns[2]}
		evidence, narrowed, _ := strings.Cut(columns[3], "; ")
		s.narrowed = narrowed
		if reason, ok := strings.CutPrefix(evidence, "-"); ok || evidence == notYet {
			s.reason = strings.TrimSpace(reason)
		} else {
			s.shown = strings.Split(evidence, ", ")
		}
		all = append(all, s)
	}
	return all
}

// testsByPackage are the names that a table may write.
func testsByPackage(t *testing.T) map[string]bool {
	t.Helper()
	known := map[string]bool{}
	for prefix, dir := range map[string]string{
		"": ".", "wire:": "wire", "route:": "route", "listen:": "listen", "topic:": "../policy/topic",
	} {
		for _, file := range sources(t, dir, func(name string) bool { return strings.HasSuffix(name, "_test.go") }) {
			for _, decl := range file.Decls {
				if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil && strings.HasPrefix(f.Name.Name, "Test") {
					known[prefix+f.Name.Name] = true
				}
			}
		}
	}
	return known
}

// Every numbered statement of both specifications has its line, in order, and
// what the lines say of the tests is so.
func TestConformanceTable(t *testing.T) {
	t.Parallel()
	known := testsByPackage(t)
	exchanges := readExchanges(t)
	var page strings.Builder
	page.WriteString(conformanceIntroduction)
	for _, spec := range specifications {
		statements := readStatements(t, spec.file)
		inSequence(t, statements)
		byNumber := map[string]*statement{}
		for i := range statements {
			s := &statements[i]
			byNumber[s.number] = s
			switch {
			case s.of != "server" && s.of != "client":
				t.Errorf("%s: it binds %q", s.where, s.of)
			case s.asks == "":
				t.Errorf("%s: no text", s.where)
			case s.of == "server" && len(s.shown) == 0 && s.reason == "":
				t.Errorf("%s: %s has neither a test nor a reason", s.where, s.number)
			}
			for _, test := range s.shown {
				if !known[test] {
					t.Errorf("%s: %s does not exist", s.where, test)
				}
			}
			if slices.Contains(s.shown, "TestExchanges") && !slices.ContainsFunc(exchanges, func(e exchange) bool {
				return slices.Contains(e.versions, spec.version) && slices.Contains(e.statements, s.number)
			}) {
				t.Errorf("%s: no exchange names %s", s.where, s.number)
			}
		}
		for _, e := range exchanges {
			for _, number := range e.statements {
				if !slices.Contains(e.versions, spec.version) || number == "-" {
					continue
				}
				if s := byNumber[number]; s == nil || !slices.Contains(s.shown, "TestExchanges") {
					t.Errorf("%s: the table of %s does not say that it shows %s", e.where, spec.title, number)
				}
			}
		}
		writeTable(&page, spec.title, statements)
	}
	const file = "CONFORMANCE.md"
	if *updateConformance {
		must(t, os.WriteFile(file, []byte(page.String()), 0o644))
	}
	written, err := os.ReadFile(file)
	must(t, err)
	if string(written) != page.String() {
		t.Errorf("%s is not what the tables say: go test ./broker -run TestConformanceTable -update-conformance", file)
	}
}

var numberParts = regexp.MustCompile(`^MQTT-(\d+)\.(\d+)\.(\d+)-(\d+)$`)

// inSequence checks that the sections ascend and that none leaves a number out.
func inSequence(t *testing.T, statements []statement) {
	t.Helper()
	// The specification begins this section with 2.
	first := map[string]int{"2.2.1": 2}
	var last []int
	for _, s := range statements {
		parts := numberParts.FindStringSubmatch(s.number)
		if parts == nil {
			t.Fatalf("%s: number %q", s.where, s.number)
		}
		var at []int
		for _, p := range parts[1:] {
			n, err := strconv.Atoi(p)
			must(t, err)
			at = append(at, n)
		}
		want := 1
		if section := strings.Join(parts[1:4], "."); first[section] > 0 {
			want = first[section]
		}
		if last != nil && slices.Equal(last[:3], at[:3]) {
			want = last[3] + 1
		} else if last != nil && slices.Compare(last[:3], at[:3]) >= 0 {
			t.Errorf("%s: %s is out of order", s.where, s.number)
		}
		if at[3] != want {
			t.Errorf("%s: %s where %d is next", s.where, s.number, want)
		}
		last = at
	}
}

var cited = regexp.MustCompile(`\[(MQTT-[0-9][^\]]*)\]`)

// A comment that gives a statement's number gives one that exists.
func TestCitedStatementsExist(t *testing.T) {
	t.Parallel()
	known := map[string]bool{}
	for _, spec := range specifications {
		for _, s := range readStatements(t, spec.file) {
			known[s.number] = true
		}
	}
	found := 0
	for _, pattern := range []string{"*.go", "*.md", "wire/*.go", "wire/*.md", "wire/testdata/*.txt", "route/*.go", "../policy/topic/*.go"} {
		files, err := filepath.Glob(pattern)
		must(t, err)
		for _, file := range files {
			text, err := os.ReadFile(file)
			must(t, err)
			for _, m := range cited.FindAllStringSubmatch(string(text), -1) {
				if found++; !known[m[1]] {
					t.Errorf("%s: there is no [%s]", file, m[1])
				}
			}
		}
	}
	if found < 100 {
		t.Errorf("%d statements are cited; they are looked for in the wrong place", found)
	}
}

const conformanceIntroduction = `# Conformance

The numbered statements of the specifications in our own words, and the tests that show them. It is written by
` + "`go test ./broker -run TestConformanceTable -update-conformance`" + ` from testdata/conformance, and a test holds it to that.
` + "`TestExchanges`" + ` plays the packets of testdata/conformance/exchanges*.txt. The tests of MQTT 3.1 are those of 3.1.1.
A policy can refuse whatever it likes; the statements are shown with policies that let everybody do everything.
`

func writeTable(page *strings.Builder, title string, statements []statement) {
	count := func(want func(*statement) bool) (n int) {
		for i := range statements {
			if want(&statements[i]) {
				n++
			}
		}
		return n
	}
	server := func(s *statement) bool { return s.of == "server" }
	fmt.Fprintf(page, "\n## %s\n\n| Statements | |\n| --- | --- |\n", title)
	fmt.Fprintf(page, "| in all | %d |\n", len(statements))
	fmt.Fprintf(page, "| about the server | %d |\n", count(server))
	fmt.Fprintf(page, "| … shown by tests | %d |\n", count(func(s *statement) bool { return server(s) && len(s.shown) > 0 }))
	fmt.Fprintf(page, "| … of these deliberately narrowed | %d |\n", count(func(s *statement) bool { return server(s) && s.narrowed != "" }))
	fmt.Fprintf(page, "| … without a test for a reason | %d |\n", count(func(s *statement) bool { return server(s) && len(s.shown) == 0 && !s.isNotYet() }))
	fmt.Fprintf(page, "| … %s | %d |\n", notYet, count((*statement).isNotYet))
	fmt.Fprintf(page, "| about clients | %d |\n", count(func(s *statement) bool { return !server(s) }))
	page.WriteString("\n| Statement | Binds | What it asks | Shown by |\n| --- | --- | --- | --- |\n")
	for _, s := range statements {
		fmt.Fprintf(page, "| %s | %s | %s | %s |\n", s.number, s.of, s.asks, s.evidence())
	}
}

func (s *statement) evidence() string {
	text := s.reason
	if len(s.shown) > 0 {
		text = "`" + strings.Join(s.shown, "`, `") + "`"
	}
	if s.narrowed != "" {
		text += "; narrowed: " + s.narrowed
	}
	if text == "" {
		return "–"
	}
	return text
}
