package fleet_test

import (
	"bytes"
	"math/big"
	"testing"

	"bollard/fleet"
)

// FuzzStatusAnswers: no bytes but the signed ones are taken for an answer, and
// none crash the reading.
func FuzzStatusAnswers(f *testing.F) {
	w := &statusRig{rig: newRig(f)}
	now := w.clock()
	w.v2g = newMaker(f, now)
	d := hashData(f, "SHA256", big.NewInt(7), w.v2g.cert)
	response, list := w.said(7, nil), w.crl(nil, 7)
	delegated := w.delegated(w.v2g, 7, nil)
	for _, seed := range [][]byte{response, list, delegated, response[:20], {0x30, 0x03, 0x0a, 0x01, 0x06}, nil, []byte("-----BEGIN X509 CRL-----\n")} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if verified, err := fleet.ReadOCSP(body, d, w.v2g.cert, now); err == nil && (!verified || !bytes.Contains(body, response[40:80]) && !bytes.Contains(body, delegated[40:80])) {
			t.Errorf("taken: %x", body)
		}
		if err := fleet.ReadCRL(body, w.v2g.cert, now); err == nil && !bytes.Contains(body, list[40:80]) && !bytes.Contains(body, []byte("X509 CRL")) {
			t.Errorf("taken: %x", body)
		}
	})
}
