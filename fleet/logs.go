package fleet

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"bollard/ledger"
	"bollard/ocpp"
)

// Security logs (N01, A04.FR.04): a station writes every security event to its
// log, also those it doesn't send. Bollard asks for it from time to time.
const (
	LogsKept = 10 // of one station
	// logTicket is how long a station may take to upload: retries included.
	logTicket = 2 * time.Hour
	// logRetries and logPause are what a station is told (N01).
	logRetries = 2
	logPause   = 60
	// logAgain is the wait after a failure, doubling up to the schedule's own.
	logAgain = time.Hour
	// logUnable is the wait after a station said that it has no such message.
	logUnable = 30 * 24 * time.Hour
	// logBesides is how long after a GetLog of the back end's the station is left
	// alone: a second GetLog would end the first one's upload (N01.FR.12).
	logBesides = time.Hour
	// logSpread bounds how long a station's first log is waited for.
	logSpread = time.Hour
	// logsPerLook bounds how many stations are asked in a minute.
	logsPerLook = 60
	logLook     = time.Minute
	// logIDs begin the requestIds of Bollard's own: back ends count from 1.
	logIDs = 1 << 30
)

// LogState is how far a security log has come.
type LogState string

// A log is asked for before the station is called, and on its way once it has
// accepted. Kept and failed end it; what arrives late is kept all the same.
const (
	LogAsked  LogState = "asked"
	LogComing LogState = "coming"
	LogHere   LogState = "kept"
	LogFailed LogState = "failed"
)

// StationLog is one security log of a station.
type StationLog struct {
	Station   string
	Request   int // requestId
	State     LogState
	AskedAt   time.Time
	Note      string // why it failed, or ""
	File      string // its name among the uploads, once it is here
	Size      int64
	SHA256    string
	ArrivedAt time.Time
}

func (l *StationLog) open() bool { return l.State == LogAsked || l.State == LogComing }

// LogStore keeps the records of security logs, under the promises of Store. A
// removed station takes its own along.
type LogStore interface {
	// AddLog adds a record; of the station's the newest LogsKept stay.
	// ErrUnknownStation without such a station.
	AddLog(ctx context.Context, l StationLog, events ...ledger.Event) error
	// UpdateLog changes a record in one transaction; ok is false without it.
	UpdateLog(ctx context.Context, station string, request int, change func(*StationLog) ([]ledger.Event, error)) (ok bool, err error)
	// Logs returns a station's, newest first.
	Logs(ctx context.Context, station string) ([]StationLog, error)
	// DropLogs removes what was asked for before a time, and returns the files
	// of all that is left.
	DropLogs(ctx context.Context, before time.Time) (files []string, err error)
}

// Logs is the schedule of security logs.
type Logs struct {
	Every time.Duration // between two of one station; 0: none is asked for by itself
	Keep  time.Duration // how long one is kept
	// URL is where a station may upload what belongs to a request.
	URL func(station string, request int64, expires time.Time) (string, error)
	// Sweep is told of the files of all records: the others may go.
	Sweep func(known map[string]bool) error
}

// AttachLogs lets the service ask for security logs.
func (s *Service) AttachLogs(l Logs) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.logs = &l
}

func (s *Service) logSchedule() *Logs {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.logs
}

// lookLogs asks the stations whose log is due, some at a time.
func (s *Service) lookLogs(ctx context.Context) {
	logs := s.logSchedule()
	if logs == nil || logs.Every <= 0 {
		return
	}
	now, asked := s.clock(), 0
	for _, l := range s.allLive() {
		if asked >= logsPerLook || ctx.Err() != nil {
			return
		}
		l.mu.Lock()
		due := l.logAt
		l.mu.Unlock()
		if !l.isReady() || now.Before(due) {
			continue
		}
		due, err := s.logDue(ctx, l.key, logs)
		if err != nil {
			continue // the next look repeats it
		}
		l.mu.Lock()
		l.logAt = due
		besides := now.Sub(l.backendLog) < logBesides
		l.mu.Unlock()
		if now.Before(due) || besides {
			continue
		}
		asked++
		l.session.Go(func(ctx context.Context) {
			if _, err := s.fetchLog(ctx, l, logs); err != nil && ctx.Err() == nil {
				s.log.Warn("couldn't get a station's security log", slog.String("station", l.key), slog.String("session", l.session.ID()), slog.Any("err", err))
			}
		})
	}
}

