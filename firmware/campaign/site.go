package campaign

// sites tell how many stations there are at each, whatever rollout they are part of, as
// a look found them and has changed it since.
type sites map[string]*site

type site struct {
	stations int  // that are enrolled
	there    int  // of those, connected
	busy     int  // of all, with an update that isn't over
	works    int  // connected, and no update
	limited  bool // the grid limits one of them
}

// sites counts the stations that are known.
func (s *Service) sites() sites {
	list := sites{}
	for key, st := range s.known {
		if st.Site == "" {
			continue
		}
		at := list[st.Site]
		if at == nil {
			at = &site{}
			list[st.Site] = at
		}
		at.stations++
		at.limited = at.limited || s.grid.limits(key)
		_, there := s.cfg.Fleet.Session(key)
		busy := s.cfg.Gate.Open(key)
		if there {
			at.there++
		}
		switch {
		case busy:
			at.busy++
		case there:
			at.works++
		}
	}
	return list
}

// spares says whether a site can do without one of its stations for as long as an update
// takes: another one works, unless there is no other, and no more than a share of all
// are at work, or one. A station of no site stands alone.
func (l sites) spares(st Station, share float64) bool {
	at := l[st.Site]
	if at == nil || at.stations == 1 {
		return true
	}
	return at.works > 1 && (share == 0 || at.busy == 0 || float64(at.busy+1) <= share*float64(at.stations))
}

// takes notes that an update of a station begins.
func (l sites) takes(st Station) {
	if at := l[st.Site]; at != nil {
		at.works--
		at.busy++
	}
}

// alone says whether a station is the only one of several at its site that is there: it
// could wait for the others for ever.
func (l sites) alone(st Station) bool {
	at := l[st.Site]
	return at != nil && at.stations > 1 && at.there == 1
}
