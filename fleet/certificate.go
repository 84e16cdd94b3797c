package fleet

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"bollard/ca"
)

var (
	oidCommonName = asn1.ObjectIdentifier{2, 5, 4, 3}
	oidKeyUsage   = asn1.ObjectIdentifier{2, 5, 29, 15}
)

const noTrustPath = "certificate chains to no root trusted for stations"

// maxPresented bounds the chain a stranger can make us look at.
const maxPresented = 8

// leaf is what a presented chain was found to be, before it is compared with a
// station. Finding that out is the same work for a known and an unknown identity.
type leaf struct {
	cert     *x509.Certificate
	own      bool  // chains to our roots; else to an outside root
	record   entry // what is recorded of it
	recorded bool
	// recoverable: own, not recorded, but it may have been issued after the
	// backup was made that the records come from.
	recoverable bool
	expired     bool
}

// entry is what is judged of a certificate's record.
type entry struct {
	serial, station string
	state           ca.State
}

func entryOf(r *ca.Record) entry { return entry{r.Serial, r.Station, r.State} }

// judgeChain verifies the presented chain against one pool after the other,
// never a mixture. Expiry is found here and judged later: whether it matters is
// a property of the station (A00.FR.429). A nil leaf comes with the reason.
func (s *Service) judgeChain(ctx context.Context, presented []*x509.Certificate, trust []string, now time.Time) (*leaf, string, error) {
	if len(presented) > maxPresented {
		return nil, fmt.Sprintf("%d certificates presented, at most %d are looked at", len(presented), maxPresented), nil
	}
	pools, err := s.cfg.Authority.StationPools(ctx)
	if err != nil {
		return nil, "", fmt.Errorf("couldn't load the roots for station certificates: %w", err)
	}
	cert := presented[0]
	if now.Before(cert.NotBefore) {
		return nil, "certificate is not valid before " + cert.NotBefore.UTC().Format(time.RFC3339), nil
	}
	l := &leaf{cert: cert, expired: now.After(cert.NotAfter)}
	at := now
	if l.expired {
		at = cert.NotAfter
	}
	own, fresh, ok := s.trusted(ctx, pools, presented, trust, at)
	if !ok {
		return nil, noTrustPath, nil
	}
	l.own = own
	record, recorded, err := s.standing(ctx, cert)
	if err != nil {
		return nil, "", fmt.Errorf("couldn't look up the presented certificate: %w", err)
	}
	l.record, l.recorded = entryOf(&record), recorded
	if fresh && l.recorded {
		s.verdicts.note(presented, l.record.serial, now)
	}
	if l.own && !l.recorded {
		if l.recoverable, err = s.cfg.Authority.Recoverable(ctx, cert); err != nil {
			return nil, "", err
		}
	}
	return l, "", nil
}

// Judge looks at a chain that nobody was claimed with yet. What it finds out is
// remembered for Admit, which asks again; only a reason not to trust the chain
// is a verdict. If it can't tell, Admit can't either, and says why.
func (s *Service) Judge(ctx context.Context, chain []*x509.Certificate, trust []string) (untrusted string) {
	_, untrusted, err := s.judgeChain(ctx, chain, trust, s.clock())
	if err != nil {
		return ""
	}
	return untrusted
}

// trusted reports whether the chain leads to a trusted root, and whether to one of
// our own. fresh says that the leaf's signature was verified for it, under the issuing
// CA it was presented with.
func (s *Service) trusted(ctx context.Context, pools ca.Pools, presented []*x509.Certificate, trust []string, at time.Time) (own, fresh, ok bool) {
	key := chainKey(presented, trust)
	if own, ok := s.verified.lookup(pools, key, at); ok {
		return own, false, true
	}
	found, fresh, ok := s.verified.under(pools, presented, trust, at, func() bool {
		return s.verdicts.holds(presented, func() []byte { return s.cfg.Authority.Verdict(ctx, presented[0]) })
	})
	if !ok {
		var chain []*x509.Certificate
		if chain, ok = chains(presented[0], presented[1:], pools.Own, pools.Intermediates, at, trust, true); ok {
			found = periodOf(chain)
			found.own = true
			s.verified.learn(pools, presented, chain, trust)
		} else if chain, ok = chains(presented[0], presented[1:], pools.Outside, nil, at, trust, false); ok {
			found = periodOf(chain)
		} else {
			return false, false, false
		}
	}
	s.verified.remember(pools, key, found)
	return found.own, fresh, true
}

