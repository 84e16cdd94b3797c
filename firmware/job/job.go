// Package job is the update of one station to one release, from the back end's
// word until the station was seen on it.
//
// It promises that no update is sent that wasn't approved, that a station which
// installs what it didn't verify or never took is told apart from one that did,
// and that only a boot with the release's version ends an update well, and only a quote
// after it where that is to be had. It does no
// I/O and is given the time; what it says about a job it says again about its
// record.
package job

import (
	"fmt"
	"slices"
	"time"
)

// State is how far a job has come.
type State string

// The states of an update that goes well, in order.
const (
	Held        State = "held"        // the back end's CALL waits
	Vetted      State = "vetted"      // the release is known, and may go to the station
	Fetched     State = "fetched"     // its image is in the depot
	Approved    State = "approved"    // its signatures are good
	Sent        State = "sent"        // about to be sent, or was
	Accepted    State = "accepted"    // by the station
	Downloading State = "downloading" // as are the following: by the station's own word
	Downloaded  State = "downloaded"
	Verified    State = "verified"
	Installing  State = "installing"
	Rebooting   State = "rebooting"
	Confirming  State = "confirming" // it says installed; its boot will tell
	Done        State = "done"       // it was seen on the release
)

// The states behind Verified of an image that a local controller offers to others.
const (
	Published   State = "published"   // it says where
	Unpublished State = "unpublished" // its back end had it end that
)

// The states of one that doesn't. Why stands in Job.Reason.
const (
	Refused     State = "refused"     // by the station
	Failed      State = "failed"      // on the station
	TimedOut    State = "timed-out"   // the station said no more
	Cancelled   State = "cancelled"   // by the operator
	Mismatch    State = "mismatch"    // it did what can't be, or runs something else
	Quarantined State = "quarantined" // it installs what it didn't verify: a person has to look at it
)

// follow are the states behind each; an end has none but where a later word makes
// it worse.
func follow() map[State][]State {
	ends := []State{Failed, TimedOut, Cancelled, Mismatch, Quarantined}
	m := map[State][]State{
		Held: {Vetted}, Vetted: {Fetched}, Fetched: {Approved}, Approved: {Sent, Cancelled},
		// An answer or a status may be lost, and a boot loader be silent (L01.FR.23).
		Sent:        {Accepted, Refused, Downloading, Downloaded, Verified, Installing, Rebooting, Confirming},
		Accepted:    {Downloading, Downloaded, Verified, Installing, Rebooting, Confirming},
		Downloading: {Accepted, Downloaded, Verified, Installing, Rebooting, Confirming},
		Downloaded:  {Downloading, Verified, Installing, Rebooting, Confirming, Done}, // the last without a signature
		Verified:    {Installing, Rebooting, Confirming, Done},
		Installing:  {Rebooting, Confirming, Done},
		Rebooting:   {Installing, Confirming, Done},
		Confirming:  {Rebooting, Done},
	}
	// What came of them may be seen later.
	for _, s := range []State{Refused, Failed, TimedOut, Cancelled, Mismatch} {
		m[s] = []State{Quarantined}
	}
	for _, s := range []State{Sent, Accepted, Downloading, Downloaded, Verified, Installing, Rebooting, Confirming} {
		m[s] = append(m[s], ends...)
	}
	for _, s := range []State{Sent, Accepted, Downloading, Downloaded, Verified} {
		m[s] = append(m[s], Published)
	}
	m[Published] = []State{Unpublished, Mismatch}
	return m
}

// Open says whether a state isn't the job's end.
func (s State) Open() bool {
	return slices.Contains([]State{Held, Vetted, Fetched, Approved, Sent, Accepted, Downloading, Downloaded, Verified, Installing, Rebooting, Confirming}, s)
}

// Underway says whether the station has, or may have, the request.
func (s State) Underway() bool {
	return s.Open() && !slices.Contains([]State{Held, Vetted, Fetched, Approved}, s)
}

// Holds says whether the station has the whole image, by its own word, and may
// install it whatever becomes of the update.
func (s State) Holds() bool {
	return slices.Contains([]State{Downloaded, Verified, Installing, Rebooting, Confirming}, s)
}

// How long a station may take (fact of the field, not of the standard).
const (
	// answerTime is for the answer to the request.
	answerTime = time.Minute
	// QuietTime is how long a station that downloads may take no byte and say
	// nothing; also how long one that lost its connection is waited for.
	QuietTime = 30 * time.Minute
	// ownRetries is how often a station tries again that may choose; retryTime bounds
	// how long all its pauses are waited for.
	ownRetries = 3
	retryTime  = 12 * time.Hour
	// waitTime is for transactions to end before the installation (L01.FR.06).
	waitTime = 24 * time.Hour
	// installTime is from the installation's begin to its end.
	installTime = time.Hour
	// stageTime bounds a download, and an installation, whatever extends them.
	stageTime = 48 * time.Hour
	// confirmTime is from Installed to the boot that shows it.
	confirmTime = 30 * time.Minute
)

