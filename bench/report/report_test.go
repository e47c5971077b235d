package report_test

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/cordon-mq/cordon/bench/report"
)

func TestNumber(t *testing.T) {
	t.Parallel()
	for x, want := range map[float64]string{
		0: "0.00", 0.123: "0.12", 9.876: "9.88", 12.34: "12.3", 123.4: "123", 1234: "1\u202f230", 857_900: "858\u202f000",
		1_234_567: "1\u202f230\u202f000", -1234: "-1\u202f230", math.Inf(1): "–", math.NaN(): "–",
	} {
		if got := report.Number(x); got != want {
			t.Errorf("%g is written %q, want %q", x, got, want)
		}
	}
}

func TestSpread(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		values []float64
		want   report.Spread
		text   string
	}{
		{[]float64{3}, report.Spread{Median: 3, Min: 3, Max: 3}, "3.00"},
		{[]float64{3, 1, 2}, report.Spread{Median: 2, Min: 1, Max: 3}, "2.00 (1.00…3.00)"},
		{[]float64{4, 1, 2, 3}, report.Spread{Median: 2.5, Min: 1, Max: 4}, "2.50 (1.00…4.00)"},
	} {
		got := report.SpreadOf(test.values)
		if got != test.want || got.String() != test.text {
			t.Errorf("%v: %+v, %q", test.values, got, got)
		}
	}
	if got := report.SpreadOf(nil); !math.IsNaN(got.Median) || got.String() != "–" {
		t.Errorf("of nothing: %+v, %q", got, got)
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	table := report.Table{Head: []string{"a", "b"}, Rows: [][]string{{"x|y", "1"}}}
	if _, err := table.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	want := "| a | b |\n| --- | ---: |\n| x\\|y | 1 |\n\n"
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
}

// A chart is well-formed whatever it is given, has a bar for each figure and
// none for what was not measured, and keeps within its frame.
func TestChart(t *testing.T) {
	t.Parallel()
	chart := report.Chart{Title: `CPU <"&">`, Unit: "µs", Groups: []report.Group{
		{Title: "fan-in", Bars: []report.Bar{
			{Label: "Cordon", Value: report.Spread{Median: 1, Min: 0.5, Max: 2}},
			{Label: "a name that is longer than its space", Series: 7, Value: report.SpreadOf([]float64{1e6, 1e7})},
			{Label: "absent", Series: 1, Value: report.SpreadOf(nil)},
		}},
		{Title: "nothing"},
	}}
	var b strings.Builder
	if _, err := chart.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	bars, ranges := 0, 0
	for decoder := xml.NewDecoder(strings.NewReader(b.String())); ; {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		element, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		switch {
		case element.Name.Local == "rect":
			bars++
		case element.Name.Local == "line" && attribute(element, "class") == "range":
			ranges++
		}
	}
	if bars != 2 || ranges != 2 {
		t.Errorf("%d bars and %d ranges, want 2 and 2", bars, ranges)
	}
	for _, want := range []string{"CPU &lt;", "prefers-color-scheme: dark", "a name that is lo…", ">–<"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}

func attribute(element xml.StartElement, name string) string {
	for _, a := range element.Attr {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}
