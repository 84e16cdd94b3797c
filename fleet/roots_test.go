package fleet_test

import (
	"context"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"bollard/ca"
	"bollard/ca/catest"
	"bollard/fleet"
	"bollard/ocpp"
)

func TestRootsAreInstalled(t *testing.T) { // M03.FR.01-.04, M05.FR.01, .02, TC_M_01-_04, TC_M_12-_19, TC_075
	t.Parallel()
	upper := func(d ocpp.CertificateHashData) ocpp.CertificateHashData {
		return ocpp.CertificateHashData{HashAlgorithm: strings.ToLower(d.HashAlgorithm), IssuerNameHash: strings.ToUpper(d.IssuerNameHash),
			IssuerKeyHash: strings.ToUpper(d.IssuerKeyHash), SerialNumber: "00" + strings.ToUpper(d.SerialNumber)}
	}
	for _, tt := range []struct {
		name string
		v    ocpp.Version
		use  string
		wire string
		edit func(*shelf)
	}{
		{"1.6 own", ocpp.V16, "csms", "CentralSystemRootCertificate", nil},
		{"1.6 manufacturer", ocpp.V16, "manufacturer", "ManufacturerRootCertificate", func(h *shelf) { h.algorithm = "SHA384" }},
		{"2.0.1 v2g", ocpp.V201, "v2g", "V2GRootCertificate", func(h *shelf) { h.algorithm = "SHA512" }},
		{"2.0.1 mo", ocpp.V201, "mo", "MORootCertificate", func(h *shelf) { h.spell = upper }},
		{"2.1 oem", ocpp.V21, "oem", "OEMRootCertificate", func(h *shelf) { h.empty = "Accepted" }},
		{"wrong name hash", ocpp.V201, "csms", "CSMSRootCertificate", func(h *shelf) {
			h.spell = func(d ocpp.CertificateHashData) ocpp.CertificateHashData { d.IssuerNameHash = "00"; return d }
		}},
		{"wrong key hash", ocpp.V201, "csms", "CSMSRootCertificate", func(h *shelf) {
			h.spell = func(d ocpp.CertificateHashData) ocpp.CertificateHashData { d.IssuerKeyHash = "00"; return d }
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			h := newShelf(t, tt.v)
			if tt.edit != nil {
				tt.edit(h)
			}
			s := r.shelved(h)
			var data []byte
			if tt.use != "csms" {
				data = pemOf(newMaker(t, r.clock()).Cert)
			}
			r.wantRoot(tt.use, data)
			eventually(t, "root on the station", func() bool { return len(r.plan("CS-1").Seen[tt.use]) == 1 })
			s.wg.Wait()
			// What was seen isn't asked for again, over a restart neither.
			before := len(s.actions())
			fleet.Poke(r.svc)
			s.wg.Wait()
			r.restart()
			again := r.openWith(s.adm, tt.v, fleet.SecurityBollard, h.answer)
			again.ready()
			again.wg.Wait()
			if got := h.done(); !slices.Equal(got, []string{"install " + tt.wire}) || len(s.actions()) != before || len(again.actions()) != 0 {
				t.Errorf("done %v; then %v and %v", got, s.actions()[before:], again.actions())
			}
			if len(r.events("roots.installed")) != 1 || len(r.events("roots.wanted")) != 1 {
				t.Error("installation isn't on record")
			}
		})
	}
}

