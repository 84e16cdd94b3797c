package fleet_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"bollard/ca"
	"bollard/ca/hashdata"
	"bollard/fleet"
	"bollard/ocpp"
)

// toCars is a station that shows certificates to cars: it asks for what it is
// triggered for, each EVSE by its identifier.
type toCars struct {
	r       *rig
	seccs   map[int]string // by EVSE
	refuses bool           // what it is given
	only    int            // the EVSE that can be triggered; 0: each

	mu        sync.Mutex
	s         *fakeSession
	triggered []string
	told      []string // SeccId
	got       map[string][]*x509.Certificate
	last      map[string]int // requestId
	n         int
}

func (c *toCars) answer(action string, payload json.RawMessage) (any, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch action {
	case "SetVariables":
		var set ocpp.SetVariablesRequest
		if err := json.Unmarshal(payload, &set); err != nil {
			return nil, err
		}
		v := set.SetVariableData[0]
		if v.Variable.Name == "SeccId" {
			c.told = append(c.told, v.AttributeValue)
		}
		return ocpp.SetVariablesResponse{SetVariableResult: []ocpp.SetVariableResult{{AttributeStatus: "Accepted", Component: v.Component, Variable: v.Variable}}}, nil
	case "TriggerMessage":
		var trigger ocpp.TriggerMessageRequest
		if err := json.Unmarshal(payload, &trigger); err != nil {
			return nil, err
		}
		evse := 0
		if trigger.EVSE != nil {
			evse = trigger.EVSE.ID
		}
		if c.only != 0 && evse != c.only {
			return ocpp.GenericStatus{Status: "Rejected"}, nil
		}
		kind := strings.TrimPrefix(trigger.RequestedMessage, "Sign")
		c.triggered = append(c.triggered, fmt.Sprint(kind, " ", evse))
		s := c.s
		s.Go(func(context.Context) { c.ask(s, kind, c.seccs[evse]) })
	case "CertificateSigned":
		var signed ocpp.CertificateSignedRequest
		if err := json.Unmarshal(payload, &signed); err != nil {
			return nil, err
		}
		chain := chainOf(c.r.t, payload)
		name := signed.CertificateType + " " + chain[0].Subject.CommonName
		if signed.RequestID != nil {
			c.last[name] = *signed.RequestID
		}
		if c.refuses {
			return ocpp.GenericStatus{Status: "Rejected", StatusInfo: &ocpp.StatusInfo{ReasonCode: "InvalidCertificate"}}, nil
		}
		c.got[name] = chain
	}
	return ocpp.GenericStatus{Status: "Accepted"}, nil
}

func (c *toCars) ask(s *fakeSession, kind, secc string) {
	request := map[string]any{"csr": csrPEM(c.r.t, keyFor(c.r.t, kind), secc, organisation), "certificateType": kind}
	if s.version == ocpp.V21 {
		c.mu.Lock()
		c.n++
		request["requestId"] = c.n
		c.mu.Unlock()
	}
	s.message(ocpp.FromStation, "SignCertificate", marshal(c.r.t, request))
}

// keyFor is a key as the edition has it.
func keyFor(t testing.TB, kind string) crypto.Signer {
	t.Helper()
	curve := elliptic.P256()
	if kind == "V2G20Certificate" {
		curve = elliptic.P521()
	}
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// connect opens a session that is ready for Bollard's CALLs.
func (c *toCars) connect(claim fleet.Claim, v ocpp.Version) *fakeSession {
	c.r.t.Helper()
	adm := c.r.admit(claim)
	c.mu.Lock()
	c.s = c.r.openWith(adm, v, fleet.SecurityBollard, c.answer)
	s := c.s
	c.mu.Unlock()
	s.ready()
	return s
}

func (c *toCars) has(n int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.got) == n
}

