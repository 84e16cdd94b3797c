package gate

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"slices"
	"time"

	"bollard/firmware/catalogue"
	"bollard/firmware/job"
	"bollard/firmware/release"
	"bollard/internal/failpoint"
	"bollard/internal/tally"
	"bollard/ledger"
	"bollard/ocpp"
)

const (
	// ownIDs begin the requestIds of Bollard's own: back ends count from 1.
	ownIDs = 1 << 30
	// urlLife is how long a station may use its URL from the time it is to begin.
	urlLife = 48 * time.Hour
	// Most retries, and the longest pause between two in seconds, that a station
	// is told.
	mostRetries  = 10
	longestPause = 3600
)

// Request judges a back end's CALL of an action Interest named. signed says that
// its sender signed the message.
func (g *Gate) Request(ctx context.Context, sess Session, st Station, action string, payload []byte, signed bool) Verdict {
	known := guarded(action)
	rule := g.cfg.Rule(st)
	exact := action == known && has(sess.Version(), action)
	if known == ocpp.ActionReset {
		if rule.Level == Observe || !exact { // one that is misspelt is for others to judge
			return Verdict{}
		}
		return g.reset(ctx, sess, st, payload, signed)
	}
	if known == ocpp.ActionUnpublishFirmware && exact {
		return g.unpublish(ctx, sess, st, payload)
	}
	if rule.Level == Observe {
		if why := g.observe(ctx, sess, st, action, payload, exact, rule); why != "" {
			g.note(ctx, "firmware.observed", st.Key, known, why)
		}
		return Verdict{}
	}
	switch {
	case !exact:
		g.note(ctx, "firmware.blocked", st.Key, known, "the action isn't one of its version")
		return Verdict{Code: ocpp.NotImplemented, Reason: "action isn't one of its version"}
	case signed:
		return g.refuse(ctx, sess, st, action, block(Signed, "a signed message can't be rewritten"))
	}
	a, err := read(sess.Version(), action, payload)
	if err != nil {
		var frame *ocpp.FrameError
		code := ocpp.FormatViolation
		if errors.As(err, &frame) {
			code = frame.Code
		}
		g.note(ctx, "firmware.blocked", st.Key, action, string(Malformed))
		return Verdict{Code: code, Reason: err.Error()}
	}
	if action == ocpp.ActionPublishFirmware {
		return Verdict{Later: func(ctx context.Context) Verdict { return g.publish(ctx, sess, st, a, rule) }}
	}
	return Verdict{Later: func(ctx context.Context) Verdict { return g.update(ctx, sess, st, a, rule) }}
}

// has says whether a guarded action is one of a version.
func has(v ocpp.Version, action string) bool {
	switch action {
	case ocpp.ActionSignedUpdateFirmware:
		return v == ocpp.V16
	case ocpp.ActionPublishFirmware, ocpp.ActionUnpublishFirmware:
		return v != ocpp.V16
	}
	return true
}

// observe says what Enforce would have refused, or "". It fetches nothing.
func (g *Gate) observe(ctx context.Context, sess Session, st Station, action string, payload []byte, exact bool, rule Rule) string {
	if !exact {
		return string(Malformed)
	}
	a, err := read(sess.Version(), action, payload)
	if err != nil {
		return string(Malformed)
	}
	if action == ocpp.ActionPublishFirmware {
		_, err = g.vetPublication(ctx, st, a, nil)
	} else {
		_, err = g.vet(ctx, sess.Version(), st, a, rule, nil)
	}
	if err != nil {
		return reasonOf(err)
	}
	return ""
}

func reasonOf(err error) string {
	var b *blocked
	if errors.As(err, &b) {
		return string(b.block)
	}
	return string(Failure)
}

