package fleet_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bollard/ca"
	"bollard/ca/catest"
	"bollard/fleet"
	"bollard/ocpp"
)

func TestNetworkConfigurationInsteadOfSetNetworkProfile(t *testing.T) { // B09.FR.21, B09 [2.1]
	t.Parallel()
	for _, v := range []ocpp.Version{ocpp.V201, ocpp.V21} {
		r := newRig(t)
		s, _ := r.basic("CS-1", v, obedient(map[string]any{"SetNetworkProfile": &ocpp.CallFailure{Code: ocpp.NotSupported}}))
		s.close()
		if _, err := r.svc.SetProfile(t.Context(), "operator", "CS-1", 3); err != nil {
			t.Fatal(err)
		}
		s = r.openWith(s.adm, v, fleet.SecurityBollard, s.answer)
		s.ready()
		eventually(t, "a trigger", func() bool { return len(s.sent("TriggerMessage")) == 1 })
		s.message(ocpp.FromStation, "SignCertificate", csrPayload(t, newKey(t), "SN-CS-1"))
		if v == ocpp.V201 {
			eventually(t, "note", func() bool { return strings.Contains(r.station("CS-1").PlanNote, "NotSupported") })
			continue
		}
		eventually(t, "a Reset", func() bool { return len(s.sent("Reset")) == 1 })
		var set []string
		for _, payload := range s.sent("SetVariables") {
			var in ocpp.SetVariablesRequest
			if err := json.Unmarshal(payload, &in); err != nil {
				t.Fatal(err)
			}
			if d := in.SetVariableData[0]; d.Component.Name == "NetworkConfiguration" {
				if d.Component.Instance == "0" || d.Component.Instance == "1" {
					t.Errorf("slot %s is in use and was written", d.Component.Instance)
				}
				set = append(set, d.Variable.Name+"="+d.AttributeValue)
			}
		}
		if !slices.Contains(set, "SecurityProfile=3") || !slices.Contains(set, "OcppCsmsUrl=wss://bollard.example:8443/ocpp") {
			t.Errorf("set %v", set)
		}
	}
}

// The slot in use is never written, even where the list of slots leaves it out,
// nor one that is in the list; with none left, nothing is.
func TestSlotInUseIsNotWritten(t *testing.T) { // B09.FR.21
	t.Parallel()
	for _, tt := range []struct {
		name, priority, active string
		slots                  []int // filled, in turn: the station rejects each
	}{
		{"in use and not in the list", "1", "0", []int{2, 3, 4, 5}},
		{"in use and in the list", "0,1", "0", []int{2, 3, 4, 5}},
		{"all in the list", "0,1,2,3,4,5,6,7,8", "9", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			h := newShelf(t, ocpp.V201)
			h.values = map[string]string{"NetworkConfigurationPriority": tt.priority, "ActiveNetworkProfile": tt.active}
			h.over = map[string]any{"SetNetworkProfile": ocpp.GenericStatus{Status: "Rejected"}}
			s, _ := r.basic("CS-1", ocpp.V201, h.answer)
			s.ready()
			if _, err := r.svc.SetProfile(t.Context(), "operator", "CS-1", 3); err != nil {
				t.Fatal(err)
			}
			eventually(t, "a trigger", func() bool { return len(s.sent("TriggerMessage")) == 1 })
			s.message(ocpp.FromStation, "SignCertificate", csrPayload(t, newKey(t), "SN-CS-1"))
			eventually(t, "note", func() bool { return strings.Contains(r.station("CS-1").PlanNote, "couldn't set a network profile") })
			var slots []int
			for _, payload := range s.sent("SetNetworkProfile") {
				var set ocpp.SetNetworkProfileRequest
				if err := json.Unmarshal(payload, &set); err != nil {
					t.Fatal(err)
				}
				slots = append(slots, set.ConfigurationSlot)
			}
			if diff := cmp.Diff(tt.slots, slots); diff != "" {
				t.Errorf("slots written: %s", diff)
			}
		})
	}
}

