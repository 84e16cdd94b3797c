package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"bollard/admin"
	"bollard/internal/config"
)

// shelf answers cert.show.
type shelf map[string]string // PEM by serial number

func (s shelf) Invoke(_ context.Context, _ string, in json.RawMessage) (json.RawMessage, error) {
	var ref admin.CertificateRef
	if err := json.Unmarshal(in, &ref); err != nil {
		return nil, err
	}
	return json.Marshal(admin.Certificate{Serial: ref.Serial, PEM: s[ref.Serial]})
}

// A CA of stations that was certified by a version that knew no anyPolicy is told of, where
// there are policies to be demanded, until it has a successor.
func TestDoctorOnPolicies(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	certificates := shelf{}
	for serial, policies := range map[string][]string{"1": nil, "2": {"2.5.29.32.0"}} {
		template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Issuing " + serial}, NotBefore: began, NotAfter: began.AddDate(10, 0, 0)}
		for _, text := range policies {
			oid, err := x509.ParseOID(text)
			if err != nil {
				t.Fatal(err)
			}
			template.Policies = append(template.Policies, oid)
		}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		certificates[serial] = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	old, next := admin.Certificate{Serial: "1", Profile: "issuing", NotBefore: began}, admin.Certificate{Serial: "2", Profile: "issuing", NotBefore: began.Add(time.Hour)}
	graded := config.Assurance{Attested: "1.3.6.1.4.1.99999.1.1"}
	for name, tt := range map[string]struct {
		assurance config.Assurance
		list      []admin.Certificate
		want      verdict
		of        string // which CA, since its successor may not issue yet
	}{
		"nothing to be demanded": {config.Assurance{}, []admin.Certificate{old}, "", ""},
		"before":                 {graded, []admin.Certificate{{Serial: "0", Profile: "root"}, old}, verdictWarn, "CN=Issuing 1"},
		"with a successor":       {graded, []admin.Certificate{next, old}, verdictOK, "CN=Issuing 2"},
	} {
		d := &doctor{cfg: &config.File{Assurance: tt.assurance}}
		d.policies(t.Context(), certificates, admin.Hierarchy{Kind: "csms", Certificates: tt.list})
		switch {
		case tt.want == "" && len(d.findings) == 0:
		case len(d.findings) != 1 || d.findings[0].Verdict != tt.want || !strings.Contains(d.findings[0].Text, tt.of):
			t.Errorf("%s: %+v, want %q", name, d.findings, tt.want)
		}
	}
}
