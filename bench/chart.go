package main

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// chart is a line chart over positive numbers, on logarithmic axes where sizes
// grow by factors.
type chart struct {
	Title, X, Y string
	LogX        bool
	Lines       []line
}

// line is one series; its points have rising X.
type line struct {
	Name   string
	Points []point
}

type point struct{ X, Y float64 }

// The drawing's measures, in pixels.
const (
	chartWidth, chartHeight         = 640.0, 360.0
	marginLeft, marginRight         = 70.0, 150.0
	marginTop, marginBottom         = 40.0, 50.0
	plotRight, plotBottom           = chartWidth - marginRight, chartHeight - marginBottom
	plotWidth, plotHeight           = plotRight - marginLeft, plotBottom - marginTop
	legendLine, tickLength, dotSize = 18.0, 5.0, 3.0
)

var colours = []string{"#1f6feb", "#d1242f", "#1a7f37", "#8250df", "#9a6700"}

// svg draws it.
func (c chart) svg() string {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" font-family="sans-serif" font-size="12">`+"\n", chartWidth, chartHeight)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="#fff"/>`+"\n")
	text(&b, chartWidth/2, marginTop/2, "middle", c.Title)
	text(&b, marginLeft+plotWidth/2, chartHeight-10, "middle", c.X)
	text(&b, marginLeft, marginTop-8, "middle", c.Y)
	fmt.Fprintf(&b, `<path d="M%.1f %.1fV%.1fH%.1f" fill="none" stroke="#444"/>`+"\n", marginLeft, marginTop, plotBottom, plotRight)
	top := niceTop(c.top())
	for i := range 6 {
		v := top * float64(i) / 5
		y := plotBottom - plotHeight*float64(i)/5
		fmt.Fprintf(&b, `<path d="M%.1f %.1fH%.1f" stroke="#ddd"/>`+"\n", marginLeft, y, plotRight)
		text(&b, marginLeft-tickLength-2, y+4, "end", short(v))
	}
	place := c.placer()
	seen := map[float64]bool{}
	for i, l := range c.Lines {
		colour := colours[i%len(colours)]
		var path []string
		for _, p := range l.Points {
			x, y := place(p.X), plotBottom-plotHeight*p.Y/top
			path = append(path, fmt.Sprintf("%.1f,%.1f", x, y))
			fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="%.0f" fill="%s"/>`+"\n", x, y, dotSize, colour)
			if !seen[p.X] {
				seen[p.X] = true
				text(&b, x, plotBottom+16, "middle", short(p.X))
			}
		}
		fmt.Fprintf(&b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", strings.Join(path, " "), colour)
		y := marginTop + legendLine*float64(i)
		fmt.Fprintf(&b, `<path d="M%.1f %.1fh16" stroke="%s" stroke-width="2"/>`+"\n", plotRight+10, y, colour)
		text(&b, plotRight+30, y+4, "start", l.Name)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func text(b *strings.Builder, x, y float64, anchor, s string) {
	fmt.Fprintf(b, `<text x="%.1f" y="%.1f" text-anchor="%s">%s</text>`+"\n", x, y, anchor, html.EscapeString(s))
}

func (c chart) top() float64 {
	most := 0.0
	for _, l := range c.Lines {
		for _, p := range l.Points {
			most = max(most, p.Y)
		}
	}
	return most
}

// placer maps X to pixels.
func (c chart) placer() func(float64) float64 {
	scale := func(x float64) float64 { return x }
	if c.LogX {
		scale = math.Log
	}
	least, most := math.Inf(1), math.Inf(-1)
	for _, l := range c.Lines {
		for _, p := range l.Points {
			least, most = min(least, scale(p.X)), max(most, scale(p.X))
		}
	}
	return func(x float64) float64 {
		if most <= least {
			return marginLeft + plotWidth/2
		}
		return marginLeft + plotWidth*(scale(x)-least)/(most-least)
	}
}

// niceTop is the next number of one digit whose fifths are readable.
func niceTop(v float64) float64 {
	if v <= 0 {
		return 1
	}
	unit := math.Pow(10, math.Floor(math.Log10(v)))
	for _, n := range []float64{1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10} {
		if v <= n*unit {
			return n * unit
		}
	}
	return 10 * unit
}

// short writes 1500 as 1.5k.
func short(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%.4gM", v/1e6)
	case v >= 1e3:
		return fmt.Sprintf("%.4gk", v/1e3)
	}
	return fmt.Sprintf("%.4g", v)
}