// update brings one request from the back end's word to the station's answer.
func (g *Gate) update(ctx context.Context, sess Session, st Station, a *asked, rule Rule) Verdict {
	// 1. Vet: nobody learns of it yet.
	if err := g.free(ctx, st.Key, rule); err != nil {
		return g.refuse(ctx, sess, st, a.action, err)
	}
	e, err := g.vet(ctx, sess.Version(), st, a, rule, g.cfg.Origins)
	if err != nil {
		return g.refuse(ctx, sess, st, a.action, err)
	}
	if a.near != nil {
		rule.Place = Nearby
	}
	j, signature, err := g.approve(ctx, sess, st, a, &e, rule, "backend:"+sess.Backend())
	if err != nil {
		return g.refuse(ctx, sess, st, a.action, err)
	}
	return g.send(ctx, sess, st, a, &e, j, signature, rule)
}

// free says why a station can have no update now.
func (g *Gate) free(ctx context.Context, station string, rule Rule) error {
	if g.cfg.Door == nil {
		return block(NoDoor, "stations have nowhere to download: give listen.firmware")
	}
	if rule.Place == SFTP && g.cfg.Locker == nil {
		return block(NoDoor, "stations of this model download by SFTP: give listen.sftp")
	}
	open, err := g.cfg.Store.OpenJobs(ctx, station)
	if err == nil && len(open) > 0 {
		err = block(Busy, "update "+open[0].ID+" of the station isn't over; `bollard firmware cancel` ends it")
	}
	return err
}

// approve judges the papers of a release that was vetted, and puts the update on
// disk as approved: the station has this one.
func (g *Gate) approve(ctx context.Context, sess Session, st Station, a *asked, e *catalogue.Entry, rule Rule, actor string) (job.Job, release.Signature, error) {
	now := g.cfg.Clock()
	j := g.newJob(st, sess, a, e, now)
	j.Advance(job.Vetted, now)
	if err := g.here(ctx, a, e.Release); err != nil {
		return j, release.Signature{}, err
	}
	if rule.Place == Origin || rule.Place == Nearby {
		if err := g.there(ctx, a, e.Release); err != nil {
			return j, release.Signature{}, err
		}
		j.Blind = true
	}
	j.Advance(job.Fetched, now)
	if err := g.cfg.Catalogue.Verify(ctx, e); err != nil {
		return j, release.Signature{}, against(ctx, BadChain, err)
	}
	if rule.Level == Strict {
		if err := g.cfg.Catalogue.Proven(ctx, e); err != nil {
			return j, release.Signature{}, against(ctx, NoProof, err)
		}
	}
	signature, ok := pick(e.Release, rule.Dialect)
	switch {
	case a.plain && (rule.Place == Origin || rule.Place == Nearby):
		return j, release.Signature{}, block(Unsigned, "what the station doesn't verify it gets from here alone: give the model another location")
	case a.publication != nil || a.plain: // it is sent none
	case !ok:
		return j, release.Signature{}, block(NoDialect, "release "+e.Release.ID+" has no signature in "+string(rule.Dialect))
	default:
		j.Dialect, j.Certificate = string(signature.Dialect), signature.Cert
	}
	if err := g.identify(ctx, &j, a); err != nil {
		return j, signature, err
	}
	if a.publication == nil && e.Release.PCRs != nil {
		var err error
		if j.Quote, err = g.cfg.Attests(ctx, st.Key); err != nil {
			return j, signature, err
		}
	}
	j.Advance(job.Approved, now)
	var used []ledger.Event
	j.Unsigned = a.plain
	j.Exceptions, used = exceptions(a, e, st.Key, actor)
	j, err := g.cfg.Store.AddJob(ctx, j, append(used, event(&j, actor))...)
	if errors.Is(err, ErrBusy) {
		return j, signature, block(Busy, err.Error())
	}
	if err != nil {
		return j, signature, err
	}
	failpoint.Hit("gate.approved")
	g.mu.Lock()
	g.open[st.Key] = j.ID
	g.mu.Unlock()
	return j, signature, nil
}

