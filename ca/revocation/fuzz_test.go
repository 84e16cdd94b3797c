package revocation_test

import (
	"bytes"
	"math/big"
	"testing"
	"time"

	"bollard/ca/catest"
	"bollard/ca/revocation"
)

// FuzzAnswers: no bytes but the signed ones are taken for an answer, and
// none crash the reading.
func FuzzAnswers(f *testing.F) {
	now := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	root := catest.NewOutside(f, now)
	d := catest.HashData(f, "SHA256", big.NewInt(7), root.Cert)
	response, list := root.Said(now, 7, nil), root.List(now, nil, 7)
	delegated := root.Delegated(now, root, 7, nil)
	for _, seed := range [][]byte{response, list, delegated, response[:20], {0x30, 0x03, 0x0a, 0x01, 0x06}, nil, []byte("-----BEGIN X509 CRL-----\n")} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if verified, err := revocation.ReadOCSP(body, d, root.Cert, now); err == nil && (!verified || !bytes.Contains(body, response[40:80]) && !bytes.Contains(body, delegated[40:80])) {
			t.Errorf("taken: %x", body)
		}
		if err := revocation.ReadCRL(body, root.Cert, now); err == nil && !bytes.Contains(body, list[40:80]) && !bytes.Contains(body, []byte("X509 CRL")) {
			t.Errorf("taken: %x", body)
		}
	})
}
