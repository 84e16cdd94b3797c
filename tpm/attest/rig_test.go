package attest_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2/transport"

	"bollard/tpm/attest"
	"bollard/tpm/device"
	"bollard/tpm/swtpm"
)

var now = time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)

// start starts a TPM of its own for a test.
func start(t *testing.T) transport.TPM {
	t.Helper()
	tpm, _, stop, err := swtpm.StartAlone(context.WithoutCancel(t.Context()))
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return tpm
}

// machine is a station's TPM with what is known of it.
type machine struct {
	*device.Device
	raw transport.TPM
	ek  attest.EK
	ak  *attest.AK
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{raw: start(t)}
	m.Device = device.New(m.raw)
	area, err := m.AK()
	if err != nil {
		t.Fatal(err)
	}
	if m.ak, err = attest.ParseAK(area); err != nil {
		t.Fatal(err)
	}
	public, err := m.EK()
	if err != nil {
		t.Fatal(err)
	}
	if m.ek, err = attest.NewEK(public); err != nil {
		t.Fatal(err)
	}
	return m
}

// authority signs certificates of test keys.
type authority struct {
	t    *testing.T
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, key: newKey(t)}
	a.cert = a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "Manufacturer"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(9, 0, 0),
	}, a.key.Public())
	return a
}

// sign signs with its own certificate as issuer, or itself while there is none.
func (a *authority) sign(template *x509.Certificate, key crypto.PublicKey) *x509.Certificate {
	a.t.Helper()
	template.SerialNumber = big.NewInt(7)
	parent := a.cert
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// wants fails the test unless err is of the kind, nil for none.
func wants(t *testing.T, err, kind error) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Errorf("got %v, want %v", err, kind)
	}
}

func readCertificates(t *testing.T, file string) []*x509.Certificate {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var list []*x509.Certificate
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			return list
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, cert)
	}
}

// modelName is the critical alternative name of an endorsement certificate, with what
// is put after the directory name.
func modelName(t *testing.T, after ...asn1.RawValue) pkix.Extension {
	t.Helper()
	type attribute struct {
		Type  asn1.ObjectIdentifier
		Value string `asn1:"utf8"`
	}
	name, err := asn1.Marshal([][]attribute{{{asn1.ObjectIdentifier{2, 23, 133, 2, 1}, "id:00001014"}}})
	if err != nil {
		t.Fatal(err)
	}
	// Each RelativeDistinguishedName is a SET.
	name[2] = 0x31
	names := append([]asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: 4, IsCompound: true, Bytes: name}}, after...)
	value, err := asn1.Marshal(names)
	if err != nil {
		t.Fatal(err)
	}
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Critical: true, Value: value}
}
