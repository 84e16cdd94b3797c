package fleet

import (
	"context"
	"encoding/hex"
	"log/slog"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"bollard/ledger"
	"bollard/ocpp"
)

// A back end that sets a station's password (A01) means the one it will ask for
// from now on. It asks Bollard, not the station: the value becomes Bollard's
// secret toward this back end, where it logs in per station, and the station
// takes a new one of Bollard's making.

const (
	// rotationPause is the least time between two passwords a station is asked
	// to take because its back end set one.
	rotationPause = time.Hour
	// upstreamAnew is when a session whose station has no password to change
	// ends, so that the next one logs in with the new secret (A01 scenario).
	upstreamAnew = 10 * time.Second
)

func isPassword(p place) bool {
	return slices.Contains([]string{"authorizationkey", "basicauthpassword"}, bare(p.name))
}

// keptPassword is a password that became the secret toward the back end.
type keptPassword struct {
	ok    bool
	after func(context.Context)
}

// upstreamPassword keeps what a back end sets as a password. Where that isn't to
// be, the back end is refused and goes on with the old one (A01.FR.04).
func (s *Service) upstreamPassword(ctx context.Context, sess Session, value string) keptPassword {
	password := passwordOf(sess.Version(), value)
	if s.cfg.KeepUpstream == nil || password == nil {
		return keptPassword{}
	}
	key := keyOfSession(sess)
	ok, err := s.cfg.KeepUpstream(ctx, sess.Backend(), key, password, ledger.Event{Kind: "backend.password", Subject: key, Actor: "backend"})
	if err != nil {
		s.log.Warn("couldn't keep the password a back end set; it was refused", slog.String("station", key), slog.Any("err", err))
	}
	return keptPassword{ok: ok && err == nil, after: func(ctx context.Context) { s.rotateToo(ctx, sess) }}
}

// passwordOf reads a password as each version sends it: hex of 16 to 20 bytes in
// 1.6, where back ends send a passphrase too, and text in 2.x (A00.FR.205). nil:
// it is none.
func passwordOf(v ocpp.Version, value string) []byte {
	longest := maxPassword
	if v == ocpp.V16 {
		longest = 20
		if decoded, err := hex.DecodeString(value); err == nil && len(decoded) >= minPassword && len(decoded) <= longest {
			return decoded
		}
	}
	if n := utf8.RuneCountInString(value); n < minPassword || n > longest || strings.TrimSpace(value) != value {
		return nil
	}
	return []byte(value)
}

// rotateToo has the station take a new password of its own, or else come back,
// so that the new secret is used.
func (s *Service) rotateToo(ctx context.Context, sess Session) {
	key := keyOfSession(sess)
	asked := false
	_, err := s.store.UpdateStation(ctx, key, func(st *Station) ([]ledger.Event, error) {
		asked = st.FloorProfile < 3 && st.Password != nil && s.clock().Sub(st.Password.SetAt) >= rotationPause
		if !asked || st.RotateWanted || st.Pending != nil {
			return nil, nil
		}
		st.RotateWanted = true
		return []ledger.Event{{Kind: "station.rotate", Subject: key, Actor: "backend"}}, nil
	})
	if err != nil {
		s.log.Warn("couldn't ask for a new password of the station's own", slog.String("station", key), slog.Any("err", err))
	}
	if asked {
		s.pokeStation(key)
		return
	}
	if l := s.liveOf(sess); l != nil {
		l.later(s, upstreamAnew, func() { sess.End("its back end set a new password: the next session logs in with it") })
	}
}