// Step is one change, or one word of the station's.
type Step struct {
	State  State     `json:"state"`
	Status string    `json:"status,omitempty"` // of the notification
	SHA256 string    `json:"sha256,omitempty"` // of its payload
	At     time.Time `json:"at"`
}

// maxSteps bounds what is kept of one job: repetitions beyond it are dropped.
const maxSteps = 200

// Job is the record of one.
type Job struct {
	ID      string `json:"id"`      // 128 random bits in lower-case hex
	Number  int64  `json:"number"`  // rises with every job; names it in capabilities
	Station string `json:"station"` // key
	Backend string `json:"backend"`

	Release       string `json:"release"` // its ID
	ReleaseSHA256 string `json:"release_sha256"`
	Component     string `json:"component"`
	Version       string `json:"version"` // as the station's boot is to show it
	Sequence      uint64 `json:"sequence"`
	SecurityEpoch uint64 `json:"security_epoch"`
	SHA256        string `json:"sha256"` // of the image
	Size          int64  `json:"size"`
	Approval      string `json:"approval,omitempty"` // nonce of what published the release

	Rollout     string `json:"rollout,omitempty"` // that started it; "": the back end did
	Action      string `json:"action"`            // of the back end's CALL
	AskedID     *int   `json:"asked_id"`          // its requestId; nil: it has none (1.6 UpdateFirmware), or didn't ask
	RequestID   int    `json:"request_id"`        // the one the station was given
	AskedSHA256 string `json:"asked_sha256"`
	SentSHA256  string `json:"sent_sha256,omitempty"`
	// RetrieveAt and InstallAt are the times the station was given; zero: at once.
	RetrieveAt time.Time `json:"retrieve_at,omitzero"`
	InstallAt  time.Time `json:"install_at,omitzero"`
	// Retries of the download and seconds between two that the station was told; nil:
	// it may choose.
	Retries       *int   `json:"retries,omitempty"`
	RetryInterval *int   `json:"retry_interval,omitempty"`
	Dialect       string `json:"dialect,omitempty"`     // of the signature sent
	Certificate   string `json:"certificate,omitempty"` // SHA-256 of the signing certificate
	// Publication is set where the station is a local controller that offers the image to
	// others.
	Publication *Publication `json:"publication,omitempty"`
	// Visit is set while it is to be looked at what is where the station downloads, which
	// isn't here.
	Visit *Visit `json:"visit,omitempty"`
	// Exceptions are what people let it have in spite of, such as downgrade.
	Exceptions []string `json:"exceptions,omitempty"`
	// Unsigned: by one of them the station was sent no signature, and verifies nothing.
	Unsigned bool `json:"unsigned,omitempty"`

	// Quote: the release says what the station's TPM shows, and the station has one: only
	// a quote after the boot ends the update well.
	Quote bool `json:"quote,omitempty"`

	State  State  `json:"state"`
	Reason string `json:"reason,omitempty"`
	Status string `json:"status,omitempty"` // the station's last word
	Steps  []Step `json:"steps"`
	// SawVerified: the station said SignatureVerified.
	SawVerified bool `json:"saw_verified,omitempty"`
	// CondemnedAt is when the station called the signature invalid, however the update
	// stood: no station should get the release.
	CondemnedAt time.Time `json:"condemned_at,omitzero"`
	// Gap: the connection was lost since the station's last word, which may not have
	// been its last.
	Gap bool `json:"gap,omitempty"`
	// Blind: the server stopped while the station was downloading, or it downloads
	// elsewhere; which bytes it was given isn't known for sure.
	Blind  bool   `json:"blind,omitempty"`
	Broken int    `json:"broken,omitempty"` // downloads that it said have failed
	Before string `json:"before,omitempty"` // firmware version when it was asked for
	Booted string `json:"booted,omitempty"` // of the newest boot since it was sent

	CreatedAt time.Time `json:"created_at"`
	ChangedAt time.Time `json:"changed_at"`
	Deadline  time.Time `json:"deadline,omitzero"`
	// Stage is the furthest it came to, and Latest what no deadline of it goes beyond.
	Stage     int       `json:"stage,omitempty"`
	Latest    time.Time `json:"latest,omitzero"`
	ClearedAt time.Time `json:"cleared_at,omitzero"` // the quarantine was lifted
}

// Visit is a place outside, until it was looked at once the station had been there.
type Visit struct {
	Location string    `json:"location"`       // it may hold a secret
	Since    time.Time `json:"since,omitzero"` // when the station said to have downloaded; zero: it hasn't
}

// move changes the state; a change that can't be is an error of the program.
func (j *Job) move(to State, reason string, now time.Time) {
	if !slices.Contains(follow()[j.State], to) {
		panic(fmt.Sprintf("internal error: a firmware job can't go from %s to %s", j.State, to))
	}
	j.State, j.Reason, j.ChangedAt = to, reason, now
	j.Deadline = time.Time{}
	if s := stage(to); s > j.Stage {
		j.Stage, j.Latest = s, j.latest(s, now)
	}
	if to.Open() {
		j.wait(j.patience(to, now))
	}
}

