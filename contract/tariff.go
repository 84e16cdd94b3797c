package contract

import (
	"context"
	"crypto/x509"
	"errors"
	"strconv"

	"bollard/ca"
	"bollard/iso15118/tariff"
	"bollard/ledger"
)

// ErrTariff marks a charging profile whose tariffs can't be signed.
var ErrTariff = errors.New("the charging profile isn't signed")

// SignTariff signs the tariffs of an OCPP charging profile with MO sub-CA 2 of their
// edition, and returns the profile with digests and signature. That it does is on
// record before. prefix is tariff.Read's.
func (s *Service) SignTariff(ctx context.Context, actor string, profile []byte, prefix string) ([]byte, *x509.Certificate, error) {
	p, err := tariff.Read(profile, prefix)
	if err != nil {
		return nil, nil, errors.Join(ErrTariff, err)
	}
	signer, err := s.authority.TariffSigner(kindsOf(p.Protocol, nil).mo)
	if err != nil {
		return nil, nil, err
	}
	var exi []byte
	for _, one := range p.Schedules {
		exi = append(exi, one.Digest...)
	}
	err = s.store.Record(ctx, ledger.Event{Kind: "tariff.signed", Subject: hexOf(exi), Actor: actor, Data: map[string]string{
		"serial": ca.SerialOf(signer.Certificate), "protocol": p.Protocol.String(), "tariffs": strconv.Itoa(len(p.Schedules)),
	}})
	if err != nil {
		return nil, nil, err
	}
	signed, err := p.Sign(s.random, signer.Key)
	return signed, signer.Certificate, err
}
