package contract_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bollard/ca"
	"bollard/contract"
	"bollard/iso15118/message"
	"bollard/ocpp"
)

// provider is another e-mobility provider or manufacturer, with CAs of its own.
type provider struct {
	t       *testing.T
	now     time.Time
	p       message.Protocol
	key     *ecdsa.PrivateKey // of the sub-CA
	root    *x509.Certificate
	sub     *x509.Certificate
	serials int64
}

const responder = "http://ocsp.provider.example/"

func newProvider(t *testing.T, now time.Time, p message.Protocol) *provider {
	t.Helper()
	o := &provider{t: t, now: now, p: p, key: newKey(t, curveOf(p)), serials: 1}
	rootKey := newKey(t, curveOf(p))
	authority := x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Other Root"}, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(10, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	o.root = certify(t, &authority, nil, rootKey, rootKey)
	authority.Subject.CommonName, authority.SerialNumber, authority.OCSPServer = "Other Sub-CA", big.NewInt(2), []string{responder}
	o.sub = certify(t, &authority, o.root, o.key, rootKey)
	return o
}

// leaf is a certificate of a contract or a car, with its chain.
func (o *provider) leaf(key *ecdsa.PrivateKey, name string, edit ...func(*x509.Certificate)) []*x509.Certificate {
	o.t.Helper()
	o.serials++
	template := x509.Certificate{SerialNumber: big.NewInt(1000 + o.serials), Subject: pkix.Name{CommonName: name}, NotBefore: o.now.Add(-time.Hour), NotAfter: o.now.AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyAgreement, OCSPServer: []string{responder}}
	for _, e := range edit {
		e(&template)
	}
	return []*x509.Certificate{certify(o.t, &template, o.sub, key, o.key), o.sub}
}

func (r *rig) trust(t testing.TB, use string, root *x509.Certificate) {
	t.Helper()
	if _, err := r.authority.AddAnchor(t.Context(), use, []byte(pemOf([]*x509.Certificate{root})), "operator"); err != nil {
		t.Fatal(err)
	}
}

// world is what other CAs say, by the serial number in hex.
type world struct {
	mu      sync.Mutex
	revoked map[string]bool
	away    bool // nobody answers
	asked   int
	left    time.Duration // how long the last one asked had
}

func (w *world) say(ctx context.Context, serial string) (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked++
	if deadline, ok := ctx.Deadline(); ok {
		w.left = time.Until(deadline)
	}
	if w.away {
		return false, errors.New("connection refused")
	}
	return w.revoked[serial], nil
}

func (w *world) Revoked(ctx context.Context, cert, issuer *x509.Certificate) (bool, error) {
	if err := cert.CheckSignatureFrom(issuer); err != nil {
		return false, err
	}
	return w.say(ctx, ca.SerialOf(cert))
}

func (w *world) RevokedByHash(ctx context.Context, d ocpp.OCSPRequestData) (bool, error) {
	if d.ResponderURL != responder {
		return false, errors.New("not one that may be asked")
	}
	return w.say(ctx, strings.ToLower(d.SerialNumber))
}

// asking gives the rig's service somebody to ask.
func (r *rig) asking(t testing.TB, w *world, hard bool) {
	t.Helper()
	service, err := contract.New(t.Context(), contract.Config{Store: r.store, Authority: r.authority, Revocation: w, HardFail: hard, Clock: r.clock.now})
	if err != nil {
		t.Fatal(err)
	}
	r.Service = service
}

const foreign = "DE-OTH-C00000001"

func shown(account string, chain ...*x509.Certificate) *ocpp.AuthorizeRequest {
	in := &ocpp.AuthorizeRequest{IDToken: ocpp.IDToken{IDToken: account, Type: "eMAID"}}
	if len(chain) > 0 {
		in.Certificate = pemOf(chain)
	}
	return in
}

