package tpm_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"strings"
	"testing"

	"bollard/tpm"
)

// access is SubjectInfoAccess of one or more methods.
func access(t *testing.T, list ...any) *x509.Certificate {
	t.Helper()
	type description struct {
		Method   asn1.ObjectIdentifier
		Location asn1.RawValue
	}
	var out []description
	for i := 0; i < len(list); i += 2 {
		method := asn1.ObjectIdentifier{1, 0, 15118, 20, 0, list[i].(int)}
		out = append(out, description{method, list[i+1].(asn1.RawValue)})
	}
	value, err := asn1.Marshal(out)
	if err != nil {
		t.Fatal(err)
	}
	return &x509.Certificate{Extensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 11}, Value: value}}}
}

// V2G20-2594 to 2596: the storage key of a car's TPM and its policy, in whichever
// form of name they stand; one that is there and can't be read isn't passed over.
func TestStorageOf(t *testing.T) {
	t.Parallel()
	private, err := ecdh.P521().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, policy := private.PublicKey().Bytes(), bytes.Repeat([]byte{7}, 64)
	plain := func(b []byte) asn1.RawValue { return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: b} }
	marshal := func(v any) []byte {
		b, err := asn1.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	other := func(inner []byte) asn1.RawValue {
		return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: append(marshal(asn1.ObjectIdentifier{1, 2, 3}),
			marshal(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: inner})...)}
	}
	odd := bytes.Clone(key)
	odd[132] ^= 1
	written, err := (&tpm.Storage{Key: private.PublicKey(), Policy: policy}).Extension()
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		cert   *x509.Certificate
		policy []byte
		none   bool
		want   string
	}{
		"none":                        {cert: &x509.Certificate{}, none: true},
		"about something else":        {cert: access(t, 6, plain(key)), none: true},
		"as text":                     {cert: access(t, 4, plain(key))},
		"as octets in another name":   {cert: access(t, 4, other(marshal(key)))},
		"as bits in another name":     {cert: access(t, 4, other(marshal(asn1.BitString{Bytes: key, BitLength: 8 * len(key)})))},
		"with a policy":               {cert: access(t, 5, other(marshal(policy)), 4, plain(key)), policy: policy},
		"as test cars have it":        {cert: &x509.Certificate{Extensions: []pkix.Extension{written}}, policy: policy},
		"off the curve":               {cert: access(t, 4, plain(odd)), want: "uncompressed point"},
		"compressed":                  {cert: access(t, 4, plain(key[:67])), want: "uncompressed point"},
		"two keys":                    {cert: access(t, 4, plain(key), 4, plain(key)), want: "one uncompressed point"},
		"two policies":                {cert: access(t, 4, plain(key), 5, plain(policy), 5, plain(policy)), want: "two policies"},
		"a policy of another hash":    {cert: access(t, 4, plain(key), 5, plain(policy[:32])), want: "SHA-512"},
		"a policy without a key":      {cert: access(t, 5, plain(policy)), want: "no storage key"},
		"an extension that is broken": {cert: &x509.Certificate{Extensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 11}, Value: []byte{0x30}}}}, want: "can't be read"},
	} {
		s, err := tpm.StorageOf(test.cert)
		switch {
		case test.want != "":
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s: %+v, %v", name, s, err)
			}
		case err != nil || (s == nil) != test.none:
			t.Errorf("%s: %+v, %v", name, s, err)
		case s != nil && (!s.Key.Equal(private.PublicKey()) || !bytes.Equal(s.Policy, test.policy)):
			t.Errorf("%s: another key or policy", name)
		}
	}
}
