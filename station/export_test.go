package station

import "time"

// Wait shows the back-off to tests.
func (b BackOff) Wait(failures int, random float64) time.Duration { return b.wait(failures, random) }

// RootHash shows the hash data of a root to tests.
var RootHash = hashesOf

// VerifyImage and CheckSigner show a verifier's two halves to tests.
var (
	VerifyImage = Verifier.verify
	CheckSigner = Verifier.signer
)
