package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"maps"
	"slices"
	"strconv"
	"time"

	"bollard/ledger"
)

//go:embed page.html
var pageText string

// chapter is what the page has for one law.
type chapter struct {
	Law
	Findings []Finding
}

// WritePage writes the report for readers: one HTML file that loads nothing.
// It proves nothing by itself: it names the report that does.
func (r *Report) WritePage(w io.Writer, n ledger.Note, key string) error {
	kinds := Kinds()
	page, err := template.New("page").Funcs(template.FuncMap{
		"moment": func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") },
		"about":  func(kind string) string { return kinds[kind] },
		"facts": func(e ledger.Entry) string {
			text := ""
			for _, k := range slices.Sorted(maps.Keys(e.Data)) {
				text += fmt.Sprintf("%s=%s ", k, e.Data[k])
			}
			return text
		},
		"seqs": shortList,
	}).Parse(pageText)
	if err != nil {
		return err
	}
	var chapters []chapter
	for _, law := range Laws() {
		c := chapter{Law: law}
		for _, f := range r.Findings {
			if f.Law == law.Name {
				c.Findings = append(c.Findings, f)
			}
		}
		if len(c.Findings) > 0 {
			chapters = append(chapters, c)
		}
	}
	return page.Execute(w, map[string]any{
		"Report": r, "Chapters": chapters, "Entries": r.Inside(), "Note": n, "Key": key,
	})
}

// shortList writes runs as ranges: 1, 4–7, 9.
func shortList(seqs []uint64) string {
	text := ""
	for i := 0; i < len(seqs); {
		j := i
		for j+1 < len(seqs) && seqs[j+1] == seqs[j]+1 {
			j++
		}
		if text != "" {
			text += ", "
		}
		text += strconv.FormatUint(seqs[i], 10)
		if j > i {
			text += "–" + strconv.FormatUint(seqs[j], 10)
		}
		i = j + 1
	}
	return text
}
