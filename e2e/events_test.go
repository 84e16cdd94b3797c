package e2e_test

import (
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"bollard/ocpp"
)

// copies returns the security events the back end was sent by Bollard.
func (c *backendConn) copies(t *testing.T) []string {
	t.Helper()
	var list []string
	for _, frame := range c.received() {
		m := decode(t, frame)
		if m.kind != 2 || m.action != ocpp.ActionSecurityEvent {
			continue
		}
		var e ocpp.SecurityEventRequest
		if err := json.Unmarshal(m.payload, &e); err != nil || !strings.HasPrefix(m.id, "bollard:") {
			t.Errorf("copy %s, %v", frame, err)
		}
		list = append(list, e.Type)
	}
	return list
}

// A04.FR.03 through the real binary: events are answered by Bollard, before the
// station is accepted too, shown to the operator without harm, and reach the
// back end though the process is killed; LogStatusNotification passes as it is.
func TestSecurityEvents(t *testing.T) {
	t.Parallel()
	backend := startBackend(t)
	srv := newServer(t, backend.conf())
	srv.start()
	e := srv.enlist("eventful", 3)
	s, up := backend.session(t, srv, e, rawOptions{})
	event := func(id, kind string) {
		t.Helper()
		s.send(`[2,"` + id + `","SecurityEventNotification",{"type":"` + kind + `","timestamp":"2026-01-01T00:00:00Z","techInfo":"\u001b[2J\r\nx"}]`)
		if got := s.next(); got != `[3,"`+id+`",{}]` {
			t.Fatalf("event %s was answered with %s", id, got)
		}
	}
	event("1", "TamperDetectionActivated")
	event("2", "VendorsOwn")
	if got := up.copies(t); len(got) != 0 {
		t.Errorf("before the station was accepted the back end got %v", got)
	}
	if err := srv.proc.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	srv.proc.wait(t)

	srv.start()
	s, up = backend.session(t, srv, e, rawOptions{})
	log := `[2,"3","LogStatusNotification",{ "status":"Uploaded", "requestId":7 }]`
	s.send(log)
	s.next()
	s.send(`[2,"4","BootNotification",{"reason":"PowerUp","chargingStation":{"model":"m","vendorName":"v","serialNumber":"` + e.serial + `"}}]`)
	s.next()
	eventually(t, "both copies are there", func() bool { return strings.Join(up.copies(t), " ") == "TamperDetectionActivated VendorsOwn" })
	event("5", "FirmwareUpdated")
	eventually(t, "the next comes at once", func() bool {
		return strings.Join(up.copies(t), " ") == "TamperDetectionActivated VendorsOwn FirmwareUpdated"
	})
	if got := up.received()[0]; got != log {
		t.Errorf("LogStatusNotification arrived as %s", got)
	}
	var shown struct {
		Events []struct {
			Type     string `json:"type"`
			Critical bool   `json:"critical"`
		} `json:"events"`
	}
	srv.cliJSON(&shown, "station", "events", "eventful")
	if got := fmt.Sprint(shown.Events); got != "[{FirmwareUpdated true} {VendorsOwn false} {TamperDetectionActivated true}]" {
		t.Errorf("shown %s", got)
	}
	if out := srv.cli("station", "events", "eventful", "--limit", "1"); strings.Contains(out, "\x1b") || !strings.Contains(out, `"\x1b[2J\r\nx"`) || strings.Contains(out, "Tamper") {
		t.Errorf("shown %q", out)
	}
	if log := srv.proc.log.String(); strings.Contains(log, "VendorsOwn") || strings.Contains(log, "[2J") {
		t.Error("the station's text is in the log")
	}
}

// M06.FR.01 through the real binary: the station asks about its own certificate.
func TestGetCertificateStatus(t *testing.T) {
	t.Parallel()
	backend := startBackend(t)
	srv := newServer(t, backend.conf())
	srv.start()
	e := srv.enlist("asking", 3)
	s, up := backend.session(t, srv, e, rawOptions{})
	data, err := os.ReadFile(e.cert)
	if err != nil {
		t.Fatal(err)
	}
	var chain []*x509.Certificate
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		chain = append(chain, cert)
	}
	leaf, issuer := chain[0], chain[1]
	q, err := ocsp.CreateRequest(leaf, issuer, &ocsp.RequestOptions{Hash: crypto.SHA256})
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := ocsp.ParseRequest(q)
	if err != nil {
		t.Fatal(err)
	}
	s.send(fmt.Sprintf(`[2,"1","GetCertificateStatus",{"ocspRequestData":{"hashAlgorithm":"SHA256","issuerNameHash":"%x","issuerKeyHash":"%x","serialNumber":"%x","responderURL":"http://169.254.169.254/"}}]`,
		parsed.IssuerNameHash, parsed.IssuerKeyHash, parsed.SerialNumber))
	var answer []json.RawMessage
	var status ocpp.GetCertificateStatusResponse
	if err := json.Unmarshal([]byte(s.next()), &answer); err != nil || len(answer) != 3 || json.Unmarshal(answer[2], &status) != nil {
		t.Fatalf("answer %s, %v", answer, err)
	}
	der, err := base64.StdEncoding.DecodeString(status.OCSPResult)
	if err != nil || status.Status != "Accepted" {
		t.Fatalf("answer %+v, %v", status, err)
	}
	if r, err := ocsp.ParseResponseForCert(der, leaf, issuer); err != nil || r.Status != ocsp.Good || time.Until(r.NextUpdate) <= 0 {
		t.Errorf("OCSP response %+v, %v", r, err)
	}
	if got := up.received(); len(got) != 0 {
		t.Errorf("the back end got %s", got)
	}
}
