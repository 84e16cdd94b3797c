package gateway

import (
	"context"
	"errors"
	"testing"
	"time"

	"bollard/fleet"
)

// A connection that is being admitted while the gateway begins to drain must
// not become live behind its back: nobody would end its session.
func TestNothingBecomesLiveDuringADrain(t *testing.T) {
	t.Parallel()
	r := newRegistry(time.Now)
	release, err := r.turn(t.Context(), "cs-1")
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	p := r.expect()
	defer r.forget(p)
	r.drain()
	err = r.enlist(p, &session{key: "cs-1", admission: fleet.Admission{}}, func() { t.Error("it was counted") })
	if !errors.Is(err, errDraining) || r.live("cs-1") != nil {
		t.Errorf("got %v, want %v", err, errDraining)
	}
	if r.expect() != nil {
		t.Error("a connection was taken in while draining")
	}
}

// Of the proven connections of one identity only so many wait for their turn.
func TestCrowdOfOneIdentity(t *testing.T) {
	t.Parallel()
	r := newRegistry(time.Now)
	release, err := r.turn(t.Context(), "cs-1")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan error, maxWaiting)
	for range maxWaiting {
		go func() { _, err := r.turn(ctx, "cs-1"); left <- err }()
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		r.mu.Lock()
		n := len(r.seats["cs-1"].rushing().waiting)
		r.mu.Unlock()
		if n == maxWaiting {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d wait", n)
		}
	}
	short, stop := context.WithTimeout(t.Context(), 5*time.Second)
	defer stop()
	if _, err := r.turn(short, "cs-1"); !errors.Is(err, errCrowd) {
		t.Errorf("one more: %v, want %v", err, errCrowd)
	}
	cancel()
	for range maxWaiting {
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("a waiter that gave up: %v", err)
		}
	}
	release()
	if len(r.seats) != 0 {
		t.Errorf("%d seats are left over", len(r.seats))
	}
}
