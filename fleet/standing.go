package fleet

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"sync"

	"bollard/ca"
)

// maxStanding bounds the certificates remembered, at about 120 bytes each.
const maxStanding = 16 << 10

// standings remembers which certificates are on record as issued, and for whom,
// as long as no record of any certificate has changed: a fleet that comes back
// asks for the same again and again. Whatever isn't plainly issued, and every
// certificate that isn't recorded, is looked up each time.
type standings struct {
	mu    sync.Mutex
	epoch uint64
	known map[[sha256.Size]byte]issued
}

// issued is what is kept of a certificate's record. The serial number stands in
// the certificate, too, and is empty where the record has the same.
type issued struct{ serial, station string }

// at forgets what is of another epoch. The caller holds mu.
func (s *standings) at(epoch uint64) {
	if s.epoch != epoch {
		s.epoch, s.known = epoch, nil
	}
}

func (s *standings) lookup(epoch uint64, key [sha256.Size]byte) (issued, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at(epoch)
	i, ok := s.known[key]
	return i, ok
}

func (s *standings) remember(epoch uint64, key [sha256.Size]byte, i issued) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.epoch != epoch {
		return
	}
	if s.known == nil || len(s.known) >= maxStanding {
		s.known = make(map[[sha256.Size]byte]issued)
	}
	s.known[key] = i
}

// standing is what is on record about a certificate: serial number, station and
// state, nothing else.
func (s *Service) standing(ctx context.Context, cert *x509.Certificate) (ca.Record, bool, error) {
	return s.stands(sha256.Sum256(cert.Raw), func() string { return ca.SerialOf(cert) },
		func() (ca.Record, bool, error) { return s.cfg.Authority.Status(ctx, cert) })
}

// standingOf is standing of a certificate presented before.
func (s *Service) standingOf(ctx context.Context, leaf *ca.Leaf) (ca.Record, bool, error) {
	return s.stands(leaf.Sum, func() string { return leaf.Serial },
		func() (ca.Record, bool, error) { return s.cfg.Authority.StatusOf(ctx, leaf) })
}

func (s *Service) stands(key [sha256.Size]byte, serial func() string, look func() (ca.Record, bool, error)) (ca.Record, bool, error) {
	epoch, counted := s.cfg.Authority.Epoch() // before the look-up: what comes between is of another epoch
	if !counted {
		return look()
	}
	if i, ok := s.standings.lookup(epoch, key); ok {
		if i.serial == "" {
			i.serial = serial()
		}
		return ca.Record{Intent: ca.Intent{Serial: i.serial, Station: i.station}, State: ca.StateIssued}, true, nil
	}
	record, known, err := look()
	if err == nil && known && record.State == ca.StateIssued {
		i := issued{record.Serial, record.Station}
		if i.serial == serial() {
			i.serial = ""
		}
		s.standings.remember(epoch, key, i)
	}
	return record, known, err
}
