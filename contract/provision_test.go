package contract_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"bollard/ca"
	"bollard/contract"
	"bollard/iso15118/envelope"
	"bollard/iso15118/identifier"
	"bollard/iso15118/message"
	"bollard/iso15118/signature"
	"bollard/ledger"
)

var protocols = []message.Protocol{message.ISO2, message.ISO20}

// install checks an answer as the car does and returns the contract with its key.
func (c *car) install(t *testing.T, r *rig, a *message.Response) ([]*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	kind := kindsOf(c.p)
	cps := certificates(t, a.CPS)
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	for _, root := range r.authority.Roots(kind[0]) {
		roots.AddCert(root)
	}
	for _, sub := range cps[1:] {
		between.AddCert(sub)
	}
	if _, err := cps[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: r.clock.now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		t.Fatalf("the CPS isn't under the V2G root: %v", err)
	}
	if err := signature.Verify(c.p.Set(), *a.Signature, cps[0].PublicKey, []signature.Suite{signature.P256, signature.P521}, a.Signed()...); err != nil {
		t.Fatal(err)
	}
	chain := certificates(t, a.Contract)
	public, ok := chain[0].PublicKey.(*ecdsa.PublicKey)
	if !ok {
		t.Fatalf("a contract key of type %T", chain[0].PublicKey)
	}
	sealed := envelope.Sealed{Public: a.Public, Key: a.Key}
	var key *ecdsa.PrivateKey
	var err error
	if c.p == message.ISO20 {
		key, err = envelope.Open20(sealed, c.key, public, envelope.Context{PCID: string(pcid), SubjectKeyID: chain[0].SubjectKeyId})
	} else {
		key, err = envelope.Open2(sealed, c.key, public)
	}
	if err != nil {
		t.Fatal(err)
	}
	return chain, key
}

func certificates(t *testing.T, c message.Chain) []*x509.Certificate {
	t.Helper()
	var out []*x509.Certificate
	for _, der := range append([][]byte{c.Certificate}, c.SubCertificates...) {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, cert)
	}
	return out
}

// A car gets its contract: signed by the CPS under the V2G root, sealed for it
// alone, the same when the answer was lost, and small enough for OCPP 2.0.1.
func TestInstallation(t *testing.T) {
	t.Parallel()
	for _, p := range protocols {
		t.Run(p.String(), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, kindsOf(p)...)
			c := r.car(t, p)
			r.add(t)
			exi := sign(t, c.request(), c.key)
			answer, a := r.ask(t, p, exi, false)
			if a == nil || a.Code != "OK" || answer.Reason != "" || !bytes.Equal(a.Session, session) {
				t.Fatalf("got %+v", answer)
			}
			chain, key := c.install(t, r, a)
			if len(chain) != 3 || chain[0].Subject.CommonName != string(emaid.Full()) || !key.PublicKey.Equal(chain[0].PublicKey) {
				t.Errorf("a chain of %d for %s", len(chain), chain[0].Subject)
			}
			if rec, known, err := r.authority.Status(t.Context(), chain[0]); err != nil || !known || rec.State != ca.StateIssued || rec.Serial != answer.Serial {
				t.Errorf("on record: %t, %+v, %v", known, rec, err)
			}
			if most := map[message.Protocol]int{message.ISO2: 5600, message.ISO20: 17000}[p]; base64.StdEncoding.EncodedLen(len(answer.EXI)) > most {
				t.Errorf("%d characters, OCPP carries %d", base64.StdEncoding.EncodedLen(len(answer.EXI)), most)
			}
			again, b := r.ask(t, p, exi, false)
			if again.Serial != answer.Serial || !bytes.Equal(a.Key, b.Key) {
				t.Error("a repeated request got another certificate")
			}
			r.keepsNoSecret(t, c, key)
			if _, err := r.authority.Revoke(t.Context(), answer.Serial, "keyCompromise", "operator"); err != nil {
				t.Fatal(err)
			}
			if fresh, _ := r.ask(t, p, exi, false); fresh.Code != "OK" || fresh.Serial == answer.Serial {
				t.Errorf("after its revocation the certificate is given again: %+v", fresh)
			}
		})
	}
}