// carsRig has the hierarchies for certificates toward cars, and a station with two EVSEs.
func carsRig(t *testing.T, kinds ...ca.Kind) (*rig, *toCars, fleet.Claim) {
	t.Helper()
	r := newRig(t)
	for _, kind := range kinds {
		if err := r.auth.Create(t.Context(), kind, "operator"); err != nil {
			t.Fatal(err)
		}
	}
	c := &toCars{r: r, seccs: map[int]string{1: "DE*ABC*E1", 2: "DE*ABC*E2"}, got: map[string][]*x509.Certificate{}, last: map[string]int{}}
	claim := withPassword(claim(t, "CS-1"), r.add(fleet.Enrolment{Identity: "CS-1"}))
	for evse, id := range c.seccs {
		if _, err := r.svc.AddSECC(t.Context(), "operator", "CS-1", fleet.SECC{ID: id, EVSE: evse}); err != nil {
			t.Fatal(err)
		}
	}
	return r, c, claim
}

// A station gets a certificate for each EVSE and edition it knows, and another when
// it is due.
func TestSECCCertificates(t *testing.T) { // A02.FR.11, .13, .14, .22, .23, .25, TC_A_12
	t.Parallel()
	for version, kinds := range map[ocpp.Version][]string{ocpp.V201: {"V2GCertificate"}, ocpp.V21: {"V2GCertificate", "V2G20Certificate"}} {
		t.Run(version.String(), func(t *testing.T) {
			t.Parallel()
			r, c, claim := carsRig(t, ca.KindV2G, ca.KindV2G20)
			s := c.connect(claim, version)
			waiting := func(n int) {
				t.Helper()
				eventually(t, "certificates", func() bool { r.advance(2 * time.Second); return c.has(n) })
			}
			waiting(2 * len(kinds))
			first := map[string]*x509.Certificate{}
			for _, kind := range kinds {
				hierarchy := map[string]ca.Kind{"V2GCertificate": ca.KindV2G, "V2G20Certificate": ca.KindV2G20}[kind]
				for evse, id := range c.seccs {
					chain := c.got[kind+" "+id]
					if !slices.Contains(c.triggered, fmt.Sprint(kind, " ", evse)) || !slices.Contains(c.told, id) || len(chain) != 3 {
						t.Fatalf("%s %s: triggered %v, told %v, %d certificates", kind, id, c.triggered, c.told, len(chain))
					}
					first[kind+" "+id] = chain[0]
					anchors, between := x509.NewCertPool(), x509.NewCertPool()
					anchors.AddCert(r.auth.Roots(hierarchy)[0])
					for _, between1 := range chain[1:] {
						between.AddCert(between1)
					}
					if _, err := chain[0].Verify(x509.VerifyOptions{Roots: anchors, Intermediates: between, CurrentTime: r.clock()}); err != nil {
						t.Error(err)
					}
					if got := chain[0].Subject.Organization; len(got) != 1 || got[0] != organisation {
						t.Errorf("organisation %v", got)
					}
					if version == ocpp.V21 && c.last[kind+" "+id] == 0 {
						t.Error("requestId wasn't copied")
					}
				}
			}
			s.close()
			// Where the machine is busy, the rig's clock ran past a try while the station was at it.
			asked := len(c.triggered)
			r.advance(time.Hour)
			again := c.connect(claim, version)
			again.wg.Wait()
			if n := len(c.triggered); n != asked {
				t.Errorf("triggered %d times once it had all certificates", n-asked)
			}
			again.close()
			// Of 90 days two thirds are over.
			r.advance(61 * 24 * time.Hour)
			clear(c.got)
			c.connect(claim, version)
			waiting(2 * len(kinds))
			for name, chain := range c.got {
				if chain[0].Equal(first[name]) || chain[0].NotAfter.Before(first[name].NotAfter.AddDate(0, 2, 0)) {
					t.Errorf("%s wasn't renewed", name)
				}
			}
			if st := r.station("CS-1"); st.LeafSerial != "" || st.FloorProfile != 2 {
				t.Errorf("a certificate toward cars changed how the station is let in: %+v", st)
			}
		})
	}
}

