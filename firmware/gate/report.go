package gate

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"bollard/firmware/depot"
	"bollard/firmware/job"
	"bollard/internal/failpoint"
	"bollard/ledger"
	"bollard/ocpp"
)

// Report takes a station's status notification. What it means for the update is
// on disk before it goes on; whatever it means, it goes on.
func (g *Gate) Report(ctx context.Context, sess Session, st Station, action string, payload []byte) Verdict {
	if action == ocpp.ActionPublishStatus {
		return g.published(ctx, sess, st, payload)
	}
	var m ocpp.FirmwareStatusRequest
	if err := ocpp.DecodeStrict(payload, &m); err != nil {
		return Verdict{} // the fleet's guard says what is wrong with it
	}
	// What it found when it verified may come when no update runs any more: then it is the
	// newest that was sent.
	none := g.openJob(st.Key) == ""
	late := none && (m.Status == "SignatureVerified" || m.Status == "InvalidSignature")
	if none && !late && m.RequestID == nil {
		return Verdict{}
	}
	j, ok, err := g.meant(ctx, st.Key, m.RequestID, func(j *job.Job) bool {
		return j.Publication == nil && (j.State.Open() || m.RequestID != nil || late && j.SentSHA256 != "")
	})
	if err != nil {
		return Verdict{Code: ocpp.InternalError, Reason: "couldn't find a firmware update: " + err.Error()}
	}
	if !ok {
		return Verdict{}
	}
	sum := sha256.Sum256(payload)
	write, translated := g.cfg.Store.UpdateJob, j.Rollout == "" && j.AskedID == nil && action == ocpp.ActionSignedFirmwareStatus
	if word := plain(m.Status); translated && word != "" {
		text, err := json.Marshal(ocpp.FirmwareStatusRequest{Status: word})
		if err != nil {
			return Verdict{Code: ocpp.InternalError, Reason: "couldn't translate a firmware status: " + err.Error()}
		}
		told := Copy{Action: ocpp.ActionFirmwareStatus, Payload: text, At: g.cfg.Clock()}
		write = func(ctx context.Context, id string, change func(*job.Job) ([]ledger.Event, error)) (job.Job, error) {
			return g.cfg.Store.ReportJob(ctx, id, told, change)
		}
	}
	j, err = g.changeBy(ctx, j.ID, "station:"+st.Key, write, func(j *job.Job, now time.Time) error {
		if m.Status == "Downloaded" || m.Status == "SignatureVerified" || m.Status == "InvalidSignature" || m.Status == "Installing" {
			g.visited(j, now)
		}
		j.Report(m.Status, hex.EncodeToString(sum[:]), g.served(j), now)
		return nil
	})
	if err != nil {
		return Verdict{Code: ocpp.InternalError, Reason: "couldn't record a firmware status: " + err.Error()}
	}
	failpoint.Hit("gate.reported")
	switch {
	case j.Rollout != "" && g.cfg.Tell:
		return Verdict{}
	case j.Rollout != "": // nobody behind here has asked for it
		return Verdict{Answer: struct{}{}, Reason: "status of an update that Bollard started"}
	case translated:
		return Verdict{Answer: struct{}{}, Told: true, Reason: "translated for a back end that asked for a plain update"}
	case m.RequestID != nil && j.AskedID != nil && *j.AskedID != j.RequestID:
		return renumbered(payload, *j.AskedID)
	}
	return Verdict{}
}

// meant is the job a notification is about: the newest of its kind with its requestId,
// or without one (stations leave it out).
func (g *Gate) meant(ctx context.Context, station string, request *int, is func(j *job.Job) bool) (job.Job, bool, error) {
	list, err := g.cfg.Store.Jobs(ctx, station, historyJobs)
	if err != nil {
		return job.Job{}, false, err
	}
	for i := range list {
		if j := &list[i]; is(j) && (request == nil || j.RequestID == *request) {
			return *j, true, nil
		}
	}
	return job.Job{}, false, nil
}

// renumbered is a notification with the requestId its back end knows.
func renumbered(payload []byte, id int) Verdict {
	var all map[string]json.RawMessage
	err := json.Unmarshal(payload, &all)
	if err == nil {
		all["requestId"] = json.RawMessage(fmt.Sprint(id))
		var text []byte
		if text, err = json.Marshal(all); err == nil {
			return Verdict{Rewrite: text}
		}
	}
	return Verdict{Code: ocpp.InternalError, Reason: "couldn't renumber a firmware status: " + err.Error()}
}

// plain is a status of a signed update in the words of 1.6 FirmwareStatusNotification,
// for a back end that asked for a plain one; "": it has none, and isn't told.
func plain(status string) string {
	switch status {
	case "Downloaded", "DownloadFailed", "Downloading", "Idle", "InstallationFailed", "Installing", "Installed":
		return status
	case "InvalidSignature", "InstallVerificationFailed":
		return "InstallationFailed"
	}
	return ""
}