// keepsNoSecret looks for a private key in all that is kept.
func (r *rig) keepsNoSecret(t *testing.T, c *car, key *ecdsa.PrivateKey) {
	t.Helper()
	scalar, err := key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	for _, of := range r.contracts(t) {
		if b, ok := r.bundleOf(t, of, c); !ok || bytes.Contains(b.EXI, scalar) {
			t.Errorf("nothing is kept, or the contract key in clear: %t", ok)
		}
	}
	for e, err := range r.store.Entries(t.Context(), 1) {
		if err != nil {
			t.Fatal(err)
		}
		text := e.Kind + e.Subject + e.Actor
		for k, v := range e.Data {
			text += k + v
		}
		if strings.Contains(text, string(emaid)) || strings.Contains(text, string(pcid)) {
			t.Errorf("the ledger names a person: %s", text)
		}
	}
}

func (r *rig) contracts(t *testing.T) []contract.Contract {
	t.Helper()
	list, err := r.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// What is in the pool is made ready before the car asks.
func TestReadyBeforeAsked(t *testing.T) {
	t.Parallel()
	r := newRig(t, kindsOf(message.ISO2)...)
	c := r.car(t, message.ISO2)
	if _, err := r.AddProvisioning(t.Context(), "operator", c.chain); err != nil {
		t.Fatal(err)
	}
	added := r.add(t)
	b, ok := r.bundleOf(t, added, c)
	if !ok {
		t.Fatal("nothing is ready")
	}
	answer, a := r.ask(t, message.ISO2, sign(t, c.request(), c.key), false)
	if answer.Serial != b.Serial {
		t.Error("another certificate was given")
	}
	c.install(t, r, a)
	other := r.car(t, message.ISO2)
	if answer, _ := r.ask(t, message.ISO2, sign(t, other.request(), other.key), false); answer.Code != "FAILED_CertChainError" {
		t.Errorf("a car with the PCID of another: %+v", answer)
	}
}

func TestUpdate(t *testing.T) {
	t.Parallel()
	r := newRig(t, kindsOf(message.ISO2)...)
	c := r.car(t, message.ISO2)
	r.add(t)
	_, a := r.ask(t, message.ISO2, sign(t, c.request(), c.key), false)
	old, key := c.install(t, r, a)
	request := func() []byte { return sign(t, update(old, string(emaid)), key) }
	answer, b := r.ask(t, message.ISO2, request(), true)
	if answer.Code != "OK" || !b.Update {
		t.Fatalf("got %+v", answer)
	}
	holder := &car{key: key, p: message.ISO2}
	fresh, _ := holder.install(t, r, b)
	if fresh[0].SerialNumber.Cmp(old[0].SerialNumber) == 0 {
		t.Error("the old certificate came back")
	}
	if answer, _ := r.ask(t, message.ISO2, request(), false); answer.Code != "FAILED_SignatureError" {
		t.Errorf("an update as an installation: %+v", answer)
	}
	if answer, _ := r.ask(t, message.ISO2, sign(t, update(old, "NLEXA000000000"), key), true); answer.Code != "FAILED_CertChainError" {
		t.Errorf("of another account: %+v", answer)
	}
	if _, err := r.Cancel(t.Context(), "operator", emaid, ""); err != nil {
		t.Fatal(err)
	}
	if answer, _ := r.ask(t, message.ISO2, request(), true); answer.Code != "FAILED_ContractCanceled" {
		t.Errorf("of a cancelled contract: %+v", answer)
	}
	for _, cert := range []*x509.Certificate{old[0], fresh[0]} {
		if rec, _, err := r.authority.Status(t.Context(), cert); err != nil || rec.State != ca.StateRevoked {
			t.Errorf("after cancelling the certificate is %s: %v", rec.State, err)
		}
	}
}

// Each failure has the standard's code, a reason, and gives nothing out.
func TestFailures(t *testing.T) {
	t.Parallel()
	for _, p := range protocols {
		t.Run(p.String(), func(t *testing.T) {
			t.Parallel()
			r, foreign := newRig(t, kindsOf(p)...), newRig(t, kindsOf(p)[2]) // a manufacturer nobody trusts
			start := r.clock.now()
			for i, tt := range failures {
				r.clock.set(start)
				id := identifier.PCID(fmt.Sprintf("WP0TESTA000000%02dA3", i))
				c := r.carOf(t, p, id)
				if tt.foreign {
					c = foreign.carOf(t, p, id)
				}
				account := identifier.EMAID(fmt.Sprintf("NLEXA0000000%02d", i))
				if !tt.nobody {
					if _, err := r.Add(t.Context(), "operator", account, id); err != nil {
						t.Fatal(err)
					}
				}
				request := c.request()
				exi := sign(t, request, c.key)
				if tt.change != nil {
					exi = tt.change(t, r, c, account, exi)
				}
				a, out := r.ask(t, p, exi, false)
				want := tt.code2
				if p == message.ISO20 {
					want = tt.code20
				}
				if a.Code != want || a.Reason == "" || a.Serial != "" || out.Signature != nil || !bytes.Equal(out.Session, session) {
					t.Errorf("%s: got %+v, want %s", tt.name, a, want)
				}
				issued, err := r.store.Certificates(t.Context(), ca.Filter{Profile: map[message.Protocol]string{message.ISO2: ca.ProfileContract, message.ISO20: ca.ProfileContract20}[p]})
				if err != nil || len(issued) != 0 {
					t.Errorf("%s: %d contract certificates: %v", tt.name, len(issued), err)
				}
				if log := entries(t, r); !slices.ContainsFunc(log[len(log)-1:], func(e ledger.Entry) bool { return e.Kind == "contract.refused" && e.Data["code"] == want }) {
					t.Errorf("%s: not on record", tt.name)
				}
			}
		})
	}
}

// failures change a good request, or what it meets.
var failures = []struct {
	name, code2, code20 string
	nobody, foreign     bool
	change              func(t *testing.T, r *rig, c *car, account identifier.EMAID, exi []byte) []byte
}{
	{name: "no contract", code2: "FAILED_NoCertificateAvailable", code20: "WARNING_NoContractMatchingPCIDFound", nobody: true},
	{name: "wrong root", code2: "FAILED_CertChainError", code20: "WARNING_CertificateValidationError", foreign: true},
	{name: "cancelled", code2: "FAILED_ContractCanceled", code20: "WARNING_NoCertificateAvailable",
		change: func(t *testing.T, r *rig, _ *car, account identifier.EMAID, exi []byte) []byte {
			if _, err := r.Cancel(t.Context(), "operator", account, ""); err != nil {
				t.Fatal(err)
			}
			return exi
		}},
	{name: "unsigned", code2: "FAILED_SignatureError", code20: "FAILED_SignatureError",
		change: func(t *testing.T, _ *rig, c *car, _ identifier.EMAID, _ []byte) []byte { return encode(t, c.request()) }},
	{name: "signed by another", code2: "FAILED_SignatureError", code20: "FAILED_SignatureError",
		change: func(t *testing.T, _ *rig, c *car, _ identifier.EMAID, _ []byte) []byte {
			return sign(t, c.request(), newKey(t, curveOf(c.p)))
		}},
	{name: "revoked", code2: "FAILED_CertificateRevoked", code20: "WARNING_CertificateRevoked",
		change: func(t *testing.T, r *rig, c *car, _ identifier.EMAID, exi []byte) []byte {
			if _, err := r.authority.Revoke(t.Context(), ca.SerialOf(c.chain[0]), "keyCompromise", "operator"); err != nil {
				t.Fatal(err)
			}
			return exi
		}},
	{name: "not yet valid", code2: "FAILED_CertChainError", code20: "WARNING_CertificateNotYetValid",
		change: func(_ *testing.T, r *rig, _ *car, _ identifier.EMAID, exi []byte) []byte {
			r.clock.set(r.clock.now().Add(-2 * time.Hour))
			return exi
		}},
	{name: "expired", code2: "FAILED_CertificateExpired", code20: "WARNING_CertificateExpired",
		change: func(_ *testing.T, r *rig, _ *car, _ identifier.EMAID, exi []byte) []byte {
			r.clock.set(r.clock.now().AddDate(11, 0, 0))
			return exi
		}},
}

// A provider without a CPS has nobody whose signature cars take.
func TestNoCPS(t *testing.T) {
	t.Parallel()
	r := newRig(t, ca.KindMO, ca.KindOEM)
	c := r.car(t, message.ISO2)
	r.add(t)
	if a, _ := r.ask(t, message.ISO2, sign(t, c.request(), c.key), false); a.Code != "FAILED_NoCertificateAvailable" || !strings.Contains(a.Reason, "ca create cps") {
		t.Errorf("got %+v", a)
	}
}

func entries(t *testing.T, r *rig) []ledger.Entry {
	t.Helper()
	var list []ledger.Entry
	for e, err := range r.store.Entries(t.Context(), 1) {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, e)
	}
	return list
}

