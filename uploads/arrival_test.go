package uploads_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

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
		"in order":            {pieces: []piece{{"a log", 0}, {" of a station", 5}}, want: "a log of a station"},
		"out of order":        {pieces: []piece{{" of a station", 5}, {"a log", 0}}, want: "a log of a station"},
		"with a gap":          {pieces: []piece{{"a log", 0}, {"of a station", 6}}},
		"without a beginning": {pieces: []piece{{"a log", 1}}},
		"too long":            {pieces: []piece{{"a log", 996}}},
		"far away":            {pieces: []piece{{"a log", 1<<63 - 2}}},
		"before it":           {pieces: []piece{{"a log", -1}}},
		"broken off":          {pieces: []piece{{"a log", 0}}, dropped: true},
		"nobody wants it":     {pieces: []piece{{"a log", 0}}, arrived: errors.New("nobody asked")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 10_000)
			r.err = tt.arrived
			ticket, err := r.Ticket("cs-1", 7, r.now.Add(time.Hour))
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
		ticket, err := r.Ticket("cs-1", int64(i), r.now.Add(time.Hour))
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