// C07.FR.05, .15 to .17: another provider's contract that isn't good gets the fixed
// pair, whatever its back end would say; one that is good is for the back end.
func TestVet(t *testing.T) {
	t.Parallel()
	for _, p := range protocols {
		r := newRig(t, kindsOf(p)...)
		other, stranger := newProvider(t, r.clock.now(), p), newProvider(t, r.clock.now(), p)
		if vets, err := r.Vets(t.Context()); vets || err != nil {
			t.Errorf("vets without any root: %v", err)
		}
		r.trust(t, "mo", other.root)
		r.trust(t, "oem", stranger.root) // of the wrong kind
		if vets, err := r.Vets(t.Context()); !vets || err != nil {
			t.Errorf("doesn't vet: %v", err)
		}
		key := newKey(t, curveOf(p))
		good := other.leaf(key, "DEOTHC00000001")
		gone := other.leaf(key, "DEOTHC00000001")
		w := &world{revoked: map[string]bool{ca.SerialOf(gone[0]): true}}
		r.asking(t, w, false)
		pair := func(status, certificate string) *ocpp.AuthorizeResponse {
			return &ocpp.AuthorizeResponse{IDTokenInfo: ocpp.IDTokenInfo{Status: status}, CertificateStatus: certificate}
		}
		fault := pair("Invalid", "CertChainError")
		hashes := func(chain []*x509.Certificate) *ocpp.AuthorizeRequest {
			in := shown(foreign)
			in.HashData = hashed(t, chain[0], chain[1])
			in.HashData[0].ResponderURL = responder
			return in
		}
		elsewhere := hashes(good)
		elsewhere.HashData[0].ResponderURL = "http://evil.example/"
		many := hashes(good)
		for range 4 {
			many.HashData = append(many.HashData, many.HashData[0])
		}
		for _, test := range []struct {
			name string
			in   *ocpp.AuthorizeRequest
			want *ocpp.AuthorizeResponse
			good bool
		}{
			{"good", shown(foreign, good...), nil, true},
			{"good, in capitals without separators", shown("DEOTHC00000001", good...), nil, true},
			{"expired", shown(foreign, other.leaf(key, "DEOTHC00000001", func(c *x509.Certificate) { c.NotAfter = r.clock.now().Add(-time.Minute) })...), pair("Expired", "CertificateExpired"), false},
			{"not yet valid", shown(foreign, other.leaf(key, "DEOTHC00000001", func(c *x509.Certificate) { c.NotBefore = r.clock.now().Add(time.Minute) })...), fault, false},
			{"revoked by its CA", shown(foreign, gone...), pair("Invalid", "CertificateRevoked"), false},
			{"under no trusted root", shown(foreign, newProvider(t, r.clock.now(), p).leaf(key, "DEOTHC00000001")...), fault, false},
			{"under a manufacturer's root", shown(foreign, stranger.leaf(key, "DEOTHC00000001")...), fault, false},
			{"without its sub-CA", shown(foreign, good[0]), fault, false},
			{"another account's", shown("DE-OTH-C00000002", good...), fault, false},
			{"unreadable", &ocpp.AuthorizeRequest{IDToken: ocpp.IDToken{IDToken: foreign, Type: "eMAID"}, Certificate: "x"}, fault, false},
			{"more than a chain", shown(foreign, good[0], good[1], good[1], good[1], good[1]), fault, false},
			{"hashes, good", hashes(good), nil, true},
			{"hashes, revoked", hashes(gone), pair("Invalid", "CertificateRevoked"), false},
			{"hashes, nobody to ask", elsewhere, nil, false},
			{"more hashes than a chain", many, fault, false},
			{"neither", shown(foreign), nil, false},
		} {
			got, err := r.Vet(t.Context(), test.in, "station:cs-1")
			if err != nil {
				t.Fatal(err)
			}
			if (got.Answer == nil) != (test.want == nil) || got.Answer != nil && *got.Answer != *test.want || got.Good != test.good {
				t.Errorf("%s, %s: %+v, good %t", p, test.name, got.Answer, got.Good)
			}
		}
	}
}

