package fleet_test

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"bollard/ca"
	"bollard/ca/hashdata"
	"bollard/fleet"
	"bollard/ocpp"
)

// asSent gives the ways a back end can send a certificate message: plain, and
// for 1.6 within a DataTransfer. What -Signed carries comes here as its base.
func asSent(t *testing.T, v ocpp.Version, action, payload string) map[string]string {
	t.Helper()
	ways := map[string]string{action: payload}
	if v == ocpp.V16 {
		ways[ocpp.ActionDataTransfer] = marshal(t, map[string]any{"vendorId": "org.openchargealliance.iso15118pnc", "messageId": action, "data": payload})
	}
	return ways
}

// The root a station's connection stands on is deleted by no back end, however
// it names it (promise 4, threat C6, M04).
func TestBackEndCannotDeleteTheRootInUse(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	adm := r.admit(withPassword(claim(t, "CS-1"), r.add(fleet.Enrolment{Identity: "CS-1"})))
	root := r.auth.Roots(ca.KindCSMS)[0]
	next, other := newMaker(t, r.clock()), newMaker(t, r.clock())
	other.Cert = other.Issue(other.Cert, other.Key) // under a serial number of its own
	cross := r.crossed(next)
	hash := func(algorithm string, cert, issuer *x509.Certificate) ocpp.CertificateHashData {
		d, err := hashdata.Of(algorithm, cert, issuer)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	type test struct {
		data ocpp.CertificateHashData
		kept bool
	}
	tests := map[string]test{
		"SHA256": {hash("SHA256", root, root), true}, "SHA384": {hash("SHA384", root, root), true}, "SHA512": {hash("SHA512", root, root), true},
		"another root": {hash("SHA256", other.Cert, other.Cert), false},
		"next root":    {hash("SHA384", next.Cert, next.Cert), true},
		"cross-signed": {hash("SHA256", cross, root), true},
	}
	upper := hash("SHA256", root, root)
	upper.HashAlgorithm, upper.IssuerNameHash = "sha256", strings.ToUpper(upper.IssuerNameHash)
	upper.IssuerKeyHash, upper.SerialNumber = strings.ToUpper(upper.IssuerKeyHash), strings.ToUpper(upper.SerialNumber)
	tests["upper case"] = test{upper, true}
	zeros := hash("SHA256", root, root)
	zeros.SerialNumber = " 000" + zeros.SerialNumber
	tests["leading zeros"] = test{zeros, true}
	wrong := hash("SHA256", root, root)
	wrong.IssuerKeyHash = strings.Repeat("0", 64)
	tests["one hash wrong"] = test{wrong, true}
	odd := hash("SHA256", root, root)
	odd.HashAlgorithm = "SHA-1"
	tests["unknown algorithm"] = test{odd, true}
	serial := hash("SHA256", root, root)
	serial.SerialNumber = "1f"
	tests["another serial"] = test{serial, false}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			for _, v := range []ocpp.Version{ocpp.V16, ocpp.V201, ocpp.V21} {
				for _, mode := range []fleet.SecurityMode{fleet.SecurityBollard, fleet.SecurityBackend, fleet.SecurityObserve} {
					s := r.openWith(adm, v, mode, nil)
					for action, payload := range asSent(t, v, ocpp.ActionDeleteCertificate, marshal(t, ocpp.DeleteCertificateRequest{CertificateHashData: tt.data})) {
						got := s.judge(ocpp.FromCSMS, action, payload)
						if tt.kept && (got.Act != fleet.Answer || !strings.Contains(status(got), "Failed")) || !tt.kept && got.Act != fleet.Pass {
							t.Errorf("%s %s %s: %+v, kept %v", v, mode, action, got, tt.kept)
						}
					}
					s.close()
				}
			}
		})
	}
}

// The root of a server certificate from a file is kept as the own one is, and
// where only the certificate below it is at hand, by its name.
func TestRootOfServedFileIsKept(t *testing.T) { // M04 warning
	t.Parallel()
	r := newRig(t)
	outside, other := newMaker(t, r.clock()), newMaker(t, r.clock())
	other.Cert = nil // for a root of another name
	other.Cert = other.Issue(&x509.Certificate{Subject: pkix.Name{CommonName: "Other Root"}, NotBefore: r.clock(), NotAfter: r.clock().AddDate(20, 0, 0),
		IsCA: true, BasicConstraintsValid: true}, other.Key)
	below := outside.Leaf(r.clock(), "Sub CA", func(c *x509.Certificate) { c.IsCA = true })
	adm := r.admit(withPassword(claim(t, "CS-1"), r.add(fleet.Enrolment{Identity: "CS-1"})))
	for name, shown := range map[string]*x509.Certificate{"the root": outside.Cert, "what it signed": below} {
		r.served = func(context.Context) ([]*x509.Certificate, error) { return []*x509.Certificate{shown}, nil }
		r.start()
		s := r.openWith(adm, ocpp.V201, fleet.SecurityBackend, nil)
		for root, kept := range map[*x509.Certificate]bool{outside.Cert: true, other.Cert: false, r.auth.Roots(ca.KindCSMS)[0]: false} {
			for _, algorithm := range []string{"SHA256", "SHA384", "SHA512"} {
				d, err := hashdata.Of(algorithm, root, root)
				if err != nil {
					t.Fatal(err)
				}
				d.IssuerNameHash = strings.ToUpper(d.IssuerNameHash)
				got := s.judge(ocpp.FromCSMS, "DeleteCertificate", marshal(t, ocpp.DeleteCertificateRequest{CertificateHashData: d}))
				if kept != (got.Act == fleet.Answer) {
					t.Errorf("%s is served, %s of %s is deleted: %+v", name, algorithm, root.Subject, got)
				}
			}
		}
		s.close()
	}
	r.served = func(context.Context) ([]*x509.Certificate, error) { return nil, errors.New("the file can't be read") }
	r.start()
	s := r.openWith(adm, ocpp.V201, fleet.SecurityBackend, nil)
	d, err := hashdata.Of("SHA256", other.Cert, other.Cert)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.judge(ocpp.FromCSMS, "DeleteCertificate", marshal(t, ocpp.DeleteCertificateRequest{CertificateHashData: d})); got.Act != fleet.Answer {
		t.Errorf("nobody knows what is served, and a root is deleted: %+v", got)
	}
}

