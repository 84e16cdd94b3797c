package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"bollard/ca"
	"bollard/fleet"
	"bollard/ledger"
	"bollard/store"

	"github.com/google/go-cmp/cmp"
)

// batch makes writes that are certain to share one transaction: it holds the
// writer until all of them wait.
func batch(t *testing.T, s *store.Store, writes ...func(ctx context.Context) error) []error {
	t.Helper()
	ctx := context.Background()
	release := make(chan struct{})
	errs := make([]error, len(writes))
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.Do(ctx, func(func(string, ...any) error) error { <-release; return nil }); err != nil {
			t.Error(err)
		}
	})
	synctest.Wait()
	for i, write := range writes {
		wg.Go(func() { errs[i] = write(ctx) })
		synctest.Wait()
	}
	close(release)
	wg.Wait()
	return errs
}

func TestOneFailingWriteDoesNotHurtItsBatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := open(t)
		refused := errors.New("not today")
		must(t, s.AddStations(t.Context(), []fleet.Station{station("cs-1", "1")}))
		errs := batch(t, s,
			func(ctx context.Context) error { return s.PutIntent(ctx, intent("a1"), event("intent.first")) },
			func(ctx context.Context) error {
				_, err := s.UpdateStation(ctx, "cs-1", func(st *fleet.Station) ([]ledger.Event, error) {
					st.Vendor = "changed"
					return []ledger.Event{event("station.changed")}, refused
				})
				return err
			},
			func(ctx context.Context) error { return s.PutIntent(ctx, intent("a1"), event("intent.twice")) },
			// The last event of a write is bad: its effect and its first event go too.
			func(ctx context.Context) error {
				return s.PutIntent(ctx, intent("a2"), event("intent.undone"), event("Bad Kind"))
			},
			func(ctx context.Context) error { return s.PutIntent(ctx, intent("a3"), event("intent.last")) },
		)
		if errs[0] != nil || !errors.Is(errs[1], refused) || !errors.Is(errs[2], ca.ErrDuplicateSerial) || errs[3] == nil || errs[4] != nil {
			t.Errorf("errors %v", errs)
		}
		if diff := cmp.Diff([]string{"intent.first", "intent.last"}, kinds(t, s)); diff != "" {
			t.Error(diff)
		}
		if st, err := s.Station(t.Context(), "cs-1"); err != nil || st.Vendor != "" {
			t.Errorf("refused change was kept: %+v, %v", st, err)
		}
		if _, err := s.Certificate(t.Context(), "a2"); !errors.Is(err, ca.ErrUnknownSerial) {
			t.Errorf("an undone write was kept: %v", err)
		}
	})
}

func TestCancelledBeforeItsTurnHasNoEffect(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := open(t)
		cancelled, cancel := context.WithCancel(t.Context())
		errs := batch(t, s,
			func(ctx context.Context) error { return s.PutIntent(ctx, intent("a1"), event("intent.first")) },
			func(context.Context) error { return s.PutIntent(cancelled, intent("a2"), event("intent.cancelled")) },
			func(context.Context) error { cancel(); return nil },
			func(ctx context.Context) error { return s.PutIntent(ctx, intent("a3"), event("intent.last")) },
		)
		if errs[0] != nil || !errors.Is(errs[1], context.Canceled) || errs[3] != nil {
			t.Errorf("errors %v", errs)
		}
		if err := s.PutIntent(cancelled, intent("a4")); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if diff := cmp.Diff([]string{"intent.first", "intent.last"}, kinds(t, s)); diff != "" {
			t.Error(diff)
		}
	})
}

// Cancelled by a write of the same batch, when the writer holds them already.
func TestCancelledWithinItsBatchHasNoEffect(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := open(t)
		cancelled, cancel := context.WithCancel(t.Context())
		writes := []func(context.Context) error{func(ctx context.Context) error {
			return s.Do(ctx, func(func(string, ...any) error) error { cancel(); return nil })
		}}
		for range 50 {
			writes = append(writes, func(context.Context) error { return s.Record(cancelled, event("late.write")) })
		}
		for i, err := range batch(t, s, writes...)[1:] {
			if !errors.Is(err, context.Canceled) {
				t.Errorf("write %d: %v", i, err)
			}
		}
		if got := kinds(t, s); len(got) != 0 {
			t.Errorf("%d late writes were kept", len(got))
		}
	})
}

// Cancelled while it runs: the answer is the outcome, not the cancellation.
func TestCancelledWhileRunningTellsTheOutcome(t *testing.T) {
	t.Parallel()
	s := open(t)
	must(t, s.AddStations(t.Context(), []fleet.Station{station("cs-1", "1")}))
	ctx, cancel := context.WithCancel(t.Context())
	_, err := s.UpdateStation(ctx, "cs-1", func(st *fleet.Station) ([]ledger.Event, error) {
		cancel()
		st.Vendor = "changed"
		return nil, nil
	})
	st, readErr := s.Station(t.Context(), "cs-1")
	if err != nil || readErr != nil || st.Vendor != "changed" {
		t.Errorf("%v, %v, %+v", err, readErr, st)
	}
}

