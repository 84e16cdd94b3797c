package fleet_test

import (
	"context"
	"crypto"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"bollard/ca"
	"bollard/fleet"
	"bollard/keys"
	"bollard/ledger"
	"bollard/ocpp"
	"bollard/store"
)

func TestAddIsAllOrNothing(t *testing.T) {
	t.Parallel()
	good := fleet.Enrolment{Identity: "CS-1", Serial: "SN-1", Profile: 2, Line: 2, SECCs: []fleet.SECC{{ID: "DE*ABC*E1", EVSE: 1}}}
	for _, tt := range []struct {
		name string
		edit func(*fleet.Enrolment)
		want string
	}{
		{"no identity", func(e *fleet.Enrolment) { e.Identity = "" }, "identity"},
		{"a colon and a password, RFC 7617", func(e *fleet.Enrolment) { e.Identity = "CS:1" }, "colon"},
		{"a colon and a given password", func(e *fleet.Enrolment) {
			e.Identity, e.Profile, e.Password = "CS:1", 3, []byte("secret-secret-secret")
		}, "colon"},
		{"identity with slash", func(e *fleet.Enrolment) { e.Identity = "a/b" }, "identity"},
		{"identity twice without case", func(e *fleet.Enrolment) { e.Identity = "cs-1" }, "without case"},
		{"serial twice", func(e *fleet.Enrolment) { e.Serial = "SN-1" }, "belongs to"},
		{"alias is another's serial", func(e *fleet.Enrolment) { e.Alias = "SN-1" }, "belongs to"},
		{"no serial", func(e *fleet.Enrolment) { e.Serial = "" }, "missing"},
		{"A00.FR.511 serial is an IPv4 address", func(e *fleet.Enrolment) { e.Serial = "192.0.2.1" }, "A00.FR.511"},
		{"A00.FR.511 serial is an IPv6 address", func(e *fleet.Enrolment) { e.Serial = "[2001:db8::1]" }, "A00.FR.511"},
		{"A00.FR.511 serial is an address with port", func(e *fleet.Enrolment) { e.Serial = "192.0.2.1:80" }, "A00.FR.511"},
		{"A00.FR.511 serial is a URL", func(e *fleet.Enrolment) { e.Serial = "wss://x/y" }, "A00.FR.511"},
		{"A00.FR.511 serial is a host name", func(e *fleet.Enrolment) { e.Serial = "cs1.example.com" }, "A00.FR.511"},
		{"serial with newline", func(e *fleet.Enrolment) { e.Serial = "SN\n1" }, "printable"},
		{"serial with trailing space", func(e *fleet.Enrolment) { e.Serial = "SN-2 " }, "printable"},
		{"serial too long", func(e *fleet.Enrolment) { e.Serial = strings.Repeat("9", 65) }, "64"},
		{"profile 0", func(e *fleet.Enrolment) { e.Profile = 0 }, "1, 2 or 3"},
		{"profile 4", func(e *fleet.Enrolment) { e.Profile = 4 }, "1, 2 or 3"},
		{"vendor with escape", func(e *fleet.Enrolment) { e.Vendor = "\x1b[2J" }, "vendor"},
		{"model too long", func(e *fleet.Enrolment) { e.Model = strings.Repeat("m", 51) }, "model"},
		{"hash too short", func(e *fleet.Enrolment) { e.FactoryHash = "abcd" }, "cert_sha256"},
		{"SECC identifier is another's", func(e *fleet.Enrolment) { e.SECCs = []fleet.SECC{{ID: "de*abc*e1"}} }, "belongs to"},
		{"SECC identifier twice", func(e *fleet.Enrolment) { e.SECCs = []fleet.SECC{{ID: "E2", EVSE: 1}, {ID: "e2", EVSE: 2}} }, "twice"},
		{"SECC identifier with another letter", func(e *fleet.Enrolment) { e.SECCs = []fleet.SECC{{ID: "E 2"}} }, "SECC identifier"},
		{"EVSE below 1", func(e *fleet.Enrolment) { e.SECCs = []fleet.SECC{{ID: "E2", EVSE: -1}} }, "EVSE -1"},
		{"too many SECC identifiers", func(e *fleet.Enrolment) { e.SECCs = make([]fleet.SECC, 65) }, "64 at most"},
		{"short password", func(e *fleet.Enrolment) { e.Password = []byte("short") }, "password has 5 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			bad := fleet.Enrolment{Identity: "CS-2", Serial: "SN-2", Profile: 2, Line: 3}
			tt.edit(&bad)
			_, err := r.svc.Add(t.Context(), "operator", []fleet.Enrolment{good, bad})
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "line 3: ") {
				t.Errorf("Add: %v, want line 3 with %q", err, tt.want)
			}
			if list, err := r.svc.Stations(t.Context()); err != nil || len(list) != 0 {
				t.Errorf("%d stations, %v", len(list), err)
			}
		})
	}
}

func TestAddDuplicateOfStored(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.add(fleet.Enrolment{Identity: "CS-1", Serial: "SN-1"})
	_, err := r.svc.Add(t.Context(), "operator", []fleet.Enrolment{{Identity: "CS-2", Serial: "SN-1", Profile: 2, Line: 7}})
	if !errors.Is(err, fleet.ErrStationExists) || !strings.HasPrefix(err.Error(), "line 7: ") {
		t.Errorf("Add: %v", err)
	}
}

