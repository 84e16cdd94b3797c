package station_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"bollard/ocpp"
	"bollard/station"
	"bollard/station/csms"
)

// The white paper's first edition: hex of DER in SignCertificate, a list cert
// in CertificateSigned.
func TestEdition1(t *testing.T) {
	t.Parallel()
	r := newRig(t, ocpp.V16, rigOptions{station: func(c *station.Config, _ *rig) { c.Deviations.Edition1 = true }})
	r.ready()
	c := r.trigger()
	if _, err := hex.DecodeString(c.raw); err != nil {
		t.Errorf("CSR is not hex: %q", c.raw)
	}
	leaf := r.ca.station(c.request.PublicKey, nil)
	list := []string{hex.EncodeToString(leaf.Raw), hex.EncodeToString(r.ca.between.Raw)}
	r.wantStatus("CertificateSigned", object{"cert": list}, "Accepted")
}

// 1.6 stations with plug and charge wrap the 2.0.1 messages in DataTransfer.
func TestDataTransferCSR(t *testing.T) {
	t.Parallel()
	r := newRig(t, ocpp.V16, rigOptions{station: func(c *station.Config, _ *rig) { c.Deviations.DataTransferCSR = true }})
	r.csms.Handle("DataTransfer", r.takeWrapped)
	r.ready()
	wrap := func(action, data string) json.RawMessage {
		return r.call("DataTransfer", object{"vendorId": "org.openchargealliance.iso15118pnc", "messageId": action, "data": data})
	}
	if got := wrap("TriggerMessage", `{"requestedMessage":"SignChargingStationCertificate"}`); !strings.Contains(string(got), `{\"status\":\"Accepted\"}`) {
		t.Fatalf("TriggerMessage answered %s", got)
	}
	c := r.nextCSR()
	leaf := r.ca.station(c.request.PublicKey, nil)
	data := must(json.Marshal(object{"certificateChain": chainPEM(leaf, r.ca.between), "certificateType": "ChargingStationCertificate"}))
	if got := wrap("CertificateSigned", string(data)); !strings.Contains(string(got), `{\"status\":\"Accepted\"}`) {
		t.Errorf("CertificateSigned answered %s", got)
	}
	if got := r.station.State().Certificate; got != hexSerial(leaf) {
		t.Errorf("certificate %s, want %s", got, hexSerial(leaf))
	}
	if got := wrap("Unknown", "{}"); field(t, got, "status") != "UnknownMessageId" {
		t.Errorf("unknown message answered %s", got)
	}
	r.station.Deviate(func(d *station.Deviations) { d.DataTransferCSR = false })
	if got := wrap("CertificateSigned", string(data)); field(t, got, "status") != "UnknownVendorId" {
		t.Errorf("without plug and charge answered %s", got)
	}
	checkSchemas(t, ocpp.V16, r.station.Frames())
}

// A CSR says what the script wants, and still proves its key.
func TestScriptedCSR(t *testing.T) {
	t.Parallel()
	r := newRig(t, ocpp.V201, rigOptions{station: func(c *station.Config, _ *rig) {
		c.Key = station.RSA2048
		c.Deviations.CSR = func(q *x509.CertificateRequest) {
			q.Subject = pkix.Name{CommonName: "SN-9999"}
			q.DNSNames = []string{"csms.example.com"}
			q.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Critical: true, Value: []byte{0x30, 3, 1, 1, 0xff}}}
		}
	}})
	r.ready()
	c := r.trigger().request
	if c.Subject.CommonName != "SN-9999" || c.PublicKeyAlgorithm != x509.RSA || len(c.DNSNames) != 1 || len(c.Extensions) != 2 {
		t.Errorf("CSR for %v, %v, names %v, %d extensions", c.Subject, c.PublicKeyAlgorithm, c.DNSNames, len(c.Extensions))
	}
}

