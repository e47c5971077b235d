package main

import (
	"encoding/xml"
	"fmt"
	"os"
	"strings"

	"github.com/cordon-mq/cordon/policy/opa"
)

// tested is what test prints as JSON.
type tested struct {
	Passed   int           `json:"passed"`
	Failed   int           `json:"failed"`
	Skipped  int           `json:"skipped"`
	Tests    []testedRule  `json:"tests"`
	Coverage *coveredRules `json:"coverage,omitempty"`
	Problems []finding     `json:"problems,omitempty"` // that kept the tests from running
}

type testedRule struct {
	Package  string  `json:"package"`
	Name     string  `json:"name"`
	Position string  `json:"position"`
	Result   string  `json:"result"` // pass, fail or skip
	Error    string  `json:"error,omitempty"`
	Output   string  `json:"output,omitempty"`
	Seconds  float64 `json:"seconds"`
}

type coveredRules struct {
	Percent float64       `json:"percent"`
	Covered int           `json:"covered_lines"`
	Missed  int           `json:"not_covered_lines"`
	Files   []coveredFile `json:"files"`
}

type coveredFile struct {
	Path    string   `json:"path"`
	Percent float64  `json:"percent"`
	Missed  [][2]int `json:"not_covered,omitempty"` // first and last line
}

func testedOf(report *opa.Report, coverage *opa.Coverage) tested {
	said := tested{
		Passed: count(report.Tests, passed), Failed: count(report.Tests, failed), Skipped: count(report.Tests, skipped),
		Tests: []testedRule{}, Problems: findings(report.Problems),
	}
	for _, t := range report.Tests {
		said.Tests = append(said.Tests, testedRule{
			Package: strings.TrimPrefix(t.Package, "data."), Name: t.Name, Position: t.Position,
			Result: strings.ToLower(resultOf(t)), Error: t.Error, Output: t.Output, Seconds: t.Duration.Seconds(),
		})
	}
	if coverage == nil {
		return said
	}
	said.Coverage = &coveredRules{Percent: coverage.Percent, Covered: coverage.Covered, Missed: coverage.Missed, Files: []coveredFile{}}
	for _, f := range coverage.Files {
		file := coveredFile{Path: f.Path, Percent: f.Percent}
		for _, gap := range f.Gaps {
			file.Missed = append(file.Missed, [2]int{gap.First, gap.Last})
		}
		said.Coverage.Files = append(said.Coverage.Files, file)
	}
	return said
}

// The elements of JUnit XML that tools read.
type (
	junitSuites struct {
		XMLName  xml.Name     `xml:"testsuites"`
		Tests    int          `xml:"tests,attr"`
		Failures int          `xml:"failures,attr"`
		Skipped  int          `xml:"skipped,attr"`
		Suites   []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name     string      `xml:"name,attr"`
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		Skipped  int         `xml:"skipped,attr"`
		Time     string      `xml:"time,attr"`
		Cases    []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Class   string        `xml:"classname,attr"`
		Name    string        `xml:"name,attr"`
		Time    string        `xml:"time,attr"`
		Failure *junitFailure `xml:"failure"`
		Skipped *struct{}     `xml:"skipped"`
		Output  string        `xml:"system-out,omitempty"`
	}
	junitFailure struct {
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
)

// writeJUnit writes one suite for each package. Tests come in the order of their
// packages.
func writeJUnit(path string, tests []opa.TestResult) error {
	all := junitSuites{Tests: len(tests), Failures: count(tests, failed), Skipped: count(tests, skipped)}
	for len(tests) > 0 {
		n := 1
		for n < len(tests) && tests[n].Package == tests[0].Package {
			n++
		}
		all.Suites = append(all.Suites, junitSuiteOf(tests[:n]))
		tests = tests[n:]
	}
	text, err := xml.MarshalIndent(all, "", "  ")
	if err != nil {
		return fmt.Errorf("write JUnit results: %w", err)
	}
	if err := os.WriteFile(path, append([]byte(xml.Header), append(text, '\n')...), 0o644); err != nil { //nolint:gosec // results are no secret, and another tool reads them
		return fmt.Errorf("write JUnit results: %w", err)
	}
	return nil
}

func junitSuiteOf(tests []opa.TestResult) junitSuite {
	name := strings.TrimPrefix(tests[0].Package, "data.")
	s := junitSuite{Name: name, Tests: len(tests), Failures: count(tests, failed), Skipped: count(tests, skipped)}
	seconds := 0.0
	for _, t := range tests {
		seconds += t.Duration.Seconds()
		c := junitCase{Class: name, Name: t.Name, Time: fmt.Sprintf("%.6f", t.Duration.Seconds()), Output: t.Output}
		switch {
		case failed(t):
			message := t.Error
			if message == "" {
				message = t.Name + " is not true"
			}
			c.Failure = &junitFailure{Message: message, Text: t.Position}
		case skipped(t):
			c.Skipped = &struct{}{}
		}
		s.Cases = append(s.Cases, c)
	}
	s.Time = fmt.Sprintf("%.6f", seconds)
	return s
}
