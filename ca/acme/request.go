package acme

import (
	"crypto"
	"crypto/x509"
	"slices"
	"strings"
)

func marshalPublic(key crypto.PublicKey) ([]byte, error) { return x509.MarshalPKIXPublicKey(key) }

// asks compares what a request asks for with its order, since a difference shows a
// client that means another one (RFC 8555 §7.4). The certificate says what the order
// says either way.
func asks(o *Order, der []byte) *Problem {
	req, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return problem(badCSR, "the request isn't readable")
	}
	if len(req.EmailAddresses)+len(req.URIs)+len(req.IPAddresses) > 0 {
		return problem(badCSR, "the request asks for names of other kinds than the order has")
	}
	asked := req.DNSNames
	if o.Authorizations[0].Identifier.Type == TypePermanent {
		if len(asked) > 0 || req.Subject.CommonName != "" && req.Subject.CommonName != o.Authorizations[0].Identifier.Value {
			return problem(badCSR, "the request asks for other names than the order has")
		}
		return nil
	}
	if cn := req.Subject.CommonName; cn != "" && !slices.Contains(asked, cn) {
		asked = append(slices.Clone(asked), cn)
	}
	var want, got []string
	for _, id := range o.identifiers() {
		want = append(want, id.Value)
	}
	for _, name := range asked {
		got = append(got, strings.ToLower(name))
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(want, slices.Compact(got)) {
		return problem(badCSR, "the request asks for other names than the order has")
	}
	return nil
}
