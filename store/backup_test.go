package store_test

import (
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"bollard/ca"
	"bollard/ledger"
	"bollard/store"
)

func openAt(t *testing.T, path string, clock func() time.Time) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Config{Path: path, Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func crlNumber(t *testing.T, s *store.Store, issuer string) int64 {
	t.Helper()
	n, err := s.NextCRLNumber(t.Context(), issuer)
	if err != nil {
		t.Fatal(err)
	}
	return n.Int64()
}

// Whatever was published after the backup, numbers go on above it: also where
// a busy issuer ran ahead of the clock, one made no list before the backup, and
// where backups are restored again and again, older after newer.
func TestCRLNumbersRiseOverRestores(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	var passed atomic.Int64 // the writers read the clock in goroutines of their own
	clock := func() time.Time { return start.Add(time.Duration(passed.Load())) }
	dir := t.TempDir()
	s := openAt(t, filepath.Join(dir, "0.db"), clock)
	crlNumber(t, s, "busy")
	oldest := filepath.Join(dir, "oldest.db")
	if _, err := s.Snapshot(t.Context(), oldest); err != nil {
		t.Fatal(err)
	}
	highest := map[string]int64{}
	use := func(s *store.Store) {
		t.Helper()
		for range 30 { // far more than one a second
			for _, issuer := range []string{"busy", "new"} {
				n := crlNumber(t, s, issuer)
				if n <= highest[issuer] {
					t.Fatalf("%s: %d after %d", issuer, n, highest[issuer])
				}
				highest[issuer] = n
			}
		}
	}
	use(s)
	for i, from := range []string{"oldest", "between", "oldest", "between"} {
		passed.Add(int64(5 * time.Second))
		now := clock()
		path := filepath.Join(dir, string(rune('a'+i))+".db")
		data, err := os.ReadFile(filepath.Join(dir, from+".db"))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		restored := openAt(t, path, clock)
		if _, err := restored.MarkRestored(t.Context(), ca.Restoration{BackedUp: now.Add(-time.Hour), Restored: now}); err != nil {
			t.Fatal(err)
		}
		use(restored)
		if i == 0 {
			if _, err := restored.Snapshot(t.Context(), filepath.Join(dir, "between.db")); err != nil {
				t.Fatal(err)
			}
			use(restored)
		}
	}
}

func TestSnapshotIsConsistentWhileWritten(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openAt(t, filepath.Join(dir, "a.db"), nil)
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			if err := s.Record(t.Context(), ledger.Event{Kind: "test.written", Subject: "x", Actor: "y"}); err != nil {
				done <- err
				return
			}
		}
	}()
	for i := range 5 {
		path := filepath.Join(dir, string(rune('b'+i))+".db")
		tree, err := s.Snapshot(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
		if _, err := s.Snapshot(t.Context(), path); err == nil {
			t.Error("a file was overwritten")
		}
		copied := openAt(t, path, nil)
		if err := copied.CheckIntegrity(t.Context()); err != nil {
			t.Error(err)
		}
		sum, err := ledger.Verify(copied.Entries(t.Context(), 1))
		if err != nil || sum.Count != tree.Size() || sum.Root != tree.Root() {
			t.Errorf("ends at %d, says %d: %v", sum.Count, tree.Size(), err)
		}
	}
	close(stop)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Snapshot(t.Context(), filepath.Join(dir, "late.db")); err == nil {
		t.Error("a closed store was copied")
	}
}

func TestRestorationSpansAllGaps(t *testing.T) {
	t.Parallel()
	s := openAt(t, filepath.Join(t.TempDir(), "a.db"), nil)
	if _, restored, err := s.Restoration(t.Context()); restored || err != nil {
		t.Fatalf("new: %t, %v", restored, err)
	}
	day := func(n int) time.Time { return time.Date(2026, 6, n, 0, 0, 0, 0, time.UTC) }
	for _, r := range []ca.Restoration{{BackedUp: day(1), Restored: day(3)}, {BackedUp: day(5), Restored: day(8)}} {
		if _, err := s.MarkRestored(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	got, restored, err := s.Restoration(t.Context())
	if want := (ca.Restoration{BackedUp: day(1), Restored: day(8)}); err != nil || !restored || got != want {
		t.Errorf("got %v, %v", got, err)
	}
}
