package fleet

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"bollard/internal/tally"
	"bollard/ledger"
)

// A station that comes another way than the last time is an entry, in the
// transaction that records the way; how often it came the same way again is one
// entry a day. A fleet that reconnects writes nothing before its sessions begin: a
// crash loses the counts of half a minute, those of a tally's pause at most.
const (
	sumEvery = 24 * time.Hour
	sumBatch = 256 // stations in one transaction
)

// entrance is one way of one station, for counting those that come and go
// between several. It is remembered for a day: the way's hash takes a fifth of its room.
type entrance struct {
	station string
	way     [sha256.Size]byte
}

// way is the JSON of a way in. Records have it, and are compared with it byte for byte: its
// fields are in the order of their names, as they were when it was a map.
type way struct {
	Backend     string `json:"backend"`
	Certificate string `json:"certificate-sha256,omitempty"`
	Listener    string `json:"listener"`
	OCPP        string `json:"ocpp"`
	PasswordSet string `json:"password-set,omitempty"`
	Profile     string `json:"profile"`
	Proof       string `json:"proof,omitempty"`
	Serial      string `json:"serial,omitempty"`
	TLS         string `json:"tls"`
}

// wayIn is how a session's station was let in: what it proved itself by and
// where, as JSON that is the same for the same way. A network address is no part
// of it: it may tell where a person lives.
func wayIn(st *Station, sess Session, serial string) string {
	adm := sess.Admission()
	w := way{
		Profile: strconv.Itoa(adm.Profile), Listener: fact(adm.Listener),
		OCPP: sess.Version().String(), Backend: fact(sess.Backend()), TLS: "before 1.3",
	}
	switch {
	case adm.TLS13:
		w.TLS = "1.3"
	case adm.Profile == 1:
		w.TLS = "none"
	}
	switch {
	case adm.Factory:
		w.Proof, w.Certificate = "factory certificate", hex.EncodeToString(adm.Leaf.Sum[:])
	case adm.Leaf != nil:
		w.Proof, w.Serial = "certificate", serial
	case st.Password != nil:
		w.Proof, w.PasswordSet = "password", st.Password.SetAt.UTC().Format(time.RFC3339)
	}
	text, err := json.Marshal(&w)
	if err != nil {
		panic("internal error: couldn't encode a way in: " + err.Error())
	}
	return string(text)
}

// admitted is the entry for admissions by one way.
func admitted(key, way string, count int) ledger.Event {
	data := map[string]string{}
	if err := json.Unmarshal([]byte(way), &data); err != nil {
		data = map[string]string{"way": "unreadable"} // what counts is kept
	}
	data["count"] = strconv.Itoa(count)
	return ledger.Event{Kind: "station.admitted", Subject: key, Actor: "station:" + key, Data: data}
}

// sum is the entry for the admissions that have none yet, if there are any.
func (st *Station) sum(now time.Time) []ledger.Event {
	if st.Admissions == 0 {
		return nil
	}
	e := admitted(keyOf(st), st.Admitted, st.Admissions)
	st.Admissions, st.AdmittedAt = 0, now
	return []ledger.Event{e}
}

// enter records an admission by another way than the last one.
func (st *Station) enter(way string, now time.Time) []ledger.Event {
	events := append(st.sum(now), admitted(keyOf(st), way, 1))
	st.Admitted, st.AdmittedAt = way, now
	return events
}

// summedUp removes a station. The last sum is of the row as the removal finds it, with
// what isn't written yet: that is kept where the removal fails.
func (s *Service) summedUp(key string, remove func(sum func(*Station) []ledger.Event) error) error {
	left, now := s.sightings.drop(key), s.clock()
	err := remove(func(st *Station) []ledger.Event {
		st.Admissions += left.Admissions
		return st.sum(now)
	})
	if err != nil {
		s.sightings.add(key, left)
	}
	return err
}

// sumAdmissions writes the day's sums.
func (s *Service) sumAdmissions(ctx context.Context) {
	now := s.clock()
	due := func(st *Station) bool { return st.Admissions > 0 && now.Sub(st.AdmittedAt) >= sumEvery }
	keys, err := s.store.Unsummed(ctx, now.Add(-sumEvery))
	for batch := range slices.Chunk(keys, sumBatch) {
		err = s.store.UpdateStations(ctx, batch, func(st *Station) ([]ledger.Event, error) {
			if !due(st) {
				return nil, nil
			}
			return st.sum(now), nil
		})
		if err != nil {
			break
		}
	}
	if err != nil && ctx.Err() == nil {
		s.log.Warn("couldn't record how often stations were let in; it is tried again", slog.Any("err", err))
	}
}

// flushEntrances writes the counts of stations that go to and fro between ways.
func (s *Service) flushEntrances(ctx context.Context, all bool) {
	s.entrances.Flush(s.clock(), all, func(e entrance, n tally.Count) error {
		err := s.record(ctx, admitted(e.station, n.Text, n.Count))
		if err != nil && ctx.Err() == nil {
			s.log.Warn("couldn't record how often a station was let in; it is tried again", slog.String("station", e.station), slog.Any("err", err))
		}
		return err
	})
}
