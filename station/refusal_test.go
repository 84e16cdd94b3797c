package station_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"bollard/ocpp"
	"bollard/station"
)

// What a station refuses to take as its certificate (A02.FR.06, .07, .16,
// .25, .26; OCTT TC_A_14, TC_077).
func TestCertificateSignedRefused(t *testing.T) {
	t.Parallel()
	other := newAuthority(t)
	tests := []struct {
		name    string
		version ocpp.Version // zero: all
		chain   func(r *rig, c csr) string
		id      func(c csr) *int
		want    string // reasonCode in 2.x
	}{
		{name: "A02.FR.06 expired", chain: leaf(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })},
		{name: "A02.FR.06 starts in the future", chain: leaf(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) })},
		{name: "A00.FR.511 CN of another station", chain: leaf(func(c *x509.Certificate) { c.Subject.CommonName = "SN-0002" })},
		{name: "A00.FR.509 another organisation", chain: leaf(func(c *x509.Certificate) { c.Subject.Organization = []string{"Other CPO"} })},
		{name: "A02.FR.06 CA certificate", chain: leaf(func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true })},
		{name: "A02.FR.06 server purpose only", chain: leaf(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })},
		{name: "A02.FR.06 key of no CSR", chain: func(r *rig, _ csr) string {
			return chainPEM(r.ca.station(newKey(r.t).Public(), nil), r.ca.between)
		}},
		{name: "A02.FR.06 another hierarchy", chain: func(_ *rig, c csr) string {
			return chainPEM(other.station(c.request.PublicKey, nil), other.between)
		}},
		{name: "A02.FR.06 sub-CA left out", chain: func(r *rig, c csr) string {
			return chainPEM(r.ca.station(c.request.PublicKey, nil))
		}},
		{name: "A02.FR.06 sub-CA first", chain: func(r *rig, c csr) string {
			return chainPEM(r.ca.between, r.ca.station(c.request.PublicKey, nil))
		}},
		{name: "A02.FR.06 no PEM", chain: func(*rig, csr) string { return "no certificate" }},
		{name: "A02.FR.06 a CSR instead", chain: func(_ *rig, c csr) string { return c.raw }},
		{name: "A02.FR.16 longer than MaxCertificateChainSize", want: "TooLargeElement", chain: func(r *rig, c csr) string {
			l := r.ca.station(c.request.PublicKey, nil)
			return chainPEM(l, r.ca.between) + strings.Repeat("\n", 5000)
		}},
		{name: "A02.FR.26 unknown requestId", version: ocpp.V21, chain: leaf(nil), id: func(csr) *int { n := 4711; return &n }},
		{name: "A02.FR.25 requestId not copied", version: ocpp.V21, chain: leaf(nil), id: func(csr) *int { return nil }},
	}
	for _, test := range tests {
		for _, version := range versions {
			if test.version != 0 && test.version != version {
				continue
			}
			t.Run(test.name+" "+version.String(), func(t *testing.T) {
				t.Parallel()
				r := newRig(t, version, rigOptions{station: func(c *station.Config, _ *rig) { c.MaxChainSize = 5000 }})
				r.ready()
				before := r.certify()
				c := r.trigger()
				chain := test.chain(r, c)
				if test.id != nil {
					c.requestID = test.id(c)
				}
				raw := r.deliver(c, chain)
				if got := field(t, raw, "status"); got != "Rejected" {
					t.Errorf("answered %s", raw)
				}
				want := test.want
				if want == "" {
					want = "InvalidCertificate"
				}
				if version != ocpp.V16 && !strings.Contains(string(raw), want) {
					t.Errorf("answered %s, want reason %s", raw, want)
				}
				if version == ocpp.V16 {
					r.awaitEvent("InvalidChargePointCertificate")
				} else {
					r.awaitEvent("InvalidChargingStationCertificate")
				}
				if got := r.station.State(); got.Certificate != hexSerial(before) || got.Refused != 1 {
					t.Errorf("afterwards the station has %+v, want certificate %s kept", got, hexSerial(before))
				}
				checkSchemas(t, version, r.station.Frames())
			})
		}
	}
}

