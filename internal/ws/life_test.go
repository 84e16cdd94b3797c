package ws_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"bollard/internal/ws"
)

// readAll reads until an error and hands it over.
func readAll(c *ws.Conn) <-chan error {
	end := make(chan error, 1)
	go func() {
		for {
			if _, err := c.Read(nil); err != nil {
				end <- err
				return
			}
		}
	}()
	return end
}

func wait[T any](t *testing.T, ch <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatalf("%s didn't happen", what)
		panic("unreachable")
	}
}

// atSomePace tries what has to be in time with ever more of it, and wants it to
// succeed once: a busy machine is too slow for some pace, a fault for every one.
func atSomePace(t *testing.T, try func(t *testing.T, unit time.Duration) error) {
	t.Helper()
	var err error
	for unit := 100 * time.Millisecond; unit < 10*time.Second; unit *= 3 {
		if err = try(t, unit); err == nil {
			return
		}
		t.Logf("with %v: %v", unit, err)
	}
	t.Error(err)
}

// closeWithin wants one of a few Closes to take no longer than that. Each has a
// connection of its own, and is measured by try.
func closeWithin(t *testing.T, most time.Duration, try func(t *testing.T) (took time.Duration)) {
	t.Helper()
	var all []time.Duration
	for range 8 {
		took := try(t)
		if took <= most {
			return
		}
		all = append(all, took)
	}
	t.Errorf("Close took %v, want at most %v", all, most)
}

// stuff fills everything between two sockets until a write fails.
func stuff(c *ws.Conn) error {
	msg := []byte(strings.Repeat("x", 1<<20))
	for range 1000 {
		if err := c.Write(msg); err != nil {
			return err
		}
	}
	return errors.New("a peer that never reads took 1 GB")
}

func TestStuckPeerFailsTheWriteInTime(t *testing.T) {
	t.Parallel()
	for name, secure := range map[string]bool{"ws": false, "wss": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			closeWithin(t, ws.CloseWait+500*time.Millisecond, func(t *testing.T) time.Duration {
				_, server := newRig(t, secure, ws.Limits{WriteTimeout: 200 * time.Millisecond}, "").pair(t, ws.Limits{})
				failed := make(chan error, 1)
				go func() { failed <- stuff(server) }()
				err := wait(t, failed, "a write error")
				var netErr net.Error
				if !errors.As(err, &netErr) || !netErr.Timeout() {
					t.Errorf("the write failed with %v", err)
				}
				start := time.Now()
				server.Close(ws.CloseNormal, "")
				return time.Since(start)
			})
		})
	}
}

// Close ends a write that would have had much more time, and a read, and
// doesn't wait for either longer than it waits for the peer.
func TestCloseIsBounded(t *testing.T) {
	t.Parallel()
	for name, secure := range map[string]bool{"ws": false, "wss": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			closeWithin(t, ws.CloseWait+500*time.Millisecond, func(t *testing.T) time.Duration {
				_, server := newRig(t, secure, ws.Limits{WriteTimeout: time.Minute}, "").pair(t, ws.Limits{})
				wrote := make(chan error, 1)
				go func() { wrote <- stuff(server) }()
				read := readAll(server)
				select { // until the write is stuck, or nearly
				case err := <-wrote:
					t.Fatal(err)
				case <-time.After(300 * time.Millisecond):
				}
				start := time.Now()
				var closers sync.WaitGroup
				for range 3 {
					closers.Go(func() { server.Close(ws.CloseGoingAway, "") })
				}
				closers.Wait()
				took := time.Since(start)
				if err := wait(t, wrote, "the end of Write"); err == nil {
					t.Error("Write succeeded")
				}
				if err := wait(t, read, "the end of Read"); !errors.Is(err, ws.ErrClosed) {
					t.Errorf("Read gave %v", err)
				}
				if err := server.Write([]byte("x")); err == nil {
					t.Error("Write after Close succeeded")
				}
				if err := server.Ping(t.Context()); err == nil {
					t.Error("Ping after Close succeeded")
				}
				return took
			})
		})
	}
}

// With a peer that answers, Close takes no time.
func TestCloseHandshakeIsQuick(t *testing.T) {
	t.Parallel()
	closeWithin(t, ws.CloseWait/2, func(t *testing.T) time.Duration {
		client, server := newRig(t, true, ws.Limits{}, "").pair(t, ws.Limits{})
		end := readAll(client)
		ours := readAll(server)
		start := time.Now()
		server.Close(ws.CloseNormal, strings.Repeat("é", 200))
		took := time.Since(start)
		if err := wait(t, end, "the client's end"); ws.CloseStatus(err) != ws.CloseNormal && took <= ws.CloseWait/2 {
			t.Errorf("client got %v", err)
		}
		if err := wait(t, ours, "the server's end"); !errors.Is(err, ws.ErrClosed) {
			t.Errorf("server got %v", err)
		}
		return took
	})
}