// logDue is when a station is to be asked next.
func (s *Service) logDue(ctx context.Context, key string, logs *Logs) (time.Time, error) {
	list, err := s.store.Logs(ctx, key)
	if err != nil {
		return time.Time{}, err
	}
	if len(list) == 0 {
		st, err := s.store.Station(ctx, key)
		if err != nil {
			return time.Time{}, err
		}
		return st.CreatedAt.Add(portion(key, min(logs.Every, logSpread))), nil
	}
	newest := list[0]
	wait := logs.Every
	switch {
	case newest.Note == noSuchMessage:
		wait = max(wait, logUnable)
	case newest.State == LogFailed, newest.open():
		failures := slices.IndexFunc(list, func(l StationLog) bool { return l.State == LogHere })
		if failures < 0 {
			failures = len(list)
		}
		wait = min(wait, retryDelay(logAgain, logs.Every, failures-1))
		if newest.open() {
			wait = max(wait, logTicket)
		}
	}
	// So that a fleet added in one go doesn't upload in one go for ever.
	return newest.AskedAt.Add(wait - portion(key+newest.AskedAt.String(), wait/8)), nil
}

// portion is a part of a time that differs from station to station.
func portion(key string, of time.Duration) time.Duration {
	h := fnv.New64a()
	_, _ = h.Write([]byte(key)) // never fails
	return time.Duration(h.Sum64() % uint64(max(of, 1)))
}

const noSuchMessage = "the station has no such message"

// fetchLog asks a station for its security log. The record is durable first:
// what arrives is always known.
func (s *Service) fetchLog(ctx context.Context, l *live, logs *Logs) (StationLog, error) {
	now := s.clock()
	rec := StationLog{Station: l.key, Request: logIDs + rand.IntN(logIDs), State: LogAsked, AskedAt: now}
	url, err := logs.URL(l.key, int64(rec.Request), now.Add(logTicket))
	if err != nil {
		return rec, err
	}
	if err := s.store.AddLog(ctx, rec); err != nil {
		return rec, fmt.Errorf("couldn't record that a security log is asked for: %w", err)
	}
	l.mu.Lock()
	l.logAt = now.Add(logAgain) // whatever comes of it; the next look reckons anew
	l.mu.Unlock()
	_, err = call(ctx, l.session, ocpp.ActionGetLog, ocpp.GetLogRequest{
		LogType: ocpp.LogTypeSecurity, RequestID: rec.Request, Log: ocpp.LogParameters{RemoteLocation: url}, Retries: new(logRetries), RetryInterval: new(logPause),
	}, ocpp.StatusAccepted, ocpp.StatusAcceptedCanceled)
	note := ""
	var failure *ocpp.CallFailure
	var refused refusedStep
	switch {
	case err == nil:
	case errors.As(err, &failure) && (failure.Code == ocpp.NotSupported || failure.Code == ocpp.NotImplemented):
		note = noSuchMessage
	case errors.As(err, &failure):
		note = "the station answered " + capped(string(failure.Code))
	case errors.As(err, &refused):
		note = refused.Error()
	default:
		note = "the station wasn't reached"
	}
	keep := context.WithoutCancel(ctx)
	_, lost := s.store.UpdateLog(keep, l.key, rec.Request, func(r *StationLog) ([]ledger.Event, error) {
		switch {
		case r.State != LogAsked: // it has arrived already
		case err == nil:
			r.State = LogComing
		default:
			r.State, r.Note = LogFailed, note
		}
		rec = *r
		return nil, nil
	})
	return rec, errors.Join(err, lost)
}

