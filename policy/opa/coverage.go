package opa

import (
	"context"
	"io/fs"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/cover"
)

// Coverage says which lines of the rules the tests evaluated.
type Coverage struct {
	Percent         float64 // of lines, 0 to 100; 100 where there is nothing to cover
	Covered, Missed int     // lines
	Files           []FileCoverage
}

// FileCoverage is that of one file of rules. Tests are not counted.
type FileCoverage struct {
	Path            string
	Percent         float64
	Covered, Missed int     // lines
	Gaps            []Lines // that no test evaluated, in order
}

// Lines are those from First to Last, counted from 1.
type Lines struct{ First, Last int }

// Test does what Load does, and measures meanwhile what the tests evaluate. The
// Coverage is nil when they could not run.
func Test(ctx context.Context, fsys, schemas fs.FS) (*Report, *Coverage) {
	tracer := cover.New()
	src, _, report := loadTraced(ctx, fsys, schemas, tracer)
	if len(report.Tests) == 0 {
		return report, nil
	}
	modules := parseModules(src, &Report{})
	measured := tracer.Report(modules)
	c := &Coverage{}
	for _, f := range src.files {
		found := measured.Files[f.path]
		if found == nil || strings.HasSuffix(f.path, "_test.rego") {
			continue
		}
		file := FileCoverage{Path: f.path, Covered: found.CoveredLines, Missed: found.NotCoveredLines}
		file.Percent = percent(file.Covered, file.Missed)
		for _, r := range found.NotCovered {
			file.Gaps = append(file.Gaps, Lines{r.Start.Row, max(r.Start.Row, r.End.Row)})
		}
		file.Gaps = joined(file.Gaps)
		c.Covered += file.Covered
		c.Missed += file.Missed
		c.Files = append(c.Files, file)
	}
	c.Percent = percent(c.Covered, c.Missed)
	return report, c
}

func percent(covered, missed int) float64 {
	if covered+missed == 0 {
		return 100
	}
	return 100 * float64(covered) / float64(covered+missed)
}

// joined puts gaps in order, and those that touch together.
func joined(gaps []Lines) (all []Lines) {
	slices.SortFunc(gaps, func(a, b Lines) int { return a.First - b.First })
	for _, g := range gaps {
		if n := len(all); n > 0 && g.First <= all[n-1].Last+1 {
			all[n-1].Last = max(all[n-1].Last, g.Last)
			continue
		}
		all = append(all, g)
	}
	return all
}
