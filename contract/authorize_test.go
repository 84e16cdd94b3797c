package contract_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"math/big"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"bollard/ca"
	"bollard/contract"
	"bollard/iso15118/message"
	"bollard/ocpp"
)

// pemOf is a chain as stations pass it on.
func pemOf(chain []*x509.Certificate) string {
	var text []byte
	for _, cert := range chain {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})...)
	}
	return string(text)
}

// hashed names a certificate as stations do.
func hashed(t *testing.T, cert, issuer *x509.Certificate) []ocpp.OCSPRequestData {
	t.Helper()
	der, err := ocsp.CreateRequest(cert, issuer, &ocsp.RequestOptions{Hash: crypto.SHA256})
	if err != nil {
		t.Fatal(err)
	}
	r, err := ocsp.ParseRequest(der)
	if err != nil {
		t.Fatal(err)
	}
	return []ocpp.OCSPRequestData{{HashAlgorithm: ocpp.HashSHA256, IssuerNameHash: hex.EncodeToString(r.IssuerNameHash), IssuerKeyHash: hex.EncodeToString(r.IssuerKeyHash), SerialNumber: r.SerialNumber.Text(16)}}
}

// C07: the pairs of statuses, by chain and by hashes alike.
func TestAuthorize(t *testing.T) {
	t.Parallel()
	r := newRig(t, kindsOf(message.ISO2)...)
	c := r.car(t, message.ISO2)
	r.add(t)
	_, a := r.ask(t, message.ISO2, sign(t, c.request(), c.key), false)
	chain, _ := c.install(t, r, a)
	wants := func(what, account, token, certificate string, mutate ...func(*ocpp.AuthorizeRequest)) {
		t.Helper()
		for _, in := range []ocpp.AuthorizeRequest{
			{IDToken: ocpp.IDToken{IDToken: account, Type: "eMAID"}, Certificate: pemOf(chain)},
			{IDToken: ocpp.IDToken{IDToken: account, Type: "eMAID"}, HashData: hashed(t, chain[0], chain[1])},
		} {
			for _, m := range mutate {
				m(&in)
			}
			out, ours, err := r.Authorize(t.Context(), &in)
			if err != nil || !ours || out.IDTokenInfo.Status != token || out.CertificateStatus != certificate {
				t.Errorf("%s (hashes: %t): %+v, ours %t, %v", what, in.Certificate == "", out, ours, err)
			}
		}
	}
	bare := func(in *ocpp.AuthorizeRequest) { in.Certificate, in.HashData = "", nil }
	wants("valid", string(emaid), "Accepted", "Accepted")
	wants("with check character and separators", "nl-exa-123456789", "Accepted", "Accepted")
	wants("account alone", string(emaid), "Accepted", "", bare)
	wants("another's certificate", string(emaid), "Invalid", "CertChainError", func(in *ocpp.AuthorizeRequest) {
		if in.Certificate != "" {
			in.Certificate = pemOf(c.chain)
		} else {
			in.HashData = hashed(t, c.chain[0], c.chain[1])
		}
	})
	if _, err := r.Add(t.Context(), "operator", "NLEXA000000001", "WP0TESTA00000002A3"); err != nil {
		t.Fatal(err)
	}
	wants("another account's contract", "NLEXA000000001", "Invalid", "CertChainError")
	wants("unreadable", string(emaid), "Invalid", "CertChainError", func(in *ocpp.AuthorizeRequest) {
		if in.Certificate != "" {
			in.Certificate = "x"
		} else {
			in.HashData[0].IssuerKeyHash = "00"
		}
	})
	for name, token := range map[string]ocpp.IDToken{"another type": {IDToken: string(emaid), Type: "ISO14443"}, "another account": {IDToken: "DEABC000000000", Type: "eMAID"}} {
		if _, ours, err := r.Authorize(t.Context(), &ocpp.AuthorizeRequest{IDToken: token}); ours || err != nil {
			t.Errorf("%s is ours: %v", name, err)
		}
	}
	now := r.clock.now()
	r.clock.set(now.AddDate(3, 0, 0))
	wants("expired", string(emaid), "Expired", "CertificateExpired")
	r.clock.set(now)
	if _, err := r.authority.Revoke(t.Context(), ca.SerialOf(chain[0]), "keyCompromise", "operator"); err != nil {
		t.Fatal(err)
	}
	wants("revoked", string(emaid), "Invalid", "CertificateRevoked")
	if _, err := r.Cancel(t.Context(), "operator", emaid, ""); err != nil {
		t.Fatal(err)
	}
	wants("cancelled", string(emaid), "Blocked", "ContractCancelled")
	wants("cancelled, account alone", string(emaid), "Blocked", "", bare)
}

