package status

import "math/big"

// ParseRequest tells how many certificates a request names and its nonce.
func ParseRequest(der []byte) (int, []byte, error) {
	r, err := parseRequest(der, nil)
	return len(r.ids), r.nonce, err
}

// SerialIn is the serial number of a request's first CertID.
func SerialIn(der []byte) (*big.Int, error) {
	r, err := parseRequest(der, nil)
	if err != nil {
		return nil, err
	}
	return r.ids[0].number(), nil
}

// Fill keeps a response under so many further serial numbers.
func (s *Server) Fill(responses int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.responses.slips {
		r, _ := s.responses.get(id, nil)
		for i := range responses {
			copy(id.serial[:], big.NewInt(int64(i)+1<<40).Bytes())
			s.responses.put(id, r)
		}
		return
	}
}

// Kept is how many responses are in memory.
func (s *Server) Kept() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.responses.slips)
}

// Assemble makes an OCSPResponse.
func Assemble(signed, certificate []byte) []byte { return assemble(nil, signed, certificate) }