// crossed has a root change under way to the maker's root.
func (r *rig) crossed(next *maker) *x509.Certificate {
	r.t.Helper()
	old := r.auth.Roots(ca.KindCSMS)[0]
	cross := *next.Cert
	cross.RawIssuer, cross.Issuer = old.RawSubject, old.Subject
	r.rollover = func(context.Context) (*fleet.Rollover, error) {
		return &fleet.Rollover{New: next.Cert, Cross: &cross, Old: old}, nil
	}
	r.start()
	return &cross
}

// The root a station checks Bollard's server certificate against comes from
// Bollard alone, in every security mode; other uses pass.
func TestBackEndCannotInstallTheCSMSRoot(t *testing.T) { // threat C6, M05
	t.Parallel()
	r := newRig(t)
	adm := r.admit(withPassword(claim(t, "CS-1"), r.add(fleet.Enrolment{Identity: "CS-1"})))
	for use, ours := range map[string]bool{
		"CSMSRootCertificate": true, "CentralSystemRootCertificate": true, "csmsrootcertificate": true, " CSMSRootCertificate": true,
		"ManufacturerRootCertificate": false, "V2GRootCertificate": false, "MORootCertificate": false, "OEMRootCertificate": false,
	} {
		for _, v := range []ocpp.Version{ocpp.V16, ocpp.V201, ocpp.V21} {
			for _, mode := range []fleet.SecurityMode{fleet.SecurityBollard, fleet.SecurityBackend, fleet.SecurityObserve} {
				s := r.openWith(adm, v, mode, nil)
				for action, payload := range asSent(t, v, ocpp.ActionInstallCertificate, marshal(t, ocpp.InstallCertificateRequest{CertificateType: use, Certificate: "x"})) {
					got := s.judge(ocpp.FromCSMS, action, payload)
					refused := ours
					if refused && (got.Act != fleet.Answer || !strings.Contains(status(got), "Rejected")) || !refused && got.Act != fleet.Pass {
						t.Errorf("%s %s %s %q: %+v", v, mode, action, use, got)
					}
				}
				s.close()
			}
		}
	}
}

// A back end that answers certificate messages may send the served root again,
// by itself, and the one that is about to follow.
func TestBackEndMayInstallTheServedRoot(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	adm := r.admit(withPassword(claim(t, "CS-1"), r.add(fleet.Enrolment{Identity: "CS-1"})))
	next := newMaker(t, r.clock())
	cross := r.crossed(next)
	text := func(certs ...*x509.Certificate) string {
		out := ""
		for _, c := range certs {
			out += string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
		}
		return out
	}
	served := r.auth.Roots(ca.KindCSMS)[0]
	for name, tt := range map[string]struct {
		text   string
		passes bool
	}{
		"served": {text(served), true}, "next": {text(next.Cert), true}, "cross-signed": {text(cross), true},
		"two": {text(served, newMaker(t, r.clock()).Cert), false}, "other": {text(newMaker(t, r.clock()).Cert), false},
	} {
		for mode, may := range map[fleet.SecurityMode]bool{fleet.SecurityBackend: true, fleet.SecurityBollard: false} {
			s := r.openWith(adm, ocpp.V21, mode, nil)
			got := s.judge(ocpp.FromCSMS, ocpp.ActionInstallCertificate, marshal(t, ocpp.InstallCertificateRequest{CertificateType: "CSMSRootCertificate", Certificate: tt.text}))
			if (got.Act == fleet.Pass) != (may && tt.passes) {
				t.Errorf("%s %s: %+v", mode, name, got)
			}
			s.close()
		}
	}
}

// A back end that goes on and on costs an entry now and then, not one each;
// nothing is lost from the count.
func TestRefusedBackEndMessagesAreCounted(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s, _ := r.basic("CS-1", ocpp.V16, nil)
	const change = `{"key":"AuthorizationKey","value":"1"}`
	hour := func(perMinute int) {
		for range 60 {
			for range perMinute {
				s.judge(ocpp.FromCSMS, "ChangeConfiguration", change)
			}
			r.advance(time.Minute)
			fleet.FlushOverruled(t.Context(), r.svc)
		}
	}
	total := func() (entries, n int) {
		for _, e := range r.events("backend.refused") {
			count, err := strconv.Atoi(e.Data["count"])
			if err != nil {
				t.Fatal(err)
			}
			entries, n = entries+1, n+count
		}
		return entries, n
	}
	hour(100)
	if entries, n := total(); entries < 3 || entries > 8 || n < 3000 {
		t.Errorf("%d entries for %d of 6000 messages", entries, n)
	}
	s.judge(ocpp.FromCSMS, "CertificateSigned", `{"certificateChain":"x"}`)
	if before, _ := total(); before < 4 {
		t.Error("another action's first refusal waits")
	}
	hour(0)
	hour(0)
	before, n := total()
	if n != 6001 {
		t.Errorf("%d of 6001 messages counted", n)
	}
	s.judge(ocpp.FromCSMS, "ChangeConfiguration", change)
	if after, _ := total(); after != before+1 {
		t.Error("first refusal after a quiet hour waits")
	}
}