// stage is which part of an update a state is of: 0 is here, 1 its download, 2 its
// installation, 3 its proof. A station may go to and fro within one for ever.
func stage(s State) int {
	switch s {
	case Sent, Accepted, Downloading, Downloaded:
		return 1
	case Verified, Installing, Rebooting:
		return 2
	case Confirming:
		return 3
	}
	return 0
}

// latest is when a stage that begins now is over, whatever a station or its
// connection does.
func (j *Job) latest(stage int, now time.Time) time.Time {
	switch stage {
	case 1:
		return j.from(j.RetrieveAt, now).Add(stageTime)
	case 2:
		return j.from(j.InstallAt, now).Add(stageTime)
	}
	return now.Add(installTime + confirmTime) // it may activate what it installed (L01.FR.32)
}

// from is when what the station was given a time for begins: from now on at the
// earliest. Of a clock that was ahead when the job was made, the distance counts.
func (j *Job) from(at, now time.Time) time.Time {
	if ahead := j.CreatedAt.Sub(now); ahead > 0 {
		at = at.Add(-ahead)
	}
	return later(at, now)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// wait gives the station until a time, within its stage.
func (j *Job) wait(until time.Time) {
	if !j.Latest.IsZero() && until.After(j.Latest) {
		until = j.Latest
	}
	j.Deadline = until
}

// patience is until when a station may stay in a state; zero: for as long as it takes
// here.
func (j *Job) patience(s State, now time.Time) time.Time {
	switch s {
	case Sent:
		return now.Add(answerTime)
	case Accepted, Downloading, Downloaded:
		return j.from(j.RetrieveAt, now).Add(QuietTime)
	case Verified, Installing, Rebooting:
		return j.from(j.InstallAt, now).Add(installTime)
	case Confirming:
		return now.Add(confirmTime)
	}
	return time.Time{}
}

// Advance takes a job that wasn't sent yet one state on. From Approved to Sent it
// may go only when the record that says Approved is on disk: whoever keeps jobs
// sees to it (Store of the gate).
func (j *Job) Advance(to State, now time.Time) {
	j.move(to, "", now)
	j.note(Step{State: to, At: now})
}

// Cancel ends a job on the operator's word; the station may go on.
func (j *Job) Cancel(reason string, now time.Time) error {
	if j.State != Approved && !j.State.Underway() {
		return fmt.Errorf("update %s is %s: there is nothing to cancel", j.ID, j.State)
	}
	j.move(Cancelled, reason, now)
	j.note(Step{State: Cancelled, At: now})
	return nil
}

// note keeps a step.
func (j *Job) note(s Step) {
	if len(j.Steps) < maxSteps {
		j.Steps = append(j.Steps, s)
	}
}

// Crowded says that it had as many steps as are kept: of those beyond only its end is told.
func (j *Job) Crowded() bool { return len(j.Steps) >= maxSteps }

// Lost notes that the connection went: that alone fails no job. But who says
// installed has to boot in time, however often its connection goes.
func (j *Job) Lost(now time.Time) {
	if !j.State.Underway() {
		return
	}
	j.Gap = true
	if until := now.Add(QuietTime); j.State != Confirming && j.Deadline.Before(until) {
		j.wait(until)
	}
}

// SetRight has a stage that a clock began which was ahead begin now, and says whether
// one did: else the station would be waited for until that time has come.
func (j *Job) SetRight(now time.Time) bool {
	ahead := j.Latest.Sub(j.latest(j.Stage, now))
	if !j.State.Underway() || ahead <= 0 {
		return false
	}
	j.Deadline, j.Latest = j.Deadline.Add(-ahead), j.Latest.Add(-ahead)
	return true
}

// Restarted notes that the server stopped, which isn't held against the station.
func (j *Job) Restarted(now time.Time) {
	if !j.State.Underway() {
		return
	}
	j.Gap = true
	until := now.Add(QuietTime)
	j.Deadline, j.Latest = later(j.Deadline, until), later(j.Latest, until)
	j.Blind = j.Blind || j.State == Sent || j.State == Accepted || j.State == Downloading
}

// Expire ends a job whose station said nothing for too long. last is when it was
// given its newest byte.
func (j *Job) Expire(last, now time.Time) (ended bool) {
	if !j.State.Underway() || j.Deadline.IsZero() || now.Before(j.Deadline) {
		return false
	}
	if j.State != Confirming {
		if j.wait(later(j.Deadline, last.Add(QuietTime))); now.Before(j.Deadline) {
			return false
		}
	}
	switch {
	case j.quoting():
		j.move(Mismatch, fmt.Sprintf("it booted with version %q, but its TPM didn't show in time that it runs the release", j.Version), now)
	case j.State == Confirming:
		j.move(Mismatch, fmt.Sprintf("it says installed, but didn't boot with version %q", j.Version), now)
	case j.Status == statusDownloadFailed:
		j.move(Failed, "the station reports DownloadFailed, and didn't try again", now)
	default:
		j.move(TimedOut, "the station said no more while "+string(j.State), now)
	}
	j.note(Step{State: j.State, At: now})
	return true
}
