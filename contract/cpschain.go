package contract

import (
	"bytes"
	"slices"
	"strings"

	"bollard/ca"
	"bollard/internal/curve448"
	"bollard/iso15118/message"
)

// cpsChain is the chain of who signed, up to a V2G root that the car names as one it
// trusts. What is signed doesn't hold it: it may differ from car to car. Where the car
// names no root of ours the chain stays as it was made.
func (s *Service) cpsChain(r *message.Request, made message.Chain) message.Chain {
	leaf, err := curve448.ParseCertificate(made.Certificate)
	if err != nil {
		return made
	}
	// Another CPS's leaf keeps its own chain.
	paths := slices.DeleteFunc(slices.Clone(s.authority.Paths(kindsOf(r.Protocol, leaf.PublicKey).cps)), func(p ca.Path) bool {
		return !bytes.Equal(p.Chain[0].RawSubject, leaf.RawIssuer) || !bytes.Equal(p.Chain[0].SubjectKeyId, leaf.AuthorityKeyId)
	})
	named := func(p ca.Path, byName bool) bool {
		return slices.ContainsFunc(r.Roots, func(id message.RootID) bool {
			// Issuer names are free text in practice: the serial number counts.
			return id.Serial != nil && id.Serial.Cmp(p.Root.SerialNumber) == 0 && (!byName || strings.Contains(id.Issuer, p.Root.Subject.CommonName))
		})
	}
	for _, byName := range []bool{true, false} {
		for _, p := range paths {
			if !named(p, byName) {
				continue
			}
			out := message.Chain{ID: made.ID, Certificate: made.Certificate}
			for _, c := range p.Chain {
				out.SubCertificates = append(out.SubCertificates, c.Raw)
			}
			return out
		}
	}
	return made
}
