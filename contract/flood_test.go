package contract_test

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"bollard/ca"
	"bollard/contract"
	"bollard/iso15118/identifier"
	"bollard/iso15118/message"
)

// below is a CA that the sub-CA has certified by a name of its own.
func (o *provider) below(serial *big.Int) *provider {
	o.t.Helper()
	next := *o
	next.key = newKey(o.t, curveOf(o.p))
	next.sub = certify(o.t, &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: "Sub-CA " + serial.String()}, NotBefore: o.now.Add(-time.Hour), NotAfter: o.now.AddDate(10, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, OCSPServer: []string{responder}}, o.sub, next.key, o.key)
	return &next
}

// A maker's CA that goes on making certificates for a car costs so many contract
// certificates in a day and no more, however the requests come, and is told of; what was
// answered is found again. One maker's CA costs no other's cars theirs.
func TestMakerFlood(t *testing.T) {
	t.Parallel()
	p := message.ISO2
	r := newRig(t, kindsOf(p)...)
	var told []string
	var err error
	accident := &tripStore{Store: r.store}
	r.Service, err = contract.New(t.Context(), contract.Config{Store: accident, Authority: r.authority, Revocation: &world{}, Clock: r.clock.now,
		Flooded: func(_ context.Context, maker string) error { told = append(told, maker); return nil }})
	if err != nil {
		t.Fatal(err)
	}
	maker := newProvider(t, r.clock.now(), p)
	r.trust(t, "oem", maker.root)
	r.add(t)
	request := func(o *provider, id identifier.PCID) []byte {
		c := &car{key: newKey(t, curveOf(p)), p: p}
		c.chain = append(o.leaf(c.key, string(id)), maker.sub)
		r.brings(t, c)
		return sign(t, c.request(), c.key)
	}
	firstCar := &car{key: newKey(t, curveOf(p)), p: p}
	firstCar.chain = maker.leaf(firstCar.key, string(pcid))
	r.brings(t, firstCar)
	first := sign(t, firstCar.request(), firstCar.key)
	for i := range 8 {
		exi := first
		if i > 0 {
			exi = request(maker, pcid)
		}
		if a, _ := r.ask(t, p, exi, false); a.Code != "OK" {
			t.Fatalf("key %d: %s (%s)", i, a.Code, a.Reason)
		}
	}
	if len(told) != 0 {
		t.Errorf("told of %v", told)
	}
	for range 2 {
		if a, _ := r.ask(t, p, request(maker, pcid), false); a.Code != "FAILED_NoCertificateAvailable" || a.Serial != "" {
			t.Errorf("one too many: %s (%s)", a.Code, a.Reason)
		}
	}
	sum := sha256.Sum256(maker.sub.RawTBSCertificate)
	if len(told) != 2 || !strings.Contains(told[0], "serial number "+ca.SerialOf(maker.sub)+" under root "+hashOf(maker.root.Raw)[:16]) {
		t.Errorf("told of %v", told)
	}
	r.brings(t, firstCar)
	if a, _ := r.ask(t, p, first, false); a.Code != "OK" {
		t.Errorf("what was answered before: %s (%s)", a.Code, a.Reason)
	}
	r.clock.set(r.clock.now().Add(25 * time.Hour))
	if a, _ := r.ask(t, p, request(maker, pcid), false); a.Code != "OK" {
		t.Errorf("the next day: %s (%s)", a.Code, a.Reason)
	}

	// Beyond all contracts together: a second key of another car.
	const second = identifier.PCID("WP0TESTA00000002A3")
	if _, err := r.Add(t.Context(), "operator", "NLEXA987654321", second); err != nil {
		t.Fatal(err)
	}
	if a, _ := r.ask(t, p, request(maker, second), false); a.Code != "OK" {
		t.Errorf("a first key: %s (%s)", a.Code, a.Reason)
	}
	if n := r.SpendMaker(hex.EncodeToString(sum[:]), 1); n != 64 {
		t.Errorf("%d a day", n)
	}
	// What can't be made costs nothing; a name of its own for a CA below is no other maker.
	accident.full = true
	for range 2 {
		if _, err := r.Provision(t.Context(), contract.Request{Protocol: p, EXI: request(maker, second), Actor: "operator"}); !errors.Is(err, errDisk) {
			t.Errorf("the accident didn't happen: %v", err)
		}
	}
	accident.full = false
	for i, want := range []string{"OK", "FAILED_NoCertificateAvailable"} {
		if a, _ := r.ask(t, p, request(maker.below(big.NewInt(int64(i+10))), second), false); a.Code != want || len(told) != 2+i {
			t.Errorf("by CA %d below the maker's: %s (%s), told %d times", i, a.Code, a.Reason, len(told))
		}
	}
	told = told[:2]
	if a, _ := r.ask(t, p, request(maker, second), false); a.Code != "FAILED_NoCertificateAvailable" || len(told) != 3 {
		t.Errorf("one too many of its maker's: %s (%s), told %d times", a.Code, a.Reason, len(told))
	}
	own := r.carOf(t, p, second)
	r.brings(t, own)
	if a, _ := r.ask(t, p, sign(t, own.request(), own.key), false); a.Code != "OK" {
		t.Errorf("the key of another maker: %s (%s)", a.Code, a.Reason)
	}
	r.clock.set(r.clock.now().Add(13 * time.Hour)) // the next UTC day
	if a, _ := r.ask(t, p, request(maker, second), false); a.Code != "OK" {
		t.Errorf("its maker's next day: %s (%s)", a.Code, a.Reason)
	}
}

// brings has the car's maker bring its certificate.
func (r *rig) brings(t *testing.T, c *car) {
	t.Helper()
	if _, err := r.AddProvisioning(t.Context(), "operator", c.chain); err != nil {
		t.Fatal(err)
	}
}
