package release_test

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"os"
	"testing"

	"bollard/firmware/release"
)

// What other tools write, made by openssl and by hand from its keys: each with the
// one word a verifier has to say.
func TestSignatureVectors(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/signatures.json")
	must(t, err)
	var file struct {
		SHA256  string            `json:"sha256"`
		Keys    map[string]string `json:"keys"`
		Vectors []struct {
			Name, Key, Signature, Result string
			Dialect                      release.Dialect
		} `json:"vectors"`
	}
	must(t, json.Unmarshal(text, &file))
	digest, err := hex.DecodeString(file.SHA256)
	must(t, err)
	count := map[string]int{}
	for _, v := range file.Vectors {
		block, _ := pem.Decode([]byte(file.Keys[v.Key]))
		key, err := x509.ParsePKIXPublicKey(block.Bytes)
		must(t, err)
		raw, err := release.DecodeSignature(v.Signature)
		if err == nil {
			err = v.Dialect.Verify(key, [sha256.Size]byte(digest), raw)
		}
		if (err == nil) != (v.Result == "valid") {
			t.Errorf("%s, %s: %v", v.Dialect, v.Name, err)
		}
		count[v.Result]++
	}
	if count["valid"] != 4 || count["invalid"] < 50 || len(count) != 2 {
		t.Errorf("vectors: %v", count)
	}
}