// Bad manners on the wire.
func TestManners(t *testing.T) {
	t.Parallel()
	r := newRig(t, ocpp.V201, rigOptions{station: func(c *station.Config, _ *rig) {
		c.Deviations = station.Deviations{
			NumberIDs: true, BootSerial: "SN-9999",
			Twice:   map[string]bool{"ClearCache": true},
			Silent:  map[string]bool{"GetBaseReport": true},
			Slow:    map[string]time.Duration{"GetVariables": 20 * time.Millisecond},
			Answers: map[string]any{"GetLog": object{"status": "Accepted"}},
		}
	}})
	r.ready()
	sent := r.csms.Seen(identity, ocpp.FromStation)
	if got := string(sent[0]); !strings.HasPrefix(got, `[2,1,"BootNotification"`) || !strings.Contains(got, "SN-9999") {
		t.Errorf("boot is %s", got)
	}
	r.wantStatus("ClearCache", object{}, "Accepted")
	r.wantStatus("GetLog", object{}, "Accepted")
	if status, _ := r.getVariable("SecurityCtrlr", "SecurityProfile"); status != "Accepted" {
		t.Errorf("GetVariables answered %s", status)
	}
	answers := 0
	for _, f := range r.station.Sent(ocpp.FromStation) {
		if strings.HasPrefix(string(f), "[3,") {
			answers++
		}
	}
	if answers != 4 {
		t.Errorf("%d answers, want 4: one of them twice", answers)
	}
}

// A late answer finds no CALL waiting.
func TestLateAnswersAreDropped(t *testing.T) {
	t.Parallel()
	r := newRig(t, ocpp.V16, rigOptions{})
	r.ready()
	if err := r.csms.Send(identity, []byte(`[3,"never asked",{}]`)); err != nil {
		t.Fatal(err)
	}
	r.await("one late answer", func(s station.State) bool { return s.LateAnswers == 1 })
}

// CALLs of one station never overlap (part 4 §4.1.1).
func TestOneOutstandingCall(t *testing.T) {
	t.Parallel()
	r := newRig(t, ocpp.V201, rigOptions{})
	r.ready()
	errs := make(chan error, 8)
	for range cap(errs) {
		go func() {
			_, err := r.station.Call(r.ctx, "Heartbeat", object{})
			errs <- err
		}()
	}
	for range cap(errs) {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	open := 0
	for _, f := range r.station.Frames() {
		head := must(ocpp.ParseHead(f.Bytes))
		switch {
		case f.Direction == ocpp.FromStation && head.Type == ocpp.Call:
			open++
		case f.Direction == ocpp.FromCSMS && head.Type == ocpp.CallResult:
			open--
		}
		if open > 1 {
			t.Fatalf("two CALLs outstanding at %s", f.Bytes)
		}
	}
}

// The CSMS knows no PKI.
func TestCSMSKnowsNoCertificates(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		r := newRig(t, version, rigOptions{})
		r.csms.Handle("SignCertificate", nil)
		r.ready()
		_, err := r.station.Call(r.ctx, "SignCertificate", object{"csr": "x"})
		wantFailure(t, err, ocpp.NotSupported)
		_, err = r.station.Call(r.ctx, "MakeCoffee", object{})
		wantFailure(t, err, ocpp.NotImplemented)
	}
}

// Connections and refusals are on record.
func TestCSMSEvents(t *testing.T) {
	t.Parallel()
	r := newRig(t, ocpp.V201, rigOptions{})
	r.ready()
	r.setSecrets([]byte("other"))
	r.csms.Drop(identity, 0)
	r.poll("a closed connection and a refusal", func() bool {
		kinds := map[csms.EventKind]int{}
		for _, e := range r.csms.Events(identity) {
			kinds[e.Kind]++
		}
		return kinds[csms.Opened] == 1 && kinds[csms.Closed] == 1 && kinds[csms.Refused] > 0
	})
	for _, e := range r.csms.Events(identity) {
		if e.Kind == csms.Refused && (e.Status != 401 || !e.Hello.Basic || e.Hello.User != identity) {
			t.Errorf("a refusal is recorded as %+v", e)
		}
	}
}

// A second connection of an identity takes the place of the first.
func TestCSMSReplacesConnection(t *testing.T) {
	t.Parallel()
	r := newRig(t, ocpp.V201, rigOptions{manual: true})
	if err := r.station.Connect(r.ctx); err != nil {
		t.Fatal(err)
	}
	twin := must(station.New(r.ctx, station.Config{
		Identity: identity, URL: r.csms.URL(), Password: password, Roots: []*x509.Certificate{r.ca.root},
	}))
	defer twin.Close()
	if err := twin.Connect(r.ctx); err != nil {
		t.Fatal(err)
	}
	r.await("replaced", func(s station.State) bool { return !s.Connected })
	if !twin.State().Connected || !r.csms.Connected(identity) {
		t.Error("the new connection went with the old one")
	}
}
