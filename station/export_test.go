package station

import (
	"crypto/x509"
	"time"
)

// Wait shows the back-off to tests.
func (b BackOff) Wait(failures int, random float64) time.Duration { return b.wait(failures, random) }

// RootHash shows the hash data of a root to tests.
func RootHash(root *x509.Certificate, algorithm string) (hashData, error) {
	return hashesOf(root, root, algorithm)
}

// VerifyImage and CheckSigner show a verifier's two halves to tests.
var (
	VerifyImage = Verifier.verify
	CheckSigner = Verifier.signer
)
