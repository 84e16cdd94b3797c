package store_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"bollard/ca"
	"bollard/store"
)

// childEnv makes the test binary the child that is killed; its value is the
// path of the database.
const childEnv = "STORE_TEST_CHILD"

// child stores intents from several goroutines and prints each serial once it
// is acknowledged, until it is killed.
func child(path string) int {
	s, err := store.Open(context.Background(), store.Config{Path: path})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 100_000 { // far more than the parent waits for
				serial := fmt.Sprintf("%d-%d-%d", os.Getpid(), g, i)
				if err := s.PutIntent(context.Background(), intent(serial), event("certificate.intent")); err != nil {
					fmt.Fprintln(os.Stderr, err)
					return
				}
				fmt.Println(serial)
				if i%8 == 0 { // one that fails, among others'
					if err := s.PutIntent(context.Background(), intent(serial), event("certificate.intent")); !errors.Is(err, ca.ErrDuplicateSerial) {
						fmt.Fprintln(os.Stderr, "the same serial number again:", err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	return 1
}

// Promise 7: what was acknowledged survives kill -9 at any moment, and record
// and ledger entry are there together or not at all.
func TestKilledProcessLosesNothingAcknowledged(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "bollard.db")
	acknowledged := map[string]bool{}
	for range 5 {
		killChild(t, path, 1+rand.IntN(400), acknowledged)
		s := reopen(t, path)
		allThere(t, s, acknowledged)
		must(t, s.Close())
	}
}

// allThere checks that all intents acknowledged are on record, and of each a ledger
// entry.
func allThere(t *testing.T, s *store.Store, acknowledged map[string]bool) {
	t.Helper()
	list, err := s.Certificates(t.Context(), ca.Filter{})
	must(t, err)
	stored := map[string]bool{}
	for _, r := range list {
		stored[r.Serial] = true
	}
	for serial := range acknowledged {
		if !stored[serial] {
			t.Errorf("%s was acknowledged and is gone", serial)
		}
	}
	if entries := kinds(t, s); len(entries) != len(list) {
		t.Errorf("%d records, %d ledger entries", len(list), len(entries))
	}
}

// killChild kills a child after it has acknowledged a number of writes and
// notes all it acknowledged.
func killChild(t *testing.T, path string, after int, acknowledged map[string]bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+path)
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	lines := bufio.NewReader(out)
	for n := 1; ; n++ {
		line, err := lines.ReadString('\n')
		if err != nil {
			break // a last line that was cut is no acknowledgement
		}
		acknowledged[strings.TrimSpace(line)] = true
		if n == after {
			must(t, cmd.Process.Kill())
		}
	}
	_ = cmd.Wait() // killed
	if complaint.Len() > 0 || ctx.Err() != nil {
		t.Fatalf("child: %s (%v)", complaint.String(), ctx.Err())
	}
}