// newJob begins the record of an update.
func (g *Gate) newJob(st Station, sess Session, a *asked, e *catalogue.Entry, now time.Time) job.Job {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails (crypto/rand)
	r := e.Release
	j := job.Job{
		ID: hex.EncodeToString(id[:]), Station: st.Key, Backend: sess.Backend(),
		Release: r.ID, ReleaseSHA256: e.Digest, Component: r.Component, Version: r.Version, Sequence: r.Sequence, SecurityEpoch: r.SecurityEpoch,
		SHA256: r.SHA256, Size: int64(r.Size), Approval: e.Approval, //nolint:gosec // at most 2^53
		Action: a.action, AskedID: a.requestID, AskedSHA256: a.sha256,
		RetrieveAt: a.retrieve, InstallAt: a.install, Before: st.Firmware, Publication: a.publication,
		Retries: clamp(a.retries, mostRetries), RetryInterval: clamp(a.retryInterval, longestPause), Rollout: a.rollout,
		State: job.Held, CreatedAt: now, ChangedAt: now,
	}
	return j
}

// pick chooses the signature a station verifies.
func pick(r *release.Release, d release.Dialect) (release.Signature, bool) {
	if d != "" {
		return r.Signature(d)
	}
	if len(r.Signatures) == 0 {
		return release.Signature{}, false
	}
	return r.Signatures[0], true
}

// identify gives a job its requestId: the back end's, unless it has none or used
// it before.
func (g *Gate) identify(ctx context.Context, j *job.Job, a *asked) error {
	if a.requestID != nil {
		list, err := g.cfg.Store.Jobs(ctx, j.Station, historyJobs)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(list, func(o job.Job) bool { return o.RequestID == *a.requestID }) {
			j.RequestID = *a.requestID
			return nil
		}
	}
	n, err := rand.Int(rand.Reader, big.NewInt(ownIDs))
	if err != nil {
		return fmt.Errorf("couldn't make a requestId: %w", err)
	}
	j.RequestID = ownIDs + int(n.Int64())
	return nil
}

// send gives the station its request, and the back end the station's answer.
func (g *Gate) send(ctx context.Context, sess Session, st Station, a *asked, e *catalogue.Entry, j job.Job, signature release.Signature, rule Rule) Verdict {
	answer, done, err := g.deliver(ctx, sess, st, a, e, j, signature, rule)
	var failure *ocpp.CallFailure
	switch {
	case errors.As(err, &failure):
		return Verdict{Code: failure.Code, Reason: "the station answered with a CALLERROR"}
	case errors.Is(err, errUnanswered):
		return Verdict{Code: ocpp.GenericError, Reason: err.Error()}
	case err != nil && done.State.Underway():
		return Verdict{Code: ocpp.InternalError, Reason: "couldn't record a station's answer: " + err.Error()}
	case err != nil:
		return g.refuse(ctx, sess, st, a.action, err)
	case a.upgraded && done.State == job.Refused:
		return Verdict{Code: ocpp.GenericError, Reason: done.Reason}
	case a.upgraded && a.plain:
		return Verdict{Answer: struct{}{}, Reason: "sent without a signature, as release " + j.Release}
	case a.upgraded:
		return Verdict{Answer: struct{}{}, Reason: "sent signed, as release " + j.Release}
	}
	return Verdict{Answer: answer, Reason: "sent as release " + j.Release}
}

// errUnanswered: whether the station has the request isn't known.
var errUnanswered = errors.New("the station didn't answer")

