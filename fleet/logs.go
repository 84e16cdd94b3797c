package fleet

import (
	"context"
	"encoding/json"
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
	// besidesIDs begin the numbers of what back ends ask for: no requestId is one, they
	// have 31 bits.
	besidesIDs = 1 << 40
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

// StationLog is one log of a station: a security log that Bollard asked for, or what
// a back end did.
type StationLog struct {
	Station   string
	Request   int    // requestId; of a back end's a number of its own
	Kind      string // logType; Diagnostics: of 1.6 GetDiagnostics
	Backend   string // that asked for it; "": Bollard did
	State     LogState
	AskedAt   time.Time
	Note      string // why it failed, or wasn't handed on, or ""
	File      string // its name among the uploads, once it is here
	Size      int64
	SHA256    string
	ArrivedAt time.Time
	// Target is where the back end wanted it, sealed, while it is to be handed on.
	Target   []byte
	Tries    int       // to hand it on
	TryAt    time.Time // the next one
	HandedAt time.Time
}

func (l *StationLog) open() bool { return l.State == LogAsked || l.State == LogComing }

// LogStore keeps the records of security logs, under the promises of Store. A
// removed station takes its own along.
type LogStore interface {
	// AddLog adds a record; of the station's the newest LogsKept stay of Bollard's own,
	// and as many of back ends'.
	// ErrUnknownStation without such a station.
	AddLog(ctx context.Context, l StationLog, events ...ledger.Event) error
	// UpdateLog changes a record in one transaction; ok is false without it.
	UpdateLog(ctx context.Context, station string, request int, change func(*StationLog) ([]ledger.Event, error)) (ok bool, err error)
	// Logs returns a station's, newest first.
	Logs(ctx context.Context, station string) ([]StationLog, error)
	// LogsToHandOn returns those that are here and due: of each back end the one that
	// waited longest. What is to wait until after ahead is due, too: a clock that was
	// ahead put it off.
	LogsToHandOn(ctx context.Context, now, ahead time.Time) ([]StationLog, error)
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
	// BackEnds: what back ends ask for is uploaded here, too.
	BackEnds bool
	// HandOn, if set, has those handed on to where the back ends wanted them.
	HandOn *HandOn
	// Sweep asks for the files of all records once it has looked which there are: of
	// those the others may go.
	Sweep func(known func() (map[string]bool, error)) error
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
	longest := max(logs.Every, logUnable) // that a log is put off
	for _, l := range s.allLive() {
		if asked >= logsPerLook || ctx.Err() != nil {
			return
		}
		l.mu.Lock()
		due := l.logAt
		l.mu.Unlock()
		if !l.isReady() || putOff(now, due, longest) {
			continue
		}
		due, err := s.logDue(ctx, l.key, logs)
		if err != nil {
			continue // the next look repeats it
		}
		l.mu.Lock()
		l.logAt = due
		besides := putOff(now, l.backendLog.Add(logBesides), logBesides)
		l.mu.Unlock()
		if putOff(now, due, longest) || besides {
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
	list = slices.DeleteFunc(list, func(l StationLog) bool { return l.Backend != "" })
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
	rec := StationLog{Station: l.key, Request: logIDs + rand.IntN(logIDs), Kind: ocpp.LogTypeSecurity, State: LogAsked, AskedAt: now}
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
		l.State, l.File, l.Size, l.SHA256, l.ArrivedAt = LogHere, file, size, sum, now
		if l.Backend == "" || l.Target != nil {
			l.Note = "" // else it says why it isn't handed on
		}
		l.TryAt = now
		return []ledger.Event{{Kind: "log.received", Subject: station, Actor: "station:" + station, Data: map[string]string{
			"sha256": sum, "bytes": strconv.FormatInt(size, 10), "request": strconv.FormatInt(request, 10),
		}}}, nil
	})
	if err == nil && !ok {
		err = errors.New("nobody asked for it, or it was asked for too long ago")
	}
	if logs := s.logSchedule(); err == nil && logs != nil && logs.HandOn != nil {
		logs.HandOn.poke()
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
// doesn't disturb, and has it uploaded here, where that is configured. Policy has
// judged where the back end wants it.
func (s *Service) backendLog(ctx context.Context, sess Session, m Message) (Verdict, error) {
	if l := s.liveOf(sess); l != nil {
		l.mu.Lock()
		l.backendLog = s.clock()
		l.mu.Unlock()
	}
	logs := s.logSchedule()
	if logs == nil || !logs.BackEnds || sess.Security() == SecurityObserve {
		return Verdict{Act: Pass}, nil
	}
	if _, signed := m.Head.BaseAction(); signed {
		return Verdict{Act: Refuse, Code: ocpp.SecurityError, Reason: "a signed request for a log can't be led here"}, nil
	}
	rec := StationLog{Station: keyOfSession(sess), Request: besidesIDs + rand.IntN(besidesIDs), Backend: sess.Backend(), State: LogAsked, AskedAt: s.clock()}
	place, location, err := whereLogGoes(m, &rec)
	if err != nil {
		return Verdict{}, err
	}
	var events []ledger.Event
	if logs.HandOn != nil {
		if events, err = logs.HandOn.accept(&rec, location); err != nil {
			return Verdict{Act: Refuse, Code: ocpp.InternalError, Reason: err.Error()}, nil //nolint:nilerr // the verdict carries it
		}
	}
	url, err := logs.URL(rec.Station, int64(rec.Request), rec.AskedAt.Add(logTicket))
	if err != nil {
		return Verdict{Act: Refuse, Code: ocpp.InternalError, Reason: err.Error()}, nil //nolint:nilerr // the verdict carries it
	}
	payload, err := place(url)
	if err == nil {
		err = s.store.AddLog(ctx, rec, events...)
	}
	if err != nil {
		return Verdict{Act: Refuse, Code: ocpp.InternalError, Reason: "couldn't record that a log is asked for: " + err.Error()}, nil //nolint:nilerr // the verdict carries it
	}
	return Verdict{Act: Pass, Rewrite: payload}, nil
}

// whereLogGoes reads a back end's request for a log, and returns where that wants it, and
// what makes it one to another place. What Bollard doesn't know of it stays.
func whereLogGoes(m Message, rec *StationLog) (place func(url string) (json.RawMessage, error), location string, err error) {
	if m.Action == ocpp.ActionGetDiagnostics {
		var request ocpp.GetDiagnosticsRequest
		if err := ocpp.DecodeStrict(m.Payload, &request); err != nil {
			return nil, "", err
		}
		rec.Kind = logDiagnostics
		return func(url string) (json.RawMessage, error) { return replaced(m.Payload, "location", url) }, request.Location, nil
	}
	var request ocpp.GetLogRequest
	if err := ocpp.DecodeStrict(m.Payload, &request); err != nil {
		return nil, "", err
	}
	rec.Kind = capped(request.LogType)
	return func(url string) (json.RawMessage, error) {
		var parts struct {
			Log json.RawMessage `json:"log"`
		}
		if err := json.Unmarshal(m.Payload, &parts); err != nil {
			return nil, err
		}
		inner, err := replaced(parts.Log, "remoteLocation", url)
		if err != nil {
			return nil, err
		}
		return replaced(m.Payload, "log", inner)
	}, request.Log.RemoteLocation, nil
}

// logDiagnostics is the kind of what 1.6 GetDiagnostics asks for.
const logDiagnostics = "Diagnostics"

// replaced is an object with another value of one key.
func replaced(object json.RawMessage, key string, value any) (json.RawMessage, error) {
	all := map[string]json.RawMessage{}
	if err := json.Unmarshal(object, &all); err != nil {
		return nil, fmt.Errorf("couldn't read a request for a log: %w", err)
	}
	text, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	all[key] = text
	return json.Marshal(all)
}

// sweepLogs drops what is older than it is kept, and the files of what is gone.
func (s *Service) sweepLogs(ctx context.Context) {
	logs := s.logSchedule()
	if logs == nil {
		return
	}
	err := logs.Sweep(func() (map[string]bool, error) {
		files, err := s.store.DropLogs(ctx, s.clock().Add(-logs.Keep))
		known := make(map[string]bool, len(files))
		for _, f := range files {
			known[f] = true
		}
		return known, err
	})
	if err != nil && ctx.Err() == nil {
		s.log.Warn("couldn't remove old security logs", slog.Any("err", err))
	}
}
