package job

import (
	"fmt"
	"slices"
	"time"
)

// Statuses of PublishFirmwareStatusNotification that FirmwareStatusNotification hasn't
// (OCPP 2.0.1 PublishFirmwareStatusEnumType).
const (
	statusChecksumVerified = "ChecksumVerified"
	statusInvalidChecksum  = "InvalidChecksum"
	statusPublished        = "Published"
	statusPublishFailed    = "PublishFailed"
)

// MaxPlaces bounds the locations of one image that are kept and looked at: a local
// controller has one for each protocol it speaks.
const MaxPlaces = 8

// Publication is what a local controller does with an image that it offers to the
// stations of its site, and doesn't install (OCPP 2.x L03).
type Publication struct {
	Site string `json:"site"`
	MD5  string `json:"md5"` // the name it has in the messages
	// Places are the SHA-256 of the locations it says to offer it under: they may hold
	// secrets. Confirmed are those of them that were seen to lead to the image: by its
	// word alone any location would be its.
	Places    []string `json:"places,omitempty"`
	Confirmed []string `json:"confirmed,omitempty"`
	// ConfirmedAt is when the newest of them was seen.
	ConfirmedAt time.Time `json:"confirmed_at,omitzero"`
}

// ReportPublished takes a PublishFirmwareStatusNotification with the hash of its
// payload, and the SHA-256 of the locations in it. Words may be lost, or left out: what
// counts is that it was given the whole image.
func (j *Job) ReportPublished(status, sha256 string, places []string, served Served, now time.Time) {
	defer func() { j.note(Step{State: j.State, Status: status, SHA256: sha256, At: now}) }()
	if j.Publication == nil || !j.State.Underway() {
		return
	}
	was := j.Status
	switch {
	case status == statusIdle && was == statusDownloadFailed:
		j.move(Failed, "the local controller reports DownloadFailed, and tries no more", now)
		return
	case status == statusIdle, publishRank(status) < 0: // it says nothing, or nothing known
		return
	}
	j.Status, j.Gap = status, false
	again := was == statusDownloadFailed || was == statusDownloading && status == statusDownloadPaused // it goes to and fro
	switch {
	case !again && publishRank(status) < publishRank(was):
		j.move(Mismatch, fmt.Sprintf("%.40q can't follow on %q", status, was), now)
		return
	case publishRank(status) >= publishRank(statusDownloaded) && publishRank(status) <= publishRank(statusPublished) && !served.Whole && !j.Blind:
		j.move(Mismatch, "it says "+status+", but wasn't given the whole image", now)
		return
	case status == statusPublished && len(places) == 0: // L03.FR.01–.09
		j.move(Mismatch, "it says Published, and not where", now)
		return
	case status == statusDownloadFailed && j.retries(now):
		return
	}
	to := map[string]State{
		statusDownloadScheduled: Accepted, statusDownloadPaused: Downloading, statusDownloading: Downloading, statusDownloaded: Downloaded,
		statusChecksumVerified: Verified, statusPublished: Published,
	}[status]
	switch to {
	case "":
		j.move(Failed, "the local controller reports "+status, now)
	case j.State:
		j.wait(j.patience(to, now))
	case Published:
		j.Publication.Places = slices.Clone(places[:min(len(places), MaxPlaces)])
		j.move(to, "", now)
	default:
		j.move(to, "", now)
	}
}

// publishRank orders the statuses; -1: it is none.
func publishRank(status string) int {
	return slices.Index([]string{"", statusDownloadScheduled, statusDownloadPaused, statusDownloading, statusDownloaded, statusChecksumVerified, statusPublished,
		statusDownloadFailed, statusInvalidChecksum, statusPublishFailed}, status)
}

// Confirm takes what somebody else found behind one of the places, by its SHA-256: "" is
// the image, else why not.
func (j *Job) Confirm(place, fault string, now time.Time) {
	switch {
	case j.State != Published || !slices.Contains(j.Publication.Places, place):
	case fault != "":
		j.move(Mismatch, fault, now)
		j.note(Step{State: j.State, At: now})
	default:
		if !slices.Contains(j.Publication.Confirmed, place) {
			j.Publication.Confirmed = append(j.Publication.Confirmed, place)
		}
		j.Publication.ConfirmedAt = now
	}
}

// Unpublish ends a publication: nobody is sent to its places any more.
func (j *Job) Unpublish(now time.Time) {
	if j.State == Published {
		j.move(Unpublished, "", now)
		j.note(Step{State: j.State, At: now})
	}
}