// chains verifies one chain with any key usage: purpose is judged on its own,
// because stations' certificates come with and without an extended key usage
// (A00.FR.514). It returns the chain found.
func chains(cert *x509.Certificate, presented []*x509.Certificate, roots, known *x509.CertPool, at time.Time, trust []string, own bool) ([]*x509.Certificate, bool) {
	if roots == nil {
		return nil, false
	}
	between := x509.NewCertPool()
	if known != nil {
		between = known.Clone()
	}
	for _, c := range presented {
		between.AddCert(c)
	}
	found, err := cert.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return nil, false
	}
	for _, chain := range found {
		if len(trust) > 0 && (!own || !slices.Contains(trust, "own")) {
			sum := sha256.Sum256(chain[len(chain)-1].Raw)
			if !slices.Contains(trust, hex.EncodeToString(sum[:])) {
				continue
			}
		}
		return chain, true
	}
	return nil, false
}

// certificateVerdict is the outcome of comparing a leaf with a station.
type certificateVerdict struct {
	factory bool
	notes   []string // failed checks that only warn for this station
	refused string   // "": the leaf proves the station
}

// proves compares a leaf with the station whose identity was claimed.
func (s *Service) proves(l *leaf, st *Station, now time.Time) certificateVerdict {
	var v certificateVerdict
	fail := func(check Check, reason string) {
		if slices.Contains(st.Warn, check) {
			v.notes = append(v.notes, string(check)+": "+reason)
		} else if v.refused == "" {
			v.refused = reason
		}
	}
	if !st.LostAt.IsZero() {
		return certificateVerdict{refused: st.lost()}
	}
	// What can't be set to warn: without it nothing is proven.
	if refused := s.onRecord(l, st); refused != "" {
		return certificateVerdict{refused: refused}
	}
	if l.expired && !now.Before(st.AllowExpired) {
		return certificateVerdict{refused: fmt.Sprintf(
			"certificate expired on %s: `bollard station renew %s --allow-expired 48h` lets it in to renew (A00.FR.429)",
			l.cert.NotAfter.UTC().Format(time.DateOnly), st.Identity)}
	}
	operators := len(l.cert.Subject.Organization) == 1 && l.cert.Subject.Organization[0] == s.cfg.Organisation
	// A00.FR.406: an outside certificate without the operator's O is the maker's.
	unrecorded := !l.own && !(l.recorded && l.record.station == keyOf(st))
	v.factory = unrecorded && !operators
	// Every outside CA can write the operator's O: it gets nobody round a pin.
	reason, pinned := "", false
	if unrecorded {
		reason, pinned = pinReason(l.cert, st)
	}
	if reason != "" {
		return certificateVerdict{refused: reason}
	}
	if !pinned {
		if reason := commonNameReason(l.cert, st); reason != "" {
			fail(CheckCommonName, reason)
		}
	}
	if l.own && !operators {
		fail(CheckOrganisation, fmt.Sprintf("certificate's organisation %.64q is not %q (A00.FR.404)", l.cert.Subject.Organization, s.cfg.Organisation))
	}
	if reason := purposeReason(l.cert); reason != "" {
		fail(CheckPurpose, reason)
	}
	return v
}

// onRecord refuses certificates that are revoked, that name another station by
// our own records, or that carry our signature without being in our books.
func (s *Service) onRecord(l *leaf, st *Station) string {
	switch {
	case l.own && !l.recorded && !l.recoverable:
		return "certificate has our signature but is not on record: the database is an older copy put back by hand, or the CA's key was used elsewhere"
	case l.recorded && l.record.state != ca.StateIssued:
		return fmt.Sprintf("certificate %s is %s", l.record.serial, l.record.state)
	case l.recorded && l.record.station != keyOf(st) && (l.own || l.record.station != ""):
		return fmt.Sprintf("certificate %s belongs to %.64q, not to %q", l.record.serial, l.record.station, st.Identity)
	}
	return ""
}

