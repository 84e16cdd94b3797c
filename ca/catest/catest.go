// Package catest is what tests about CAs need alike: orders of certificates, and CAs of
// others with what they say on a real socket.
package catest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"testing"

	"bollard/ca"
)

// StationRequest is one for a key of its own.
func StationRequest(t testing.TB) ca.CSR {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := ca.ParseCSR(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

// StationOrder is of a certificate for a station cs1.
func StationOrder(csr ca.CSR) ca.Order {
	return ca.Order{Profile: ca.ProfileStation, Key: csr.Key, Subject: ca.Subject{CommonName: "SN-0001"}, Station: "cs1", Requester: "station:cs1"}
}

// Issue gives a station its certificate and returns the serial number.
func Issue(ctx context.Context, a *ca.Authority, csr ca.CSR) (string, error) {
	p, err := a.Prepare(ctx, StationOrder(csr))
	if err != nil {
		return "", err
	}
	issued, err := a.Issue(ctx, p)
	if err != nil {
		return "", err
	}
	return issued.Serial, nil
}