// A 1.6 station may know the messages about roots inside DataTransfer only; and
// there alone 1.6 has roots of the V2G and MO hierarchies.
func TestRootsInsideDataTransfer(t *testing.T) { // M03, M04, M05 by the 1.6 plug & charge note
	t.Parallel()
	for _, tt := range []struct {
		name, use, wire string
		inside          bool
		want            []string
	}{
		// All four uses are asked about: it knows them.
		{"only that form", "csms", "CSMSRootCertificate", true, slices.Concat(slices.Repeat([]string{"inside GetInstalledCertificateIds"}, 4),
			[]string{"inside InstallCertificate", "install CSMSRootCertificate"}, slices.Repeat([]string{"inside GetInstalledCertificateIds"}, 4))},
		{"both forms, a use 1.6 lacks", "v2g", "V2GRootCertificate", false, []string{"inside GetInstalledCertificateIds",
			"inside InstallCertificate", "install V2GRootCertificate", "inside GetInstalledCertificateIds"}},
		{"both forms, a use 1.6 has", "manufacturer", "ManufacturerRootCertificate", false, []string{"install ManufacturerRootCertificate"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			h := newShelf(t, ocpp.V16)
			h.inside = tt.inside
			s, _ := r.basic("CS-1", ocpp.V16, func(action string, payload json.RawMessage) (any, error) {
				if action == "DataTransfer" {
					return h.transfer(payload)
				}
				return h.answer(action, payload)
			})
			s.ready()
			first, other := newMaker(t, r.clock()).Cert, newMaker(t, r.clock())
			second := other.Issue(other.Cert, other.Key) // under a serial number of its own
			h.mu.Lock()
			h.roots[tt.wire] = []*x509.Certificate{first}
			h.mu.Unlock()
			if tt.use == "csms" {
				second = r.auth.Roots(ca.KindCSMS)[0]
			}
			r.wantRoot(tt.use, pemOf(second))
			eventually(t, "root on the station", func() bool { return len(r.plan("CS-1").Seen[tt.use]) == 2 })
			s.wg.Wait()
			if got := h.done(); !slices.Equal(got, tt.want) {
				t.Errorf("done %v, want %v", got, tt.want)
			}
			// Deleted by the same way, and what is asked next is asked anew.
			if _, err := r.svc.DropRoot(t.Context(), "operator", "CS-1", fleet.SeenRoot{CertificateHashData: h.hash(first)}.ID()); err != nil {
				t.Fatal(err)
			}
			eventually(t, "deletion", func() bool { return h.holds(tt.wire) == 1 && len(r.plan("CS-1").Wanted) == 1 })
			if deleted := slices.Contains(h.done(), "inside DeleteCertificate"); deleted != (tt.use != "manufacturer") {
				t.Errorf("done %v", h.done())
			}
		})
	}
}

func TestOnlyRootsAreWanted(t *testing.T) { // 9.3: intermediates and leaves can be neither listed nor deleted
	t.Parallel()
	r := newRig(t)
	r.add(fleet.Enrolment{Identity: "CS-1"})
	m := newMaker(t, r.clock())
	middle := m.Issue(&x509.Certificate{Subject: pkix.Name{CommonName: "Sub"}, NotBefore: r.clock(), NotAfter: r.clock().AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, newKey(t))
	for name, data := range map[string][]byte{
		"leaf": pemOf(m.Leaf(r.clock(), "x", nil)), "intermediate": pemOf(middle), "two": append(pemOf(m.Cert), pemOf(m.Cert)...),
		"no PEM": []byte("x"), "empty": {},
		"expired": pemOf(newMaker(t, r.clock().AddDate(-30, 0, 0)).Cert),
	} {
		if _, err := r.svc.WantRoot(t.Context(), "operator", "CS-1", "v2g", data); err == nil {
			t.Errorf("%s: wanted", name)
		}
	}
	if _, err := r.svc.WantRoot(t.Context(), "operator", "CS-1", "tls", pemOf(m.Cert)); err == nil {
		t.Error("unknown use: wanted")
	}
	if _, err := r.svc.WantRoot(t.Context(), "operator", "CS-9", "v2g", pemOf(m.Cert)); err == nil {
		t.Error("unknown station: wanted")
	}
}

func TestRootNotInstalled(t *testing.T) { // M05.FR.03, .04, .06, .07, TC_M_05, TC_078
	t.Parallel()
	big := func(r *rig) []byte {
		m := &maker{catest.NewUncertified(t)}
		m.Cert = m.Issue(&x509.Certificate{Subject: pkix.Name{CommonName: "Big"}, NotBefore: r.clock(), NotAfter: r.clock().AddDate(1, 0, 0), IsCA: true,
			BasicConstraintsValid: true, ExtraExtensions: []pkix.Extension{{Id: []int{1, 2, 3}, Value: make([]byte, 4500)}}}, m.Key)
		return pemOf(m.Cert)
	}
	outside := func(r *rig) []byte { return pemOf(newMaker(t, r.clock()).Cert) }
	for _, tt := range []struct {
		name string
		v    ocpp.Version
		edit func(*shelf)
		data func(*rig) []byte
		use  string
		note string
		sent bool // InstallCertificate went out
		stop bool // it isn't tried again
	}{
		{"rejected", ocpp.V201, func(h *shelf) { h.install = "Rejected" }, nil, "csms", "answered Rejected", true, false},
		{"failed", ocpp.V16, func(h *shelf) { h.install = "Failed" }, nil, "csms", "answered Failed", true, false},
		{"not implemented", ocpp.V201, func(h *shelf) {
			h.over = map[string]any{"InstallCertificate": &ocpp.CallFailure{Code: ocpp.NotImplemented}}
		}, nil, "csms", "NotImplemented", true, true},
		{"can't list", ocpp.V21, func(h *shelf) {
			h.over = map[string]any{"GetInstalledCertificateIds": &ocpp.CallFailure{Code: ocpp.NotSupported}}
		}, nil, "csms", "NotSupported", false, true},
		{"too long for 2.0.1", ocpp.V201, nil, big, "v2g", "characters", false, true},
		{"longer field", ocpp.V201, func(h *shelf) { h.values = map[string]string{"FieldLength": "9000"} }, big, "v2g", "", true, false},
		{"fits 2.1", ocpp.V21, nil, big, "v2g", "", true, false},
		{"no room", ocpp.V16, func(h *shelf) {
			h.values = map[string]string{"CertificateStoreMaxLength": "1"}
			h.roots["CentralSystemRootCertificate"] = []*x509.Certificate{newMaker(t, time.Now()).Cert}
		}, nil, "csms", "room for 1", false, true},
		{"1.6 without the wrapped form has no v2g", ocpp.V16, nil, outside, "v2g", "NotSupported", false, true},
		{"1.6 has no oem", ocpp.V16, nil, outside, "oem", "no message for oem", false, true},
		{"1.6 with neither form", ocpp.V16, func(h *shelf) { h.inside, h.unknown = true, true }, nil, "csms", "NotImplemented", false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			h := newShelf(t, tt.v)
			if tt.edit != nil {
				tt.edit(h)
			}
			s := r.shelved(h)
			var data []byte
			if tt.data != nil {
				data = tt.data(r)
			}
			r.wantRoot(tt.use, data)
			if tt.note == "" {
				eventually(t, "root on the station", func() bool { return len(r.plan("CS-1").Seen[tt.use]) == 1 })
				return
			}
			eventually(t, "note "+tt.note, func() bool { return strings.Contains(r.plan("CS-1").Tries[fleet.StepRoots].Note, tt.note) })
			if try := r.plan("CS-1").Tries[fleet.StepRoots]; try.Stopped != tt.stop || !try.Begun.IsZero() || !strings.Contains(r.station("CS-1").PlanNote, tt.note) {
				t.Errorf("try = %+v, note %q", try, r.station("CS-1").PlanNote)
			}
			for range 12 * 60 {
				r.advance(time.Minute)
				s.wg.Wait()
			}
			switch n := len(s.sent("InstallCertificate")); {
			case !tt.sent && n != 0, tt.stop && n > 1, tt.sent && !tt.stop && (n < 2 || n > 6):
				t.Errorf("%d InstallCertificate in half a day", n)
			}
		})
	}
}