func TestSlotIsUsedAgainAfterAFallback(t *testing.T) { // A05.FR.05, B10.FR.07: fallback to the old profile
	t.Parallel()
	r := newRig(t)
	h := newShelf(t, ocpp.V201)
	h.values = map[string]string{"NetworkConfigurationPriority": "1,0", "ActiveNetworkProfile": "1"}
	s, c := r.basic("CS-1", ocpp.V201, h.answer)
	s.ready()
	if _, err := r.svc.SetProfile(t.Context(), "operator", "CS-1", 3); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a trigger", func() bool { return len(s.sent("TriggerMessage")) == 1 })
	s.message(ocpp.FromStation, "SignCertificate", csrPayload(t, newKey(t), "SN-CS-1"))
	eventually(t, "a Reset", func() bool { return len(s.sent("Reset")) == 1 })
	s.wg.Wait()
	s.close()
	// It fell back: the new slot is first, the old one is in use.
	h.mu.Lock()
	h.values["NetworkConfigurationPriority"] = "2,1,0"
	h.mu.Unlock()
	r.restart()
	s = r.openWith(r.admit(c), ocpp.V201, fleet.SecurityBollard, h.answer)
	s.ready()
	eventually(t, "another Reset", func() bool { r.advance(60e9); return len(s.sent("Reset")) == 1 })
	if n := len(s.sent("SetNetworkProfile")) + len(s.sent("SetVariables")); n != 0 {
		t.Errorf("%d messages fill another slot", n)
	}
	r.admit(c)
}