// Boot takes what a station's BootNotification shows it to run. Nobody learns of
// the boot before it has raised the station's floor and told its updates.
func (g *Gate) Boot(ctx context.Context, sess Session, st Station, payload []byte) Verdict {
	var vendor, model, version string
	if sess.Version() == ocpp.V16 {
		var m ocpp.BootNotificationRequest16
		if ocpp.DecodeStrict(payload, &m) == nil {
			vendor, model, version = m.ChargePointVendor, m.ChargePointModel, m.FirmwareVersion
		}
	} else {
		var m ocpp.BootNotificationRequest
		if ocpp.DecodeStrict(payload, &m) == nil {
			vendor, model, version = m.ChargingStation.VendorName, m.ChargingStation.Model, m.ChargingStation.FirmwareVersion
		}
	}
	if version = strings.TrimSpace(version); version == "" {
		return Verdict{}
	}
	g.mu.Lock()
	g.ran[st.Key] = version
	g.mu.Unlock()
	// Of what the operator left open, a first boot is the record.
	st.Vendor, st.Model = cmp.Or(st.Vendor, vendor), cmp.Or(st.Model, model)
	if err := errors.Join(g.raise(ctx, st, version), g.booted(ctx, st.Key, version)); err != nil {
		return Verdict{Code: ocpp.InternalError, Reason: "couldn't record a boot: " + err.Error()}
	}
	return Verdict{}
}

// raise lifts a station's floors to the releases of the version it runs, and of
// the one it ran until now: that may have become a release's since it booted.
func (g *Gate) raise(ctx context.Context, st Station, version string) error {
	list, err := g.cfg.Catalogue.List(ctx)
	if err != nil {
		return err
	}
	for _, e := range list {
		r := e.Release
		if !st.runs(r, version) && !st.runs(r, st.Firmware) {
			continue
		}
		f, err := g.cfg.Store.Floor(ctx, st.Key, r.Component)
		if err != nil {
			return err
		}
		if by := (job.Floor{Sequence: r.Sequence, SecurityEpoch: r.SecurityEpoch}); f.Raised(by) != f {
			if err := g.cfg.Store.RaiseFloor(ctx, st.Key, r.Component, by, ledger.Event{
				Kind: "firmware.floor", Subject: st.Key, Actor: "station:" + st.Key,
				Data: map[string]string{"release": r.ID, "version": r.Version, "sequence": fmt.Sprint(r.Sequence), "security-epoch": fmt.Sprint(r.SecurityEpoch)},
			}); err != nil {
				return err
			}
		}
	}
	return nil
}

// booted tells the update that runs, and the newest one to the version: what ended
// without it may have been installed all the same.
func (g *Gate) booted(ctx context.Context, station, version string) error {
	list, err := g.cfg.Store.Jobs(ctx, station, historyJobs)
	if err != nil {
		return err
	}
	ids := []string{}
	if id := g.openJob(station); id != "" {
		ids = append(ids, id)
	}
	newest := slices.IndexFunc(list, func(j job.Job) bool {
		return j.Publication == nil && j.SentSHA256 != "" && j.Version == version // what it offers to others it doesn't run
	})
	if newest >= 0 && list[newest].Betrayed(version) {
		ids = append(ids, list[newest].ID)
	}
	for _, id := range ids {
		if _, err := g.change(ctx, id, "station:"+station, func(j *job.Job, now time.Time) error { j.Boot(version, now); return nil }); err != nil && !errors.Is(err, ErrUnknown) {
			return err
		}
	}
	return nil
}

// Opened asks a station that comes back in the middle of an update how far it is.
// What it says isn't the back end's: it comes as a notification like any other.
func (g *Gate) Opened(sess Session, station string) {
	if g.openJob(station) == "" {
		return
	}
	sess.Go(func(ctx context.Context) {
		action := ocpp.ActionTriggerMessage
		wanted := ocpp.TriggerFirmwareStatus
		open, err := g.cfg.Store.OpenJobs(ctx, station)
		if err != nil || len(open) == 0 {
			return
		}
		if open[0].Publication != nil {
			wanted = ocpp.ActionPublishStatus
		}
		if sess.Version() == ocpp.V16 && !open[0].Unsigned { // who knows signed firmware knows it
			action = ocpp.ActionExtendedTrigger
		}
		_, err = sess.Call(ctx, action, ocpp.TriggerMessageRequest{RequestedMessage: wanted})
		if err != nil && ctx.Err() == nil {
			g.cfg.Log.Debug("a station can't be asked how far its firmware update is", slog.String("station", station), slog.Any("err", err))
		}
	})
}

