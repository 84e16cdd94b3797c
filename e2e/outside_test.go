package e2e_test

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// A front door has its certificate from the CA of another Bollard, over ACME: shown
// from the moment it comes, and after a kill -9 while that CA is away.
func TestFrontDoorCertifiedByAnotherCA(t *testing.T) {
	t.Parallel()
	port := laterPort(t)
	company := newACMEServer(t, port)
	company.start()
	kid, hmac := company.acmeToken()
	srv := newServer(t, map[string]any{"url": "ws://127.0.0.1:1/ocpp"})
	srv.conf["host"] = "front.servers.example"
	srv.conf["listen"].(map[string]any)["acme"] = "127.0.0.1:" + strconv.Itoa(port)
	srv.write(filepath.Join(srv.data, "mac"), hmac+"\n")
	srv.conf["server_certificate"] = map[string]any{"acme": map[string]any{
		"directory": company.directory(), "contact": "mailto:ops@servers.example", "trust": company.root, "key_id": kid, "mac_file": "mac",
	}}
	srv.configure()
	if out, _, _ := srv.try("", "doctor"); !strings.Contains(out, "there is no certificate yet") {
		t.Errorf("doctor before: %s", out)
	}
	srv.start()
	roots := x509.NewCertPool()
	raw, err := os.ReadFile(company.root)
	if err != nil || !roots.AppendCertsFromPEM(raw) {
		t.Fatal("no root", err)
	}
	shown := func() *x509.Certificate {
		conn, err := tls.Dial("tcp", srv.ocpp, &tls.Config{RootCAs: roots, ServerName: "front.servers.example"})
		if err != nil {
			return nil
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0]
	}
	eventually(t, "the front door shows the company's certificate", func() bool { return shown() != nil })
	first := shown()
	out, _, code := srv.try("", "doctor")
	if !strings.Contains(out, "server_certificate.acme") || strings.Contains(out, "there is no certificate yet") {
		t.Errorf("doctor, %d: %s", code, out)
	}
	if found := srv.cli("ledger", "export"); !strings.Contains(found, first.SerialNumber.Text(16)) {
		t.Errorf("the ledger says %s", found)
	}

	company.stop()
	_ = srv.proc.cmd.Process.Kill()
	<-srv.proc.done
	srv.start()
	if again := shown(); again == nil || !again.Equal(first) {
		t.Error("after kill -9, with the CA away, another certificate is shown")
	}
}
