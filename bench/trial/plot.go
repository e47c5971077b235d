package main

import (
	"fmt"
	"html"
	"io"
	"strings"
	"time"

	"github.com/cordon-mq/cordon/bench/report"
)

// plot is curves over time, one below the other, as SVG.
type plot struct {
	title  string
	times  []time.Duration // of all curves, rising
	curves []curve
}

// curve is one of them; it has as many values as the plot has times.
type curve struct {
	title, unit string
	values      []float64 // not negative
}

// Measures of the drawing, in pixels.
const (
	plotWidth   = 760
	plotMargin  = 16
	plotLeft    = 90 // of the curves
	plotRight   = plotWidth - plotMargin
	plotTop     = 44
	curveHeight = 110
	curveStep   = 170 // from one curve to the next
)

// plotStyle follows the reader's preference between light and dark.
const plotStyle = `<style>
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.title { font-size: 15px; font-weight: 600 }
.name { font-weight: 600 }
.value { font-size: 12px; fill: #59636e }
.axis { stroke: #8c959f; stroke-width: 1 }
.curve { stroke: #0072b2; stroke-width: 1.5; fill: none }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 }
.value { fill: #9198a1 }
.curve { stroke: #4aa8e0 }
}
</style>
`

// WriteTo writes it. Every scale begins at zero.
func (p plot) WriteTo(w io.Writer) (int64, error) {
	height := plotTop + len(p.curves)*curveStep
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="%s">`+"\n",
		plotWidth, height, plotWidth, height, html.EscapeString(p.title))
	b.WriteString(plotStyle)
	fmt.Fprintf(&b, `<text class="title" x="%d" y="26">%s</text>`+"\n", plotMargin, html.EscapeString(p.title))
	for i, c := range p.curves {
		p.draw(&b, c, plotTop+i*curveStep)
	}
	b.WriteString("</svg>\n")
	n, err := io.WriteString(w, b.String())
	return int64(n), err
}

func (p plot) draw(b *strings.Builder, c curve, top int) {
	name := c.title
	if c.unit != "" {
		name += ", " + c.unit
	}
	fmt.Fprintf(b, `<text class="name" x="%d" y="%d">%s</text>`+"\n", plotMargin, top+14, html.EscapeString(name))
	highest := 0.0
	for _, v := range c.values {
		highest = max(highest, v)
	}
	upper, lower := top+24, top+24+curveHeight
	fmt.Fprintf(b, `<text class="value" x="%d" y="%d" text-anchor="end">%s</text>`+"\n", plotLeft-6, upper+10, report.Number(highest))
	fmt.Fprintf(b, `<text class="value" x="%d" y="%d" text-anchor="end">0</text>`+"\n", plotLeft-6, lower)
	fmt.Fprintf(b, `<path class="axis" fill="none" d="M%d %dV%dH%d"/>`+"\n", plotLeft, upper, lower, plotRight)
	if len(p.times) == 0 {
		return
	}
	last := p.times[len(p.times)-1]
	fmt.Fprintf(b, `<text class="value" x="%d" y="%d" text-anchor="end">%s</text>`+"\n", plotRight, lower+16, last.Round(time.Second))
	var points []string
	for i, v := range c.values {
		x := float64(plotLeft) + float64(plotRight-plotLeft)*p.times[i].Seconds()/max(last.Seconds(), 1e-9)
		y := float64(lower) - curveHeight*v/max(highest, 1e-9)
		points = append(points, fmt.Sprintf("%.1f,%.1f", x, y))
	}
	fmt.Fprintf(b, `<polyline class="curve" points="%s"/>`+"\n", strings.Join(points, " "))
}