// deliver gives the station its request and takes its answer; a CALLERROR is one too.
// With any error but these nothing was sent if the job isn't underway.
func (g *Gate) deliver(ctx context.Context, sess Session, st Station, a *asked, e *catalogue.Entry, j job.Job, signature release.Signature, rule Rule) (json.RawMessage, job.Job, error) {
	// An update that was begun is kept to its end, whoever waits for it.
	keep := context.WithoutCancel(ctx)
	fail := func(err error) (json.RawMessage, job.Job, error) {
		g.cfg.Log.Error("couldn't send a firmware update", slog.String("station", st.Key), slog.String("release", j.Release), slog.Any("err", err))
		ended, failed := g.change(keep, j.ID, "bollard", func(j *job.Job, now time.Time) error {
			if !j.State.Open() {
				return errNothing
			}
			return j.Cancel("it couldn't be sent", now)
		})
		if failed != nil {
			g.cfg.Log.Error("couldn't end a firmware update", slog.String("station", st.Key), slog.Any("err", failed))
		}
		return nil, ended, err
	}
	location, err := g.location(ctx, a, e, &j, rule.Place)
	if err != nil {
		return fail(err)
	}
	visit := j.Visit
	action, request, err := g.rewrite(sess.Version(), e, &j, signature, location, rule.Chain)
	if err != nil {
		return fail(err)
	}
	text, err := json.Marshal(request)
	if err != nil {
		return fail(err)
	}
	sum := sha256.Sum256(text)
	// Withdraw ends what stood in the store when the release was revoked; what came
	// there later sees it here.
	if err := g.settled(ctx, a, e); err != nil {
		return fail(err)
	}
	if len(j.Exceptions) > 0 && g.cfg.Excepted != nil {
		if err := g.cfg.Excepted(ctx, st.Key); err != nil {
			return fail(err)
		}
	}

	// Sent is on disk before the first byte leaves.
	sent, err := g.change(ctx, j.ID, "bollard", func(j *job.Job, now time.Time) error {
		if j.State != job.Approved {
			return block(Ended, "the update was ended meanwhile")
		}
		// Another station may have condemned the release since it was judged. Rings are of
		// who installs it.
		if b, kept := BlockOf(g.turn(j.Release, j.Station)); kept && j.Publication == nil && !slices.Contains(a.excused, b) {
			return block(b, "its turn was over before it was sent")
		}
		j.SentSHA256, j.Visit = hex.EncodeToString(sum[:]), visit
		j.Advance(job.Sent, now)
		return nil
	})
	if err != nil {
		return fail(err)
	}
	failpoint.Hit("gate.sent")
	answer, err := sess.Call(ctx, action, json.RawMessage(text))
	status := ""
	var failure *ocpp.CallFailure
	switch {
	case errors.As(err, &failure):
		status = string(failure.Code)
	case err != nil: // whether it has it isn't known: its next word will tell
		if _, lost := g.change(keep, j.ID, "bollard", func(j *job.Job, now time.Time) error { j.Lost(now); return nil }); lost != nil {
			err = errors.Join(err, lost)
		}
		g.cfg.Log.Warn("a station didn't answer a firmware update", slog.String("station", st.Key), slog.Any("err", err))
		return nil, sent, errUnanswered
	default:
		var response ocpp.GenericStatus
		if err := ocpp.DecodeStrict(answer, &response); err == nil {
			status = response.Status
		}
		if j.Unsigned && sess.Version() == ocpp.V16 { // its answer is empty
			status = ocpp.StatusAccepted
		}
	}
	failpoint.Hit("gate.answered")

	// The station's answer is on disk before anybody learns of it.
	done, err := g.change(keep, j.ID, "station:"+st.Key, func(j *job.Job, now time.Time) error { j.Answer(status, now); return nil })
	switch {
	case err != nil:
		return nil, sent, err
	case failure != nil:
		return nil, done, failure
	}
	return answer, done, nil
}

