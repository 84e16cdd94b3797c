package fleet_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"bollard/fleet"
)

// The readings real stations make of one 1.6 secret (fact sheet 9.2).
func TestPasswordReadings(t *testing.T) {
	t.Parallel()
	raw := []byte{0, 1, 2, 3, 4, 5, 6, 7, 0xff, 0xfe, 10, 11, 12, 13, 14, ':'}
	text := hex.EncodeToString(raw)
	for _, tt := range []struct{ name, given string }{
		{"imported as bytes", "hex:" + text},
		{"imported as upper-case hex", "hex:" + strings.ToUpper(text)},
		{"given as hex text", text},
		{"given as bytes", string(raw)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.add(fleet.Enrolment{Identity: "CS-1", Password: []byte(tt.given)})
			for _, presented := range []string{string(raw), text, strings.ToUpper(text)} {
				r.admit(withPassword(claim(t, "CS-1"), presented))
			}
			for _, presented := range []string{text[:30], text + "00", string(raw[:15]), text[1:] + "0", "hex:" + text} {
				r.refusal(withPassword(claim(t, "CS-1"), presented))
			}
		})
	}
}

func FuzzCanonical(f *testing.F) {
	for _, s := range []string{"", "00", strings.Repeat("a0", 16), strings.Repeat("3A", 32), strings.Repeat("g", 32), "correct horse battery"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		once := fleet.Canonical(b)
		if !bytes.Equal(fleet.Canonical(once), once) {
			t.Errorf("canonical form of %x isn't one", b)
		}
		if len(b) >= 16 && !bytes.Equal(fleet.Canonical([]byte(hex.EncodeToString(b))), once) {
			t.Errorf("hex of %x is another secret", b)
		}
	})
}

func TestGivenPasswordLength(t *testing.T) { // white paper §5; A00.FR.205, E201
	t.Parallel()
	r := newRig(t)
	r.add(fleet.Enrolment{Identity: "CS-1"})
	for _, tt := range []struct {
		password string
		good     bool
	}{
		{strings.Repeat("x", 15), false}, {strings.Repeat("x", 16), true}, {strings.Repeat("x", 64), true}, {strings.Repeat("x", 65), false},
		{"hex:0102", false}, {"hex:zz", false}, {"", false},
	} {
		_, err := r.svc.SetPassword(t.Context(), "operator", "CS-1", []byte(tt.password))
		if (err == nil) != tt.good {
			t.Errorf("password of %d bytes: %v", len(tt.password), err)
		}
		if err != nil && len(tt.password) > 4 && strings.Contains(err.Error(), tt.password) {
			t.Errorf("error tells the password: %v", err)
		}
	}
}

func TestGeneratedPassword(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.add(fleet.Enrolment{Identity: "CS-1"})
	seen := map[string]bool{}
	for range 20 {
		p, err := r.svc.SetPassword(t.Context(), "operator", "CS-1", nil)
		if err != nil || len(p) != 20 || seen[p] || strings.Trim(p, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789") != "" {
			t.Fatalf("generated %d characters, repeated %v, %v", len(p), seen[p], err)
		}
		seen[p] = true
	}
	for e, err := range r.store.Entries(t.Context(), 1) {
		if err != nil {
			t.Fatal(err)
		}
		for p := range seen {
			if strings.Contains(fmt.Sprint(e), p) {
				t.Fatal("ledger holds a password")
			}
		}
	}
}

// Unknown identities and wrong passwords cost the same number of hashes of the
// same kinds, whichever kinds are stored.
func TestEqualWork(t *testing.T) { // threat A3
	t.Parallel()
	r := newRig(t)
	generated := r.add(fleet.Enrolment{Identity: "CS-1"})
	work := func(c fleet.Claim) [2]int {
		f0, s0 := fleet.Hashes(r.svc)
		r.refusal(c)
		f1, s1 := fleet.Hashes(r.svc)
		return [2]int{f1 - f0, s1 - s0}
	}
	fast, slow := [2]int{1, 0}, [2]int{1, 1}
	if got := work(withPassword(claim(t, "CS-1"), "wrong")); got != fast {
		t.Errorf("wrong password: %v hashes", got)
	}
	for _, id := range []string{"a", "b", "c", "d", "e", "f"} {
		if got := work(withPassword(claim(t, id), "wrong")); got != fast {
			t.Errorf("unknown identity, no passphrase stored: %v hashes", got)
		}
	}
	r.add(fleet.Enrolment{Identity: "CS-3", Profile: 3}) // no password at all
	r.add(fleet.Enrolment{Identity: "CS-2", Password: []byte("a human passphrase")})
	if got := work(withPassword(claim(t, "CS-2"), "wrong")); got != slow {
		t.Errorf("wrong passphrase: %v hashes", got)
	}
	kinds := map[string][2]int{}
	count := map[[2]int]int{}
	for i := 0; i < 12 || len(count) < 2 && i < 64; i++ { // each kind is half of them
		id := fmt.Sprintf("nobody-%d", i)
		kinds[id] = work(withPassword(claim(t, id), "wrong"))
		count[kinds[id]]++
	}
	if count[fast] == 0 || count[slow] == 0 || len(count) != 2 {
		t.Errorf("unknown identities' work: %v, want both kinds", count)
	}
	r.restart()
	for id, before := range kinds {
		if got := work(withPassword(claim(t, id), "wrong")); got != before {
			t.Errorf("work for %s changed by a restart from %v to %v", id, before, got)
		}
	}
	// Refused whatever it presents: the same work as a known one's.
	below := withPassword(claim(t, "CS-1"), generated)
	below.TLS, below.Profiles = false, []int{1}
	if got := work(below); got != fast && got != slow {
		t.Errorf("below the floor: %v hashes", got)
	}
}