// A back end's chain in another order than leaf first, each issuer after what it
// signed, would leave a station with what others can't follow: on profile 3 it
// isn't passed on.
func TestBackEndChainInWrongOrder(t *testing.T) { // A02, part 2 §4.1: leaf first
	t.Parallel()
	r := newRig(t)
	root := newMaker(t, r.clock())
	r.trust(root)
	sub := func(of *maker, name string) *maker {
		m := &maker{catest.NewUncertified(t)}
		m.Cert = of.Issue(&x509.Certificate{Subject: pkix.Name{CommonName: name}, NotBefore: r.clock().AddDate(0, -1, 0), NotAfter: r.clock().AddDate(5, 0, 0),
			IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, m.Key)
		return m
	}
	one := sub(root, "Sub 1")
	two := sub(one, "Sub 2")
	key := newKey(t)
	leaf := two.Issue(&x509.Certificate{Subject: pkix.Name{CommonName: "SN-CS-1", Organization: []string{organisation}}, NotBefore: r.clock().Add(-time.Hour),
		NotAfter: r.clock().AddDate(1, 0, 0), KeyUsage: x509.KeyUsageDigitalSignature}, key)
	adm := r.admit(withPassword(claim(t, "CS-1"), r.add(fleet.Enrolment{Identity: "CS-1"})))
	adm.Profile, adm.Leaf = 3, ca.LeafOf(r.issue("CS-1", "SN-CS-1")[0])
	s := r.openWith(adm, ocpp.V201, fleet.SecurityBackend, nil)
	if v := s.judge(ocpp.FromStation, "SignCertificate", csrPayload(t, key, "SN-CS-1")); v.Act != fleet.Pass {
		t.Fatalf("SignCertificate: %+v", v)
	}
	for _, tt := range []struct {
		name   string
		chain  []*x509.Certificate
		reason string
	}{
		{"as it should be", []*x509.Certificate{leaf, two.Cert, one.Cert}, ""},
		{"issuers swapped", []*x509.Certificate{leaf, one.Cert, two.Cert}, "certificate 1 of the chain isn't signed by the one after it"},
		{"an issuer twice", []*x509.Certificate{leaf, two.Cert, two.Cert}, "certificate 2 of the chain isn't signed by the one after it"},
		{"leaf last", []*x509.Certificate{one.Cert, two.Cert, leaf}, "not for the key the station asked for"},
		{"an issuer missing", []*x509.Certificate{leaf, one.Cert}, "certificate 1 of the chain isn't signed"},
	} {
		text := ""
		for _, c := range tt.chain {
			text += string(pemOf(c))
		}
		v := s.judge(ocpp.FromCSMS, "CertificateSigned", marshal(t, map[string]string{"certificateChain": text}))
		if passed := v.Act == fleet.Pass; passed != (tt.reason == "") || !strings.Contains(v.Reason, tt.reason) {
			t.Errorf("%s: %+v", tt.name, v)
		}
	}
}

// EVSEs that ask at once each get the certificate for their key from a back end that
// issues, in any order and after a restart; one for a key nobody asked for isn't passed
// on. Of the station's own certificate the newest request counts alone.
func TestBackEndCertificatesOfSeveralEVSEs(t *testing.T) { // A02, threat C5; security: backend
	t.Parallel()
	r := newRig(t)
	m := newMaker(t, r.clock())
	s := r.openWith(r.admit(withPassword(claim(t, "CS-1"), r.add(fleet.Enrolment{Identity: "CS-1"}))), ocpp.V201, fleet.SecurityBackend, nil)
	ask := func(key crypto.Signer, kind string) {
		t.Helper()
		csr := map[string]any{"csr": csrPEM(t, key, "DE*ABC*E1", organisation), "certificateType": kind}
		if v := s.judge(ocpp.FromStation, "SignCertificate", marshal(t, csr)); v.Act != fleet.Pass {
			t.Fatalf("SignCertificate: %+v", v)
		}
	}
	passed := func(key *ecdsa.PrivateKey, kind string) bool {
		t.Helper()
		template := *m.Leaf(r.clock(), "DE*ABC*E1", nil)
		payload := map[string]string{"certificateChain": string(pemOf(m.Issue(&template, key)))}
		if kind != "" {
			payload["certificateType"] = kind
		}
		return s.judge(ocpp.FromCSMS, "CertificateSigned", marshal(t, payload)).Act == fleet.Pass
	}
	const v2g, own = ocpp.V2GCertificate, ocpp.ChargingStationCertificate
	keys := []*ecdsa.PrivateKey{newKey(t), newKey(t), newKey(t)}
	for _, key := range keys {
		ask(key, v2g)
	}
	r.restart()
	s = r.openWith(s.adm, ocpp.V201, fleet.SecurityBackend, nil)
	for i, key := range []*ecdsa.PrivateKey{keys[2], keys[0], keys[1], keys[0]} {
		if !passed(key, v2g) {
			t.Errorf("certificate %d isn't passed on", i)
		}
	}
	if !passed(keys[1], "") {
		t.Error("one without a type isn't passed on")
	}
	if passed(newKey(t), v2g) || passed(newKey(t), "") || passed(keys[0], own) {
		t.Error("a certificate that nobody asked for was passed on")
	}
	ask(keys[0], own)
	ask(keys[1], own)
	if passed(keys[0], own) || !passed(keys[1], own) {
		t.Error("of the station's own requests another than the newest counts")
	}
	ask(keys[0], v2g) // again: the newest now
	for range 63 {
		ask(newKey(t), v2g)
	}
	if passed(keys[1], v2g) || !passed(keys[0], v2g) {
		t.Error("more requests are remembered than a station has EVSEs, or fewer")
	}
}

// What an earlier version remembered, one key a type, counts on.
func TestAskedKeysOfEarlierVersions(t *testing.T) {
	t.Parallel()
	var plan fleet.Plan
	if err := json.Unmarshal([]byte(`{"asked":{"":"ab","V2GCertificate":["cd","ef"]}}`), &plan); err != nil {
		t.Fatal(err)
	}
	want := map[string]fleet.AskedKeys{"": {"ab"}, "V2GCertificate": {"cd", "ef"}}
	if diff := cmp.Diff(want, plan.Asked); diff != "" {
		t.Error(diff)
	}
}

func TestBackEndCertificatesAfterARestart(t *testing.T) { // threat C5; security: backend
	t.Parallel()
	r := newRig(t)
	m := newMaker(t, r.clock())
	password := r.add(fleet.Enrolment{Identity: "CS-1"})
	key := newKey(t)
	signed := func(name string) string {
		leaf := m.Leaf(r.clock(), name, nil)
		if name == "SN-CS-1" {
			template := *leaf
			leaf = m.Issue(&template, key)
		}
		return marshal(t, map[string]string{"certificateChain": string(pemOf(leaf))})
	}
	s := r.openWith(r.admit(withPassword(claim(t, "CS-1"), password)), ocpp.V201, fleet.SecurityBackend, nil)
	if v := s.judge(ocpp.FromStation, "SignCertificate", csrPayload(t, key, "SN-CS-1")); v.Act != fleet.Pass {
		t.Fatalf("SignCertificate: %+v", v)
	}
	r.restart()
	s = r.openWith(s.adm, ocpp.V201, fleet.SecurityBackend, nil)
	if v := s.judge(ocpp.FromCSMS, "CertificateSigned", signed("SN-CS-1")); v.Act != fleet.Pass {
		t.Errorf("the key asked for before the restart: %+v", v)
	}
	// The password lets the station in whatever the chain is worth; that is noted.
	if len(r.events("check.warned")) != 1 {
		t.Error("a chain no root of ours leads to isn't noted")
	}
	s.close()
	// On profile 3 the same chain would lock it out.
	adm := s.adm
	adm.Profile, adm.Leaf = 3, ca.LeafOf(r.issue("CS-1", "SN-CS-1")[0])
	s = r.openWith(adm, ocpp.V201, fleet.SecurityBackend, nil)
	if v := s.judge(ocpp.FromCSMS, "CertificateSigned", signed("SN-CS-1")); v.Act != fleet.Answer || !strings.Contains(v.Reason, "ca trust add") {
		t.Errorf("untrusted chain on profile 3: %+v", v)
	}
	r.trust(m)
	if v := s.judge(ocpp.FromCSMS, "CertificateSigned", signed("SN-CS-1")); v.Act != fleet.Pass {
		t.Errorf("trusted chain on profile 3: %+v", v)
	}
}
