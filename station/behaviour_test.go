package station_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"bollard/ocpp"
	"bollard/station"
	"bollard/station/csms"
)

// On profile 3 a new certificate is used at once and the old one discarded
// (A02.FR.08, .10 as of errata 2025-01; OCTT TC_A_11).
func TestRenewalReconnectsAtOnce_A02FR08(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		t.Run(version.String(), func(t *testing.T) {
			t.Parallel()
			r := onProfile3(t, version)
			renewed := r.certify()
			r.await("on the new certificate", func(s station.State) bool {
				return s.Connected && s.Presented == hexSerial(renewed)
			})
			cert, ok := r.station.Certificate()
			if !ok || hexSerial(cert.Leaf) != hexSerial(renewed) {
				t.Errorf("the key store's newest certificate is %v", cert.Leaf)
			}
		})
	}
}

func onProfile3(t *testing.T, version ocpp.Version) *rig {
	t.Helper()
	r := newRig(t, version, rigOptions{})
	r.ready()
	r.certify()
	r.raise(r.csms.URL())
	r.await("on profile 3", func(s station.State) bool {
		return s.Connected && s.Profile == 3 && s.Registration == "Accepted"
	})
	return r
}

// A new certificate that can't connect is dropped for the old one, and the
// CSMS is told (A02.FR.28, .29).
func TestFallBackToOldCertificate_A02FR28(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		t.Run(version.String(), func(t *testing.T) {
			t.Parallel()
			r := onProfile3(t, version)
			old := r.station.State().Presented
			r.setAdmit(func(h csms.Hello) int {
				if h.Peer != nil && hexSerial(h.Peer) != old {
					return http.StatusForbidden
				}
				return 0
			})
			connections := r.station.State().Connections
			r.certify()
			r.await("back", func(s station.State) bool { return s.Connected && s.Connections > connections })
			if got := r.station.State(); got.Presented != old || got.Certificate != old {
				t.Errorf("came back with %+v, want the old certificate %s", got, old)
			}
			if version != ocpp.V16 {
				r.awaitEvent("DiscardedRenewedClientCertificate")
			}
		})
	}
}

// A profile that can't connect is left for the old one (A05.FR.08 [1.6],
// B10.FR.07 [2.x]).
func TestFallBackToOldProfile_A05FR08(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		t.Run(version.String(), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, version, rigOptions{})
			r.ready()
			r.certify()
			r.setAdmit(func(h csms.Hello) int {
				if h.Peer != nil {
					return http.StatusForbidden
				}
				return 0
			})
			r.raise(r.csms.URL())
			r.await("back on profile 2", func(s station.State) bool { return s.Connected && s.Connections == 2 })
			if got := r.station.State(); got.Profile != 2 {
				t.Errorf("came back with %+v", got)
			}
		})
	}
}