// What isn't in a station's record isn't certified, and nothing is for a request
// that isn't as its edition has it.
func TestSECCRefused(t *testing.T) { // A02.FR.12, .27
	t.Parallel()
	r, _, claim := carsRig(t, ca.KindV2G)
	r.add(fleet.Enrolment{Identity: "CS-2"})
	if _, err := r.svc.AddSECC(t.Context(), "operator", "CS-2", fleet.SECC{ID: "DE*ABC*OTHER"}); err != nil {
		t.Fatal(err)
	}
	s := r.open(r.admit(claim), ocpp.V21)
	old := r.open(r.admit(withPassword(fleet.Claim{Identity: identity(t, "CS-3"), Source: source, Listener: "main", Profiles: []int{2, 3}, TLS: true},
		r.add(fleet.Enrolment{Identity: "CS-3"}))), ocpp.V201)
	curve := func(c elliptic.Curve) crypto.Signer {
		key, err := ecdsa.GenerateKey(c, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	stations, err := hashdata.Of("SHA256", r.auth.Roots(ca.KindCSMS)[0], r.auth.Roots(ca.KindCSMS)[0])
	if err != nil {
		t.Fatal(err)
	}
	type asked struct {
		s         *fakeSession
		key       crypto.Signer
		cn, org   string
		authority bool
		kind      string
		root      *ocpp.CertificateHashData
		want      string // reasonCode
		reason    string // for the operator
	}
	const invalid, unsupported = "InvalidCSR", "UnsupportedRequest"
	for name, tt := range map[string]asked{
		"another station's identifier": {cn: "DE*ABC*OTHER", want: invalid, reason: "no SECC identifier of the station's"},
		"the serial number":            {cn: "SN-CS-1", want: invalid, reason: "no SECC identifier of the station's"},
		"another case":                 {cn: "de*abc*e1", want: invalid, reason: "no SECC identifier of the station's"},
		"no name":                      {cn: "-", want: invalid, reason: "no SECC identifier of the station's"},
		"P-384":                        {key: curve(elliptic.P384()), want: invalid, reason: "key is on P-384"},
		"P-521 in -2":                  {key: curve(elliptic.P521()), want: invalid, reason: "key is on P-521"},
		"P-224":                        {key: curve(elliptic.P224()), want: invalid, reason: "key is on P-224"},
		"RSA":                          {key: rsaKey, want: invalid, reason: "key is on RSA-2048"},
		"CA:TRUE":                      {authority: true, want: invalid, reason: "CA:TRUE"},
		"another organisation":         {org: "Mallory", want: invalid, reason: "organisation is not"},
		"a root of another hierarchy":  {root: &stations, want: unsupported, reason: "hashRootCertificate names no root"},
		"no hierarchy":                 {kind: "V2G20Certificate", key: curve(elliptic.P521()), want: unsupported, reason: "there is no hierarchy v2g-20"},
		"-20 over OCPP 2.0.1":          {s: old, kind: "V2G20Certificate", key: curve(elliptic.P521()), want: unsupported, reason: "came with OCPP 2.1"},
		"a station without any":        {s: old, want: invalid, reason: "no SECC identifier of the station's"},
		"an unknown type":              {kind: "EVCertificate", want: unsupported, reason: "a type the standard doesn't know"},
	} {
		t.Run(name, func(t *testing.T) {
			key, cn, org, kind, s := tt.key, tt.cn, tt.org, tt.kind, cmpOr(tt.s, s)
			if key == nil {
				key = newKey(t)
			}
			if cn == "" {
				cn = "DE*ABC*E1"
			}
			if org == "" {
				org = organisation
			}
			if kind == "" {
				kind = "V2GCertificate"
			}
			r.advance(time.Minute) // of its budget
			template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: strings.TrimPrefix(cn, "-"), Organization: []string{org}}}
			if tt.authority {
				template.ExtraExtensions = []pkix.Extension{{Id: []int{2, 5, 29, 19}, Critical: true, Value: derOf(t, struct{ CA bool }{true})}}
			}
			der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
			if err != nil {
				t.Fatal(err)
			}
			request := map[string]any{"csr": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})), "certificateType": kind}
			if tt.root != nil {
				request["hashRootCertificate"] = tt.root
			}
			v := s.message(ocpp.FromStation, "SignCertificate", marshal(t, request))
			if v.Act != fleet.Answer || !strings.Contains(status(v), `"Rejected"`) || !strings.Contains(status(v), tt.want) || !strings.Contains(v.Reason, tt.reason) || v.After != nil {
				t.Errorf("%s: %s", status(v), v.Reason)
			}
		})
	}
	s.wg.Wait()
	if n := len(r.records("CS-1")) + len(r.records("CS-3")); n != 0 {
		t.Errorf("%d certificates were prepared", n)
	}
	if _, err := r.svc.AddSECC(t.Context(), "operator", "CS-1", fleet.SECC{ID: "de*abc*other"}); !errors.Is(err, fleet.ErrStationExists) {
		t.Errorf("one identifier for two stations: %v", err)
	}
	if _, err := r.svc.AddSECC(t.Context(), "operator", "CS-1", fleet.SECC{ID: "<b>"}); err == nil {
		t.Error("an identifier with markup")
	}
}

