package status

import "context"

// Respond answers a DER request within the process. own is false if none of
// this server's issuers is asked about; an error for an own one means that there
// is no response to give: of what isn't known nothing is said.
func (s *Server) Respond(ctx context.Context, der []byte) (_ []byte, own bool, _ error) {
	parsed, err := parseRequest(der, nil)
	if err != nil {
		return nil, false, err
	}
	s.mu.RLock()
	for _, id := range parsed.ids {
		own = own || s.issuerOf(id) != nil
	}
	s.mu.RUnlock()
	if !own {
		return nil, false, nil
	}
	answer, err := s.answer(ctx, parsed, nil)
	if err != nil {
		return nil, true, err
	}
	return assemble(nil, answer.signed, answer.certificate), true, nil
}
