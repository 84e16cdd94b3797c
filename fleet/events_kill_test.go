package fleet_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"bollard/fleet"
	"bollard/internal/failpoint"
	"bollard/keys"
	"bollard/ocpp"
)

// Environment of the child that is killed: its data directory, the number of
// its first event, and after how many which failpoint is armed.
const (
	outboxDir   = "FLEET_TEST_OUTBOX_DIR"
	outboxFirst = "FLEET_TEST_OUTBOX_FIRST"
	outboxPoint = "FLEET_TEST_OUTBOX_POINT"
)

// at opens the rig of an existing directory, as a process does.
func at(t testing.TB, dir string) *rig {
	t.Helper()
	r := &rig{t: t, dir: dir, path: filepath.Join(dir, "bollard.db"), now: time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC),
		log: &bytes.Buffer{}, unk: 401, org: organisation, counts: map[string]int{}}
	var err error
	if r.keys, err = keys.New(keys.Config{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	r.openStore()
	t.Cleanup(func() { _ = r.store.Close() })
	r.start()
	return r
}

// TestOutboxChild is the process that is killed; without its environment it is
// nothing. It tells its parent what the back end got and what the station was
// answered, each before the next thing happens.
func TestOutboxChild(t *testing.T) {
	dir := os.Getenv(outboxDir)
	if dir == "" {
		return
	}
	r := at(t, dir)
	first, _ := strconv.Atoi(os.Getenv(outboxFirst))
	after, point, _ := strings.Cut(os.Getenv(outboxPoint), " ")
	arm, _ := strconv.Atoi(after)
	s := r.openWith(fleet.Admission{Station: r.proven("CS-1"), Profile: 2}, ocpp.V201, fleet.SecurityBollard, nil)
	s.answerAbove(func(_ string, payload json.RawMessage) (json.RawMessage, error) {
		var e ocpp.SecurityEventRequest
		if err := json.Unmarshal(payload, &e); err != nil {
			return nil, err
		}
		fmt.Println("delivered", e.Type)
		return json.RawMessage("{}"), nil
	})
	s.booted("Accepted")  // what the last child left goes out from here on
	for i := range 1000 { // far more than the parent waits for
		if i == arm && point != "" {
			if err := os.Setenv(failpoint.Env, point); err != nil {
				t.Fatal(err)
			}
		}
		if v := s.event(strconv.Itoa(first + i)); v.Act != fleet.Answer {
			t.Fatalf("verdict %+v", v)
		}
		fmt.Println("acknowledged", first+i)
	}
}

// A04.FR.03 with kill -9 at any moment: every event the station was answered is
// in the store and reaches the back end at least once, in order.
func TestA04OutboxSurvivesKill(t *testing.T) {
	t.Parallel()
	fresh := newRig(t)
	fresh.add(fleet.Enrolment{})
	if err := fresh.store.Close(); err != nil {
		t.Fatal(err)
	}
	h := &heard{next: 1}
	for _, point := range []string{"fleet.event-stored", "outbox.before-send", "outbox.after-send", "", "fleet.event-stored", "outbox.before-send", "outbox.after-send", ""} {
		h.run(t, fresh.dir, point)
	}
	r := at(t, fresh.dir)
	s := r.connected(ocpp.V201, fleet.SecurityBollard)
	eventually(t, "the outbox is empty", func() bool { return len(r.waiting()) == 0 })
	for _, kind := range s.delivered() {
		h.take("delivered " + kind)
	}
	stored := map[string]bool{}
	for _, e := range r.securityEvents() {
		stored[e.Type] = true
	}
	if len(h.acknowledged) < 20 {
		t.Fatalf("only %d events were acknowledged", len(h.acknowledged))
	}
	for _, n := range h.acknowledged {
		if !stored[strconv.Itoa(n)] {
			t.Errorf("event %d was acknowledged and is gone", n)
		}
		if !slices.Contains(h.delivered, n) {
			t.Errorf("event %d was acknowledged and never delivered", n)
		}
	}
	if !slices.IsSorted(h.delivered) {
		t.Errorf("delivered first in the order %v", h.delivered)
	}
}

// heard is what children told.
type heard struct {
	next         int
	acknowledged []int
	delivered    []int // in the order of first delivery
}

func (h *heard) take(line string) {
	what, number, _ := strings.Cut(strings.TrimSpace(line), " ")
	n, err := strconv.Atoi(number)
	switch {
	case err != nil:
	case what == "acknowledged":
		h.acknowledged = append(h.acknowledged, n)
	case what == "delivered" && !slices.Contains(h.delivered, n):
		h.delivered = append(h.delivered, n)
	}
}

// run lets one child work until it dies, by its failpoint or by the parent.
func (h *heard) run(t *testing.T, dir, point string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute) // only one that hangs
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestOutboxChild$")
	after := 1 + rand.IntN(15)
	cmd.Env = append(os.Environ(), outboxDir+"="+dir, outboxFirst+"="+strconv.Itoa(h.next), outboxPoint+"="+strconv.Itoa(after)+" "+point)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	for n := 1; ; n++ {
		line, err := lines.ReadString('\n')
		if err != nil {
			break // a last line that was cut says nothing
		}
		h.take(line)
		if point == "" && n == 2*after {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil || ctx.Err() != nil || cmd.ProcessState.ExitCode() != -1 {
		t.Fatalf("the child was not killed: %v", err)
	}
	h.next += 1000
}
