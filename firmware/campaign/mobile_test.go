package campaign_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"bollard/firmware/campaign"
	"bollard/firmware/job"
	"bollard/firmware/release"
	"bollard/ocpp"
)

// sentRequest is what a station was sent.
type sentRequest struct {
	at      time.Time
	request ocpp.UpdateFirmwareRequest
}

// temper is what a station does with an update.
type temper string

const (
	good     temper = ""
	forged   temper = "finds the signature wrong"
	cheats   temper = "installs without verifying"
	pretends temper = "says downloaded and isn't"
	broken   temper = "can't install"
	refuses  temper = "says no"
	silent   temper = "is never heard of again"
)

// mobile is a station.
type mobile struct {
	w       *world
	st      campaign.Station
	version ocpp.Version
	temper  temper
	heard   string // its last word before the server was killed
	away    bool
}

func (m *mobile) Version() ocpp.Version      { return m.version }
func (m *mobile) Backend() string            { return "backend" }
func (m *mobile) Go(f func(context.Context)) { f(context.Background()) }

// Call takes a CALL of Bollard's as the station reads it.
func (m *mobile) Call(_ context.Context, action string, payload any) (json.RawMessage, error) {
	frame, err := ocpp.AppendCall(nil, "bollard-1", action, payload)
	if err != nil {
		return nil, err
	}
	head, err := ocpp.ParseHead(frame)
	if err != nil {
		return nil, err
	}
	var request ocpp.UpdateFirmwareRequest
	if err := ocpp.DecodeStrict(head.Payload, &request); err != nil {
		return nil, err
	}
	w := m.w
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sent[m.st.Key] = append(w.sent[m.st.Key], sentRequest{w.now, request})
	if w.diary != nil {
		w.diary(m.st.Key, &request)
	}
	if open, _ := w.store.OpenJobs(context.Background(), m.st.Key); len(open) != 1 || open[0].State != job.Sent {
		w.t.Errorf("%s is sent an update, and the database has %v", m.st.Key, open)
	}
	if m.temper == refuses {
		return json.RawMessage(`{"status":"Rejected"}`), nil
	}
	if w.atWork[m.st.Site]++; w.atWork[m.st.Site] > 1 && m.st.Site != "" {
		w.crowded = m.st.Site
	}
	w.most[m.st.Site] = max(w.most[m.st.Site], w.atWork[m.st.Site])
	begin, err := time.Parse(time.RFC3339, request.Firmware.RetrieveDateTime)
	if err != nil {
		return nil, err
	}
	w.play(m, &request, later(begin, w.now))
	return json.RawMessage(`{"status":"Accepted"}`), nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// play queues what the station will do.
func (w *world) play(m *mobile, request *ocpp.UpdateFirmwareRequest, at time.Time) {
	number, err := strconv.ParseInt(strings.Split(request.Firmware.Location, "/")[5], 10, 64)
	if err != nil {
		w.t.Errorf("location %q: %v", request.Firmware.Location, err)
	}
	heard := m.heard
	say := func(after time.Duration, status string) {
		at = at.Add(after)
		if heard != "" { // before the server was killed
			if status == heard {
				heard = ""
			}
			return
		}
		w.after(m, at, func() { w.says(m, *request.RequestID, status) })
	}
	say(time.Second, "Downloading")
	if m.temper != pretends {
		w.after(m, at.Add(30*time.Second), func() {
			w.mu.Lock()
			w.served[number] = true
			w.mu.Unlock()
		})
	}
	end := func(after time.Duration) {
		w.after(m, at.Add(after), func() {
			w.mu.Lock()
			w.atWork[m.st.Site]--
			w.mu.Unlock()
		})
	}
	if m.temper == silent {
		end(0)
		return
	}
	say(time.Minute, "Downloaded")
	if m.temper == pretends { // its update is over as soon as that is seen
		end(0)
		end = func(time.Duration) {}
	}
	if m.temper == forged {
		say(time.Second, "InvalidSignature")
		end(0)
		return
	}
	if m.temper != cheats {
		say(time.Second, "SignatureVerified")
	}
	if install, err := time.Parse(time.RFC3339, request.Firmware.InstallDateTime); err == nil {
		at = later(at, install)
	}
	say(time.Second, "Installing")
	if m.temper == cheats {
		end(0)
		end = func(time.Duration) {}
	}
	if m.temper == broken {
		say(time.Minute, "InstallationFailed")
		end(0)
		return
	}
	say(2*time.Minute, "InstallRebooting")
	at = at.Add(time.Minute)
	w.after(m, at, func() { w.boots(m, number) })
	end(0) // its boot is the end of its update
	say(time.Second, "Installed")
}

// says has a station send a status, as a frame.
func (w *world) says(m *mobile, request int, status string) {
	action := ocpp.ActionFirmwareStatus
	if m.version == ocpp.V16 {
		action = ocpp.ActionSignedFirmwareStatus
	}
	frame, err := ocpp.AppendCall(nil, "station-1", action, ocpp.FirmwareStatusRequest{Status: status, RequestID: &request})
	if err != nil {
		w.t.Error(err)
		return
	}
	head, err := ocpp.ParseHead(frame)
	if err != nil {
		w.t.Error(err)
		return
	}
	// What a back end asked for is answered by it.
	if v := w.gate.Report(context.Background(), m, m.st.Station, head.Action, head.Payload); (v.Answer != nil) != (request != asked) || v.Code != "" {
		w.t.Errorf("%s says %s, and is answered %+v", m.st.Key, status, v)
	}
}

// boots has a station start with the version of its update.
func (w *world) boots(m *mobile, number int64) {
	list, err := w.store.Jobs(context.Background(), m.st.Key, 100)
	if err != nil {
		w.t.Error(err)
		return
	}
	version := ""
	for _, j := range list {
		if j.Number == number {
			version = j.Version
		}
	}
	payload := fmt.Sprintf(`{"reason":"FirmwareUpdate","chargingStation":{"vendorName":%q,"model":%q,"firmwareVersion":%q}}`, m.st.Vendor, m.st.Model, version)
	if m.version == ocpp.V16 {
		payload = fmt.Sprintf(`{"chargePointVendor":%q,"chargePointModel":%q,"firmwareVersion":%q}`, m.st.Vendor, m.st.Model, version)
	}
	if v := w.gate.Boot(context.Background(), m, m.st.Station, []byte(payload)); v.Code != "" {
		w.t.Errorf("%s boots: %+v", m.st.Key, v)
	}
	m.st.Firmware = version
}

// asked is the requestId of back ends.
const asked = 7

// asks has a station's back end ask for a release, and returns the answer.
func (w *world) asks(key string, r *release.Release) string {
	w.t.Helper()
	m := w.stations[key]
	payload, err := json.Marshal(ocpp.UpdateFirmwareRequest{RequestID: new(asked), Firmware: &ocpp.Firmware{
		Location: "https://fw.example/d/" + r.SHA256 + "/x", RetrieveDateTime: "2026-01-01T00:00:00Z", SigningCertificate: "c", Signature: r.Signatures[0].Value}})
	if err != nil {
		w.t.Fatal(err)
	}
	action := ocpp.ActionUpdateFirmware
	if m.version == ocpp.V16 {
		action = ocpp.ActionSignedUpdateFirmware
	}
	v := w.gate.Request(w.t.Context(), m, m.st.Station, action, payload, false)
	if v.Later != nil {
		v = v.Later(w.t.Context())
	}
	text, err := json.Marshal(v.Answer)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(text) + string(v.Code)
}
