package pool_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"net/http/httptest"
	"net/netip"
	"testing"

	"bollard/ca"
	"bollard/contract/pool"
	"bollard/iso15118/identifier"
	"bollard/iso15118/message"
	"bollard/iso15118/signature"
)

// Contract data that a provider made and sealed itself is signed over REST, in the
// public shape: it comes back as it was, in XML, signed by the CPS; another provider's
// isn't.
func TestSign(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	mo := h.client("provider", pool.RoleMO, "NL-EXA")
	server := httptest.NewTLSServer(h.door)
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	c, err := pool.NewClient(pool.ClientConfig{URL: server.URL, ID: "provider", Secret: []byte(mo.secret), RootCAs: roots, Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	if err != nil {
		t.Fatal(err)
	}
	dataOf := h.dataOf
	account := identifier.EMAID(emaid).Full()
	data := dataOf(account)
	exi, err := c.Sign(t.Context(), data)
	if err != nil {
		t.Fatal(err)
	}
	out, err := message.DecodeResponse(message.ISO2, exi)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out.Key, data.Key) || !bytes.Equal(out.Public, data.Public) || out.EMAID != string(account) || !bytes.Equal(out.Contract.Certificate, data.Contract.Certificate) || len(out.Contract.SubCertificates) != 2 {
		t.Errorf("another one came back: %+v", out)
	}
	cps, err := x509.ParseCertificate(out.CPS.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	if err := signature.Verify(message.ISO2.Set(), *out.Signature, cps.PublicKey, []signature.Suite{signature.P256}, out.Signed()...); err != nil {
		t.Error(err)
	}
	other := dataOf(identifier.EMAID("DEABC123456789").Full())
	mixed := dataOf(account)
	mixed.Contract = other.Contract
	inside := dataOf(account)
	inside.Contract.Certificate = h.authority.Roots(ca.KindMO)[0].Raw
	short := dataOf(account)
	short.Key = short.Key[:47]
	edition := dataOf(account)
	edition.Protocol = message.ISO20
	for name, wrong := range map[string]*message.Response{"another provider's": other, "another's certificate": mixed, "a CA's certificate": inside, "a short key": short, "another edition": edition} {
		if _, err := c.Sign(t.Context(), wrong); err == nil {
			t.Errorf("%s is signed", name)
		}
	}
	if log := h.kinds("pool:provider"); log != "contract.signed pool.refused pool.refused" {
		t.Errorf("on record: %s", log)
	}
}

// dataOf is contract data of a provider whose sub-CA is the house's, as if sealed.
func (h *house) dataOf(account identifier.EMAID) *message.Response {
	h.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		h.t.Fatal(err)
	}
	proven, err := ca.GeneratedKey(key)
	if err != nil {
		h.t.Fatal(err)
	}
	prepared, err := h.authority.Prepare(h.t.Context(), ca.Order{Profile: ca.ProfileContract, Key: proven, Subject: ca.Subject{CommonName: string(account)}, Requester: "operator"})
	if err != nil {
		h.t.Fatal(err)
	}
	issued, err := h.authority.Issue(h.t.Context(), prepared)
	if err != nil {
		h.t.Fatal(err)
	}
	a := &message.Response{Protocol: message.ISO2, EMAID: string(account), Key: bytes.Repeat([]byte{1}, 48), Public: bytes.Repeat([]byte{4}, 65), Contract: message.Chain{Certificate: issued.Certificate.Raw}}
	for _, sub := range issued.Chain {
		a.Contract.SubCertificates = append(a.Contract.SubCertificates, sub.Raw)
	}
	return a
}
