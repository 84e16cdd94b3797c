package job

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"bollard/ocpp"
)

// Statuses of (Signed)FirmwareStatusNotification (OCPP 2.0.1 FirmwareStatusEnumType,
// which the 1.6 security white paper shares).
const (
	statusIdle                      = "Idle"
	statusDownloadScheduled         = "DownloadScheduled"
	statusDownloading               = "Downloading"
	statusDownloadPaused            = "DownloadPaused"
	statusDownloaded                = "Downloaded"
	statusDownloadFailed            = "DownloadFailed"
	statusSignatureVerified         = "SignatureVerified"
	statusInvalidSignature          = "InvalidSignature"
	statusInstallScheduled          = "InstallScheduled"
	statusInstallRebooting          = "InstallRebooting"
	statusInstalling                = "Installing"
	statusInstalled                 = "Installed"
	statusInstallationFailed        = "InstallationFailed"
	statusInstallVerificationFailed = "InstallVerificationFailed"
	// Of the white paper's first edition.
	statusInvalidCertificate = "InvalidCertificate"
	statusRevokedCertificate = "RevokedCertificate"
)

// edges are the statuses behind each (L01, with what OCTT and real stations do);
// every status may be repeated, and Idle says nothing.
func edges() map[string][]string {
	install := []string{statusInstalled, statusInstallationFailed, statusInstallVerificationFailed}
	m := map[string][]string{
		"":                      {statusDownloadScheduled, statusDownloading, statusInvalidCertificate, statusRevokedCertificate},
		statusDownloadScheduled: {statusDownloading},
		statusDownloading:       {statusDownloadPaused, statusDownloaded},
		statusDownloadPaused:    {statusDownloading},
		statusDownloaded:        {statusSignatureVerified, statusInvalidSignature},
		statusSignatureVerified: append([]string{statusInstallScheduled, statusInstallRebooting, statusInstalling}, install...),
		statusInstallScheduled:  append([]string{statusInstallRebooting, statusInstalling}, install...),
		statusInstallRebooting:  append([]string{statusInstalling}, install...),
		statusInstalling:        append([]string{statusInstallRebooting}, install...),
		statusInstalled:         {statusInstallRebooting}, // activation after it (L01.FR.32)
	}
	m[statusDownloadFailed] = []string{statusDownloadScheduled, statusDownloading} // it tries again
	for from := range m {
		if from != statusInstalled { // of an update that another one cancelled (L01.FR.24)
			m[from] = append(m[from], statusDownloadFailed, statusInstallationFailed)
		}
	}
	return m
}

// Served is what the depot gave to the station for this job.
type Served struct {
	Whole bool
	Last  time.Time
}

// Answer takes the station's answer to the request: its status, or why there is
// none. A lost connection is no answer: call Lost.
func (j *Job) Answer(status string, now time.Time) {
	if j.State != Sent {
		return // a status came first
	}
	switch status {
	case ocpp.StatusAccepted, ocpp.StatusAcceptedCanceled:
		j.move(Accepted, "", now)
	default:
		j.move(Refused, fmt.Sprintf("the station answered %.40q", status), now)
	}
	j.note(Step{State: j.State, Status: status, At: now})
}

// Report takes a status notification with the hash of its payload. It is the
// station's word: it changes the job, never what is told to the back end.
func (j *Job) Report(status, sha256 string, served Served, now time.Time) {
	defer func() { j.note(Step{State: j.State, Status: status, SHA256: sha256, At: now}) }()
	if status == statusInvalidSignature && j.SentSHA256 != "" && !j.Unsigned && j.CondemnedAt.IsZero() {
		j.CondemnedAt = now
	}
	repeated := status == j.Status
	if !j.State.Underway() {
		if j.State == Mismatch && j.unverified(status) {
			j.move(Quarantined, "it installs what it didn't verify", now)
		}
		if !j.State.Open() && status == statusSignatureVerified && j.Status != statusInvalidSignature {
			j.SawVerified = true // it goes on, whatever it was told
		}
		return
	}
	switch {
	case status == statusIdle && j.Status == statusDownloadFailed:
		j.move(Failed, "the station reports DownloadFailed, and tries no more", now)
		return
	case status == statusIdle, rank(status) < 0: // it says nothing, or nothing known
		return
	case repeated && status != statusDownloading:
		j.Gap = false
		return
	}
	was, gap := j.Status, j.Gap
	j.Status, j.Gap = status, false
	if status == statusSignatureVerified {
		j.SawVerified = true
	}
	switch {
	case j.unverified(status):
		j.move(Quarantined, "it installs what it didn't verify: "+status+" without SignatureVerified", now)
		return
	case status == statusDownloaded && !served.Whole && !j.Blind && !repeated:
		j.move(Mismatch, "it says downloaded, but wasn't given the whole image", now)
		return
	case !repeated && !j.may(was, status) && (!gap || rank(status) < rank(was)):
		j.move(Mismatch, fmt.Sprintf("%.40q can't follow on %q", status, was), now)
		return
	}
	j.follow(status, now)
}

