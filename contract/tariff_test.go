package contract_test

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/json"
	"errors"
	"math/big"
	"testing"

	"bollard/ca"
	"bollard/contract"
	"bollard/iso15118/exi"
	"bollard/iso15118/message"
)

const (
	tariff2 = `{"id":1,"stackLevel":0,"chargingProfilePurpose":"TxProfile","chargingProfileKind":"Absolute","chargingSchedule":[{"id":1,"chargingRateUnit":"W",` +
		`"chargingSchedulePeriod":[{"startPeriod":0,"limit":11000}],"salesTariff":{"id":1,"salesTariffEntry":[{"relativeTimeInterval":{"start":0},"ePriceLevel":1}]}}]}`
	tariff20 = `{"id":1,"stackLevel":0,"chargingProfilePurpose":"TxProfile","chargingProfileKind":"Absolute","chargingSchedule":[{"id":1,"chargingRateUnit":"W",` +
		`"chargingSchedulePeriod":[{"startPeriod":0,"limit":11000}],"priceLevelSchedule":{"timeAnchor":"2026-11-26T12:00:00Z","priceScheduleId":1,"numberOfPriceLevels":1,` +
		`"priceLevelScheduleEntries":[{"duration":3600,"priceLevel":0}]}}]}`
)

// A car with a contract of ours verifies a tariff with MO sub-CA 2 of its own chain;
// the signature is on record before it is made.
func TestSignTariff(t *testing.T) {
	t.Parallel()
	for _, p := range protocols {
		r := newRig(t, kindsOf(p)...)
		c := r.car(t, p)
		r.add(t)
		_, a := r.ask(t, p, sign(t, c.request(), c.key), false)
		chain, _ := c.install(t, r, a)
		in, size, name, sum := tariff2, 64, "sha256", func(b []byte) []byte { s := sha256.Sum256(b); return s[:] }
		if p == message.ISO20 {
			in, size, name, sum = tariff20, 132, "sha512", func(b []byte) []byte { s := sha512.Sum512(b); return s[:] }
		}
		out, signer, err := r.SignTariff(t.Context(), "operator", []byte(in), "")
		if err != nil {
			t.Fatal(err)
		}
		if !signer.Equal(chain[1]) {
			t.Errorf("%s: signed by another than the sub-CA 2 in the car", p)
		}
		var profile struct {
			PriceScheduleSignature []byte
			ChargingSchedule       []struct{ DigestValue []byte }
		}
		if err := json.Unmarshal(out, &profile); err != nil {
			t.Fatal(err)
		}
		value := profile.PriceScheduleSignature
		key, ok := chain[1].PublicKey.(*ecdsa.PublicKey)
		if !ok || len(value) != size || !ecdsa.Verify(key, sum(signedInfo(t, name, profile.ChargingSchedule[0].DigestValue)), new(big.Int).SetBytes(value[:size/2]), new(big.Int).SetBytes(value[size/2:])) {
			t.Errorf("%s: the car can't verify it: %s", p, out)
		}
		last := entries(t, r)
		if e := last[len(last)-1]; e.Kind != "tariff.signed" || e.Data["serial"] != ca.SerialOf(signer) {
			t.Errorf("%s: on record is %+v", p, e)
		}
	}
	r := newRig(t, kindsOf(message.ISO2)...)
	if _, _, err := r.SignTariff(t.Context(), "operator", []byte(tariff20), ""); !errors.Is(err, ca.ErrNoHierarchy) {
		t.Errorf("without mo-20: %v", err)
	}
	before := len(entries(t, r))
	if _, _, err := r.SignTariff(t.Context(), "operator", []byte(`{}`), ""); !errors.Is(err, contract.ErrTariff) || len(entries(t, r)) != before {
		t.Errorf("without a tariff: %v", err)
	}
}

// signedInfo is what a station makes of a digest and the Id it refers to.
func signedInfo(t *testing.T, hash string, digest []byte) []byte {
	t.Helper()
	el := func(local, attribute, value string, children ...exi.Element) exi.Element {
		e := exi.New(exi.NamespaceSignature, local)
		if e.Children = children; attribute != "" {
			e.Attributes = []exi.Attribute{{Name: attribute, Value: value}}
		}
		return e
	}
	sum := el("DigestValue", "", "")
	sum.Value = digest
	const canonical = "http://www.w3.org/TR/canonical-exi/"
	out, err := exi.Signature().Encode(exi.Fragment, el("SignedInfo", "", "",
		el("CanonicalizationMethod", "Algorithm", canonical), el("SignatureMethod", "Algorithm", "http://www.w3.org/2001/04/xmldsig-more#ecdsa-"+hash),
		el("Reference", "URI", "#id1", el("Transforms", "", "", el("Transform", "Algorithm", canonical)), el("DigestMethod", "Algorithm", "http://www.w3.org/2001/04/xmlenc#"+hash), sum)))
	if err != nil {
		t.Fatal(err)
	}
	return out
}