// recover records a certificate that a restored backup doesn't know, once it
// proves the station: the handshake showed that the station holds its key.
func (s *Service) recover(ctx context.Context, l *leaf, st *Station) error {
	if l.recorded || !l.recoverable {
		return nil
	}
	// A station whose common name only warns proves too little for this.
	if reason := commonNameReason(l.cert, st); reason != "" {
		return fmt.Errorf("%w: %s", ca.ErrNotRecoverable, reason)
	}
	record, err := s.cfg.Authority.Recover(ctx, l.cert, keyOf(st))
	l.record, l.recorded = entryOf(&record), err == nil
	return err
}

// namesAnother says that a leaf of our own belongs to somebody else: no password
// makes up for that.
func (s *Service) namesAnother(l *leaf, st *Station) bool {
	return l != nil && l.own && (!l.recorded || l.record.station != keyOf(st))
}

// pinReason compares an outside certificate with the one pinned for the station, or its key;
// pinned is false if none is.
func pinReason(cert *x509.Certificate, st *Station) (reason string, pinned bool) {
	switch {
	case st.FactoryHash != "":
		if sum := sha256.Sum256(cert.Raw); hex.EncodeToString(sum[:]) != st.FactoryHash {
			reason = "factory certificate is not the pinned one"
		}
	case st.FactoryKey != "":
		if spkiHash(cert) != st.FactoryKey {
			reason = "factory certificate's key is not the pinned one"
		}
	default:
		return "", false
	}
	return reason, true
}

// named is the station whose serial number is the common name of a certificate without a
// record, unless another is pinned there; else the one it is pinned for. ErrUnknownStation.
func (s *Service) named(ctx context.Context, cert *x509.Certificate) (Station, error) {
	byName, unnamed := s.store.StationBySerial(ctx, cert.Subject.CommonName)
	if unnamed == nil {
		if reason, _ := pinReason(cert, &byName); reason == "" {
			return byName, nil
		}
	} else if !errors.Is(unnamed, ErrUnknownStation) {
		return Station{}, unnamed
	}
	sum := sha256.Sum256(cert.Raw)
	st, err := s.store.StationByFactory(ctx, hex.EncodeToString(sum[:]))
	if errors.Is(err, ErrUnknownStation) {
		st, err = s.store.StationByFactoryKey(ctx, spkiHash(cert))
	}
	if errors.Is(err, ErrUnknownStation) {
		return byName, unnamed
	}
	return st, err
}

// commonNameReason compares the CN byte for byte: no case folding, trimming or
// normalisation that an attacker could aim at (A00.FR.405).
func commonNameReason(cert *x509.Certificate, st *Station) string {
	var names []string
	for _, n := range cert.Subject.Names {
		if n.Type.Equal(oidCommonName) {
			text, _ := n.Value.(string)
			names = append(names, text)
		}
	}
	if len(names) != 1 {
		return fmt.Sprintf("certificate has %d common names instead of one", len(names))
	}
	if names[0] != st.Serial && !slices.Contains(st.Aliases, names[0]) {
		return fmt.Sprintf("certificate's common name %.64q is not the registered serial number %q (A00.FR.405)", names[0], st.Serial)
	}
	return ""
}

func purposeReason(cert *x509.Certificate) string {
	hasKeyUsage := slices.ContainsFunc(cert.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(oidKeyUsage) })
	hasExtended := len(cert.ExtKeyUsage)+len(cert.UnknownExtKeyUsage) > 0
	switch {
	case cert.IsCA:
		return "certificate is a CA's"
	case hasKeyUsage && cert.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return "certificate's key usage lacks digitalSignature"
	case hasExtended && !slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageClientAuth) && !slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageAny):
		return "certificate's extended key usage excludes TLS clients"
	}
	return ""
}