// A peer that answers the close and then keeps the TCP connection holds nobody up.
func TestCloseDoesNotWaitForThePeersTCP(t *testing.T) {
	t.Parallel()
	closeWithin(t, ws.CloseWait/2, func(t *testing.T) time.Duration {
		r := newRig(t, false, ws.Limits{}, "")
		raw := dialRaw(t, r.Addr, "")
		server := r.accept(t)
		ours := readAll(server)
		closed := make(chan time.Duration, 1)
		go func() {
			start := time.Now()
			server.Close(ws.ClosePolicyViolation, "")
			closed <- time.Since(start)
		}()
		if first, payload, err := raw.next(); err == nil && (first != fin|opClose || string(payload) != "\x03\xf0") {
			t.Errorf("got %#x % x instead of the close frame", first, payload)
		} else if err != nil {
			return patience // cut before it was written
		}
		_, _ = raw.Write(frame(fin|opClose, []byte{0x03, 0xf0})) // 1008, and no more; fails if it is too late
		if err := wait(t, ours, "the server's end"); !errors.Is(err, ws.ErrClosed) {
			t.Errorf("server got %v", err)
		}
		return wait(t, closed, "Close")
	})
}

// The close frame of a violation reaches a peer that is still sending.
func TestCloseFrameOutlivesUnreadData(t *testing.T) {
	t.Parallel()
	r := newRig(t, false, ws.Limits{MaxMessage: 1000}, "")
	raw := dialRaw(t, r.Addr, "")
	server := r.accept(t)
	raw.send(t, frame(fin|opText, make([]byte, 1<<20)))
	if _, err := server.Read(nil); err == nil {
		t.Fatal("1 MiB was accepted")
	}
	go server.Close(ws.CloseTooBig, "")
	raw.wantClose(t, ws.CloseTooBig)
	if _, err := raw.r.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("the connection ended with %v, not cleanly", err)
	}
}

func TestSilentPeerIsGoneAfterPongTimeout(t *testing.T) {
	t.Parallel()
	atSomePace(t, func(t *testing.T, unit time.Duration) error {
		r := newRig(t, false, ws.Limits{PingInterval: unit / 2, PongTimeout: 3 * unit}, "")
		start := time.Now()
		raw := dialRaw(t, r.Addr, "")
		server := r.accept(t)
		_, err := server.Read(nil)
		var netErr net.Error
		if !errors.As(err, &netErr) || !netErr.Timeout() {
			t.Errorf("Read gave %v", err)
		}
		if took := time.Since(start); took < 3*unit || took > patience {
			t.Errorf("with %v the peer was given up after %v", 3*unit, took)
		}
		for range 3 { // at least three intervals fit
			if first, _, err := raw.next(); err != nil || first != fin|opPing {
				return fmt.Errorf("got %#x, %w instead of a ping", first, err)
			}
		}
		return nil
	})
}

// Each byte counts, also one that is no answer to a ping.
func TestTricklingPeerIsAlive(t *testing.T) {
	t.Parallel()
	atSomePace(t, func(t *testing.T, unit time.Duration) error {
		r := newRig(t, false, ws.Limits{PongTimeout: 5 * unit}, "")
		raw := dialRaw(t, r.Addr, "")
		server := r.accept(t)
		go func() {
			for _, b := range frame(fin|opText, []byte("slow")) {
				time.Sleep(unit) // the pace of the peer is what is tested
				if _, err := raw.Write([]byte{b}); err != nil {
					return
				}
			}
		}()
		if got, err := server.Read(nil); err != nil || string(got) != "slow" {
			return fmt.Errorf("read %q, %w", got, err)
		}
		return nil
	})
}

func TestOwnPingsKeepAConnectionAlive(t *testing.T) {
	t.Parallel()
	atSomePace(t, func(t *testing.T, unit time.Duration) error {
		limits := ws.Limits{PingInterval: unit / 3, PongTimeout: 3 * unit}
		client, server := newRig(t, true, limits, "").pair(t, ws.Limits{})
		readAll(client)
		end := readAll(server)
		select {
		case err := <-end:
			return fmt.Errorf("an idle connection ended: %w", err)
		case <-time.After(10 * unit):
			return nil
		}
	})
}

func TestPingOfAGonePeerFails(t *testing.T) {
	t.Parallel()
	r := newRig(t, false, ws.Limits{}, "")
	dialRaw(t, r.Addr, "") // never answers
	server := r.accept(t)
	readAll(server)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := server.Ping(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Ping gave %v", err)
	}
}

// A peer that nobody listens to isn't found dead: on profile 1 another would displace it.
func TestPingWhileNobodyReads(t *testing.T) {
	t.Parallel()
	r := newRig(t, false, ws.Limits{}, "")
	raw := dialRaw(t, r.Addr, "") // never answers
	server := r.accept(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := server.Ping(ctx); err != nil {
		t.Errorf("Ping gave %v", err)
	}
	raw.Close() // or our Close would wait for an answer
}

// Writers, pings and a close from many goroutines; the race detector watches.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	limits := ws.Limits{PingInterval: time.Millisecond, PongTimeout: patience, WriteTimeout: patience, Compression: true}
	client, server := newRig(t, true, limits, "").pair(t, limits)
	var all sync.WaitGroup
	want := strings.Repeat("0123456789", 100)
	const each, writers = 50, 4
	for _, c := range []*ws.Conn{client, server} {
		for range writers {
			all.Go(func() {
				for range each {
					if err := c.Write([]byte(want)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Go(func() {
			for range writers * each {
				if got, err := c.Read(nil); err != nil || string(got) != want {
					t.Errorf("read %d bytes, %v", len(got), err)
					return
				}
			}
		})
	}
	all.Wait()
	all.Go(func() { client.Close(ws.CloseNormal, "") })
	all.Go(func() { server.Close(ws.CloseNormal, "") })
	all.Wait()
}