func cmpOr(a, b *fakeSession) *fakeSession {
	if a != nil {
		return a
	}
	return b
}

// The check of a CSR's subject may warn only; whose identifier it is never does. A
// request is for one kind of certificate.
func TestSECCSubjectWarns(t *testing.T) {
	t.Parallel()
	r, _, claim := carsRig(t, ca.KindV2G)
	if _, err := r.svc.SetCheck(t.Context(), "operator", "CS-1", fleet.CheckCSRSubject, true); err != nil {
		t.Fatal(err)
	}
	s := r.open(r.admit(claim), ocpp.V201)
	ask := func(csr, kind string) fleet.Verdict {
		t.Helper()
		v := s.message(ocpp.FromStation, "SignCertificate", marshal(t, map[string]any{"csr": csr, "certificateType": kind}))
		s.wg.Wait()
		return v
	}
	key := newKey(t)
	csr := csrPEM(t, key, "DE*ABC*E1", "Mallory")
	ask(csr, "V2GCertificate")
	calls := s.sent("CertificateSigned")
	if len(calls) != 1 || chainOf(t, calls[0])[0].Subject.Organization[0] != organisation {
		t.Fatalf("%d certificates", len(calls))
	}
	if v := ask(csrPEM(t, newKey(t), "DE*ABC*OTHER", organisation), "V2GCertificate"); !strings.Contains(status(v), "Rejected") {
		t.Error("another identifier is taken where the subject only warns")
	}
	if v := ask(csr, "ChargingStationCertificate"); !strings.Contains(v.Reason, "another kind of certificate") {
		t.Errorf("one request for two kinds: %s, %s", status(v), v.Reason)
	}
	// The key alone, in another request.
	ask(csrPEM(t, key, "SN-CS-1", organisation), "ChargingStationCertificate")
	if got := r.waitOrder("CS-1", fleet.OrderRejected); !strings.Contains(got.Reason, "it is a secc key") {
		t.Errorf("one key for two kinds: %+v", got)
	}
}

