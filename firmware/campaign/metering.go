package campaign

// metering is how a station's transactions are metered, while signs count. Which of
// several a meter value is of isn't told apart (StopTransaction of 1.6 names no
// connector): one of any is good for all that run.
type metering struct{ began, metered bool }

// begins notes a transaction that begins.
func (s *seen) begins(station string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count(station, Transaction)
	if !s.meters[station].began { // or one that runs beside it may have been metered
		s.keep(station, metering{began: true})
	}
}

// metered notes values that came while transactions run, or beside them.
func (s *seen) metered(station string, values int) {
	if values == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count(station, Metered)
	s.keep(station, metering{began: s.meters[station].began, metered: true})
}

// ends notes a transaction that ends. Of one whose beginning nobody saw nothing is said.
func (s *seen) ends(station, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if aborts(reason) {
		s.count(station, Aborted)
	}
	if m := s.meters[station]; m.began && !m.metered {
		s.count(station, Unmetered)
	}
	delete(s.meters, station)
}

// keep is under the lock.
func (s *seen) keep(station string, m metering) {
	if s.meters == nil {
		s.meters = map[string]metering{}
	}
	s.meters[station] = m
}

// forget drops what runs: signs count no more.
func (s *seen) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.meters = nil
}