// If COMMIT fails everybody hears it, nothing is kept and the ledger goes on
// without a gap.
func TestFailedCommitFailsItsWholeBatch(t *testing.T) {
	t.Parallel()
	for name, sabotage := range map[string]func(exec func(string, ...any) error) error{
		"at commit": func(exec func(string, ...any) error) error {
			return errors.Join(exec("PRAGMA defer_foreign_keys = ON"), exec("INSERT INTO station_serials (serial, station) VALUES ('x', 'nobody')"))
		},
		"rolled back under way": func(exec func(string, ...any) error) error {
			return errors.Join(exec("ROLLBACK"), errors.New("the disk has gone"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := open(t)
				must(t, s.Record(t.Context(), event("kept.before")))
				// The gate of batch shares no transaction with what waits behind it.
				errs := batch(t, s,
					func(ctx context.Context) error { return s.PutIntent(ctx, intent("a1"), event("lost.first")) },
					func(ctx context.Context) error { return s.Do(ctx, sabotage) },
					func(ctx context.Context) error { return s.PutIntent(ctx, intent("a2"), event("lost.last")) },
				)
				for i, err := range errs {
					if err == nil {
						t.Errorf("write %d was acknowledged", i)
					}
				}
				must(t, s.PutIntent(t.Context(), intent("a2"), event("kept.after")))
				if diff := cmp.Diff([]string{"kept.before", "kept.after"}, kinds(t, s)); diff != "" {
					t.Error(diff)
				}
				if _, err := s.Certificate(t.Context(), "a1"); !errors.Is(err, ca.ErrUnknownSerial) {
					t.Errorf("got %v", err)
				}
			})
		})
	}
}

func TestFullDiskStopsWritingAndNothingElse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var log strings.Builder // of the writer goroutine, which every answer waits for
	s, err := store.Open(t.Context(), store.Config{Path: filepath.Join(dir, "bollard.db"), Log: slog.New(slog.NewTextHandler(&log, nil))})
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	ctx := t.Context()
	must(t, s.PutIntent(ctx, intent("a1"), event("intent.first")))
	must(t, s.LimitPages(ctx, 1))
	_ = s.SetSecret(ctx, "big", bytes.Repeat([]byte{1}, 1<<20), event("secret.set"))
	err = s.SetSecret(ctx, "big", bytes.Repeat([]byte{1}, 1<<20), event("secret.set"))
	if !errors.Is(err, store.ErrFull) || !strings.Contains(err.Error(), "disk is full: free space in "+dir+"; traffic goes on, issuing stops") {
		t.Fatalf("got %v", err)
	}
	if _, err := s.Certificate(ctx, "a1"); err != nil {
		t.Errorf("reading stopped too: %v", err)
	}
	if _, ok, err := s.Secret(ctx, "big"); ok || err != nil {
		t.Errorf("half a write was kept: %v, %v", ok, err)
	}
	must(t, s.LimitPages(ctx, 1<<20))
	must(t, s.SetSecret(ctx, "big", bytes.Repeat([]byte{1}, 1<<20), event("secret.set")))
	if diff := cmp.Diff([]string{"intent.first", "secret.set"}, kinds(t, s)); diff != "" {
		t.Error(diff)
	}
	must(t, s.Close())
	// The operator is told once, however many writes meet it, and when it is over.
	if told := log.String(); strings.Count(told, "the disk is full: nothing is issued") != 1 || strings.Count(told, "the disk has room again") != 1 {
		t.Errorf("log: %s", told)
	}
}

func TestClose(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "bollard.db")
		s := reopen(t, path)
		errs := batch(t, s,
			func(ctx context.Context) error { return s.Record(ctx, event("server.drained")) },
			func(context.Context) error { return s.Close() },
		)
		// What waited is done or refused, never forgotten.
		done := errs[0] == nil
		if !done && !errors.Is(errs[0], store.ErrClosed) || errs[1] != nil {
			t.Errorf("errors %v", errs)
		}
		must(t, s.Close())
		ctx := t.Context()
		for name, call := range map[string]func() error{
			"write":   func() error { return s.Record(ctx, event("a.b")) },
			"station": func() error { _, err := s.Station(ctx, "x"); return err },
			"list":    func() error { _, err := s.Certificates(ctx, ca.Filter{}); return err },
			"time":    func() error { _, err := s.NewestTime(ctx); return err },
			"secret":  func() error { _, _, err := s.Secret(ctx, "x"); return err },
			"ledger":  func() error { _, err := ledger.Verify(s.Entries(ctx, 1)); return err },
		} {
			if err := call(); !errors.Is(err, store.ErrClosed) {
				t.Errorf("%s after Close: %v", name, err)
			}
		}
		if got := kinds(t, reopen(t, path)); (len(got) == 1) != done {
			t.Errorf("acknowledged %v, kept %v", done, got)
		}
	})
}

func TestManyWritersAndReaders(t *testing.T) {
	t.Parallel()
	const callers, each = 16, 20
	s := open(t)
	ctx := t.Context()
	must(t, s.AddStations(ctx, []fleet.Station{station("cs-1", "1")}))
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := range each {
				if err := s.PutIntent(ctx, intent(fmt.Sprintf("%d-%d", c, i)), event("certificate.intent")); err != nil {
					t.Error(err)
				}
				if _, err := s.UpdateStation(ctx, "cs-1", func(st *fleet.Station) ([]ledger.Event, error) {
					st.SeenProfile++ // lost updates would show in the sum
					return nil, nil
				}); err != nil {
					t.Error(err)
				}
				// A writer reads what it wrote.
				if _, err := s.Certificate(ctx, fmt.Sprintf("%d-%d", c, i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if st, err := s.Station(ctx, "cs-1"); err != nil || st.SeenProfile != callers*each {
		t.Errorf("%d updates counted (%v), want %d", st.SeenProfile, err, callers*each)
	}
	if got := kinds(t, s); len(got) != callers*each {
		t.Errorf("%d ledger entries, want %d", len(got), callers*each)
	}
}
