package witness_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bollard/ledger"
	"bollard/ledger/witness"
)

// shelf is a place that takes what it is given, or fails.
type shelf struct {
	name string
	add  func(ledger.Note) ledger.Note

	mu   sync.Mutex
	fail error
	got  []uint64
}

func (s *shelf) Name() string { return s.name }

func (s *shelf) Keep(_ context.Context, n ledger.Note) (ledger.Note, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return n, s.fail
	}
	s.got = append(s.got, n.Size)
	if s.add != nil {
		n = s.add(n)
	}
	return n, nil
}

func (s *shelf) mend() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = nil
}

func TestServiceKeepsPlacesUpToDate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t).grow("x", 1)
		good, bad := &shelf{name: "good"}, &shelf{name: "bad", fail: errors.New("unplugged")}
		s := witness.New(witness.Config{Notary: b, Places: []witness.Place{good, bad}, Every: time.Hour, Log: slog.New(slog.DiscardHandler)})
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		synctest.Wait()
		if err := s.Fault(); err == nil || err.Error() != "bad: unplugged" {
			t.Errorf("fault %v", err)
		}
		b.grow("x", 1)
		bad.mend()
		time.Sleep(time.Minute) // a failure is tried again before the hour is over
		synctest.Wait()
		if s.Fault() != nil || s.State("bad").Entries != 2 || s.State("good").Entries != 2 {
			t.Errorf("fault %v, %+v, %+v", s.Fault(), s.State("bad"), s.State("good"))
		}
		time.Sleep(3 * time.Hour) // nothing new: nobody is told again
		synctest.Wait()
		b.grow("x", 4)
		time.Sleep(time.Hour)
		synctest.Wait()
		b.grow("x", 1)
		stop() // what came last is handed over when the server stops
		if err := <-done; err != nil {
			t.Error(err)
		}
		for _, p := range []*shelf{good, bad} {
			if last := p.got[len(p.got)-1]; last != 7 {
				t.Errorf("%s ends at %d", p.name, last)
			}
		}
		if len(good.got) != 4 || len(bad.got) != 3 {
			t.Errorf("handed over: %v, %v", good.got, bad.got)
		}
	})
}

// What witnesses signed is kept with the checkpoint, of all of them.
func TestServiceKeepsSignatures(t *testing.T) {
	t.Parallel()
	b := newBook(t).grow("x", 3)
	sign := func(name string) func(ledger.Note) ledger.Note {
		return func(n ledger.Note) ledger.Note {
			n.Signed += "\u2014 " + name + " AAAAAAAA\n"
			return n
		}
	}
	s := witness.New(witness.Config{Notary: b, Log: slog.New(slog.DiscardHandler), Places: []witness.Place{
		&shelf{name: "a", add: sign("w/a")}, &shelf{name: "b"}, &shelf{name: "c", add: sign("w/c")},
	}})
	if !s.Round(t.Context()) {
		t.Fatal(s.Fault())
	}
	if len(b.kept) != 1 || !strings.Contains(b.kept[0].Signed, "w/a AAAAAAAA\n") || !strings.Contains(b.kept[0].Signed, "w/c AAAAAAAA\n") || !b.kept[0].SignedBy(b.key) {
		t.Errorf("%+v", b.kept)
	}
}
