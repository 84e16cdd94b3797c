package fleet

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"bollard/detect"
	"bollard/ledger"
	"bollard/ocpp"
)

// Watcher looks for attacks in what the fleet notices. *alert.Service is one.
type Watcher interface {
	// Notice takes a sign and returns at once.
	Notice(s detect.Sign)
	// Record takes a sign; what it completes is durable when it returns nil.
	Record(ctx context.Context, s detect.Sign) error
	// Forget drops what was noticed of a removed station.
	Forget(station string)
}

// unwatched is the Watcher of a service that has none.
type unwatched struct{}

func (unwatched) Notice(detect.Sign)                        {}
func (unwatched) Record(context.Context, detect.Sign) error { return nil }
func (unwatched) Forget(string)                             {}

// A station's clock is wrong when it is ahead of ours by more than
// clockAhead, or tells of something before clockUnset: what it sends late, it
// queued (A04.FR.02), but not for that long.
const clockAhead = 5 * time.Minute

// clockUnset: no station that speaks these messages is older (the 1.6 security
// white paper is of 2018); clocks that were never set stand at 1970 or 2000.
func clockUnset() time.Time { return time.Date(2018, 1, 1, 0, 0, 0, 0, time.UTC) }

// announcedFor is how long after the last word of a firmware update another
// version at boot is no surprise.
const announcedFor = 24 * time.Hour

// refusedSign tells the watcher of a refused claim. An identity nobody enrolled
// isn't named: it is the stranger's text.
func (s *Service) refusedSign(claim Claim, key, class string) {
	kind := detect.RefusedProof
	switch class {
	case refusedUnknown:
		kind = detect.RefusedUnknown
	case refusedProfile:
		kind = detect.RefusedProfile
	}
	s.watcher.Notice(detect.Sign{Kind: kind, Station: key, Source: sourceKey(claim.Source), Live: key != "" && s.isLive(key)})
}

func (s *Service) isLive(key string) bool {
	s.mu.Lock()
	sessions := s.sessions
	s.mu.Unlock()
	if sessions == nil {
		return false
	}
	_, live := sessions.Session(key)
	return live
}

// noticed tells the watcher of something in a session.
func (s *Service) noticed(sess Session, kind detect.Kind, detail string) {
	s.watcher.Notice(detect.Sign{Kind: kind, Station: keyOfSession(sess), Live: true, Detail: detail})
}

// eventSigns records what a security event is a sign of, before the station is
// told that it was received.
func (s *Service) eventSigns(ctx context.Context, e *SecurityEvent) error {
	if kind, detail := clockSign(e.Timestamp, e.ReceivedAt); kind != "" {
		s.watcher.Notice(detect.Sign{Kind: kind, Station: e.Station, Live: true, Detail: detail})
	}
	listed, ok := ocpp.FindSecurityEvent(e.Type)
	if !ok {
		return nil
	}
	return s.watcher.Record(ctx, detect.Sign{Kind: detect.Event, Station: e.Station, Live: true, Detail: listed.Name})
}

// clockSign judges a timestamp of a station's.
func clockSign(stamp string, now time.Time) (kind detect.Kind, detail string) {
	at, err := time.Parse(time.RFC3339, stamp)
	switch {
	case err != nil:
		return "", ""
	case at.Sub(now) > clockAhead:
		return detect.ClockAhead, "it is ahead"
	case at.Before(clockUnset()):
		return detect.ClockUnset, "it was never set"
	}
	return "", ""
}

// firmwareStatuses are the words of the status notifications (OCPP 2.0.1
// FirmwareStatusEnumType, which 1.6 shares) that say more than that nothing
// happens; true: they announce another version.
func firmwareStatuses() map[string]bool {
	return map[string]bool{
		"Downloaded": true, "SignatureVerified": true, "InstallScheduled": true, "Installing": true, "InstallRebooting": true, "Installed": true,
		"DownloadFailed": false, "InstallationFailed": false, "InstallVerificationFailed": false, "InvalidSignature": false,
	}
}

// firmwareStatus looks at a status notification on its way.
func (s *Service) firmwareStatus(sess Session, m Message) (Verdict, error) {
	var request ocpp.FirmwareStatusRequest
	if err := ocpp.DecodeStrict(m.Payload, &request); err != nil {
		return Verdict{}, err
	}
	announces, known := firmwareStatuses()[request.Status]
	if !known {
		return Verdict{Act: Pass}, nil
	}
	s.noticed(sess, detect.FirmwareStatus, request.Status)
	if l := s.liveOf(sess); announces && l != nil {
		l.aside("firmware", func(ctx context.Context) { s.announced(ctx, l.key) })
	}
	return Verdict{Act: Pass}, nil
}

// announcedPause is how exactly it is kept when the last word of an update came: a
// station may tell of it again and again.
const announcedPause = time.Minute

// announced remembers that a firmware update was told of.
func (s *Service) announced(ctx context.Context, key string) {
	now := s.clock()
	plan, err := s.store.Plan(ctx, key)
	if since := now.Sub(plan.FirmwareTold); err == nil && since >= 0 && since < announcedPause {
		return
	}
	_, err = s.store.UpdatePlan(ctx, key, func(p *Plan) ([]ledger.Event, error) {
		p.FirmwareTold = now
		return nil, nil
	})
	if err != nil && ctx.Err() == nil {
		s.log.Warn("couldn't record word of a firmware update", slog.String("station", key), slog.Any("err", err))
	}
}

// bootedWith compares the firmware version with that of the last boot.
func (s *Service) bootedWith(ctx context.Context, sess Session, version string) {
	version = strings.TrimSpace(version)
	if version == "" || !printable(version, maxText) {
		return
	}
	key := keyOfSession(sess)
	plan, err := s.store.Plan(ctx, key)
	if err != nil || plan.Firmware == version {
		return
	}
	surprising := false
	_, err = s.store.UpdatePlan(ctx, key, func(p *Plan) ([]ledger.Event, error) {
		surprising = p.Firmware != "" && s.clock().Sub(p.FirmwareTold) > announcedFor
		p.Firmware = version
		return nil, nil
	})
	switch {
	case err == nil && surprising:
		s.noticed(sess, detect.Version, "")
	case err != nil && ctx.Err() == nil:
		s.log.Warn("couldn't record a station's firmware version", slog.String("station", key), slog.Any("err", err))
	}
}

// watchVerdict tells the watcher what came of a message.
func (s *Service) watchVerdict(sess Session, m Message, v Verdict) {
	fromStation := m.Direction == ocpp.FromStation
	switch {
	case v.Act == Refuse && fromStation:
		s.noticed(sess, detect.BadMessage, "")
	case v.Act == Refuse, v.Act == Answer && !fromStation:
		s.noticed(sess, detect.Overruled, "")
	}
}
