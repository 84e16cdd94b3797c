package fleet_test

import (
	"context"
	"strconv"
	"testing"
	"time"

	"bollard/fleet"
)

// A proven station that is put off is an entry at once; a flood of its connections
// costs entries ever less often, and none is lost from their counts.
func TestPutOffIsRecorded(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	adm := r.admit(withPassword(claim(t, "CS-1"), r.add(fleet.Enrolment{Identity: "CS-1"})))
	told := func() (entries, count int) {
		for _, e := range r.events("station.put-off") {
			n, err := strconv.Atoi(e.Data["count"])
			if err != nil || e.Subject != "cs-1" || e.Data["reason"] != "alive" && e.Data["reason"] != "flapping" {
				t.Fatalf("%+v", e)
			}
			entries, count = entries+1, count+n
		}
		return entries, count
	}
	r.svc.PutOff(t.Context(), adm, "alive")
	if entries, count := told(); entries != 1 || count != 1 {
		t.Fatalf("%d entries tell of %d", entries, count)
	}
	r.svc.PutOff(t.Context(), adm, "flapping")
	const more = 2000
	for range more {
		r.svc.PutOff(t.Context(), adm, "alive")
		r.advance(time.Second)
		fleet.FlushPutOffs(t.Context(), r.svc, false)
	}
	if entries, _ := told(); entries < 4 || entries > 12 {
		t.Errorf("%d entries in half an hour", entries)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	fleet.FlushPutOffs(ended, r.svc, true) // fails, and loses nothing
	fleet.FlushPutOffs(t.Context(), r.svc, true)
	if _, count := told(); count != more+2 {
		t.Errorf("entries tell of %d of %d", count, more+2)
	}
}
