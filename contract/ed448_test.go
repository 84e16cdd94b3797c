package contract_test

import (
	"bytes"
	"crypto/rand"
	"encoding/asn1"
	"encoding/pem"
	"testing"
	"time"

	"github.com/cloudflare/circl/sign/ed448"

	"bollard/ca"
	"bollard/internal/curve448"
	"bollard/iso15118/message"
	"bollard/station/ev"
)

// A car of ISO 15118-20 whose key is on Ed448 gets a contract on that curve, sealed over
// X448 and signed with Ed448, which opens, signs and authorises; without the switch it
// gets nothing.
func TestCarOnEd448(t *testing.T) {
	t.Parallel()
	p := message.ISO20
	r := newRig(t)
	r.reopen(t, true, nil, ca.ClassEd448)
	for _, kind := range []ca.Kind{ca.KindV2G448, ca.KindMO448, ca.KindOEM448, ca.KindCPS448} {
		if err := r.authority.Create(t.Context(), kind, "operator"); err != nil {
			t.Fatal(err)
		}
	}
	vehicle := &ev.Car{Protocol: p, Clock: r.clock.now}
	vehicle.Ed448 = r.bornOnEd448(t, vehicle)
	r.add(t)
	install := func() (contract *ev.Contract, code string, err error) {
		t.Helper()
		exi, err := vehicle.Install()
		if err != nil {
			t.Fatal(err)
		}
		a, _ := r.ask(t, p, exi, false)
		contract, _, err = vehicle.Take(a.EXI, nil)
		return contract, a.Code, err
	}
	if _, code, err := install(); err == nil || code != "OK" {
		t.Errorf("taken without a V2G root: %s", code)
	}
	vehicle.Roots448 = r.authority.Roots(ca.KindV2G448)
	got, _, err := install()
	if err != nil || got.EMAID != string(emaid.Full()) {
		t.Fatalf("%+v: %v", got, err)
	}
	again, _, err := install()
	if err != nil || !bytes.Equal(again.Chain[0].Raw, got.Chain[0].Raw) {
		t.Errorf("the same request gets another certificate: %v", err)
	}
	// The key is the certificate's: what it signs verifies by it.
	cert, err := curve448.ParseCertificate(got.Chain[0].Raw)
	if err != nil {
		t.Fatal(err)
	}
	text := []byte("a request for authorisation")
	if sig, err := got.Ed448.Sign(text); err != nil || !ed448.Verify(cert.PublicKey.(ed448.PublicKey), text, sig, "") {
		t.Errorf("the contract's signature doesn't verify: %v", err)
	}
	authorize := func() (string, string) {
		out, ours, err := r.Authorize(t.Context(), shown(got.EMAID, got.Chain...))
		if err != nil || !ours {
			t.Fatalf("%v, %v", ours, err)
		}
		return out.IDTokenInfo.Status, out.CertificateStatus
	}
	if token, chain := authorize(); token != "Accepted" || chain != "Accepted" {
		t.Errorf("it authorises: %s, %s", token, chain)
	}
	if len(certificates(t, message.Chain{Certificate: got.Chain[0].Raw})) != 1 {
		t.Error("the chain can't be read")
	}
	ends := cert.NotAfter
	if list, err := r.Expiring(t.Context(), ends.Add(time.Second)); err != nil || len(list) != 1 {
		t.Errorf("%d contracts are told to expire: %v", len(list), err)
	}
	if list, err := r.Expiring(t.Context(), ends); err != nil || len(list) != 0 {
		t.Errorf("%d contracts are told to expire before they do: %v", len(list), err)
	}
	r.reopen(t, true, nil)
	if _, code, err := install(); err == nil || code != "WARNING_CertificateValidationError" {
		t.Errorf("without the switch: %s", code)
	}
	if token, chain := authorize(); token != "Invalid" || chain != "CertChainError" {
		t.Errorf("without the switch it authorises: %s, %s", token, chain)
	}
	r.reopen(t, true, nil, ca.ClassEd448)
	if _, err := r.Cancel(t.Context(), "operator", emaid, ""); err != nil {
		t.Fatal(err)
	}
	if token, chain := authorize(); token != "Blocked" || chain != "ContractCancelled" {
		t.Errorf("after cancelling: %s, %s", token, chain)
	}
}

// bornOnEd448 gives a car a provisioning certificate of our own OEM hierarchy.
func (r *rig) bornOnEd448(t *testing.T, vehicle *ev.Car) ed448.PrivateKey {
	t.Helper()
	public, key, err := ed448.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := curve448.MarshalPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	// RFC 2986 §4.1: version 0, an empty name, the key, no attributes.
	tbs, err := asn1.Marshal(struct {
		Version    int
		Name, Key  asn1.RawValue
		Attributes asn1.RawValue
	}{0, asn1.RawValue{FullBytes: []byte{0x30, 0}}, asn1.RawValue{FullBytes: spki}, asn1.RawValue{FullBytes: []byte{0xa0, 0}}})
	if err != nil {
		t.Fatal(err)
	}
	sig := ed448.Sign(key, tbs, "")
	der, err := asn1.Marshal(struct {
		TBS, Algorithm asn1.RawValue
		Signature      asn1.BitString
	}{asn1.RawValue{FullBytes: tbs}, asn1.RawValue{FullBytes: curve448.Algorithm()}, asn1.BitString{Bytes: sig, BitLength: 8 * len(sig)}})
	if err != nil {
		t.Fatal(err)
	}
	csr, err := r.authority.ParseCSR(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
	if err != nil {
		t.Fatal(err)
	}
	prepared, err := r.authority.Prepare(t.Context(), ca.Order{Profile: ca.ProfileProvisioning448, Key: csr.Key, Subject: ca.Subject{CommonName: string(pcid)}, Requester: "operator"})
	if err != nil {
		t.Fatal(err)
	}
	issued, err := r.authority.Issue(t.Context(), prepared)
	if err != nil {
		t.Fatal(err)
	}
	vehicle.Chain = append(vehicle.Chain, issued.Certificate)
	vehicle.Chain = append(vehicle.Chain, issued.Chain...)
	return key
}
