package ca

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"testing"
	"time"

	"bollard/ledger"
)

// unrecorded keeps nothing.
type unrecorded struct{}

func (unrecorded) PutIntent(context.Context, Intent, ...ledger.Event) error { return nil }

func (unrecorded) PutIssued(context.Context, string, []byte, time.Time, ...ledger.Event) error {
	return nil
}

// BenchmarkCertificate is a station's certificate from its request on, but for what is
// recorded.
func BenchmarkCertificate(b *testing.B) {
	a, _ := lintRig(b)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "SN-00001"}}, key)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		csr, err := a.ParseCSR(request)
		if err != nil {
			b.Fatal(err)
		}
		p, err := a.Prepare(b.Context(), Order{
			Profile: ProfileStation, Key: csr.Key, Subject: Subject{CommonName: "SN-00001"}, Station: "cs-1", Requester: "station:cs-1", Recorder: unrecorded{},
		})
		if err == nil {
			_, err = a.Issue(b.Context(), p)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}