// Passwords: hex over OCPP and raw bytes in the header for 1.6, plain text in
// 2.x; the station comes back with the new one (A01; OCTT TC_073, TC_A_09, TC_085).
func TestPassword_A01(t *testing.T) {
	t.Parallel()
	binary := []byte{0, 1, 2, 3, 4, 5, 6, 7, 255, 254, 253, 252, 251, 250, ':', 10, 13, 200, 201, 202}
	tests := []struct {
		name    string
		version ocpp.Version
		value   string
		want    string
		secret  []byte
	}{
		{"hex of 20 bytes", ocpp.V16, hex.EncodeToString(binary), "Accepted", binary},
		{"hex of 16 bytes", ocpp.V16, strings.ToUpper(hex.EncodeToString(binary[:16])), "Accepted", binary[:16]},
		{"too short", ocpp.V16, hex.EncodeToString(binary[:15]), "Rejected", nil},
		{"too long", ocpp.V16, hex.EncodeToString(append(binary, 1)), "Rejected", nil},
		{"odd", ocpp.V16, hex.EncodeToString(binary)[1:], "Rejected", nil},
		{"passphrase instead of hex", ocpp.V16, "correct horse battery staple now", "Rejected", nil},
		{"text", ocpp.V201, "correct:horse battéry", "Accepted", []byte("correct:horse battéry")},
		{"text", ocpp.V21, "0123456789abcdef", "Accepted", []byte("0123456789abcdef")},
		{"too short", ocpp.V201, "0123456789abcde", "Rejected", nil},
		{"too long", ocpp.V21, strings.Repeat("x", 65), "Rejected", nil},
	}
	for _, test := range tests {
		t.Run(test.name+" "+test.version.String(), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, test.version, rigOptions{})
			r.ready()
			if test.secret != nil {
				r.setSecrets(test.secret) // the old one is no longer accepted (A01.FR.03)
			}
			var got string
			if test.version == ocpp.V16 {
				got = field(t, r.call("ChangeConfiguration", object{"key": "AuthorizationKey", "value": test.value}), "status")
			} else {
				got = r.setVariable("SecurityCtrlr", "BasicAuthPassword", test.value)
			}
			if got != test.want {
				t.Fatalf("answered %s, want %s", got, test.want)
			}
			if test.secret != nil {
				r.await("back with the new password", func(s station.State) bool { return s.Connected && s.Connections == 2 })
			} else if n := r.station.State().Connections; n != 1 {
				t.Errorf("%d connections after a refused change", n)
			}
			if test.version != ocpp.V16 {
				if status, value := r.getVariable("SecurityCtrlr", "BasicAuthPassword"); status != "Rejected" || value != "" {
					t.Errorf("reading the password answered %s %q", status, value)
				}
			} else if raw := r.call("GetConfiguration", object{"key": []string{"AuthorizationKey"}}); strings.Contains(string(raw), `"value"`) {
				t.Errorf("GetConfiguration tells AuthorizationKey: %s", raw)
			}
			checkSchemas(t, test.version, r.station.Frames())
		})
	}
}

// No certificate in time: another CSR with another key, waits doubled, then
// silence until triggered (A02.FR.17–.19; OCTT TC_A_23).
func TestCSRIsRepeated_A02FR17(t *testing.T) {
	t.Parallel()
	for _, version := range versions[1:] {
		t.Run(version.String(), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, version, rigOptions{station: func(c *station.Config, _ *rig) {
				c.SigningWait, c.SigningRepeats = 20*time.Millisecond, 2
			}})
			r.ready()
			first := r.trigger()
			second, third := r.nextCSR(), r.nextCSR()
			if first.raw == second.raw || second.raw == third.raw {
				t.Error("a repeated CSR is the same as before")
			}
			select {
			case <-r.csrs:
				t.Error("a fourth CSR came after two repeats")
			case <-time.After(200 * time.Millisecond): // longer than the next doubled wait of 80 ms
			}
			leaf := r.ca.station(first.request.PublicKey, nil)
			if got := field(t, r.deliver(first, chainPEM(leaf, r.ca.between)), "status"); got != "Accepted" {
				t.Errorf("TC_A_23: the certificate of the first CSR was answered %s", got)
			}
		})
	}
}

// A transaction's messages outlive a lost connection and keep their ids.
func TestChargeSurvivesLostConnection(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		t.Run(version.String(), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, version, rigOptions{})
			r.ready()
			action := "TransactionEvent"
			if version == ocpp.V16 {
				action = "MeterValues"
			}
			var ids []string
			r.csms.Handle(action, func(_ context.Context, q csms.Request) (any, error) {
				ids = append(ids, string(q.ID)) // one CALL at a time
				if len(ids) == 2 {
					go r.csms.Drop(identity, 0)
					return csms.Silence, nil
				}
				return object{}, nil
			})
			done, err := r.station.Charge(r.ctx, "TAG-1", 3000)
			if err != nil || done.Energy != 3000 {
				t.Fatalf("charged %+v: %v", done, err)
			}
			if len(ids) < 3 || ids[1] != ids[2] || ids[0] == ids[1] {
				t.Errorf("message ids %v: the second was not sent again as it was", ids)
			}
		})
	}
}

// A token the CSMS does not know does not charge.
func TestChargeNotAuthorised(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		t.Run(version.String(), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, version, rigOptions{})
			r.ready()
			r.csms.Handle("Authorize", func(context.Context, csms.Request) (any, error) {
				invalid := object{"status": "Invalid"}
				return object{"idTagInfo": invalid, "idTokenInfo": invalid}, nil
			})
			if _, err := r.station.Charge(r.ctx, "TAG-1", 3000); !errors.Is(err, station.ErrNotAuthorised) {
				t.Errorf("Charge: %v", err)
			}
		})
	}
}

