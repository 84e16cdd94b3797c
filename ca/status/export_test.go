package status

// ParseRequest tells how many certificates a request names and its nonce.
func ParseRequest(der []byte) (int, []byte, error) {
	r, err := parseRequest(der)
	return len(r.ids), r.nonce, err
}

// Kept is how many responses are in memory.
func (s *Server) Kept() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.responses)
}

// Assemble makes an OCSPResponse.
var Assemble = assemble