// A certificate of an own contract, shown by hashes for another's account, is none
// of the account's.
func TestVetOwnHashes(t *testing.T) {
	t.Parallel()
	r := newRig(t, kindsOf(message.ISO2)...)
	r.trust(t, "mo", newProvider(t, r.clock.now(), message.ISO2).root)
	r.asking(t, &world{}, false)
	c := r.car(t, message.ISO2)
	r.add(t)
	_, a := r.ask(t, message.ISO2, sign(t, c.request(), c.key), false)
	chain, _ := c.install(t, r, a)
	in := shown(foreign)
	in.HashData = hashed(t, chain[0], chain[1])
	in.HashData[0].ResponderURL = responder
	got, err := r.Vet(t.Context(), in, "station:cs-1")
	if err != nil || got.Answer == nil || got.Answer.CertificateStatus != "CertChainError" {
		t.Errorf("%+v, %v", got, err)
	}
}

// Responders that don't answer: soft counts the chain, hard doesn't. Neither waits
// for more than two seconds.
func TestVetWithoutAnswer(t *testing.T) {
	t.Parallel()
	for _, hard := range []bool{false, true} {
		r := newRig(t, kindsOf(message.ISO2)...)
		other := newProvider(t, r.clock.now(), message.ISO2)
		r.trust(t, "mo", other.root)
		w := &world{away: true}
		r.asking(t, w, hard)
		chain := other.leaf(newKey(t, curveOf(message.ISO2)), "DEOTHC00000001")
		got, err := r.Vet(t.Context(), shown(foreign, chain...), "station:cs-1")
		if err != nil || got.Good == hard || (got.Answer != nil) != hard || hard && got.Answer.CertificateStatus != "CertChainError" {
			t.Errorf("hard %t: %+v, %v", hard, got, err)
		}
		if w.left <= 0 || w.left > 2*time.Second {
			t.Errorf("who is asked may take %v", w.left)
		}
	}
}

// A station that makes hashes up doesn't have responders asked without end, and keeps
// no other station's from being asked.
func TestVetAsksByHashWithinBounds(t *testing.T) {
	t.Parallel()
	r := newRig(t, kindsOf(message.ISO2)...)
	other := newProvider(t, r.clock.now(), message.ISO2)
	r.trust(t, "mo", other.root)
	w := &world{}
	r.asking(t, w, false)
	chain := other.leaf(newKey(t, curveOf(message.ISO2)), "DEOTHC00000001")
	in := shown(foreign)
	in.HashData = hashed(t, chain[0], chain[1])[:1]
	in.HashData[0].ResponderURL = responder
	good := 0
	for _, station := range append(slices.Repeat([]string{"station:cs-1"}, 50), "station:cs-2") {
		got, err := r.Vet(t.Context(), in, station)
		if err != nil || got.Answer != nil {
			t.Fatalf("%+v, %v", got.Answer, err)
		}
		if got.Good {
			good++
		}
	}
	if good != 11 || w.asked != 11 {
		t.Errorf("%d are good, %d were asked about", good, w.asked)
	}
}

// A station that shows bad certificates again and again doesn't fill the ledger.
func TestVetIsRecordedWithinBounds(t *testing.T) {
	t.Parallel()
	r := newRig(t, kindsOf(message.ISO2)...)
	r.trust(t, "mo", newProvider(t, r.clock.now(), message.ISO2).root)
	for range 50 {
		if _, err := r.Vet(t.Context(), &ocpp.AuthorizeRequest{IDToken: ocpp.IDToken{IDToken: foreign, Type: "eMAID"}, Certificate: "x"}, "station:cs-1"); err != nil {
			t.Fatal(err)
		}
	}
	n := 0
	for _, e := range entries(t, r) {
		if e.Kind == "contract.untrusted" {
			n++
		}
	}
	if n != 10 {
		t.Errorf("%d entries", n)
	}
}

