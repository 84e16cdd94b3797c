package station_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bollard/ocpp"
	"bollard/station"
	"bollard/station/csms"
)

// The whole life of a station against a plain CSMS (B01, A02, A05; OCTT
// TC_A_11, TC_A_19, TC_074, TC_083): boot on profile 2, charge, get a
// certificate, return on profile 3, charge again.
func TestStory(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		t.Run(version.String(), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, version, rigOptions{})
			r.ready()
			if got := r.station.State(); got.Profile != 2 || got.Presented != "" {
				t.Fatalf("started with %+v", got)
			}
			done, err := r.station.Charge(r.ctx, "TAG-1", 7000)
			if err != nil || done.Energy != 7000 || done.Readings != 3 {
				t.Fatalf("charged %+v: %v", done, err)
			}
			leaf := r.certify()
			r.raise(r.csms.URL())
			r.await("on profile 3", func(s station.State) bool {
				return s.Connected && s.Profile == 3 && s.Registration == "Accepted"
			})
			if got := r.station.State().Presented; got != hexSerial(leaf) {
				t.Errorf("presented certificate %s, want %s", got, hexSerial(leaf))
			}
			if _, err := r.station.Charge(r.ctx, "TAG-1", 1000); err != nil {
				t.Fatal(err)
			}
			r.station.Close()
			if err := r.csms.AwaitStation(r.ctx, identity, false); err != nil {
				t.Fatal(err)
			}
			for _, d := range []ocpp.Direction{ocpp.FromStation, ocpp.FromCSMS} {
				if diff := cmp.Diff(texts(r.csms.Seen(identity, d)), texts(r.station.Sent(d))); diff != "" {
					t.Errorf("%s: the CSMS and the station saw different bytes (-csms +station):\n%s", d, diff)
				}
			}
			checkSchemas(t, version, r.station.Frames())

			var presented []bool
			for _, e := range r.csms.Events(identity) {
				if e.Kind == csms.Opened {
					presented = append(presented, e.Hello.Peer != nil)
				}
			}
			if want := []bool{false, true}; !slices.Equal(presented, want) {
				t.Errorf("connections with a client certificate: %v, want %v", presented, want)
			}
		})
	}
}

func texts(frames [][]byte) []string {
	var out []string
	for _, f := range frames {
		out = append(out, string(f))
	}
	return out
}

// After the upgrade the lower slot is gone (A05.FR.06).
func TestUpgradeDeletesLowerSlots_A05FR06(t *testing.T) {
	t.Parallel()
	r := newRig(t, ocpp.V201, rigOptions{})
	r.ready()
	r.certify()
	r.raise(r.csms.URL())
	r.await("on profile 3", func(s station.State) bool { return s.Connected && s.Profile == 3 })
	for name, want := range map[string]string{"NetworkConfigurationPriority": "2", "ActiveNetworkProfile": "2"} {
		if _, got := r.getVariable("OCPPCommCtrlr", name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if status, got := r.getVariable("SecurityCtrlr", "SecurityProfile"); got != "3" || status != "Accepted" {
		t.Errorf("SecurityProfile is %q (%s)", got, status)
	}
}