// rewrite makes the request that the station is given: the release's certificate
// and signature, its location, times and retries within limits.
func (g *Gate) rewrite(v ocpp.Version, e *catalogue.Entry, j *job.Job, signature release.Signature, location string, chain bool) (action string, request any, err error) {
	if j.Publication != nil {
		return ocpp.ActionPublishFirmware, publishRequest(j, location), nil
	}
	now := g.cfg.Clock()
	begin := j.RetrieveAt
	if begin.Before(now) {
		begin = now
	}
	if j.Unsigned && v == ocpp.V16 {
		return ocpp.ActionUpdateFirmware, ocpp.UpdateFirmwareRequest16{Location: location, RetrieveDate: begin.UTC().Format(time.RFC3339), Retries: j.Retries, RetryInterval: j.RetryInterval}, nil
	}
	cert, err := x509.ParseCertificate(e.Certificate)
	if err != nil {
		return "", nil, fmt.Errorf("couldn't read the signing certificate: %w", err)
	}
	// One certificate, whose issuer the station has: several take no more.
	text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
	for _, der := range e.Chain {
		if more := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})); chain && len(text)+len(more) <= ocpp.MaxFirmwareCertificate {
			text += more
		} else {
			break
		}
	}
	if len(text) > ocpp.MaxFirmwareCertificate {
		return "", nil, fmt.Errorf("signing certificate has %d characters, and OCPP takes %d", len(text), ocpp.MaxFirmwareCertificate)
	}
	if j.Unsigned {
		text, signature.Value = "", ""
	}
	id := j.RequestID
	update := ocpp.UpdateFirmwareRequest{
		RequestID: &id, Retries: j.Retries, RetryInterval: j.RetryInterval,
		Firmware: &ocpp.Firmware{Location: location, RetrieveDateTime: begin.UTC().Format(time.RFC3339), SigningCertificate: text, Signature: signature.Value},
	}
	if !j.InstallAt.IsZero() {
		update.Firmware.InstallDateTime = j.InstallAt.UTC().Format(time.RFC3339)
	}
	if v == ocpp.V16 {
		return ocpp.ActionSignedUpdateFirmware, update, nil
	}
	return ocpp.ActionUpdateFirmware, update, nil
}

// clamp keeps what is told from 0 to most; nothing stays nothing.
func clamp(n *int, most int) *int {
	if n == nil {
		return nil
	}
	return new(min(max(*n, 0), most))
}

// refuse answers the back end as its version has it, and records why.
func (g *Gate) refuse(ctx context.Context, sess Session, st Station, action string, err error) Verdict {
	var b *blocked
	if !errors.As(err, &b) {
		g.cfg.Log.Error("couldn't judge a firmware update", slog.String("station", st.Key), slog.Any("err", err))
		b = &blocked{Failure, "it couldn't be judged"}
	}
	g.note(ctx, "firmware.blocked", st.Key, action, string(b.block))
	v := Verdict{Reason: b.Error()}
	info := &ocpp.StatusInfo{ReasonCode: b.block.code()}
	if b.block == Fetching { // the one that passes by itself
		info.AdditionalInfo = b.text
	}
	switch {
	case sess.Version() == ocpp.V16 && action == ocpp.ActionUpdateFirmware && b.block == Fetching:
		v.Code = ocpp.GenericError // nothing is wrong with it
	case sess.Version() == ocpp.V16 && action == ocpp.ActionUpdateFirmware && b.block == Failure:
		v.Code = ocpp.InternalError // nor is it known to be
	case sess.Version() == ocpp.V16 && action == ocpp.ActionUpdateFirmware:
		v.Code = cmp.Or(g.cfg.Rule(st).Refusal, ocpp.SecurityError) // its answer is empty: there is no other way to say no
	case sess.Version() == ocpp.V16:
		v.Answer = ocpp.GenericStatus{Status: ocpp.StatusRejected}
	default:
		v.Answer = ocpp.GenericStatus{Status: ocpp.StatusRejected, StatusInfo: info}
	}
	return v
}

// note records a refusal: the first of its kind at once, then counts.
func (g *Gate) note(ctx context.Context, kind, station, action, reason string) {
	key := note{kind, station, action}
	g.notes.Tell(key, reason, g.cfg.Clock(), g.write(ctx))
}

func (g *Gate) flush(ctx context.Context, all bool) {
	g.notes.Flush(g.cfg.Clock(), all, g.write(ctx))
}

func (g *Gate) write(ctx context.Context) func(note, tally.Count) error {
	return func(of note, n tally.Count) error {
		err := g.cfg.Record(ctx, ledger.Event{Kind: of.kind, Subject: of.station, Actor: "bollard", Data: map[string]string{
			"action": of.action, "reason": n.Text, "count": fmt.Sprint(n.Count),
		}})
		if err != nil && ctx.Err() == nil {
			g.cfg.Log.Warn("couldn't record a refused firmware update; it is tried again", slog.String("station", of.station), slog.Any("err", err))
		}
		return err
	}
}
