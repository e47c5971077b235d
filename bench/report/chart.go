package report

import (
	"fmt"
	"html"
	"io"
	"math"
	"strings"
	"unicode/utf8"
)

// Chart is groups of horizontal bars on one scale that begins at zero.
type Chart struct {
	Title  string
	Unit   string
	Groups []Group
}

// Group is bars that belong together.
type Group struct {
	Title string
	Bars  []Bar
}

// Bar is one figure. Its Series chooses the colour, from 0.
type Bar struct {
	Label  string
	Series int
	Value  Spread
}

// Measures of the drawing, in pixels.
const (
	chartWidth  = 760
	margin      = 16
	titleHeight = 44
	groupHeight = 28
	barHeight   = 18
	barStep     = 24
	labelWidth  = 130 // left of the bars
	valueWidth  = 190 // right of the longest
	minimumBar  = 1.0
)

// chartStyle follows the reader's preference: the picture has no background of
// its own, and colours that can be told apart on white and on black, and by
// people who confuse red and green.
const chartStyle = `<style>
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.title { font-size: 15px; font-weight: 600 }
.group { font-weight: 600 }
.value { font-size: 12px; fill: #59636e }
.axis { stroke: #8c959f; stroke-width: 1 }
.range { stroke: #1f2328; stroke-width: 1.5 }
.s0 { fill: #0072b2 } .s1 { fill: #e69f00 } .s2 { fill: #009e73 } .s3 { fill: #cc79a7 } .s4 { fill: #8c959f }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 }
.value { fill: #9198a1 }
.range { stroke: #e6edf3 }
.s0 { fill: #4aa8e0 }
}
</style>
`

// series is how many colours there are.
const series = 5

// WriteTo writes the chart as SVG. A bar without a number says so.
func (c Chart) WriteTo(w io.Writer) (int64, error) {
	height := titleHeight + margin
	longest := 0.0
	for _, g := range c.Groups {
		height += groupHeight + len(g.Bars)*barStep
		for _, bar := range g.Bars {
			if !math.IsNaN(bar.Value.Max) {
				longest = max(longest, bar.Value.Max)
			}
		}
	}
	scale := 0.0
	if longest > 0 {
		scale = float64(chartWidth-2*margin-labelWidth-valueWidth) / longest
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="%s">`+"\n",
		chartWidth, height, chartWidth, height, html.EscapeString(c.Title))
	b.WriteString(chartStyle)
	title := c.Title
	if c.Unit != "" {
		title += ", " + c.Unit
	}
	fmt.Fprintf(&b, `<text class="title" x="%d" y="26">%s</text>`+"\n", margin, html.EscapeString(title))
	y := titleHeight
	for _, g := range c.Groups {
		fmt.Fprintf(&b, `<text class="group" x="%d" y="%d">%s</text>`+"\n", margin, y+14, html.EscapeString(g.Title))
		y += groupHeight
		fmt.Fprintf(&b, `<line class="axis" x1="%d" y1="%d" x2="%d" y2="%d"/>`+"\n",
			margin+labelWidth, y-4, margin+labelWidth, y+len(g.Bars)*barStep-2)
		for _, bar := range g.Bars {
			drawBar(&b, bar, y, scale)
			y += barStep
		}
	}
	b.WriteString("</svg>\n")
	n, err := io.WriteString(w, b.String())
	return int64(n), err
}

// drawBar draws the median as a bar and the range as a line across its end.
func drawBar(b *strings.Builder, bar Bar, y int, scale float64) {
	left := float64(margin + labelWidth)
	middle := float64(y) + barHeight/2.0
	fmt.Fprintf(b, `<text x="%.0f" y="%d" text-anchor="end">%s</text>`+"\n", left-8, y+14, html.EscapeString(shorten(bar.Label)))
	end := left
	if v := bar.Value; !math.IsNaN(v.Median) {
		fmt.Fprintf(b, `<rect class="s%d" x="%.1f" y="%d" width="%.1f" height="%d" rx="2"/>`+"\n",
			bar.Series%series, left, y, max(v.Median*scale, minimumBar), barHeight)
		if v.Max > v.Min {
			fmt.Fprintf(b, `<line class="range" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/>`+"\n",
				left+v.Min*scale, middle, left+v.Max*scale, middle)
		}
		end = left + max(v.Max, v.Median)*scale
	}
	fmt.Fprintf(b, `<text class="value" x="%.1f" y="%d">%s</text>`+"\n", end+6, y+13, html.EscapeString(bar.Value.String()))
}

// shorten keeps a label within the space it has.
func shorten(label string) string {
	const most = 18 // characters
	if utf8.RuneCountInString(label) <= most {
		return label
	}
	return string([]rune(label)[:most-1]) + "…"
}
