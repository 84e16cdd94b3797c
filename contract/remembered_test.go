package contract_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"bollard/ca"
	"bollard/contract"
	"bollard/iso15118/message"
)

// What a pool has nothing for, or is silent about, isn't asked anew by each request of
// the car, and the record says so; for a short time, and for that car alone.
func TestPoolsAreNotAskedAnew(t *testing.T) {
	t.Parallel()
	const p = message.ISO2
	far, near := newRig(t, kindsOf(p)...), newRig(t)
	c, other := far.car(t, p), far.carOf(t, p, "WP0TESTA00000002A3")
	no, _ := far.ask(t, p, sign(t, c.request(), newKey(t, curveOf(p))), false) // FAILED_SignatureError
	asked := map[string]int{}
	pool := func(name string, answer func() ([][]byte, error)) contract.Outside {
		return contract.Outside{Name: name, Pool: poolFunc(func(context.Context, message.Protocol, []byte) ([][]byte, error) {
			asked[name]++
			return answer()
		})}
	}
	near.withPools(t,
		pool("empty", func() ([][]byte, error) { return nil, nil }),
		pool("refusing", func() ([][]byte, error) { return [][]byte{no.EXI}, nil }),
		pool("broken", func() ([][]byte, error) { return nil, errors.New("connection refused") }),
		pool("unfit", func() ([][]byte, error) { return [][]byte{{1}}, nil }))
	for _, step := range []struct {
		name  string
		after time.Duration
		who   *car
		log   string
	}{
		{"at first", 0, c, "empty=nothing refusing=nothing broken=failed unfit=unfit"},
		{"at once again", 0, c, "empty=nothing,remembered refusing=nothing,remembered broken=failed,remembered unfit=unfit"},
		{"another car", 0, other, "empty=nothing refusing=nothing broken=failed unfit=unfit"},
		{"after silence", 10 * time.Second, c, "empty=nothing,remembered refusing=nothing,remembered broken=failed unfit=unfit"},
		{"after the noes", 20 * time.Second, c, "empty=nothing refusing=nothing broken=failed unfit=unfit"},
	} {
		near.clock.set(near.clock.now().Add(step.after))
		before := asked["empty"]
		a, _ := near.ask(t, p, sign(t, step.who.request(), step.who.key), false)
		if a.Code != "FAILED_SignatureError" {
			t.Errorf("%s: the car is told %s, not what a pool says: %s", step.name, a.Code, a.Reason)
		}
		if _, log := near.newest(t); log != step.log {
			t.Errorf("%s: on record: %s", step.name, log)
		}
		if again := asked["empty"] > before; again == strings.Contains(step.log, "empty=nothing,remembered") {
			t.Errorf("%s: asked %v", step.name, again)
		}
	}
}

// A pool that had no time to answer, since its station hung up or had hardly any patience
// left, isn't taken for silent: the car's next request asks it.
func TestCutTurnsAreNotRemembered(t *testing.T) {
	t.Parallel()
	const p = message.ISO2
	far, near := newRig(t, kindsOf(p)...), newRig(t)
	c := far.car(t, p)
	exi := sign(t, c.request(), c.key)
	hungUp, hangUp := context.WithCancel(t.Context())
	for name, tt := range map[string]struct {
		ctx        context.Context
		left       time.Duration
		remembered bool
	}{
		"hung up":           {hungUp, time.Minute, false},
		"hardly any time":   {t.Context(), 510 * time.Millisecond, false}, // 500 ms of it are in reserve
		"none":              {t.Context(), 0, false},
		"silent in its own": {t.Context(), 800 * time.Millisecond, true},
	} {
		asked := 0
		near.withPools(t, contract.Outside{Name: "far", Pool: poolFunc(func(ctx context.Context, _ message.Protocol, _ []byte) ([][]byte, error) {
			if asked++; asked > 1 {
				return nil, nil
			}
			if tt.ctx == hungUp {
				hangUp()
			}
			<-ctx.Done()
			return nil, ctx.Err()
		})})
		ask := contract.Request{Protocol: p, EXI: exi, Actor: "operator", Left: func() time.Duration { return tt.left }}
		if _, err := near.Provision(tt.ctx, ask); err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		near.ask(t, p, exi, false)
		if _, log := near.newest(t); asked != 2 && !tt.remembered || (log == "far=late,remembered") != tt.remembered {
			t.Errorf("%s: asked %d times, then on record: %s", name, asked, log)
		}
	}
	hangUp()
}

// Where roots of others are trusted for mo, a pool's contract has to lead to one, and its
// certificate not to be revoked.
func TestPoolContractIsVerified(t *testing.T) {
	t.Parallel()
	const p = message.ISO2
	far, near, stranger := newRig(t, kindsOf(p)...), newRig(t), newRig(t, ca.KindMO)
	near.trustV2G(t, far, p)
	c := far.car(t, p)
	far.add(t)
	w := &world{revoked: map[string]bool{}}
	exi := sign(t, c.request(), c.key)
	ask := func() string {
		t.Helper()
		service, err := contract.New(t.Context(), contract.Config{Store: near.store, Authority: near.authority, Revocation: w, Clock: near.clock.now,
			Pools: []contract.Outside{{Name: "far", Pool: far.asPool(false, nil)}}})
		if err != nil {
			t.Fatal(err)
		}
		near.Service = service
		near.ask(t, p, exi, false)
		_, log := near.newest(t)
		return log
	}
	if log := ask(); log != "far=answered" {
		t.Errorf("nobody's root is trusted for mo: %s", log)
	}
	near.trust(t, "mo", stranger.authority.Roots(ca.KindMO)[0])
	if log := ask(); log != "far=unfit" {
		t.Errorf("another provider's root is trusted: %s", log)
	}
	near.trust(t, "mo", far.authority.Roots(ca.KindMO)[0])
	if log := ask(); log != "far=answered" {
		t.Errorf("its root is trusted: %s", log)
	}
	a, _ := far.ask(t, p, exi, false)
	w.revoked[a.Serial] = true
	if log := ask(); log != "far=unfit" {
		t.Errorf("revoked by its CA: %s", log)
	}
}
