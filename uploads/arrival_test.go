package uploads_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"bollard/internal/ticket"
	"bollard/uploads"
)

// What comes otherwise than by HTTP keeps the same promise: whole, once for its
// ticket, within the bound, or nothing of it stays.
func TestParcel(t *testing.T) {
	t.Parallel()
	type piece struct {
		text string
		at   int64
	}
	for name, tt := range map[string]struct {
		pieces  []piece
		dropped bool
		arrived error
		want    string // what is kept; "": nothing
	}{
		"in order":                          {pieces: []piece{{"a log", 0}, {" of a station", 5}}, want: "a log of a station"},
		"out of order":                      {pieces: []piece{{" of a station", 5}, {"a log", 0}}, want: "a log of a station"},
		"a piece twice":                     {pieces: []piece{{"a log", 0}, {"a log", 0}, {" of a station", 5}}, want: "a log of a station"},
		"a hole, and a piece as long twice": {pieces: []piece{{"a log", 0}, {"a log", 0}, {"of a station", 10}}},
		"with a gap":                        {pieces: []piece{{"a log", 0}, {"of a station", 6}}},
		"without a beginning":               {pieces: []piece{{"a log", 1}}},
		"too long":                          {pieces: []piece{{"a log", 996}}},
		"far away":                          {pieces: []piece{{"a log", 1<<63 - 2}}},
		"before it":                         {pieces: []piece{{"a log", -1}}},
		"broken off":                        {pieces: []piece{{"a log", 0}}, dropped: true},
		"nobody wants it":                   {pieces: []piece{{"a log", 0}}, arrived: errors.New("nobody asked")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 10_000)
			r.err = tt.arrived
			ticket, err := r.Pass("cs-1", 7, r.now.Add(time.Hour))
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(r.Holds(ticket), r.Holds(ticket+"x")); err == nil || r.Holds(ticket) != nil {
				t.Error("a ticket isn't told from none")
			}
			p, err := r.Bring(t.Context(), ticket)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := r.Bring(t.Context(), ticket); err == nil {
				t.Error("it is brought twice at once")
			}
			failed := false
			for _, part := range tt.pieces {
				_, err := p.WriteAt([]byte(part.text), part.at)
				failed = failed || err != nil
			}
			if tt.dropped || failed {
				p.Drop()
			} else if err := p.Close(); (err == nil) != (tt.want != "") {
				t.Errorf("closed: %v", err)
			}
			if p.Close() == nil {
				t.Error("closed twice")
			}
			files := r.files()
			if tt.want == "" {
				if len(files) > 0 || r.told() != "" {
					t.Errorf("left behind: %v, told %q", files, r.told())
				}
				return
			}
			if len(files) != 1 {
				t.Fatalf("files %v", files)
			}
			if text, err := os.ReadFile(filepath.Join(r.dir, files[0])); err != nil || string(text) != tt.want {
				t.Errorf("%q, %v", text, err)
			}
			if _, err := r.Bring(t.Context(), ticket); err == nil {
				t.Error("a second file for one ticket")
			}
		})
	}
	r := newRig(t, 10_000)
	if _, err := r.Bring(t.Context(), "x"); err == nil {
		t.Error("without a ticket")
	}
	var open []*uploads.Parcel
	for i := range 20 {
		ticket, err := r.Pass(fmt.Sprint("cs-", i), 1, r.now.Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		if p, err := r.Bring(t.Context(), ticket); err == nil {
			open = append(open, p)
		}
	}
	if len(open) > 10 || len(open) < 5 {
		t.Errorf("%d uploads of at most 1000 bytes fit into 10000", len(open))
	}
	for _, p := range open {
		p.Drop()
	}
}

// A ticket for HTTP opens nothing here, nor the other way round, and a station brings
// one thing at a time.
func TestPassIsNoURL(t *testing.T) {
	t.Parallel()
	r := newRig(t, 10_000)
	_, ticket, _ := strings.Cut(r.url(1), uploads.Path)
	if _, err := r.Bring(t.Context(), ticket); err == nil || r.Holds(ticket) == nil {
		t.Error("the URL of an upload is a password")
	}
	var passes [2]string
	for i := range passes {
		var err error
		if passes[i], err = r.Pass("cs-1", int64(i), r.now.Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	if got := r.send(http.MethodPut, r.server.URL+uploads.Path+passes[0], strings.NewReader("x")); got != http.StatusNotFound {
		t.Errorf("a password is a URL: status %d", got)
	}
	first, err := r.Bring(t.Context(), passes[0])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Bring(t.Context(), passes[1]); err == nil {
		t.Error("a station brings two at once")
	}
	first.Drop()
	next, err := r.Bring(t.Context(), passes[1])
	if err != nil {
		t.Fatal(err)
	}
	next.Drop()
}

// What comes slower than it may gives its place away; the same bytes again are no
// progress.
func TestDrippingParcel(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		size, twice int
		pause       time.Duration
		kept        bool
	}{
		"nothing":         {pause: 31 * time.Second},
		"in time":         {size: 10 << 10, pause: 39 * time.Second, kept: true},
		"too late":        {size: 10 << 10, pause: 41 * time.Second},
		"again and again": {size: 10 << 10, twice: 10, pause: 41 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, file := t.TempDir(), bytes.Repeat([]byte("x"), tt.size)
			synctest.Test(t, func(t *testing.T) {
				keeper, err := ticket.New(bytes.Repeat([]byte{7}, ticket.KeySize))
				if err != nil {
					t.Fatal(err)
				}
				u, err := uploads.New(uploads.Config{Dir: dir, Purpose: "security-log", Tickets: keeper, MaxBytes: 1 << 20, MaxTotal: 1 << 30,
					Arrived: func(context.Context, ticket.Ticket, uploads.File) error { return nil }})
				if err != nil {
					t.Fatal(err)
				}
				defer u.Close()
				pass, err := u.Pass("cs-1", 7, time.Now().Add(time.Hour))
				if err != nil {
					t.Fatal(err)
				}
				p, err := u.Bring(t.Context(), pass)
				if err != nil {
					t.Fatal(err)
				}
				for range 1 + tt.twice {
					if _, err := p.WriteAt(file, 0); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(tt.pause)
				if err := p.Close(); (err == nil) != tt.kept {
					t.Errorf("closed: %v", err)
				}
			})
			if left, err := os.ReadDir(dir); err != nil || (len(left) == 1) != tt.kept {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}
