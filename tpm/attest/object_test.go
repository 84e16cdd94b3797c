package attest_test

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"math/big"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"bollard/tpm/attest"
)

// objectOf is an attestation object as clients of device-attest-01 write it; edit changes
// its statement.
func objectOf(t testing.TB, format string, edit func(map[string]any)) []byte {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: now, NotAfter: now.AddDate(1, 0, 0)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	s := map[string]any{
		"ver": "2.0", "alg": -7, "x5c": [][]byte{cert}, "sig": []byte("signature"), "certInfo": []byte("\xff\x54\x43\x47"), "pubArea": []byte{0, 0x23},
	}
	edit(s)
	data, err := cbor.Marshal(map[string]any{"fmt": format, "attStmt": s, "authData": []byte{1}})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// An attestation object of format tpm is read as WebAuthn has it, and nothing else is.
func TestObject(t *testing.T) {
	t.Parallel()
	as := func(format string, edit func(map[string]any)) func(t *testing.T) []byte {
		return func(t *testing.T) []byte { return objectOf(t, format, edit) }
	}
	raw := func(data string) func(t *testing.T) []byte { return func(*testing.T) []byte { return []byte(data) } }
	same := func(map[string]any) {}
	for name, tt := range map[string]struct {
		data func(t *testing.T) []byte
		kind error
	}{
		"as it should be":          {as("tpm", same), nil},
		"RSA":                      {as("tpm", func(s map[string]any) { s["alg"] = -257 }), nil},
		"another format":           {as("packed", same), attest.ErrMalformed},
		"TPM 1.2":                  {as("tpm", func(s map[string]any) { s["ver"] = "1.2" }), attest.ErrMalformed},
		"SHA-1":                    {as("tpm", func(s map[string]any) { s["alg"] = -65535 }), attest.ErrMalformed},
		"a broken certificate":     {as("tpm", func(s map[string]any) { s["x5c"] = [][]byte{{0x30, 0}} }), attest.ErrMalformed},
		"certificates without end": {as("tpm", func(s map[string]any) { s["x5c"] = make([][]byte, 5) }), attest.ErrMalformed},
		"a list that isn't one":    {as("tpm", func(s map[string]any) { s["x5c"] = make([]int, 17) }), attest.ErrMalformed},
		"text for octets":          {as("tpm", func(s map[string]any) { s["sig"] = "signature" }), attest.ErrMalformed},
		"something after it":       {func(t *testing.T) []byte { return append(objectOf(t, "tpm", same), 0) }, attest.ErrMalformed},
		"too long":                 {as("tpm", func(s map[string]any) { s["more"] = make([]byte, 20<<10) }), attest.ErrMalformed},
		"nothing":                  {raw(""), attest.ErrMalformed},
		"a number":                 {raw("\x01"), attest.ErrMalformed},
		"a member twice":           {raw("\xa2\x63fmt\x63tpm\x63fmt\x63tpm"), attest.ErrMalformed},
		"of no known length":       {raw("\xbf\x63fmt\x63tpm\xff"), attest.ErrMalformed},
		"too deep":                 {raw("\xa1\x63fmt\x81\x81\x81\x81\x81\x01"), attest.ErrMalformed},
		"a tag":                    {raw("\xc1\xa1\x63fmt\x63tpm"), attest.ErrMalformed},
		"a promise of much":        {raw("\xa1\x67attStmt\xbb\x00\x00\x00\x00\xff\xff\xff\xff"), attest.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, err := attest.ParseObject(tt.data(t))
			wants(t, err, tt.kind)
			if tt.kind == nil && (!bytes.Equal(e.Statement, []byte("\xff\x54\x43\x47")) || !bytes.Equal(e.Signature, []byte("signature")) || !bytes.Equal(e.Public, []byte{0, 0x23}) || len(e.Certificates) != 1) {
				t.Errorf("read %x, %x, %x", e.Statement, e.Signature, e.Public)
			}
		})
	}
}

// Nothing a client sends as an attestation object makes its reader panic, or brings in
// more than it sent.
func FuzzParseObject(f *testing.F) {
	f.Add(objectOf(f, "tpm", func(map[string]any) {}))
	f.Add([]byte("\xa1\x67attStmt\xbb\x00\x00\x00\x00\xff\xff\xff\xff"))
	f.Add([]byte("\xbf\x63fmt\x63tpm\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := attest.ParseObject(data)
		if err != nil {
			return
		}
		if n := len(e.Statement) + len(e.Signature) + len(e.Public); n > len(data) {
			t.Errorf("%d octets of %d", n, len(data))
		}
	})
}
