package main

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"strings"
	"testing"

	"bollard/admin"
	"bollard/ca/est"
)

// listen.pki serves EST with the server's own certificate, in a running server.
func TestServePKI(t *testing.T) {
	t.Parallel()
	r := startServer(t, newDataDir(t, "ws://127.0.0.1:1/ocpp"))
	root, err := admin.Call[admin.KindRef, admin.PEM](t.Context(), admin.NewClient(r.dir), "ca.root", admin.KindRef{Kind: "csms"})
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(root.PEM))
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "localhost"}}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Get("https://" + r.at.PKI + est.Prefix + "cacerts")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK || !strings.HasPrefix(string(body), "MI") {
		t.Errorf("%s: %.100s, %v", resp.Status, body, err)
	}
	r.log.await(t, "listening for enrolment")
	if _, metrics := get(t, "http://"+r.at.Admin+"/metrics"); !strings.Contains(string(metrics), `bollard_est_answers_total{operation="cacerts",status="200"} 1`) {
		t.Error("the answer isn't counted")
	}
	state, err := admin.Call[admin.None, admin.Status](t.Context(), admin.NewClient(r.dir), "server.status", admin.None{})
	if err != nil || state.Server == nil || state.Server.PKI != r.at.PKI {
		t.Errorf("server.status: %+v, %v", state.Server, err)
	}
}
