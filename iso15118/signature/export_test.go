package signature

import (
	"crypto"
	"crypto/rand"
	"io"
	"testing"

	"bollard/iso15118/exi"
)

// Sum is the suite's digest.
func Sum(s Suite, b []byte) []byte { return s.algorithms().sum(b) }

// Resign makes the value of a changed SignedInfo right again.
func Resign(t *testing.T, signature *exi.Element, key crypto.Signer) {
	t.Helper()
	suite, err := SuiteOf(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	message, err := exi.Signature().Encode(exi.Fragment, *signature.Child("SignedInfo"))
	if err != nil {
		t.Fatal(err)
	}
	if signature.Child("SignatureValue").Value, err = suite.sign(rand.Reader, key, message); err != nil {
		t.Fatal(err)
	}
}

// SignDeclared signs elements as they are declared, as some stacks do.
func SignDeclared(random io.Reader, key crypto.Signer, set *exi.Set, parts ...exi.Element) (exi.Element, error) {
	return sign(random, key, set.EncodeDeclared, parts)
}

// Value signs a message.
func Value(s Suite, key crypto.Signer) ([]byte, error) {
	return s.sign(rand.Reader, key, []byte("message"))
}