// The station says which root it wants to be certified under.
func TestSECCUnderTheRootAskedFor(t *testing.T) { // A02.FR.27
	t.Parallel()
	r, _, claim := carsRig(t, ca.KindV2G)
	before := r.auth.Roots(ca.KindV2G)[0]
	if _, err := r.auth.Rollover(t.Context(), ca.KindV2G, "operator"); err != nil {
		t.Fatal(err)
	}
	after := r.auth.Roots(ca.KindV2G)[1]
	s := r.open(r.admit(claim), ocpp.V21)
	ask := func(root *x509.Certificate) []*x509.Certificate {
		t.Helper()
		r.advance(time.Minute)
		request := map[string]any{"csr": csrPEM(t, newKey(t), "DE*ABC*E1", organisation), "certificateType": "V2GCertificate"}
		if root != nil {
			hash, err := hashdata.Of("SHA512", root, root)
			if err != nil {
				t.Fatal(err)
			}
			request["hashRootCertificate"] = hash
		}
		s.message(ocpp.FromStation, "SignCertificate", marshal(t, request))
		s.wg.Wait()
		calls := s.sent("CertificateSigned")
		return chainOf(t, calls[len(calls)-1])
	}
	for name, tt := range map[string]struct{ asked, want *x509.Certificate }{"old": {before, before}, "new": {after, after}, "none": {nil, before}} {
		chain := ask(tt.asked)
		if len(chain) != 3 || chain[2].CheckSignatureFrom(tt.want) != nil {
			t.Errorf("%s: %d certificates, under another root", name, len(chain))
		}
	}
}

// What was accepted is delivered once after a crash, each purpose by itself.
func TestSECCOrdersAreResumed(t *testing.T) {
	t.Parallel()
	r, _, claim := carsRig(t, ca.KindV2G)
	s := r.open(r.admit(claim), ocpp.V201)
	keys := map[string]crypto.Signer{"SN-CS-1": newKey(t), "DE*ABC*E1": newKey(t), "DE*ABC*E2": newKey(t)}
	for cn, key := range keys {
		request := map[string]any{"csr": csrPEM(t, key, cn, organisation), "certificateType": "V2GCertificate"}
		if cn == "SN-CS-1" {
			request["certificateType"] = "ChargingStationCertificate"
		}
		for range 2 { // accepted twice, one order
			if v := s.judge(ocpp.FromStation, "SignCertificate", marshal(t, request)); v.After == nil {
				t.Fatalf("%s: %s", cn, v.Reason)
			}
		}
	}
	r.restart()
	s = r.open(r.admit(claim), ocpp.V201)
	s.ready()
	eventually(t, "three certificates", func() bool { return len(s.sent("CertificateSigned")) == 3 })
	s.close()
	for _, call := range s.sent("CertificateSigned") {
		leaf := chainOf(t, call)[0]
		if key := keys[leaf.Subject.CommonName]; key == nil || !leaf.PublicKey.(*ecdsa.PublicKey).Equal(key.Public()) {
			t.Errorf("%s: another key", leaf.Subject.CommonName)
		}
	}
	if n := len(r.records("CS-1")); n != 3 {
		t.Errorf("%d certificates", n)
	}
}

// An identifier that is taken from a station takes its certificates with it, and
// may be another's from then on.
func TestSECCRemoved(t *testing.T) {
	t.Parallel()
	r, c, claim := carsRig(t, ca.KindV2G)
	s := c.connect(claim, ocpp.V201)
	eventually(t, "certificates", func() bool { return c.has(2) })
	s.close()
	s = r.open(r.admit(claim), ocpp.V201)
	waiting := s.judge(ocpp.FromStation, "SignCertificate", marshal(t, map[string]any{"csr": csrPEM(t, newKey(t), "DE*ABC*E1", organisation), "certificateType": "V2GCertificate"}))
	if _, err := r.svc.RemoveSECC(t.Context(), "operator", "CS-1", "DE*ABC*E1"); err != nil {
		t.Fatal(err)
	}
	waiting.After(s.ctx)
	for _, rec := range r.records("CS-1") {
		if want := map[bool]ca.State{true: ca.StateRevoked, false: ca.StateIssued}[strings.Contains(rec.Subject, "E1")]; rec.State != want {
			t.Errorf("%s is %s, want %s", rec.Subject, rec.State, want)
		}
	}
	if n := len(r.records("CS-1")); n != 2 {
		t.Errorf("%d certificates: one was issued after the identifier was gone", n)
	}
	if _, err := r.svc.RemoveSECC(t.Context(), "operator", "CS-1", "DE*ABC*E1"); err == nil {
		t.Error("removed twice")
	}
	r.add(fleet.Enrolment{Identity: "CS-2"})
	if _, err := r.svc.AddSECC(t.Context(), "operator", "CS-2", fleet.SECC{ID: "DE*ABC*E1"}); err != nil {
		t.Error(err)
	}
	if err := r.svc.Remove(t.Context(), "operator", "CS-1"); err != nil {
		t.Fatal(err)
	}
	if recs := r.records("CS-1"); slices.ContainsFunc(recs, func(rec ca.Record) bool { return rec.State == ca.StateIssued }) {
		t.Error("a removed station's certificates toward cars are good")
	}
}

