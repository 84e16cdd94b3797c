package station

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"

	"bollard/ocpp"
)

// SECC is what cars know an EVSE by, or with EVSE 0 the station: the CN of the
// certificate it shows them (ISO 15118).
type SECC struct {
	ID   string
	EVSE int
}

// purpose is what a certificate is asked for; zero: to prove the station itself.
type purpose struct {
	kind string // certificateType of one toward cars, or ""
	secc string
}

func (p purpose) certificateType() string { return cmp.Or(p.kind, ocpp.ChargingStationCertificate) }

// keyType: ISO 15118-2 has P-256, -20 P-521.
func (p purpose) keyType(own KeyType) KeyType {
	switch p.kind {
	case ocpp.V2GCertificate:
		return P256
	case ocpp.V2G20Certificate:
		return P521
	}
	return own
}

// RequestSECCCertificate makes a new key and sends its CSR for a certificate toward
// cars: kind is V2GCertificate or V2G20Certificate (A02, A03).
func (s *Station) RequestSECCCertificate(ctx context.Context, kind, secc string) error {
	return s.requestCertificate(ctx, purpose{kind, secc}, 0)
}

// SECCCertificate is the newest certificate toward cars the station took.
func (s *Station) SECCCertificate(kind, secc string) (tls.Certificate, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	cert, ok := s.seccs[purpose{kind, secc}]
	return cert, ok
}

// purposeOf is what the CSR of a certificate was for.
func (s *Station) purposeOf(leaf *x509.Certificate) purpose {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.orders {
		if leaf != nil && samePublic(o.key.Public(), leaf.PublicKey) {
			return o.of
		}
	}
	return purpose{}
}

// keep stores a certificate the station took.
func (s *Station) keep(of purpose, cert tls.Certificate) error {
	if of.kind == "" {
		return s.keys.accept(cert)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seccs[of] = cert
	return nil
}

// v2gRoot is the root the station asks to be certified under: its newest.
func (s *Station) v2gRoot() (hashData, bool) {
	roots := s.trust.list(v2gRoot)
	if len(roots) == 0 {
		return hashData{}, false
	}
	newest := roots[len(roots)-1]
	h, err := hashesOf(newest, newest, "SHA256")
	return h, err == nil
}

// triggerSECC asks for the certificate of one EVSE, or of the station as a whole
// (A02.FR.22, .23).
func (l *link) triggerSECC(requested string, evse int) reply {
	kind := ocpp.V2GCertificate
	if requested == ocpp.TriggerSignV2G20 {
		kind = ocpp.V2G20Certificate
	}
	if l.version == ocpp.V16 || kind == ocpp.V2G20Certificate && l.version != ocpp.V21 {
		return status("NotImplemented")
	}
	for _, secc := range l.s.cfg.SECCs {
		if secc.EVSE != evse {
			continue
		}
		return status(accepted).then(func(ctx context.Context) {
			if err := l.s.RequestSECCCertificate(ctx, kind, secc.ID); err != nil && !errors.Is(err, context.Canceled) {
				l.s.cfg.Log.Warn("couldn't request a certificate toward cars", "station", l.s.cfg.Identity, "secc", secc.ID, "err", err)
			}
		})
	}
	if len(l.s.cfg.SECCs) == 0 {
		return status("NotImplemented")
	}
	return status(rejected)
}