func TestRootsAreDeleted(t *testing.T) { // M04.FR.01-.04, M04.FR.06, M04.FR.07, TC_M_20, TC_M_21, TC_076
	t.Parallel()
	for _, algorithm := range []string{"SHA256", "SHA384", "SHA512"} {
		t.Run(algorithm, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			h := newShelf(t, ocpp.V201)
			h.algorithm = algorithm
			own := r.auth.Roots(ca.KindCSMS)[0]
			strange, second := newMaker(t, r.clock()).Cert, newMaker(t, r.clock()).Cert
			h.roots["CSMSRootCertificate"] = []*x509.Certificate{strange, own}
			h.roots["ManufacturerRootCertificate"] = []*x509.Certificate{second}
			r.shelved(h)
			if _, err := r.svc.LookRoots(t.Context(), "CS-1"); err != nil {
				t.Fatal(err)
			}
			eventually(t, "report", func() bool { return len(r.plan("CS-1").Seen["csms"]) == 2 })
			drop := func(c *x509.Certificate) {
				t.Helper()
				if _, err := r.svc.DropRoot(t.Context(), "operator", "CS-1", fleet.SeenRoot{CertificateHashData: h.hash(c)}.ID()); err != nil {
					t.Fatal(err)
				}
			}
			// The last of its kind and the one in use stay.
			drop(second)
			eventually(t, "refusal", func() bool { return strings.Contains(r.station("CS-1").PlanNote, "last of its kind") })
			drop(own)
			eventually(t, "refusal", func() bool {
				return strings.Contains(r.plan("CS-1").Tries[fleet.StepRoots].Note, "server certificate leads to it")
			})
			if got := h.done(); len(got) != 0 {
				t.Fatalf("sent %v", got)
			}
			drop(strange)
			eventually(t, "deletion", func() bool { return h.holds("CSMSRootCertificate") == 1 })
			if got := h.done(); !slices.Equal(got, []string{"delete " + algorithm}) {
				t.Errorf("sent %v", got)
			}
			if _, err := r.svc.DropRoot(t.Context(), "operator", "CS-1", "feedface"); err == nil {
				t.Error("a root nobody reported can be dropped")
			}
		})
	}
}