func TestRightSecretIsNeverHeldUp(t *testing.T) { // threat A3
	t.Parallel()
	r := newRig(t)
	const passphrase = "a human passphrase"
	generated := r.add(fleet.Enrolment{Identity: "CS-1"})
	r.add(fleet.Enrolment{Identity: "CS-2", Password: []byte(passphrase)})
	r.add(fleet.Enrolment{Identity: "CS-3", Password: []byte(passphrase + "!")})
	r.admit(withPassword(claim(t, "CS-2"), passphrase))
	for range 60 { // the source and CS-1 are over their budgets
		r.refusal(withPassword(claim(t, "CS-1"), "wrong"))
	}
	release := fleet.HoldSlow(r.svc)
	r.admit(withPassword(claim(t, "CS-1"), generated))
	r.admit(withPassword(claim(t, "CS-2"), passphrase)) // known from before
	fleet.FillSlowLane(r.svc)
	got := r.refusal(withPassword(claim(t, "CS-3"), passphrase+"!"))
	if got.Status != 503 || got.RetryAfter <= 0 {
		t.Errorf("slow lane full: %+v", got)
	}
	// A source within its budget doesn't wait behind the guessers.
	elsewhere := withPassword(claim(t, "CS-3"), passphrase+"!")
	elsewhere.Source = netip.MustParseAddr("2001:db8::1")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.svc.Admit(ctx, elsewhere); err == nil {
		t.Error("admitted without a hash")
	}
	release()
	r.admit(elsewhere)
	// Budgets come back with time.
	r.advance(10 * time.Minute)
	again := withPassword(claim(t, "CS-3"), "wrong")
	if got := r.refusal(again); got.Status != 401 {
		t.Errorf("within the budget again: %+v", got)
	}
}

func TestChangedPassphraseIsForgotten(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const before, now = "the first passphrase", "the second passphrase"
	r.add(fleet.Enrolment{Identity: "CS-1", Password: []byte(before)})
	s := r.open(r.admit(withPassword(claim(t, "CS-1"), before)), 0)
	if _, err := r.svc.SetPassword(t.Context(), "operator", "CS-1", []byte(now)); err != nil {
		t.Fatal(err)
	}
	if s.endedWith() == "" {
		t.Error("session goes on with the old password (A01.FR.03)")
	}
	r.refusal(withPassword(claim(t, "CS-1"), before))
	r.admit(withPassword(claim(t, "CS-1"), now))
}

// A binary key is random and gets the fast hash, unless it looks typed: a fast
// hash of a key of few different bytes would be guessed at once.
func TestHexPasswordKind(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.add(fleet.Enrolment{Identity: "CS-1"})
	for password, kind := range map[string]string{
		"hex:000102030405060708090a0b0c0d0e0f":         "generated",
		"hex:00000000000000000000000000000001":         "human",
		"hex:0102030401020304010203040102030401020304": "human",
		"0102030405060708090a0b0c0d0e0f10":             "human", // text, whatever it spells
	} {
		if _, err := r.svc.SetPassword(t.Context(), "operator", "CS-1", []byte(password)); err != nil {
			t.Fatal(err)
		}
		if got := r.station("CS-1").Password.Kind; got != kind {
			t.Errorf("%s is %s, want %s", password, got, kind)
		}
	}
}

// Threat A3: one host has a whole /64, and a guesser of names fills no memory.
func TestBudgetIsBounded(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		a, b string
		same bool
	}{
		{"192.0.2.1", "192.0.2.2", false},
		{"192.0.2.1", "::ffff:192.0.2.1", true},
		{"2001:db8::1", "2001:db8::ffff:1:2:3", true},
		{"2001:db8::1", "2001:db8:0:1::1", false},
	} {
		if got := fleet.SameSource(netip.MustParseAddr(tt.a), netip.MustParseAddr(tt.b)); got != tt.same {
			t.Errorf("%s and %s share a budget: %v", tt.a, tt.b, got)
		}
	}
	if n := fleet.BudgetEntries(newRig(t).svc, 10_000); n > 8192 {
		t.Errorf("%d identities are remembered", n)
	}
}
