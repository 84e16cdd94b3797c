package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// lines collects output and lets a test wait for a text in it.
type lines struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{}
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.changed <- struct{}{}:
	default:
	}
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// The story holds, ends by itself and leaves nothing behind.
func TestDemoOnce(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	var out, errOut bytes.Buffer
	if code := run(t.Context(), []string{"demo", "--once"}, strings.NewReader(""), &out, &errOut); code != exitDone {
		t.Fatalf("exit code %d\n%s%s", code, out.String(), errOut.String())
	}
	for _, want := range []string{
		"CS-1: TLS client certificate CN=SN-0001", "ocpp2.1 over TLS 1.3", "0 bytes reached the CSMS",
		"bytes equal", "CS-2: downloaded, verified, installed, and booted with 2.0.0", "isn't the one that was named", "GwRollback", "GwQuarantined", "unbroken", "steps held, in ",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the story lacks %q:\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "✗") {
		t.Errorf("a step did not hold:\n%s", out.String())
	}
	left, err := os.ReadDir(os.Getenv("TMPDIR"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
}

// --json prints one object a step.
func TestDemoJSON(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	var out, errOut bytes.Buffer
	if code := run(t.Context(), []string{"demo", "--once", "--json"}, strings.NewReader(""), &out, &errOut); code != exitDone {
		t.Fatalf("exit code %d\n%s%s", code, out.String(), errOut.String())
	}
	text := strings.Split(strings.TrimSpace(out.String()), "\n")
	for i, line := range text[:len(text)-1] {
		var step toldStep
		if err := json.Unmarshal([]byte(line), &step); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		if step.Step != i+1 || !step.OK || step.Checked == "" || len(step.Seen) == 0 {
			t.Errorf("step %d is %+v", i+1, step)
		}
	}
	if want := len((&demo{}).scenes()) + 1; len(text) != want {
		t.Errorf("%d lines, want %d", len(text), want)
	}
}

// Without --once it invites a station, keeps running, and cleans up when told
// to stop.
func TestDemoStays(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	out := &lines{changed: make(chan struct{}, 1)}
	ctx, stop := context.WithTimeout(t.Context(), 5*time.Minute)
	defer stop()
	code := make(chan int, 1)
	go func() { code <- run(ctx, []string{"demo"}, strings.NewReader(""), out, out) }()
	for !strings.Contains(out.String(), "Ctrl-C ends it") {
		select {
		case <-out.changed:
		case <-ctx.Done():
			t.Fatalf("it never invited a station:\n%s", out)
		}
	}
	for _, want := range []string{"wss://localhost:", "/ocpp/MY-STATION", "password ", "root.pem"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the invitation lacks %q:\n%s", want, out)
		}
	}
	stop()
	if got := <-code; got != exitDone {
		t.Errorf("exit code %d:\n%s", got, out)
	}
	left, err := os.ReadDir(os.Getenv("TMPDIR"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
}

// A step that does not hold ends the story and is told as such.
func TestStoryMissedStep(t *testing.T) {
	t.Parallel()
	for _, asJSON := range []bool{false, true} {
		var out bytes.Buffer
		s := &story{out: &out, json: asJSON, start: time.Now()}
		cause := errors.New("it was let in")
		err := s.step(t.Context(), scene{"an impostor is refused", func(context.Context) ([]string, error) { return nil, cause }})
		var missed *missedStep
		if !errors.As(err, &missed) || !errors.Is(err, cause) {
			t.Errorf("step returned %v", err)
		}
		want := "✗  1  an impostor is refused"
		if asJSON {
			want = `"ok":false,"error":"it was let in"`
		}
		if !strings.Contains(out.String(), want) {
			t.Errorf("told %q, want %q", out.String(), want)
		}
	}
}