func TestNoRootIsDroppedThatTheServerNeeds(t *testing.T) { // M04 warning: the station couldn't connect any more
	t.Parallel()
	r := newRig(t)
	h := newShelf(t, ocpp.V201)
	one, two := newMaker(t, r.clock()).Cert, newMaker(t, r.clock()).Cert
	h.roots["CSMSRootCertificate"] = []*x509.Certificate{one, two}
	r.shelved(h)
	if _, err := r.svc.LookRoots(t.Context(), "CS-1"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "report", func() bool { return len(r.plan("CS-1").Seen["csms"]) == 2 })
	if _, err := r.svc.DropRoot(t.Context(), "operator", "CS-1", fleet.SeenRoot{CertificateHashData: h.hash(one)}.ID()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "refusal", func() bool { return strings.Contains(r.station("CS-1").PlanNote, "no other root") })
	if got := h.done(); len(got) != 0 {
		t.Errorf("sent %v", got)
	}
}

func TestRootOfServedFileIsNotDropped(t *testing.T) { // M04 warning
	t.Parallel()
	r := newRig(t)
	outside, other := newMaker(t, r.clock()), newMaker(t, r.clock())
	other.Cert = other.Issue(other.Cert, other.Key) // under a serial number of its own
	below := outside.Leaf(r.clock(), "Sub CA", func(c *x509.Certificate) { c.IsCA = true })
	r.served = func(context.Context) ([]*x509.Certificate, error) { return []*x509.Certificate{below}, nil }
	r.start()
	h := newShelf(t, ocpp.V201)
	h.roots["CSMSRootCertificate"] = []*x509.Certificate{outside.Cert, other.Cert}
	r.shelved(h)
	if _, err := r.svc.LookRoots(t.Context(), "CS-1"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "report", func() bool { return len(r.plan("CS-1").Seen["csms"]) == 2 })
	id := fleet.SeenRoot{CertificateHashData: h.hash(outside.Cert)}.ID()
	for short, ok := range map[string]bool{id[:3]: false, id[:4]: true} { // three characters could mean a root to come
		if _, err := r.svc.DropRoot(t.Context(), "operator", "CS-1", short); (err == nil) != ok {
			t.Errorf("root %q: %v", short, err)
		}
	}
	eventually(t, "refusal", func() bool { return strings.Contains(r.station("CS-1").PlanNote, "the server certificate leads to it") })
	if got := h.done(); len(got) != 0 {
		t.Errorf("sent %v", got)
	}
}

// nextRoot has the CSMS root followed by another, cross-signed by it.
func (r *rig) nextRoot() fleet.Rollover {
	r.t.Helper()
	m, next := newMaker(r.t, r.clock()), &maker{catest.NewUncertified(r.t)}
	template := func() *x509.Certificate {
		return &x509.Certificate{Subject: pkix.Name{CommonName: "Next Root"}, NotBefore: r.clock(), NotAfter: r.clock().AddDate(10, 0, 0),
			IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	}
	next.Cert = next.Issue(template(), next.Key)
	change := fleet.Rollover{New: next.Cert, Cross: m.Issue(template(), crypto.Signer(next.Key)), Old: m.Cert}
	r.rollover = func(context.Context) (*fleet.Rollover, error) { return &change, nil }
	return change
}

func TestRootChange(t *testing.T) { // M05.FR.09-.11 [2.x], M05.FR.08-.10 [1.6]: one fallback
	t.Parallel()
	for _, check := range []string{"true", "false"} {
		t.Run("AdditionalRootCertificateCheck "+check, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			change := r.nextRoot()
			r.restart()
			h := newShelf(t, ocpp.V201)
			h.values = map[string]string{"AdditionalRootCertificateCheck": check}
			h.roots["CSMSRootCertificate"] = []*x509.Certificate{change.Old}
			r.shelved(h)
			eventually(t, "new root", func() bool { return len(r.plan("CS-1").Seen["csms"]) == 2 })
			want := change.New
			if check == "true" {
				want = change.Cross
			}
			h.mu.Lock()
			got := h.roots["CSMSRootCertificate"]
			h.mu.Unlock()
			if !got[0].Equal(change.Old) || !got[1].Equal(want) {
				t.Errorf("installed %v", got[1].Issuer)
			}
			r.add(fleet.Enrolment{Identity: "CS-2"})
			if moved, waiting, err := r.svc.Moved(t.Context(), change); err != nil || moved != 1 || !slices.Equal(waiting, []string{"CS-2"}) {
				t.Errorf("moved %d, waiting %v, %v", moved, waiting, err)
			}
			if got := h.done(); len(got) != 1 {
				t.Errorf("sent %v", got)
			}
		})
	}
}

