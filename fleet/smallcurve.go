package fleet

import (
	"fmt"
	"slices"

	"bollard/ca"
)

// Keys on P-224 are legal (A00.FR.503) and of no use in TLS 1.3, which has no
// signature scheme for them (RFC 8446 §4.2.3): a station that offers TLS 1.3
// comes without its certificate. They are for the models that are named.

// MayHaveP224 says whether a station's model is one of those.
func (s *Service) MayHaveP224(vendor, model string) bool {
	return slices.ContainsFunc(s.cfg.P224, func(m Model) bool { return m.Fits(vendor, model) })
}

// curveFault says why a station may not have a certificate for this key, or "".
func (s *Service) curveFault(key ca.ProvenKey, vendor, model string, tls13 bool) string {
	switch {
	case key.Class() != ca.ClassP224:
		return ""
	case !s.MayHaveP224(vendor, model):
		return fmt.Sprintf("its key is on P-224, which TLS 1.3 can't use (A00.FR.503): p224 in bollard.yaml allows it to vendor %.50q, model %.50q", vendor, model)
	case tls13:
		return "its key is on P-224 and it came over TLS 1.3, where it couldn't show its certificate: have the station use TLS 1.2"
	}
	return ""
}