func leaf(change func(*x509.Certificate)) func(*rig, csr) string {
	return func(r *rig, c csr) string {
		return chainPEM(r.ca.station(c.request.PublicKey, change), r.ca.between)
	}
}

// A05 of 1.6: only upwards and only with everything in place (OCTT TC_083, TC_084).
func TestSecurityProfile16(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, value string
		setup       func(c *station.Config)
		certify     bool
		want        string
	}{
		{"A05.FR.01 lower", "1", nil, false, "Rejected"},
		{"A05.FR.01 equal", "2", nil, false, "Rejected"},
		{"A05.FR.01 none", "0", nil, false, "Rejected"},
		{"A05.FR.04 no certificate", "3", nil, false, "Rejected"},
		{"A05.FR.05 everything there", "3", nil, true, "Accepted"},
		{"unknown profile", "4", nil, true, "Rejected"},
		{"no number", "three", nil, true, "Rejected"},
		{"A05.FR.02 no AuthorizationKey", "2", plain(func(c *station.Config) { c.Password = nil }), false, "Rejected"},
		{"A05.FR.03 no root", "2", plain(func(c *station.Config) { c.Roots = nil }), false, "Rejected"},
		{"A05.FR.03 no root for 3", "3", plain(func(c *station.Config) { c.Roots = nil }), false, "Rejected"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			o := rigOptions{plain: test.setup != nil, station: func(c *station.Config, r *rig) {
				if test.setup != nil {
					test.setup(c)
					r.setSecrets(password, nil)
				}
			}}
			r := newRig(t, ocpp.V16, o)
			r.ready()
			if test.certify {
				r.certify()
			}
			r.wantStatus("ChangeConfiguration", object{"key": "SecurityProfile", "value": test.value}, test.want)
			checkSchemas(t, ocpp.V16, r.station.Frames())
		})
	}
}

func plain(f func(*station.Config)) func(*station.Config) {
	return func(c *station.Config) {
		c.Profile = 1
		f(c)
	}
}

// Network profiles of 2.x (A05.FR.02, .03, B09.FR.04, .05, B10.FR.02; OCTT
// TC_A_20, TC_A_21, TC_A_22).
func TestNetworkProfileRefused(t *testing.T) {
	t.Parallel()
	for _, version := range versions[1:] {
		t.Run(version.String(), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, version, rigOptions{})
			r.ready()
			bad := func(name, reason string, profile object) {
				t.Helper()
				raw := r.call("SetNetworkProfile", profile)
				if !strings.Contains(string(raw), `"Rejected"`) || !strings.Contains(string(raw), reason) {
					t.Errorf("%s: answered %s, want Rejected with %s", name, raw, reason)
				}
			}
			bad("B09.FR.04 lower profile", "NoSecurityDowngrade", networkProfile(2, 1, strings.Replace(r.csms.URL(), "wss", "ws", 1)))
			bad("B09.FR.05 unknown slot", "InvalidConfSlot", networkProfile(9, 2, r.csms.URL()))
			bad("slot in use", "ActiveNetworkConf", networkProfile(1, 3, r.csms.URL()))
			bad("wrong scheme", "InvalidNetworkConf", networkProfile(2, 3, "ws://127.0.0.1:1/ocpp"))
			bad("unknown profile", "InvalidNetworkConf", networkProfile(2, 4, r.csms.URL()))
			for _, slots := range []string{"2", "1,2", "1,1", "x", "", "7,1"} {
				if got := r.setVariable("OCPPCommCtrlr", "NetworkConfigurationPriority", slots); got != "Rejected" {
					t.Errorf("B10.FR.02: priority %q answered %s", slots, got)
				}
			}
			r.wantStatus("SetNetworkProfile", networkProfile(2, 3, r.csms.URL()), "Accepted")
			if got := r.setVariable("OCPPCommCtrlr", "NetworkConfigurationPriority", "2,1"); got != "Rejected" {
				t.Errorf("A05.FR.03, TC_A_21: without a station certificate answered %s", got)
			}
			if got := r.setVariable("SecurityCtrlr", "SecurityProfile", "3"); got != "Rejected" {
				t.Errorf("SecurityProfile is read-only, answered %s", got)
			}
			checkSchemas(t, version, r.station.Frames())
		})
	}
}

