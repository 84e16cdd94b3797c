package pool

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"bollard/ca"
	"bollard/internal/curve448"
)

// rootTypes are the kinds of roots in a pool: own hierarchies of both editions and
// what is trusted for a use.
var rootTypes = []struct {
	name, use string
	kinds     []ca.Kind
}{
	{"V2G", "v2g", []ca.Kind{ca.KindV2G, ca.KindV2G20, ca.KindV2G448, ca.KindCPS, ca.KindCPS20, ca.KindCPS448}},
	{"MO", "mo", []ca.Kind{ca.KindMO, ca.KindMO20, ca.KindMO448}},
	{"OEM", "oem", []ca.Kind{ca.KindOEM, ca.KindOEM20, ca.KindOEM448}},
}

// rootCertificate is one in RootCertificateCollection.
type rootCertificate struct {
	ID          string    `json:"rootCertificateId"` // the fingerprint
	Name        string    `json:"distinguishedName"`
	CommonName  string    `json:"commonName"`
	Certificate string    `json:"caCertificate"` // base64 of DER
	Type        string    `json:"rootType"`
	KeyID       string    `json:"rootAuthorityKeyIdentifier,omitempty"` // base64
	Serial      string    `json:"rootIssuerSerialNumber"`
	From        time.Time `json:"validFrom"`
	To          time.Time `json:"validTo"`
	Fingerprint string    `json:"fingerprint"` // SHA-256, hex
}

// roots lists the roots of the pool, or those of the types in the query.
func (d *Door) roots(ctx context.Context, _ *Token, r *http.Request) (int, any, error) {
	var wanted []string
	if text := r.URL.Query().Get("rootType"); text != "" {
		wanted = strings.Split(strings.ToUpper(text), ",")
	}
	list, err := d.rootList(ctx)
	if err != nil {
		return 0, nil, err
	}
	if wanted != nil {
		list = slices.DeleteFunc(list, func(c rootCertificate) bool { return !slices.Contains(wanted, c.Type) })
	}
	return http.StatusOK, map[string]any{"RootCertificateCollection": map[string]any{"rootCertificates": list}}, nil
}

// root is one of them.
func (d *Door) root(ctx context.Context, _ *Token, r *http.Request) (int, any, error) {
	list, err := d.rootList(ctx)
	if err != nil {
		return 0, nil, err
	}
	for _, c := range list {
		if c.ID == strings.ToLower(r.PathValue("id")) {
			return http.StatusOK, map[string]any{"RootResponse": c}, nil
		}
	}
	return 0, nil, refuse(http.StatusNotFound, "no such root certificate")
}

func (d *Door) rootList(ctx context.Context) ([]rootCertificate, error) {
	list := []rootCertificate{}
	for _, kind := range rootTypes {
		var certs []*x509.Certificate
		for _, k := range kind.kinds {
			certs = append(certs, d.cfg.Authority.Roots(k)...)
		}
		anchors, err := d.cfg.Authority.Anchors(ctx, kind.use)
		if err != nil {
			return nil, err
		}
		for _, a := range anchors {
			cert, err := curve448.ParseCertificate(a.DER)
			if err != nil {
				return nil, fmt.Errorf("couldn't read trusted root %s; remove it and add it again: %w", a.Hash, err)
			}
			certs = append(certs, cert)
		}
		for _, cert := range certs {
			one := describe(cert, kind.name)
			if !slices.ContainsFunc(list, func(c rootCertificate) bool { return c.ID == one.ID && c.Type == one.Type }) {
				list = append(list, one)
			}
		}
	}
	slices.SortStableFunc(list, func(a, b rootCertificate) int { return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.ID, b.ID)) })
	return list, nil
}

func describe(cert *x509.Certificate, kind string) rootCertificate {
	sum := sha256.Sum256(cert.Raw)
	fingerprint := hex.EncodeToString(sum[:])
	return rootCertificate{
		ID: fingerprint, Name: cert.Subject.String(), CommonName: cert.Subject.CommonName, Certificate: base64.StdEncoding.EncodeToString(cert.Raw), Type: kind,
		KeyID: base64.StdEncoding.EncodeToString(cert.SubjectKeyId), Serial: cert.SerialNumber.Text(16), From: cert.NotBefore.UTC(), To: cert.NotAfter.UTC(), Fingerprint: fingerprint,
	}
}
