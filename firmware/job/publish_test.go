package job_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"bollard/firmware/job"
)

// offering is a job whose request to publish is with a local controller.
func offering() job.Job {
	j := sent()
	j.Publication = &job.Publication{Site: "north", MD5: "m"}
	return j
}

// tell lets a local controller say words; "at P", "part", "blind", "retries N S" and
// "wait D" are no statuses.
func tell(j *job.Job, words ...string) {
	now, whole, places := noon, true, []string{"p"}
	for _, w := range words {
		now = now.Add(time.Second)
		kind, rest, _ := strings.Cut(w, " ")
		switch kind {
		case "at":
			places = strings.Fields(rest)
		case "part":
			whole = false
		case "blind", "retries":
			play(j, w)
		case "wait":
			d, err := time.ParseDuration(rest)
			if err != nil {
				panic(err)
			}
			now = now.Add(d)
			j.Expire(noon, now)
		default:
			j.ReportPublished(w, "", places, job.Served{Whole: whole, Last: noon}, now)
		}
	}
}

func TestPublishing(t *testing.T) { // L03.FR.01–.09
	t.Parallel()
	for name, tt := range map[string]struct {
		words  []string
		want   job.State
		reason string
	}{
		"by the book":            {[]string{"DownloadScheduled", "Downloading", "DownloadPaused", "Downloading", "Downloaded", "ChecksumVerified", "Published"}, job.Published, ""},
		"says little":            {[]string{"Published"}, job.Published, ""},
		"repeats":                {[]string{"Downloading", "Downloading", "Downloaded", "Downloaded", "Published", "Published"}, job.Published, ""},
		"words nobody knows":     {[]string{"Polishing", "Idle", "Downloading"}, job.Downloading, ""},
		"tries again":            {[]string{"retries 1 60", "Downloading", "DownloadFailed", "DownloadScheduled", "Downloading", "Published"}, job.Published, ""},
		"can't download":         {[]string{"retries 0 60", "Downloading", "DownloadFailed"}, job.Failed, "DownloadFailed"},
		"tries no more":          {[]string{"retries 3 60", "Downloading", "DownloadFailed", "Idle"}, job.Failed, "tries no more"},
		"another image":          {[]string{"Downloading", "Downloaded", "InvalidChecksum"}, job.Failed, "InvalidChecksum"},
		"has no room":            {[]string{"Downloading", "Downloaded", "ChecksumVerified", "PublishFailed"}, job.Failed, "PublishFailed"},
		"has only a part":        {[]string{"part", "Downloading", "Downloaded"}, job.Mismatch, "whole image"},
		"offers only a part":     {[]string{"part", "Downloading", "Published"}, job.Mismatch, "whole image"},
		"after a restart":        {[]string{"Downloading", "blind", "part", "Downloaded", "Published"}, job.Published, ""},
		"doesn't say where":      {[]string{"at ", "Downloading", "Downloaded", "Published"}, job.Mismatch, "not where"},
		"jumps back":             {[]string{"Downloading", "ChecksumVerified", "Downloading"}, job.Mismatch, "can't follow"},
		"says no more":           {[]string{"Downloading", "wait 31m"}, job.TimedOut, "downloading"},
		"installs, which is odd": {[]string{"Downloading", "Installing"}, job.Downloading, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := offering()
			tell(&j, tt.words...)
			if j.State != tt.want || !strings.Contains(j.Reason, tt.reason) {
				t.Errorf("%s (%s), want %s: %+v", j.State, j.Reason, tt.want, j.Steps)
			}
			if got, want := len(j.Publication.Places), map[bool]int{true: 1}[tt.want == job.Published]; got != want {
				t.Errorf("%d places are kept, want %d", got, want)
			}
		})
	}
}

// What is offered ends with its back end's word, or when something else is seen there;
// how many places are kept is bounded.
func TestPublication(t *testing.T) {
	t.Parallel()
	published := func() job.Job {
		j := offering()
		tell(&j, "at 1 2 3 4 5 6 7 8 9", "Published")
		return j
	}
	j := published()
	if diff := cmp.Diff(strings.Fields("1 2 3 4 5 6 7 8"), j.Publication.Places); diff != "" {
		t.Error(diff)
	}
	j.Confirm("9", "it is none of its places", noon)
	if j.Confirm("2", "", noon); j.State != job.Published || !j.Publication.ConfirmedAt.Equal(noon) || !slices.Equal(j.Publication.Confirmed, []string{"2"}) {
		t.Errorf("%s, confirmed at %s", j.State, j.Publication.ConfirmedAt)
	}
	other := published()
	other.Confirm("1", "it is another one", noon)
	if other.Confirm("1", "", noon); other.State != job.Mismatch || other.Reason != "it is another one" || !other.Publication.ConfirmedAt.IsZero() {
		t.Errorf("%s (%s)", other.State, other.Reason)
	}
	j.Unpublish(noon)
	if j.Confirm("1", "it is another one", noon); j.State != job.Unpublished {
		t.Errorf("%s", j.State)
	}
}

// Whatever a local controller says, and whatever it runs: it is followed to an end, and
// is no station that installed what it was given.
func TestAnyPublishing(t *testing.T) {
	t.Parallel()
	words := strings.Fields("Idle DownloadScheduled Downloading DownloadPaused Downloaded ChecksumVerified Published DownloadFailed InvalidChecksum PublishFailed x")
	rapid.Check(t, func(t *rapid.T) {
		j, now := offering(), noon
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 3000).Draw(t, "seconds")) * time.Second)
			was := j.State
			switch rapid.SampledFrom([]string{"say", "say", "say", "say", "boot", "lost", "expire", "unpublish"}).Draw(t, "what") {
			case "say":
				whole := rapid.Bool().Draw(t, "whole")
				word := rapid.SampledFrom(words).Draw(t, "word")
				j.ReportPublished(word, "", []string{"p"}, job.Served{Whole: whole}, now)
				if j.State == job.Published && was != job.Published && !whole {
					t.Fatalf("%s makes it published without the image", word)
				}
			case "boot":
				j.Boot("2.0.0", now)
			case "lost":
				j.Lost(now)
			case "expire":
				j.Expire(noon, now)
			case "unpublish":
				j.Unpublish(now)
			}
			if slices.Contains([]job.State{job.Quarantined, job.Done, job.Confirming, job.Installing}, j.State) {
				t.Fatal(fmt.Sprint(j.State, " ", j.Reason))
			}
			if !was.Open() && j.State != was && (was != job.Published || j.State != job.Unpublished) {
				t.Fatalf("%s became %s", was, j.State)
			}
		}
		for range 3 {
			now = now.Add(49 * time.Hour)
			j.Expire(noon, now)
		}
		if j.State.Open() {
			t.Fatalf("still %s", j.State)
		}
	})
}
