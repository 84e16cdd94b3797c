package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"
)

// progressBar shows on a terminal how far a long reading is. It isn't safe for
// concurrent use.
type progressBar struct {
	to    io.Writer // nil: nobody looks
	what  string
	shown time.Time
}

// progress makes a bar on standard error, if that is a terminal.
func (c *cli) progress(what string) *progressBar {
	if f, ok := c.stderr.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return &progressBar{to: f, what: what}
	}
	return &progressBar{}
}

// often enough to be seen moving, seldom enough to cost nothing.
const progressEvery = 100 * time.Millisecond

func (p *progressBar) show(done, all int64) {
	if p.to == nil || all == 0 || done < all && time.Since(p.shown) < progressEvery {
		return
	}
	p.shown = time.Now()
	const width = 30
	full := int(done * width / all)
	fmt.Fprintf(p.to, "\r%s [%-*.*s] %3d%% of %d MiB", p.what, width, full, "##############################", done*100/all, all>>20)
}

// end wipes the bar.
func (p *progressBar) end() {
	if p.to != nil && !p.shown.IsZero() {
		fmt.Fprint(p.to, "\r\x1b[K")
	}
}
