package policy_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"bollard/ocpp"
	"bollard/policy"
)

var noon = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC) // a Monday

// rules makes a set of one file, without the built-in rules.
func rules(t testing.TB, text string) *policy.Set {
	t.Helper()
	set, err := policy.New(policy.Config{Bare: true, Files: []policy.Source{{Name: "r.yaml", Data: []byte(text)}}})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// input is a CALL of the back end.
func input(v ocpp.Version, action, payload string) policy.Input {
	return policy.Input{
		Version: v, Direction: ocpp.FromCSMS, Action: action, Payload: []byte(payload),
		Station: policy.Station{Identity: "CS-1", Serial: "SN-1", Vendor: "ACME", Model: "M1", Profile: 3},
		Backend: "main", BackendSecurity: "bollard", Boot: policy.BootAccepted, Now: noon, Counters: policy.NewCounters(),
	}
}

// root makes a self-signed certificate.
func root(t *testing.T, change func(*x509.Certificate)) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: noon.Add(-time.Hour), NotAfter: noon.Add(time.Hour), KeyUsage: x509.KeyUsageCertSign}
	if change != nil {
		change(tmpl)
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}
