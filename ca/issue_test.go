package ca_test

import (
	"crypto/x509"
	"testing"

	"bollard/ca"
)

func TestStationCertificate(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	issued := r.issue(t, order(t, newKey(t)))
	roots, mids := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(r.Roots(ca.KindCSMS)[0])
	for _, c := range issued.Chain {
		mids.AddCert(c)
	}
	if _, err := issued.Certificate.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: mids, CurrentTime: start,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}); err != nil {
		t.Error(err)
	}
}