// Closed notes that a station's connection went in the middle of an update.
func (g *Gate) Closed(ctx context.Context, station string) {
	id := g.openJob(station)
	if id == "" {
		return
	}
	if _, err := g.change(ctx, id, "bollard", func(j *job.Job, now time.Time) error { j.Lost(now); return nil }); err != nil {
		if errors.Is(err, ErrUnknown) { // its station was removed
			return
		}
		g.cfg.Log.Warn("couldn't record a lost connection in a firmware update", slog.String("station", station), slog.Any("err", err))
	}
}

// Jobs returns the newest updates of a station, of all with "".
func (g *Gate) Jobs(ctx context.Context, station string) ([]job.Job, error) {
	return g.cfg.Store.Jobs(ctx, station, historyJobs)
}

// Unverified are the updates, however they ended, whose stations verified nothing of the
// version they may run for it.
func (g *Gate) Unverified(ctx context.Context) ([]job.Job, error) { return g.cfg.Store.Unverified(ctx) }

// Cancel ends a station's update: it can't download any more, and a download that
// runs breaks off. What it has, it may still install.
func (g *Gate) Cancel(ctx context.Context, actor, station, reason string) (job.Job, error) {
	open, err := g.cfg.Store.OpenJobs(ctx, station)
	if err != nil {
		return job.Job{}, err
	}
	if len(open) == 0 || station == "" {
		return job.Job{}, fmt.Errorf("station %q: %w that isn't over", station, ErrUnknown)
	}
	return g.change(ctx, open[0].ID, actor, func(j *job.Job, now time.Time) error { return j.Cancel(reason, now) })
}

// Clear lets a station out of quarantine.
func (g *Gate) Clear(ctx context.Context, actor, station, reason string) (job.Job, error) {
	in, err := g.cfg.Store.InQuarantine(ctx, station)
	if err != nil {
		return job.Job{}, err
	}
	if !in {
		return job.Job{}, fmt.Errorf("station %q isn't in quarantine", station)
	}
	list, err := g.cfg.Store.Jobs(ctx, station, historyJobs)
	if err != nil {
		return job.Job{}, err
	}
	last := job.Job{Station: station} // what it was put there by may be gone
	if i := slices.IndexFunc(list, func(j job.Job) bool { return j.State == job.Quarantined && j.ClearedAt.IsZero() }); i >= 0 {
		last = list[i]
	}
	data := map[string]string{"reason": reason}
	if last.ID != "" {
		data["update"] = last.ID
	}
	return last, g.cfg.Store.EndQuarantine(ctx, station, g.cfg.Clock(), ledger.Event{Kind: "firmware.cleared", Subject: station, Actor: actor, Data: data})
}

// event tells where an update went.
func event(j *job.Job, actor string) ledger.Event {
	kind := "firmware.progress"
	switch j.State {
	case job.Approved:
		kind = "firmware.approved"
	case job.Sent:
		kind = "firmware.sent"
	case job.Done:
		kind = "firmware.done"
	case job.Mismatch:
		kind = "firmware.mismatch"
	case job.Published:
		kind = "firmware.nearby"
	case job.Unpublished:
		kind = "firmware.nearby-ended"
	case job.Quarantined:
		kind = "firmware.quarantined"
	case job.Refused, job.Failed, job.TimedOut, job.Cancelled:
		kind = "firmware.failed"
	}
	data := map[string]string{"update": j.ID, "state": string(j.State)}
	for key, value := range map[string]string{"reason": j.Reason, "status": word(j.Status), "exceptions": strings.Join(j.Exceptions, ",")} {
		if value != "" {
			data[key] = value
		}
	}
	if j.Unsigned {
		data["verified-by-station"] = "no"
	}
	if j.State == job.Approved || j.State == job.Sent || !j.State.Open() {
		for key, value := range map[string]string{
			"release": j.Release, "record-sha256": j.ReleaseSHA256, "image-sha256": j.SHA256, "version": j.Version, "sequence": fmt.Sprint(j.Sequence),
			"security-epoch": fmt.Sprint(j.SecurityEpoch), "approval": j.Approval, "asked-sha256": j.AskedSHA256, "sent-sha256": j.SentSHA256,
			"signature": j.Dialect, "certificate-sha256": j.Certificate, "before": text(j.Before), "booted": text(j.Booted),
		} {
			if value != "" {
				data[key] = value
			}
		}
	}
	return ledger.Event{Kind: kind, Subject: j.Station, Actor: actor, Data: data}
}

func served(g depot.Grant, s depot.Span) ledger.Event {
	return ledger.Event{Kind: "firmware.served", Subject: g.Station, Actor: "bollard", Data: map[string]string{
		"update": fmt.Sprint(g.Job), "image-sha256": g.SHA256, "from": fmt.Sprint(s.From), "to": fmt.Sprint(s.To),
		"bytes": fmt.Sprint(s.Bytes), "requests": fmt.Sprint(s.Requests), "began": s.At.UTC().Format(time.RFC3339),
	}}
}
