package catalogue

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
)

// hexDigest reads a SHA-256.
func hexDigest(text string) (sum [sha256.Size]byte, err error) {
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != sha256.Size {
		return sum, errors.New("the image's digest isn't a SHA-256")
	}
	return [sha256.Size]byte(raw), nil
}