// Without the CSMS root a profile with TLS can't be chosen (A05.FR.02, TC_A_20).
func TestNetworkProfileWithoutRoot_A05FR02(t *testing.T) {
	t.Parallel()
	r := newRig(t, ocpp.V201, rigOptions{plain: true, station: func(c *station.Config, _ *rig) {
		c.Profile, c.Roots = 1, nil
	}})
	r.ready()
	r.wantStatus("SetNetworkProfile", networkProfile(2, 2, "wss://127.0.0.1:1/ocpp"), "Accepted")
	if got := r.setVariable("OCPPCommCtrlr", "NetworkConfigurationPriority", "2,1"); got != "Rejected" {
		t.Errorf("answered %s", got)
	}
}

// Server certificates a station turns away, and the event that follows on the
// next good connection (A00.FR.308, .309, .412, .510; OCTT TC_A_05, TC_086).
func TestServerCertificate(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change func(*x509.Certificate)
		roots  func(r *rig) []*x509.Certificate
		accept bool
	}{
		{name: "by the book: CN only", accept: true, change: func(c *x509.Certificate) { c.IPAddresses = nil; c.Subject.CommonName = "csms.example.com" }},
		{name: "with SAN", accept: true, change: names("csms.example.com")},
		{name: "another name", change: names("other.example.com")},
		{name: "wildcard", change: names("*.example.com")},
		{name: "right CN but another SAN", change: func(c *x509.Certificate) {
			names("other.example.com")(c)
			c.Subject.CommonName = "csms.example.com"
		}},
		{name: "expired", change: func(c *x509.Certificate) { names("csms.example.com")(c); c.NotAfter = time.Now().Add(-time.Minute) }},
		{name: "client purpose only", change: func(c *x509.Certificate) {
			names("csms.example.com")(c)
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		}},
		{name: "unknown root", change: names("csms.example.com"), roots: func(r *rig) []*x509.Certificate { return []*x509.Certificate{newAuthority(r.t).root} }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, ocpp.V201, rigOptions{manual: true, server: test.change, station: func(c *station.Config, r *rig) {
				c.ServerName = "csms.example.com"
				if test.roots != nil {
					c.Roots = test.roots(r)
				}
			}})
			err := r.station.Connect(r.ctx)
			if got := err == nil; got != test.accept {
				t.Errorf("Connect: %v, want accepted %v", err, test.accept)
			}
			if n := len(r.csms.Events("")); n > 0 && !test.accept {
				t.Errorf("%d HTTP requests reached the server behind a refused certificate", n)
			}
		})
	}
}

func names(dns ...string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.Subject = pkix.Name{CommonName: dns[0]}
		c.IPAddresses, c.DNSNames = nil, dns
	}
}

// The event about a bad server is told to the good one, once (A00.FR.316, TC_078).
func TestInvalidCsmsCertificateIsReported(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		t.Run(version.String(), func(t *testing.T) {
			t.Parallel()
			good := newRig(t, version, rigOptions{manual: true})
			bad := newRig(t, version, rigOptions{manual: true, station: func(c *station.Config, r *rig) {
				c.Roots = append(c.Roots, good.ca.root)
				c.ProfileURL = map[int]string{}
			}, server: names("elsewhere.example.com")})
			for range 2 {
				if err := bad.station.Connect(bad.ctx); err == nil {
					t.Fatal("connected to a server with another name")
				}
			}
			bad.station.Retarget(good.csms.URL())
			if err := bad.station.Connect(bad.ctx); err != nil {
				t.Fatal(err)
			}
			if status, err := bad.station.Boot(bad.ctx); err != nil || status != "Accepted" {
				t.Fatalf("boot %s: %v", status, err)
			}
			want := "InvalidCsmsCertificate"
			if version == ocpp.V16 {
				want = "InvalidCentralSystemCertificate"
			}
			good.awaitEvent(want)
			bad.station.Close()
			count := 0
			for _, f := range good.csms.Seen(identity, ocpp.FromStation) {
				count += strings.Count(string(f), want)
			}
			if count != 1 {
				t.Errorf("the event came %d times", count)
			}
		})
	}
}