// Roots: installed, listed, deleted; the last CSMS root and the station's own
// certificate stay (M03, M04.FR.04, .06, M05; OCTT TC_075, TC_076, TC_M_*).
func TestRoots(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		t.Run(version.String(), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, version, rigOptions{})
			r.ready()
			kind, list := "CSMSRootCertificate", any([]string{"CSMSRootCertificate"})
			if version == ocpp.V16 {
				kind, list = "CentralSystemRootCertificate", "CentralSystemRootCertificate"
			}
			before := string(r.call("GetInstalledCertificateIds", object{"certificateType": list}))
			if n := strings.Count(before, "issuerKeyHash"); n != 1 {
				t.Fatalf("%d roots at first: %s", n, before)
			}
			serialOf := strings.ToUpper(hexSerial(r.ca.root))
			if !strings.Contains(before, serialOf) {
				t.Errorf("list %s lacks serial %s", before, serialOf)
			}
			second := newAuthority(t)
			r.wantStatus("InstallCertificate", object{"certificateType": kind, "certificate": chainPEM(second.root)}, "Accepted")
			selfSigned := func(c x509.Certificate) string {
				key := newKey(t)
				c.Subject, c.KeyUsage, c.BasicConstraintsValid = second.root.Subject, x509.KeyUsageCertSign, true
				return chainPEM(second.make(&c, nil, key, key.Public()))
			}
			for name, text := range map[string]string{
				"expired":       selfSigned(x509.Certificate{IsCA: true, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour)}),
				"not yet valid": selfSigned(x509.Certificate{IsCA: true, NotBefore: time.Now().Add(time.Hour)}),
				"intermediate":  chainPEM(r.ca.between),
				"leaf":          chainPEM(r.ca.station(newKey(t).Public(), nil)),
				"two at once":   chainPEM(second.root, r.ca.root),
				"no PEM":        "x",
			} {
				raw := r.call("InstallCertificate", object{"certificateType": kind, "certificate": text})
				if field(t, raw, "status") != "Rejected" {
					t.Errorf("installing %s answered %s", name, raw)
				}
			}
			if raw := string(r.call("GetInstalledCertificateIds", object{"certificateType": list})); strings.Count(raw, "issuerKeyHash") != 2 {
				t.Errorf("after installing: %s", raw)
			}
			hash := must(station.RootHash(second.root, "SHA256"))
			remove := object{"certificateHashData": hash}
			r.wantStatus("DeleteCertificate", remove, "Accepted")
			r.wantStatus("DeleteCertificate", remove, "NotFound")
			r.wantStatus("DeleteCertificate", object{"certificateHashData": must(station.RootHash(r.ca.root, "SHA384"))}, "Failed")
			checkSchemas(t, version, r.station.Frames())
		})
	}
}

// M05.FR.09 ff.: with AdditionalRootCertificateCheck a new root must be signed
// by the old one (OCTT TC_M_09).
func TestAdditionalRootCheck_M05(t *testing.T) {
	t.Parallel()
	r := newRig(t, ocpp.V201, rigOptions{station: func(c *station.Config, _ *rig) { c.AdditionalRootCheck = true }})
	r.ready()
	install := func(c *x509.Certificate) string {
		return field(t, r.call("InstallCertificate", object{"certificateType": "CSMSRootCertificate", "certificate": chainPEM(c)}), "status")
	}
	next := newAuthority(t)
	if got := install(next.root); got != "Rejected" {
		t.Errorf("a root of its own was answered %s", got)
	}
	cross := r.ca.make(&x509.Certificate{
		Subject: next.root.Subject, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, r.ca.root, r.ca.rootKey, next.rootKey.Public())
	if got := install(cross); got != "Accepted" {
		t.Errorf("a cross-signed root was answered %s", got)
	}
}

// A station refuses TLS versions below its own (A00.FR.314, .416).
func TestOldTLSRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t, ocpp.V201, rigOptions{manual: true, tls: func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }})
	if err := r.station.Connect(r.ctx); err == nil {
		t.Error("connected with TLS 1.1")
	}
}