func TestRemoveRevokesAndEnds(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	password := r.add(fleet.Enrolment{Identity: "CS-1"})
	s := r.open(r.admit(withPassword(claim(t, "CS-1"), password)), ocpp.V16)
	key := newKey(t)
	s.message(ocpp.FromStation, "SignCertificate", csrPayload(t, key, "SN-CS-1"))
	serial := r.waitOrder("CS-1", fleet.OrderDelivered).Serial
	if err := r.svc.Remove(t.Context(), "operator", "cs-1"); err != nil {
		t.Fatal(err)
	}
	issued, err := r.auth.Lookup(t.Context(), serial)
	if err != nil || issued.State != ca.StateRevoked {
		t.Errorf("certificate: %+v, %v", issued, err)
	}
	if s.endedWith() == "" {
		t.Error("session goes on")
	}
	if _, err := r.svc.Station(t.Context(), "CS-1"); !errors.Is(err, fleet.ErrUnknownStation) {
		t.Errorf("station: %v", err)
	}
	if err := r.svc.Remove(t.Context(), "operator", "CS-1"); !errors.Is(err, fleet.ErrUnknownStation) {
		t.Errorf("removing twice: %v", err)
	}
}

// fullStore can't record a revocation any more.
type fullStore struct{ *store.Store }

func (fullStore) SetRevoked(context.Context, string, string, time.Time, ...ledger.Event) error {
	return store.ErrFull
}

func TestRevokeOnAFullDiskEndsTheSession(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.add(fleet.Enrolment{Identity: "CS-1", Profile: 3})
	chain := r.issue("CS-1", "SN-CS-1")
	s := r.open(r.admit(withCertificates(claim(t, "CS-1"), chain...)), ocpp.V201)
	full := fullStore{r.store}
	authority, err := ca.New(t.Context(), ca.Config{Store: full, Organisation: organisation, Country: "NL", Clock: r.clock, Keeper: r.keys,
		Keys: func(ctx context.Context, uri string) (crypto.Signer, error) {
			return r.keys.Open(ctx, uri, keys.RoleCA)
		}})
	if err != nil {
		t.Fatal(err)
	}
	svc, err := fleet.New(t.Context(), fleet.Config{Store: full, Authority: authority, Revocation: asking{}, Organisation: r.org, PublicURL: "wss://bollard.example:8443/ocpp",
		Record: func(ctx context.Context, e ledger.Event) error { return full.Record(ctx, e) }, Clock: r.clock, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	svc.Attach(r)
	_, err = svc.Revoke(t.Context(), "operator", serialOf(chain[0]), "keyCompromise")
	if !errors.Is(err, store.ErrFull) || !strings.Contains(err.Error(), "session was ended") || !strings.Contains(err.Error(), "still valid") {
		t.Errorf("got %v", err)
	}
	if s.endedWith() == "" {
		t.Error("the session goes on")
	}
	_, err = svc.Revoke(t.Context(), "operator", serialOf(chain[0]), "no reason")
	if err == nil || strings.Contains(err.Error(), "still valid") {
		t.Errorf("a wrong reason: %v", err)
	}
}

func TestRevokeEndsTheSession(t *testing.T) { // promise: within 60 s, here at once
	t.Parallel()
	r := newRig(t)
	for _, id := range []string{"CS-1", "CS-2"} {
		r.add(fleet.Enrolment{Identity: id, Profile: 3})
	}
	one, two := r.issue("CS-1", "SN-CS-1"), r.issue("CS-2", "SN-CS-2")
	s1 := r.open(r.admit(withCertificates(claim(t, "CS-1"), one...)), ocpp.V201)
	s2 := r.open(r.admit(withCertificates(claim(t, "CS-2"), two...)), ocpp.V201)
	if _, err := r.svc.Revoke(t.Context(), "operator", serialOf(one[0]), "keyCompromise"); err != nil {
		t.Fatal(err)
	}
	if s1.endedWith() == "" || s2.endedWith() != "" {
		t.Errorf("ended: %q, %q", s1.endedWith(), s2.endedWith())
	}
	// Revoked by another door of the authority: the sweep finds it.
	if _, err := r.auth.Revoke(t.Context(), serialOf(two[0]), "superseded", "operator"); err != nil {
		t.Fatal(err)
	}
	fleet.Sweep(t.Context(), r.svc)
	if s2.endedWith() == "" {
		t.Error("session on a revoked certificate goes on")
	}
}

// Thousands of idle stations cost nothing while no record of a certificate changes.
func TestSweepLooksOnceForEachChange(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.add(fleet.Enrolment{Identity: "CS-1", Profile: 3})
	s := r.open(r.admit(withCertificates(claim(t, "CS-1"), r.issue("CS-1", "SN-CS-1")...)), ocpp.V201)
	for _, change := range []bool{true, false, false, true, false} {
		if change {
			r.issue("CS-1", "SN-CS-1")
		}
		before := s.asked.Load()
		fleet.Sweep(t.Context(), r.svc)
		if looked := s.asked.Load() > before; looked != change {
			t.Errorf("changed: %t, looked: %t", change, looked)
		}
	}
}