// Bytes that are no request get no answer, and nothing happens.
func TestHostileBytes(t *testing.T) {
	t.Parallel()
	r := newRig(t, kindsOf(message.ISO2)...)
	c := r.car(t, message.ISO2)
	r.add(t)
	good := sign(t, c.request(), c.key)
	for name, exi := range map[string][]byte{
		"empty": {}, "cut": good[:len(good)/2], "longer": append(bytes.Clone(good), 0), "huge": make([]byte, 1<<20), "zeros": make([]byte, 100),
	} {
		if a, _ := r.ask(t, message.ISO2, exi, false); len(a.EXI) != 0 || a.Reason == "" || a.Serial != "" {
			t.Errorf("%s: %+v", name, a)
		}
	}
	for bit := range len(good) * 8 {
		if bit%97 != 0 {
			continue
		}
		flipped := bytes.Clone(good)
		flipped[bit/8] ^= 0x80 >> (bit % 8)
		// The session isn't signed: a change there is another session.
		if a, out := r.ask(t, message.ISO2, flipped, false); a.Serial != "" && bytes.Equal(out.Session, session) {
			t.Errorf("bit %d changes nothing", bit)
		}
	}
}

// Several contracts of -20: one a request, in the order the car wants, until none
// remains.
func TestSeveralContracts(t *testing.T) {
	t.Parallel()
	r := newRig(t, kindsOf(message.ISO20)...)
	c := r.car(t, message.ISO20)
	var all []string
	for _, id := range []identifier.EMAID{"NLEXA000000001", "NLEXA000000002", "NLEXA000000003", "NLEXA000000004"} {
		if _, err := r.Add(t.Context(), "operator", id, pcid); err != nil {
			t.Fatal(err)
		}
		all = append(all, string(id.Full()))
	}
	request := c.request()
	request.Prioritized = []string{"NL-EXA-000000003"}
	var got []string
	for _, remaining := range []int{2, 1, 0} {
		exi := sign(t, request, c.key) // anew each time
		// An answer that nobody waits for takes no contract.
		if a, err := r.Provision(t.Context(), contract.Request{Protocol: message.ISO20, EXI: exi, Actor: "operator", Left: func() time.Duration { return 0 }}); err != nil || a.Withheld == "" {
			t.Fatalf("got %+v, %v", a, err)
		}
		a, out := r.ask(t, message.ISO20, exi, false)
		if a.Code != "OK" || a.Remaining != remaining || int(out.Remaining) != remaining {
			t.Fatalf("got %+v, %d should remain", a, remaining)
		}
		chain, _ := c.install(t, r, out)
		got = append(got, chain[0].Subject.CommonName)
	}
	if want := []string{all[2], all[0], all[1]}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for range 2 { // another session begins anew, whatever became of the one before
		request.Session = append([]byte{request.Session[0] + 1}, request.Session[1:]...)
		if a, _ := r.ask(t, message.ISO20, sign(t, request, c.key), false); a.Remaining != 2 {
			t.Errorf("another session: %+v", a)
		}
	}
	request = c.request()
	request.Prioritized = []string{"DEABC000000000"}
	if a, _ := r.ask(t, message.ISO20, sign(t, request, c.key), false); a.Code != "WARNING_eMSPUnknown" {
		t.Errorf("an account of somebody else: %+v", a)
	}
}

// A station that asks without end costs nothing after its allowance.
func TestAllowance(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ask := func() contract.Answer {
		a, err := r.Provision(t.Context(), contract.Request{Protocol: message.ISO2, Actor: "station:cs1"})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	for range 10 {
		ask()
	}
	before := len(entries(t, r))
	if a := ask(); !strings.Contains(a.Reason, "too often") || len(entries(t, r)) != before {
		t.Errorf("got %+v", a)
	}
	r.clock.set(r.clock.now().Add(10 * time.Second))
	if a := ask(); strings.Contains(a.Reason, "too often") {
		t.Errorf("got %+v", a)
	}
}