// A server that shares no version with the station gets no frames.
func TestNoCommonVersion(t *testing.T) {
	t.Parallel()
	r := newRig(t, ocpp.V201, rigOptions{manual: true, station: func(c *station.Config, _ *rig) {
		c.Deviations.Subprotocols = []string{"ocpp9.9"}
	}})
	if err := r.station.Connect(r.ctx); err == nil {
		t.Error("connected without a common version")
	}
	if n := len(r.csms.Seen(identity, ocpp.FromStation)); n != 0 {
		t.Errorf("%d frames were sent", n)
	}
}

// A key store on disk survives a restart of the station.
func TestKeyStoreOnDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := newRig(t, ocpp.V201, rigOptions{station: func(c *station.Config, _ *rig) { c.KeyDir = dir }})
	r.ready()
	leaf := r.certify()
	r.station.Close()
	again := must(station.New(r.ctx, station.Config{
		Identity: identity, Serial: serial, URL: r.csms.URL(), Profile: 3, Roots: []*x509.Certificate{r.ca.root}, KeyDir: dir,
	}))
	defer again.Close()
	if err := again.Connect(r.ctx); err != nil {
		t.Fatal(err)
	}
	if got := again.State().Presented; got != hexSerial(leaf) {
		t.Errorf("presented %s, want %s", got, hexSerial(leaf))
	}
}

// OCPP 2.1 part 4 §5.3: the wait doubles a bounded number of times and gets a
// fresh random part.
func TestBackOff(t *testing.T) {
	t.Parallel()
	b := station.BackOff{Minimum: 10 * time.Second, Random: 4 * time.Second, Repeats: 3}
	tests := []struct {
		failures int
		random   float64
		want     time.Duration
	}{{0, 0, 10 * time.Second}, {1, 0, 20 * time.Second}, {3, 0, 80 * time.Second}, {9, 0, 80 * time.Second}, {0, 0.5, 12 * time.Second}}
	for _, test := range tests {
		if got := b.Wait(test.failures, test.random); got != test.want {
			t.Errorf("wait after %d failures with random %v: %s, want %s", test.failures, test.random, got, test.want)
		}
	}
}

// Reset waits for the end of a transaction when asked to (B11, B12), then the
// station boots again.
func TestResetBootsAgain(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		t.Run(version.String(), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, version, rigOptions{})
			r.ready()
			kind, want := "OnIdle", "Scheduled"
			if version == ocpp.V16 {
				kind, want = "Soft", "Accepted"
			}
			answered := make(chan string, 1)
			r.csms.Handle("StatusNotification", func(ctx context.Context, q csms.Request) (any, error) {
				if strings.Contains(string(q.Payload), `"Charging"`) || strings.Contains(string(q.Payload), `"Occupied"`) {
					raw, err := r.csms.Call(ctx, identity, "Reset", object{"type": kind})
					if err != nil {
						return nil, err
					}
					answered <- field(t, raw, "status")
				}
				return object{}, nil
			})
			if _, err := r.station.Charge(r.ctx, "TAG-1", 1000); err != nil {
				t.Fatal(err)
			}
			if got := <-answered; got != want {
				t.Errorf("Reset answered %s, want %s", got, want)
			}
			r.await("booted again", func(s station.State) bool { return s.Connections == 2 && s.Registration == "Accepted" })
		})
	}
}

// Pending keeps the connection; the boot is repeated (B02.FR.06).
func TestBootPending_B02(t *testing.T) {
	t.Parallel()
	r := newRig(t, ocpp.V201, rigOptions{manual: true})
	boots := 0
	r.csms.Handle("BootNotification", func(ctx context.Context, q csms.Request) (any, error) {
		if boots++; boots < 3 {
			return r.csms.Boot("Pending", 0)(ctx, q)
		}
		return r.csms.Boot("Accepted", 300)(ctx, q)
	})
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(r.ctx)
	go func() { ended <- r.station.Run(ctx) }()
	r.ready()
	cancel()
	<-ended
	if n := r.station.State().Connections; n != 1 || boots != 3 {
		t.Errorf("%d connections and %d boots, want 1 and 3", n, boots)
	}
}
