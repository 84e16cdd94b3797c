package attest_test

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"slices"
	"testing"

	"bollard/tpm/attest"
)

// bundleOf writes evidence by hand, as the draft has it (appendix A.2).
type (
	statementForm struct {
		Type asn1.ObjectIdentifier
		Stmt any
		Hint string `asn1:"optional,ia5"`
	}
	certifyForm struct{ Statement, Signature, Public []byte }
	bundleForm  struct {
		Evidences    []statementForm
		Certificates []asn1.RawValue `asn1:"optional,omitempty"`
	}
)

var certify = asn1.ObjectIdentifier{2, 23, 133, 20, 1}

func sized(b []byte) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...) }

// Evidence is read as the draft writes it, its structures with and without their sizes,
// and as it is written here; nothing else is.
func TestEvidence(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	purpose := x509.Certificate{Subject: pkix.Name{CommonName: "AK"}, NotBefore: now, NotAfter: now.AddDate(1, 0, 0), UnknownExtKeyUsage: []asn1.ObjectIdentifier{{2, 23, 133, 8, 3}}}
	ak := ca.sign(&purpose, newKey(t).Public())
	said := certifyForm{[]byte("\xff\x54\x43\x47 said"), []byte("signature"), append([]byte{0, 0x23}, make([]byte, 88)...)}
	raw := func(certs ...*x509.Certificate) (list []asn1.RawValue) {
		for _, c := range certs {
			list = append(list, asn1.RawValue{FullBytes: c.Raw})
		}
		return list
	}
	one := func(form certifyForm) bundleForm {
		return bundleForm{[]statementForm{{certify, form, ""}}, raw(ca.cert, ak)}
	}
	hinted, twice, kind, unnamed, short, many := one(said), one(said), one(said), one(said), one(said), one(said)
	hinted.Evidences[0].Hint = "verifier.example.com"
	twice.Evidences = append(twice.Evidences, twice.Evidences[0])
	kind.Evidences[0].Type = asn1.ObjectIdentifier{1, 2, 3}
	unnamed.Certificates = nil
	short.Evidences[0].Stmt = struct{ Statement, Signature []byte }{said.Statement, said.Signature}
	many.Certificates = raw(ak, ak, ak, ak, ak)
	other := one(said)
	other.Certificates = []asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: 3, IsCompound: true, Bytes: []byte{5, 0}}}
	broken := one(said)
	broken.Certificates = []asn1.RawValue{{FullBytes: []byte{0x30, 0}}}
	for name, tt := range map[string]struct {
		form  any
		after []byte
		kind  error
	}{
		"as the draft has it":      {one(said), nil, nil},
		"with a hint":              {hinted, nil, nil},
		"with sizes":               {one(certifyForm{sized(said.Statement), said.Signature, sized(said.Public)}), nil, nil},
		"without certificates":     {unnamed, nil, nil},
		"two statements":           {twice, nil, attest.ErrMalformed},
		"another kind":             {kind, nil, attest.ErrMalformed},
		"without a public area":    {short, nil, attest.ErrMalformed},
		"certificates without end": {many, nil, attest.ErrMalformed},
		"certificates of no X.509": {other, nil, attest.ErrMalformed},
		"a broken certificate":     {broken, nil, attest.ErrMalformed},
		"something after it":       {one(said), []byte{0}, attest.ErrMalformed},
		"too long":                 {one(certifyForm{make([]byte, 9<<10), nil, nil}), nil, attest.ErrMalformed},
		"something else":           {[]int{1}, nil, attest.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			der, err := asn1.Marshal(tt.form)
			if err != nil {
				t.Fatal(err)
			}
			e, err := attest.ParseEvidence(append(der, tt.after...))
			wants(t, err, tt.kind)
			if tt.kind == nil && (!bytes.Equal(e.Statement, said.Statement) || !bytes.Equal(e.Signature, said.Signature) || !bytes.Equal(e.Public, said.Public)) {
				t.Errorf("read %x, %x, %x", e.Statement, e.Signature, e.Public)
			}
		})
	}
	e := attest.Evidence{Certified: attest.Certified{Public: said.Public, Statement: said.Statement, Signature: said.Signature}, Certificates: []*x509.Certificate{ca.cert, ak}}
	bundle, err := e.Bundle()
	if err != nil {
		t.Fatal(err)
	}
	if want, err := asn1.Marshal(one(said)); err != nil || !slices.Equal(bundle, want) {
		t.Errorf("%v\nwritten %x\nwant    %x", err, bundle, want)
	}
	// Certificates come in any order; the attestation key's is known by its purpose.
	if got, err := e.AttestationKey(); err != nil || !got.Equal(ak) {
		t.Errorf("%v: not the attestation key's certificate", err)
	}
	e.Certificates = e.Certificates[:1]
	if got, err := e.AttestationKey(); err != nil || !got.Equal(ca.cert) {
		t.Errorf("%v: no certificate for somebody to refuse", err)
	}
	e.Certificates = nil
	_, err = e.AttestationKey()
	wants(t, err, attest.ErrCertificate)
}