// A certificate of another provider's, under a root trusted for mo, is none of ours
// though it has the account's name and an own certificate's serial number.
func TestAuthorizeForeignSerial(t *testing.T) {
	t.Parallel()
	r := newRig(t, kindsOf(message.ISO2)...)
	c := r.car(t, message.ISO2)
	r.add(t)
	_, a := r.ask(t, message.ISO2, sign(t, c.request(), c.key), false)
	own, _ := c.install(t, r, a)
	rootKey, key := newKey(t, curveOf(message.ISO2)), newKey(t, curveOf(message.ISO2))
	now := r.clock.now()
	root := certify(t, &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Another MO"}, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil, rootKey, rootKey)
	foreign := certify(t, &x509.Certificate{SerialNumber: own[0].SerialNumber, Subject: pkix.Name{CommonName: own[0].Subject.CommonName}, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(0, 6, 0),
		KeyUsage: x509.KeyUsageDigitalSignature}, root, key, rootKey)
	if _, err := r.authority.AddAnchor(t.Context(), "mo", []byte(pemOf([]*x509.Certificate{root})), "operator"); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		chain              []*x509.Certificate
		token, certificate string
	}{
		"own":     {own, "Accepted", "Accepted"},
		"foreign": {[]*x509.Certificate{foreign}, "Invalid", "CertChainError"},
	} {
		in := ocpp.AuthorizeRequest{IDToken: ocpp.IDToken{IDToken: string(emaid), Type: "eMAID"}, Certificate: pemOf(tt.chain)}
		out, ours, err := r.Authorize(t.Context(), &in)
		if err != nil || !ours || out.IDTokenInfo.Status != tt.token || out.CertificateStatus != tt.certificate {
			t.Errorf("%s: %+v, ours %t, %v", name, out, ours, err)
		}
	}
}

func certify(t *testing.T, template, by *x509.Certificate, key, signer *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	if by == nil {
		by = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// blind is a database that can't tell which roots are trusted.
type blind struct{ ca.Store }

var errBlind = errors.New("disk I/O error")

func (blind) Anchors(context.Context, string) ([]ca.TrustAnchor, error) { return nil, errBlind }

// What fails here is no verdict about anybody: it is an error, and may go better the next time.
func TestOwnFailureIsNoVerdict(t *testing.T) {
	t.Parallel()
	r := newRig(t, kindsOf(message.ISO2)...)
	c := r.car(t, message.ISO2)
	r.add(t)
	question := sign(t, c.request(), c.key)
	_, a := r.ask(t, message.ISO2, question, false)
	chain, key := c.install(t, r, a)
	authority, err := ca.New(t.Context(), ca.Config{Store: blind{r.store}, Keeper: r.keeper, Organisation: "Example CPO", Country: "NL", StatusURL: statusURL, Clock: r.clock.now})
	if err != nil {
		t.Fatal(err)
	}
	service, err := contract.New(t.Context(), contract.Config{Store: r.store, Authority: authority, Clock: r.clock.now})
	if err != nil {
		t.Fatal(err)
	}
	in := &ocpp.AuthorizeRequest{IDToken: ocpp.IDToken{IDToken: string(emaid), Type: "eMAID"}, Certificate: pemOf(chain)}
	for name, try := range map[string]func() error{
		"authorize": func() error { _, _, err := service.Authorize(t.Context(), in); return err },
		"vet":       func() error { _, err := service.Vet(t.Context(), in, "station:cs-1"); return err },
		"car":       func() error { _, err := service.AddProvisioning(t.Context(), "operator", c.chain); return err },
		"install": func() error {
			_, err := service.Provision(t.Context(), contract.Request{Protocol: message.ISO2, EXI: question, Actor: "operator"})
			return err
		},
		"update": func() error {
			_, err := service.Provision(t.Context(), contract.Request{Protocol: message.ISO2, Update: true, EXI: sign(t, update(chain, string(emaid)), key), Actor: "operator"})
			return err
		},
		"sign": func() error { return service.SignFor(t.Context(), "pool:x", emaid, a) },
	} {
		err := try()
		if _, judged := errors.AsType[*contract.Fault](err); !errors.Is(err, errBlind) || judged {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A contract that is over makes room for another of the account and the car.
func TestAddAfterItsEnd(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	first, err := r.AddUntil(t.Context(), "operator", emaid, pcid, r.clock.now().AddDate(0, 1, 0))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Add(t.Context(), "operator", emaid, pcid); !errors.Is(err, contract.ErrExists) {
		t.Errorf("before its end: %v", err)
	}
	r.clock.set(r.clock.now().AddDate(0, 2, 0))
	second := r.add(t)
	list := r.contracts(t)
	if len(list) != 2 || list[0].ID != first.ID || list[0].State != contract.StateCancelled || list[1].ID != second.ID || !list[1].InForce(r.clock.now()) {
		t.Errorf("%+v", list)
	}
}