// A station that takes none of its certificates toward cars is left alone, and asked
// again when the operator wants it.
func TestSECCRejected(t *testing.T) { // A02.FR.07, .20
	t.Parallel()
	r, c, claim := carsRig(t, ca.KindV2G)
	c.refuses = true
	c.connect(claim, ocpp.V201)
	stopped := func() bool {
		r.advance(time.Hour)
		return r.plan("CS-1").Tries[fleet.StepSECC].Stopped
	}
	eventually(t, "no more tries", stopped)
	n := len(r.records("CS-1"))
	r.advance(48 * time.Hour)
	if more := len(r.records("CS-1")); more != n || n > 4 {
		t.Errorf("%d certificates, then %d", n, more)
	}
	c.mu.Lock()
	c.refuses = false
	c.mu.Unlock()
	if _, err := r.svc.RenewSECC(t.Context(), "operator", "CS-1"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "certificates", func() bool { r.advance(time.Minute); return c.has(2) })
	if st := r.station("CS-1"); st.RenewWanted {
		t.Error("its own certificate is to be renewed")
	}
}

// 1.6 stations are asked inside DataTransfer.
func TestSECCInsideDataTransfer(t *testing.T) {
	t.Parallel()
	r, c, claim := carsRig(t, ca.KindV2G)
	var s *fakeSession
	var mu sync.Mutex
	got := 0
	s = r.openWith(r.admit(claim), ocpp.V16, fleet.SecurityBollard, func(action string, payload json.RawMessage) (any, error) {
		var transfer ocpp.DataTransferRequest
		if action != "DataTransfer" || json.Unmarshal(payload, &transfer) != nil {
			return ocpp.GenericStatus{Status: "Accepted"}, nil
		}
		var inner string
		if err := json.Unmarshal(transfer.Data, &inner); err != nil {
			return nil, err
		}
		switch transfer.MessageID {
		case "TriggerMessage":
			var trigger ocpp.TriggerMessageRequest
			if err := json.Unmarshal([]byte(inner), &trigger); err != nil || trigger.RequestedMessage != "SignV2GCertificate" || trigger.EVSE == nil {
				t.Errorf("trigger %s", inner)
				return nil, err
			}
			s.Go(func(context.Context) {
				request := marshal(t, map[string]any{"csr": csrPEM(t, newKey(t), c.seccs[trigger.EVSE.ID], organisation), "certificateType": "V2GCertificate"})
				s.message(ocpp.FromStation, "DataTransfer", marshal(t, map[string]any{"vendorId": "org.openchargealliance.iso15118pnc", "messageId": "SignCertificate", "data": request}))
			})
		case "CertificateSigned":
			mu.Lock()
			defer mu.Unlock()
			if chainOf(t, json.RawMessage(inner))[0].Subject.Organization[0] == organisation && strings.Contains(inner, `"certificateType":"V2GCertificate"`) {
				got++
			}
		}
		return ocpp.DataTransferResponse{Status: "Accepted", Data: fleet.Wrap(ocpp.GenericStatus{Status: "Accepted"})}, nil
	})
	s.ready()
	eventually(t, "certificates", func() bool { mu.Lock(); defer mu.Unlock(); return got == 2 })
}
