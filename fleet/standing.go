package fleet

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"sync"

	"bollard/ca"
)

// maxStanding bounds the certificates remembered, at about 150 bytes each.
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

// issued is what is kept of a certificate's record.
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

func (s *standings) remember(epoch uint64, key [sha256.Size]byte, r ca.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.epoch != epoch {
		return
	}
	if s.known == nil || len(s.known) >= maxStanding {
		s.known = make(map[[sha256.Size]byte]issued)
	}
	s.known[key] = issued{r.Serial, r.Station}
}

// standing is what is on record about a certificate: serial number, station and
// state, nothing else.
func (s *Service) standing(ctx context.Context, cert *x509.Certificate) (ca.Record, bool, error) {
	epoch, counted := s.cfg.Authority.Epoch() // before the look-up: what comes between is of another epoch
	if !counted {
		return s.cfg.Authority.Status(ctx, cert)
	}
	key := sha256.Sum256(cert.Raw)
	if i, ok := s.standings.lookup(epoch, key); ok {
		return ca.Record{Intent: ca.Intent{Serial: i.serial, Station: i.station}, State: ca.StateIssued}, true, nil
	}
	record, known, err := s.cfg.Authority.Status(ctx, cert)
	if err == nil && known && record.State == ca.StateIssued {
		s.standings.remember(epoch, key, record)
	}
	return record, known, err
}