// C07.FR.13, .14: the back end's word about the account, with the verdict on the
// certificate; what it has against the certificate stays, and so does all else.
func TestAgree(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ said, want string }{
		"accepted":                    {`{"idTokenInfo":{"status":"Accepted"}}`, `{"idTokenInfo":{"status":"Accepted"},"certificateStatus":"Accepted"}`},
		"a session already":           {`{"idTokenInfo":{"status":"ConcurrentTx"},"certificateStatus":"Accepted"}`, `{"idTokenInfo":{"status":"ConcurrentTx"},"certificateStatus":"Accepted"}`},
		"blocked":                     {`{"idTokenInfo":{"status":"Blocked"}}`, `{"idTokenInfo":{"status":"Blocked"},"certificateStatus":"ContractCancelled"}`},
		"unknown, certificate good":   {`{"idTokenInfo":{"status":"Unknown"},"certificateStatus":"Accepted"}`, `{"idTokenInfo":{"status":"Unknown"},"certificateStatus":"ContractCancelled"}`},
		"the back end knows more":     {`{"idTokenInfo":{"status":"Invalid"},"certificateStatus":"CertificateRevoked"}`, `{"idTokenInfo":{"status":"Invalid"},"certificateStatus":"CertificateRevoked"}`},
		"cancelled, against the pair": {`{"idTokenInfo":{"status":"Accepted"},"certificateStatus":"ContractCancelled"}`, `{"idTokenInfo":{"status":"Accepted"},"certificateStatus":"ContractCancelled"}`},
		"with a tariff":               {`{"tariff":{"currency":"EUR","x":1.50},"idTokenInfo":{"status":"Accepted","groupIdToken":{"a":"b"}}}`, `{"tariff":{"currency":"EUR","x":1.50},"idTokenInfo":{"status":"Accepted","groupIdToken":{"a":"b"}},"certificateStatus":"Accepted"}`},
	} {
		got, err := contract.Agree(json.RawMessage(test.said))
		if err != nil || !sameJSON(t, got, []byte(test.want)) {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
	for _, said := range []string{`{}`, `null`, `[]`, `{"idTokenInfo":{"status":"Accepted"},"IdTokenInfo":{"status":"Blocked"}}`} {
		if got, err := contract.Agree(json.RawMessage(said)); err == nil {
			t.Errorf("%s became %s", said, got)
		}
	}
}

// A car of an outside manufacturer whose certificate was revoked there gets nothing.
func TestForeignCarRevoked(t *testing.T) {
	t.Parallel()
	for _, p := range protocols {
		r := newRig(t, kindsOf(p)...)
		maker := newProvider(t, r.clock.now(), p)
		r.trust(t, "oem", maker.root)
		c := &car{key: newKey(t, curveOf(p)), p: p}
		c.chain = maker.leaf(c.key, string(pcid))
		if p == message.ISO2 { // whose cars send no sub-CA
			if _, err := r.AddProvisioning(t.Context(), "operator", c.chain); err != nil {
				t.Fatal(err)
			}
		}
		r.add(t)
		exi := sign(t, c.request(), c.key)
		for _, test := range []struct {
			name, code2, code20 string
			world               *world
			hard                bool
		}{
			{"good", "OK", "OK", &world{}, true},
			{"car revoked", "FAILED_CertificateRevoked", "WARNING_CertificateRevoked", &world{revoked: map[string]bool{ca.SerialOf(c.chain[0]): true}}, false},
			{"sub-CA revoked", "FAILED_CertificateRevoked", "WARNING_CertificateRevoked", &world{revoked: map[string]bool{ca.SerialOf(c.chain[1]): true}}, false},
			{"nobody answers, soft", "OK", "OK", &world{away: true}, false},
			{"nobody answers, hard", "FAILED_CertChainError", "WARNING_CertificateValidationError", &world{away: true}, true},
		} {
			r.asking(t, test.world, test.hard)
			want := test.code2
			if p == message.ISO20 {
				want = test.code20
			}
			if a, _ := r.ask(t, p, exi, false); a.Code != want {
				t.Errorf("%s, %s: %s, want %s (%s)", p, test.name, a.Code, want, a.Reason)
			}
			if test.world.asked != 2 {
				t.Errorf("%s, %s: asked about %d certificates", p, test.name, test.world.asked)
			}
		}
	}
}

func sameJSON(t *testing.T, a, b []byte) bool {
	t.Helper()
	var x, y any
	if err := errors.Join(json.Unmarshal(a, &x), json.Unmarshal(b, &y)); err != nil {
		t.Error(err)
	}
	return cmp.Equal(x, y)
}
