package station

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"fmt"

	"bollard/ocpp"
)

// CertificateStatus asks the CSMS for the OCSP response about a certificate of the
// chain shown to cars, which is stapled there (M06, 2.x).
func (s *Station) CertificateStatus(ctx context.Context, cert, issuer *x509.Certificate, responder string) (der []byte, err error) {
	hash, err := hashesOf(cert, issuer, ocpp.HashSHA256)
	if err != nil {
		return nil, err
	}
	request := object{"ocspRequestData": object{"hashAlgorithm": hash.HashAlgorithm, "issuerNameHash": hash.IssuerNameHash,
		"issuerKeyHash": hash.IssuerKeyHash, "serialNumber": hash.SerialNumber, "responderURL": responder}}
	var answer ocpp.GetCertificateStatusResponse
	if err := s.ask(ctx, ocpp.ActionGetCertificateStatus, request, &answer); err != nil {
		return nil, err
	}
	if answer.Status != accepted {
		return nil, fmt.Errorf("no OCSP response was obtained: %s", answer.Status)
	}
	if der, err = base64.StdEncoding.DecodeString(answer.OCSPResult); err != nil {
		return nil, fmt.Errorf("ocspResult isn't base64: %w", err)
	}
	return der, nil
}

// ChainStatus asks for the status of each certificate of a chain whose issuer follows
// it, by OCSP or CRL (M07, 2.1).
func (s *Station) ChainStatus(ctx context.Context, chain []*x509.Certificate, source string, urls ...string) ([]string, error) {
	var requests []object
	for i := range len(chain) - 1 {
		hash, err := hashesOf(chain[i], chain[i+1], ocpp.HashSHA256)
		if err != nil {
			return nil, err
		}
		requests = append(requests, object{"certificateHashData": hash, "source": source, "urls": urls})
	}
	var answer ocpp.GetCertificateChainStatusResponse
	if err := s.ask(ctx, ocpp.ActionGetCertificateChainStatus, object{"certificateStatusRequests": requests}, &answer); err != nil {
		return nil, err
	}
	var out []string
	for _, one := range answer.Statuses {
		out = append(out, one.Status)
	}
	return out, nil
}