func TestProfile1NeedsTheRootFirst(t *testing.T) { // A05.FR.03 [1.6], A05.FR.02 [2.x], TC_A_20
	t.Parallel()
	for _, tt := range []struct {
		name    string
		v       ocpp.Version
		install string
		want    []string
	}{
		{"1.6", ocpp.V16, "", []string{"GetConfiguration", "GetInstalledCertificateIds", "InstallCertificate", "GetInstalledCertificateIds", "ChangeConfiguration"}},
		{"1.6 takes no root on profile 1", ocpp.V16, "Rejected", []string{"GetConfiguration", "GetInstalledCertificateIds", "InstallCertificate", "ChangeConfiguration"}},
		{"2.0.1", ocpp.V201, "", []string{"GetVariables", "GetVariables", "GetInstalledCertificateIds", "InstallCertificate", "GetInstalledCertificateIds",
			"GetVariables", "GetVariables", "SetNetworkProfile", "SetVariables", "Reset"}},
		{"2.1", ocpp.V21, "", []string{"GetVariables", "GetVariables", "GetInstalledCertificateIds", "InstallCertificate", "GetInstalledCertificateIds",
			"GetVariables", "GetVariables", "GetVariables", "SetNetworkProfile", "SetVariables", "Reset"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			h := newShelf(t, tt.v)
			h.install = tt.install
			h.values = map[string]string{"NetworkConfigurationPriority": "1,0", "ActiveNetworkProfile": "1"}
			plain := claim(t, "CS-1")
			plain.TLS, plain.Profiles = false, []int{1}
			c := withPassword(plain, r.add(fleet.Enrolment{Identity: "CS-1", Profile: 1}))
			s := r.openWith(r.admit(c), tt.v, fleet.SecurityBollard, h.answer)
			s.ready()
			if _, err := r.svc.SetProfile(t.Context(), "operator", "CS-1", 2); err != nil {
				t.Fatal(err)
			}
			s.waitCalls(t, tt.want...)
			r.admit(c) // the way back stays until it was seen on 2
			s.close()
			secure := claim(t, "CS-1")
			secure.Basic = c.Basic
			r.open(r.admit(secure), tt.v)
			r.refusal(c)
		})
	}
}

// Roots of ISO 15118-20 are V2G roots to a station like those of -2: each hierarchy's
// own roots are wanted by its name, and stay where both are.
func TestOwnRootsOfISO20(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, kind := range []ca.Kind{ca.KindV2G, ca.KindV2G20} {
		if err := r.auth.Create(t.Context(), kind, "operator"); err != nil {
			t.Fatal(err)
		}
	}
	h := newShelf(t, ocpp.V21)
	s := r.shelved(h)
	r.wantRoot("v2g", nil)
	r.wantRoot("v2g-20", nil)
	eventually(t, "both roots on the station", func() bool { return len(r.plan("CS-1").Seen["v2g"]) == 2 })
	s.wg.Wait()
	if got := h.done(); !slices.Equal(got, []string{"install V2GRootCertificate", "install V2GRootCertificate"}) {
		t.Errorf("done %v", got)
	}
	h.mu.Lock()
	on := slices.Clone(h.roots["V2GRootCertificate"])
	h.mu.Unlock()
	for _, kind := range []ca.Kind{ca.KindV2G, ca.KindV2G20} {
		if !slices.ContainsFunc(on, r.auth.Roots(kind)[0].Equal) {
			t.Errorf("the root of %s isn't there", kind)
		}
	}
	if _, err := r.svc.WantRoot(t.Context(), "operator", "CS-1", "v2g-20", pemOf(newMaker(t, r.clock()).Cert)); err == nil {
		t.Error("a use that stations don't know is taken for a file")
	}
	if _, err := r.svc.WantRoot(t.Context(), "operator", "CS-1", "mo-20", nil); err == nil {
		t.Error("the root of a hierarchy that isn't there is wanted")
	}
}