// B03.FR.08: a station that was not accepted answers nothing but SecurityError.
func TestBootRejected_B03FR08(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		t.Run(version.String(), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, version, rigOptions{manual: true})
			r.csms.Handle("BootNotification", r.csms.Boot("Rejected", 3600))
			if err := r.station.Connect(r.ctx); err != nil {
				t.Fatal(err)
			}
			if status, err := r.station.Boot(r.ctx); err != nil || status != "Rejected" {
				t.Fatalf("boot %s: %v", status, err)
			}
			_, err := r.csms.Call(r.ctx, identity, "Reset", object{"type": "Hard"})
			wantFailure(t, err, ocpp.SecurityError)
		})
	}
}

// Unknown actions and broken requests get the CALLERROR of the version.
func TestCallErrors(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		t.Run(version.String(), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, version, rigOptions{})
			r.ready()
			tests := []struct {
				action  string
				payload any
				want    ocpp.ErrorCode
			}{
				{"MakeCoffee", object{}, ocpp.NotImplemented},
				{"CertificateSigned", object{}, ocpp.OccurrenceConstraintViolation},
				{"CertificateSigned", object{"certificateChain": 1}, ocpp.TypeConstraintViolation},
				{"Reset", json.RawMessage(`{"type":[]}`), ocpp.TypeConstraintViolation},
			}
			for _, test := range tests {
				_, err := r.csms.Call(r.ctx, identity, test.action, test.payload)
				wantFailure(t, err, test.want)
			}
		})
	}
}

// L01.FR.20 [1.6]: a station with secure update refuses the unsigned one.
func TestPlainFirmwareRefused_L01FR20(t *testing.T) {
	t.Parallel()
	r := newRig(t, ocpp.V16, rigOptions{})
	r.ready()
	_, err := r.csms.Call(r.ctx, identity, "UpdateFirmware", object{"location": "https://x/y", "retrieveDate": "2026-01-01T00:00:00Z"})
	wantFailure(t, err, ocpp.NotSupported)
}

// Without CpoName or OrganizationName there is no CSR (A02, prerequisite).
func TestTriggerWithoutOrganisation(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		t.Run(version.String(), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, version, rigOptions{station: func(c *station.Config, _ *rig) { c.Organisation = "" }})
			r.ready()
			if version == ocpp.V16 {
				r.wantStatus("ExtendedTriggerMessage", object{"requestedMessage": "SignChargePointCertificate"}, "Rejected")
				r.wantStatus("ChangeConfiguration", object{"key": "CpoName", "value": organisation}, "Accepted")
			} else {
				r.wantStatus("TriggerMessage", object{"requestedMessage": "SignChargingStationCertificate"}, "Rejected")
				if got := r.setVariable("SecurityCtrlr", "OrganizationName", organisation); got != "Accepted" {
					t.Errorf("OrganizationName answered %s", got)
				}
			}
			c := r.trigger()
			if got := c.request.Subject; got.CommonName != serial || len(got.Organization) != 1 || got.Organization[0] != organisation {
				t.Errorf("CSR is for %v", got)
			}
		})
	}
}

func wantFailure(t *testing.T, err error, want ocpp.ErrorCode) {
	t.Helper()
	var f *ocpp.CallFailure
	if !errors.As(err, &f) || f.Code != want {
		t.Errorf("answered %v, want CALLERROR %s", err, want)
	}
}
