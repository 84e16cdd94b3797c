package gateway

import "bollard/fleet"

// OnLoop tells that a loop moves a session's frames, not two pumps.
func OnLoop(s fleet.Session) bool {
	own, ok := s.(*session)
	return ok && own.legs != nil
}

// Tidy is tidy with its clock and effect from outside.
var Tidy = tidy

// ProxyHeader reads one PROXY header.
var ProxyHeader = proxyHeader

// What the log shows of a request.
var (
	ShownTarget = shownTarget
	ShownOffer  = shownOffer
)
