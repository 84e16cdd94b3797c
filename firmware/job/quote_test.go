package job_test

import (
	"slices"
	"strings"
	"testing"

	"bollard/firmware/job"
)

// Where the release says what a station's TPM shows, a boot with its version ends no
// update: a quote after it does.
func TestAQuoteEndsAnUpdate(t *testing.T) {
	t.Parallel()
	good := []string{"answer Accepted", "Downloading", "Downloaded", "SignatureVerified"}
	after := func(words ...string) []string { return append(slices.Clone(good), words...) }
	for name, tt := range map[string]struct {
		words  []string
		want   job.State
		reason string
	}{
		"by the book":               {after("InstallRebooting", "boot 2.0.0", "Installed", "quote right"), job.Done, ""},
		"installed, then boots":     {after("Installing", "Installed", "boot 2.0.0", "quote right"), job.Done, ""},
		"quotes before its word":    {after("InstallRebooting", "boot 2.0.0", "quote right", "Installed"), job.Done, ""},
		"boots again":               {after("Installing", "Installed", "boot 2.0.0", "boot 2.0.0", "quote right"), job.Done, ""},
		"activates, and boots":      {after("Installed", "boot 2.0.0", "InstallRebooting", "boot 2.0.0", "quote right"), job.Done, ""},
		"waits for the quote":       {after("InstallRebooting", "boot 2.0.0", "Installed"), job.Confirming, "waited for"},
		"quoted before the boot":    {after("Installing", "Installed", "quote right"), job.Confirming, ""},
		"quoted wrong before it":    {after("Installing", "Installed", "quote wrong", "boot 2.0.0", "quote right"), job.Done, ""},
		"quoted in the old one":     {after("Installing", "Installed", "boot 1.0.0", "quote right"), job.Confirming, ""},
		"runs something else":       {after("InstallRebooting", "boot 2.0.0", "quote wrong"), job.Mismatch, "TPM shows something else: a register differs"},
		"never quotes":              {after("InstallRebooting", "boot 2.0.0", "wait 31m"), job.Mismatch, "TPM didn't show in time"},
		"says Installed for ever":   {after(slices.Concat([]string{"InstallRebooting", "boot 2.0.0"}, slices.Repeat([]string{"wait 29m", "boot 2.0.0"}, 4))...), job.Mismatch, "TPM didn't show in time"},
		"quotes what it didn't say": {[]string{"answer Accepted", "Downloading", "Downloaded", "boot 2.0.0", "quote right"}, job.Quarantined, "didn't verify"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := sent()
			j.Quote = true
			play(&j, tt.words...)
			if j.State != tt.want || !strings.Contains(j.Reason, tt.reason) || (tt.reason == "") != (j.Reason == "") {
				t.Errorf("%s (%s), want %s (%s)", j.State, j.Reason, tt.want, tt.reason)
			}
		})
	}
}
