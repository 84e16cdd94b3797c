package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// scene is one step of the demo: what is checked, and how. act returns what
// was seen; an error says what should have been seen instead.
type scene struct {
	title string
	act   func(ctx context.Context) (seen []string, err error)
}

// story tells steps as they happen, for people or as one JSON object a step.
type story struct {
	out   io.Writer
	json  bool
	start time.Time
	told  int
}

// toldStep is a step as --json prints it.
type toldStep struct {
	Step    int      `json:"step"`
	Checked string   `json:"checked"`
	OK      bool     `json:"ok"`
	Seen    []string `json:"seen,omitempty"`
	Error   string   `json:"error,omitempty"`
	Millis  int64    `json:"ms"`
}

// missedStep is the error of a step that did not hold.
type missedStep struct {
	step  int
	title string
	err   error
}

func (e *missedStep) Error() string {
	return fmt.Sprintf("step %d, %q, did not hold: %v", e.step, e.title, e.err)
}

func (e *missedStep) Unwrap() error { return e.err }

func (s *story) step(ctx context.Context, next scene) error {
	if s.told == 0 && !s.json {
		fmt.Fprint(s.out, "Bollard between three charging stations and their CSMS, on loopback.\n\n")
	}
	s.told++
	began := time.Now()
	seen, err := next.act(ctx)
	took := time.Since(began)
	if s.json {
		step := toldStep{Step: s.told, Checked: next.title, OK: err == nil, Seen: seen, Millis: took.Milliseconds()}
		if err != nil {
			step.Error = err.Error()
		}
		s.line(step)
	} else {
		mark := "✓"
		if err != nil {
			mark = "✗"
		}
		fmt.Fprintf(s.out, "%s %2d  %s  (%.1f s)\n", mark, s.told, next.title, took.Seconds())
		for _, line := range seen {
			fmt.Fprintf(s.out, "       %s\n", line)
		}
		if err != nil {
			fmt.Fprintf(s.out, "       but: %v\n", err)
		}
	}
	if err != nil {
		return &missedStep{s.told, next.title, err}
	}
	return nil
}

func (s *story) end() {
	took := time.Since(s.start)
	if s.json {
		s.line(struct {
			Steps  int   `json:"steps"`
			OK     bool  `json:"ok"`
			Millis int64 `json:"ms"`
		}{s.told, true, took.Milliseconds()})
		return
	}
	fmt.Fprintf(s.out, "\nAll %d steps held, in %.1f s.\n", s.told, took.Seconds())
}

// invitation tells where a station of the user's own can connect.
type invitation struct {
	URL      string `json:"url"`
	Identity string `json:"identity"`
	Serial   string `json:"serial"`
	Password string `json:"password"`
	Root     string `json:"root"`
	Data     string `json:"data"`
}

func (s *story) invite(i invitation) {
	if s.json {
		s.line(i)
		return
	}
	fmt.Fprintf(s.out, `
Still running. Connect a station of your own (OCPP 1.6J, 2.0.1 or 2.1):

  URL        %s
  identity   %s (HTTP Basic user)
  password   %s
  serial     %s (CN of its CSR, serial number in BootNotification)
  root       %s

Look on with  bollard station list --data %s
and raise it  bollard station profile %s 3 --data %s
Ctrl-C ends it and removes everything.
`, i.URL, i.Identity, i.Password, i.Serial, i.Root, i.Data, i.Identity, i.Data)
}

func (s *story) line(v any) {
	e := json.NewEncoder(s.out)
	e.SetEscapeHTML(false)
	_ = e.Encode(v) // the reader has gone; the exit code still says how it ended
}