// may says whether a status can follow on another. Without a signature the
// installation follows on the download.
func (j *Job) may(was, status string) bool {
	m := edges()
	return slices.Contains(m[was], status) || j.Unsigned && was == statusDownloaded && slices.Contains(m[statusSignatureVerified], status)
}

// follow goes where a plausible status leads.
func (j *Job) follow(status string, now time.Time) {
	if status == statusDownloadFailed && j.retries(now) {
		return
	}
	to := map[string]State{
		statusDownloadScheduled: Accepted, statusDownloading: Downloading, statusDownloadPaused: Downloading, statusDownloaded: Downloaded,
		statusSignatureVerified: Verified, statusInstallScheduled: Verified, statusInstalling: Installing, statusInstallRebooting: Rebooting,
		statusInstalled: Confirming,
	}[status]
	switch {
	case to == "":
		j.move(Failed, "the station reports "+status, now)
	case to != j.State:
		j.move(to, "", now)
	default:
		j.wait(j.patience(to, now))
	}
	if until := now.Add(waitTime); status == statusInstallScheduled && j.Deadline.Before(until) {
		j.wait(until)
	}
	if j.State == Confirming && j.Booted == j.Version {
		j.arrive(now)
	}
}

// retries waits for the next try of a download that failed, if there may be one:
// the station has the URL still, and what it does with it has to be seen.
func (j *Job) retries(now time.Time) bool {
	if !slices.Contains([]State{Sent, Accepted, Downloading}, j.State) {
		return false
	}
	j.Broken++
	left := ownRetries
	if j.Retries != nil {
		left = *j.Retries
	}
	if left -= j.Broken - 1; left <= 0 {
		return false
	}
	if j.State != Downloading {
		j.move(Downloading, "", now)
	}
	pause := time.Duration(0)
	if j.RetryInterval != nil {
		pause = time.Duration(*j.RetryInterval) * time.Second
	}
	j.wait(now.Add(QuietTime + min(time.Duration(left)*pause, retryTime)))
	return true
}

// unverified: a status that only a station sends which has verified what it
// installs, and it hasn't.
func (j *Job) unverified(status string) bool {
	return !j.SawVerified && !j.Unsigned && slices.Contains([]string{statusInstallScheduled, statusInstallRebooting, statusInstalling, statusInstalled}, status)
}

// rank orders the statuses, for what comes after a gap.
func rank(status string) int {
	return slices.Index([]string{"", statusDownloadScheduled, statusDownloadPaused, statusDownloadFailed, statusDownloading, statusDownloaded, statusSignatureVerified,
		statusInstallScheduled, statusInstallRebooting, statusInstalling, statusInstalled,
		statusInvalidSignature, statusInstallVerificationFailed, statusInstallationFailed,
		statusInvalidCertificate, statusRevokedCertificate}, status)
}

// Boot takes the firmware version of a BootNotification.
func (j *Job) Boot(version string, now time.Time) {
	version = strings.TrimSpace(version)
	if j.Betrayed(version) {
		j.Booted = version
		j.move(Quarantined, "it runs what it didn't verify, after the update was over", now)
		j.note(Step{State: j.State, At: now})
		return
	}
	if !j.State.Underway() || version == "" || j.Publication != nil {
		return
	}
	j.Booted = version
	// A version that was there before shows nothing until it says Installed.
	arrived := version == j.Version && (j.Before != j.Version || j.State == Confirming)
	switch {
	case !arrived:
		return
	case j.SawVerified && slices.Contains([]State{Verified, Installing, Rebooting, Confirming}, j.State), j.Unsigned && j.State.Holds():
		j.arrive(now)
	case j.Unsigned:
		j.move(Mismatch, "it runs the version, and never said to have downloaded it", now)
	default: // L01.FR.01: it reports every change, after a lost connection too
		j.move(Quarantined, "it runs what it didn't verify", now)
	}
	j.note(Step{State: j.State, At: now})
}

// Betrayed says whether a boot with a version shows that a station installed the
// release unverified after all, when the update had ended without it.
func (j *Job) Betrayed(version string) bool {
	return slices.Contains([]State{Refused, Failed, TimedOut, Cancelled, Mismatch}, j.State) && j.SentSHA256 != "" && j.Publication == nil && !j.Unsigned &&
		version == j.Version && j.Before != version && !j.SawVerified
}

// Floor is the least that may be installed on a station's component: it rises
// only.
type Floor struct {
	Sequence      uint64 `json:"sequence"`
	SecurityEpoch uint64 `json:"security_epoch"`
}

// Raised is the floor with another one.
func (f Floor) Raised(by Floor) Floor {
	return Floor{max(f.Sequence, by.Sequence), max(f.SecurityEpoch, by.SecurityEpoch)}
}
