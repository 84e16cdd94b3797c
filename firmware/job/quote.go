package job

import "time"

// arrive ends an update well whose station booted with the release's version, or waits
// for its TPM to show that it is that.
func (j *Job) arrive(now time.Time) {
	switch {
	case !j.Quote:
		j.move(Done, "", now)
		return
	case j.State != Confirming:
		j.move(Confirming, "", now)
	default:
		j.wait(j.patience(Confirming, now))
	}
	j.Reason = "it booted with the version; a quote of its TPM is waited for"
}

// quoting says whether a quote is all that is waited for.
func (j *Job) quoting() bool { return j.Quote && j.State == Confirming && j.Booted == j.Version }

// Quoted takes what a genuine quote of the station's TPM showed: that it runs the
// release, or why it doesn't. Before its boot that says nothing of the update.
func (j *Job) Quoted(runs bool, reason string, now time.Time) {
	if !j.quoting() {
		return
	}
	if runs {
		j.move(Done, "", now)
	} else {
		j.move(Mismatch, "it booted with the version, but its TPM shows something else: "+reason, now)
	}
	j.note(Step{State: j.State, At: now})
}