// FetchLog asks a connected station for its security log now.
func (s *Service) FetchLog(ctx context.Context, identity string) (StationLog, error) {
	key, err := s.key(identity)
	if err != nil {
		return StationLog{}, err
	}
	if _, err := s.Station(ctx, identity); err != nil {
		return StationLog{}, err
	}
	logs := s.logSchedule()
	if logs == nil {
		return StationLog{}, errors.New("stations have nowhere to upload: give listen.firmware, and start the server")
	}
	for _, l := range s.allLive() {
		if l.key == key && l.isReady() {
			return s.fetchLog(ctx, l, logs)
		}
	}
	return StationLog{}, fmt.Errorf("station %q isn't connected and accepted by its back end", identity)
}

// StationLogs returns a station's security logs, newest first.
func (s *Service) StationLogs(ctx context.Context, identity string) ([]StationLog, error) {
	st, err := s.Station(ctx, identity)
	if err != nil {
		return nil, err
	}
	list, err := s.store.Logs(ctx, keyOf(&st))
	if err != nil {
		return nil, fmt.Errorf("couldn't read the security logs of %q: %w", identity, err)
	}
	return list, nil
}

// LogArrived records an upload that is on disk.
func (s *Service) LogArrived(ctx context.Context, station string, request int64, file string, size int64, sum string) error {
	now := s.clock()
	ok, err := s.store.UpdateLog(ctx, station, int(request), func(l *StationLog) ([]ledger.Event, error) {
		l.State, l.Note, l.File, l.Size, l.SHA256, l.ArrivedAt = LogHere, "", file, size, sum, now
		return []ledger.Event{{Kind: "log.received", Subject: station, Actor: "station:" + station, Data: map[string]string{
			"sha256": sum, "bytes": strconv.FormatInt(size, 10), "request": strconv.FormatInt(request, 10),
		}}}, nil
	})
	if err == nil && !ok {
		err = errors.New("nobody asked for it, or it was asked for too long ago")
	}
	return err
}

// logStatus answers the notifications about Bollard's own requests; the others
// are the back end's.
func (s *Service) logStatus(ctx context.Context, sess Session, m Message) (Verdict, error) {
	var request ocpp.LogStatusRequest
	if err := ocpp.DecodeStrict(m.Payload, &request); err != nil {
		return Verdict{}, err
	}
	if request.RequestID == nil || *request.RequestID < logIDs {
		return Verdict{Act: Pass}, nil
	}
	ok, err := s.store.UpdateLog(ctx, keyOfSession(sess), *request.RequestID, func(l *StationLog) ([]ledger.Event, error) {
		if !l.open() {
			return nil, nil
		}
		switch request.Status {
		case "Uploading":
			l.State = LogComing
		case "Uploaded", "Idle":
			l.State, l.Note = LogFailed, "the station says it has uploaded, but nothing came"
		case "BadMessage", "NotSupportedOperation", "PermissionDenied", "UploadFailure", ocpp.StatusAcceptedCanceled:
			l.State, l.Note = LogFailed, "the station reports "+request.Status
		}
		return nil, nil
	})
	switch {
	case err != nil:
		return Verdict{Act: Refuse, Code: ocpp.InternalError, Reason: "couldn't record the state of a security log: " + err.Error()}, nil //nolint:nilerr // the verdict carries it
	case !ok:
		return Verdict{Act: Pass}, nil
	}
	return Verdict{Act: Answer, Payload: struct{}{}, Reason: "about a security log Bollard asked for"}, nil
}

// backendLog notes that the back end asks the station for a log, which Bollard
// doesn't disturb.
func (s *Service) backendLog(sess Session) Verdict {
	if l := s.liveOf(sess); l != nil {
		l.mu.Lock()
		l.backendLog = s.clock()
		l.mu.Unlock()
	}
	return Verdict{Act: Pass}
}

// sweepLogs drops what is older than it is kept, and the files of what is gone.
func (s *Service) sweepLogs(ctx context.Context) {
	logs := s.logSchedule()
	if logs == nil {
		return
	}
	files, err := s.store.DropLogs(ctx, s.clock().Add(-logs.Keep))
	if err == nil {
		known := make(map[string]bool, len(files))
		for _, f := range files {
			known[f] = true
		}
		err = logs.Sweep(known)
	}
	if err != nil && ctx.Err() == nil {
		s.log.Warn("couldn't remove old security logs", slog.Any("err", err))
	}
}
