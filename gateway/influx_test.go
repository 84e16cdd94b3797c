package gateway_test

import (
	"net"
	"sync/atomic"
	"testing"
	"time"

	"bollard/gateway"
)

// It is calm where few connections come, and a few seconds after many did, or after the
// start.
func TestInflux(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	came, calm := gateway.Influx(func() time.Time { return now })
	for i, step := range []struct {
		seconds, rate int // connections a second
		calm          bool
	}{
		{0, 0, false}, {3, 0, false}, {1, 0, true}, {60, 5, true}, {1, 60, false}, {60, 500, false}, {3, 0, false}, {1, 0, true}, {60, 20, false}, {60, 5, true},
	} {
		for range step.seconds {
			for range step.rate {
				now = now.Add(time.Second / time.Duration(step.rate))
				came()
			}
			if step.rate == 0 {
				now = now.Add(time.Second)
			}
		}
		if calm() != step.calm {
			t.Errorf("step %d: calm %t after %d a second", i, calm(), step.rate)
		}
	}
}

// Connections are what it is about, whatever comes of them.
func TestConnectionsAreAnInflux(t *testing.T) {
	t.Parallel()
	var passed atomic.Int64
	began := time.Now()
	r := newRig(t, func(cfg *gateway.Config, _ *rig) {
		cfg.Clock = func() time.Time { return began.Add(time.Duration(passed.Load())) }
	})
	if r.Calm() {
		t.Error("it is calm at the start")
	}
	passed.Store(int64(10 * time.Second))
	if !r.Calm() {
		t.Error("it isn't calm after ten seconds without a connection")
	}
	for range 20 {
		conn, err := net.DialTimeout("tcp", r.addr, patience)
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
	eventually(t, "it is calm while connections come", func() bool { return !r.Calm() })
}
