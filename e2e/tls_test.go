package e2e_test

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// suites12 are the TLS 1.2 suites wanted: the four the standard demands
// (A00.FR.318, A00.FR.319) and their ECDHE_RSA relatives.
var suites12 = []string{
	"AES128-GCM-SHA256",
	"AES256-GCM-SHA384",
	"ECDHE-ECDSA-AES128-GCM-SHA256",
	"ECDHE-ECDSA-AES256-GCM-SHA384",
	"ECDHE-RSA-AES128-GCM-SHA256",
	"ECDHE-RSA-AES256-GCM-SHA384",
}

// suites13 are what every TLS 1.3 server of Go has.
var suites13 = []string{"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"}

// openssl connects with s_client; ok says whether the handshake was done and
// the server's certificate verified.
func openssl(t *testing.T, srv *server, args ...string) (ok bool, output string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	all := append([]string{"s_client", "-connect", srv.ocpp, "-servername", "localhost", "-verify_hostname", "localhost", "-CAfile", srv.root, "-verify_return_error", "-brief"}, args...)
	cmd := exec.CommandContext(ctx, "openssl", all...)
	cmd.Stdin = strings.NewReader("Q\n")
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("openssl: %v", err)
	}
	// Debian's security level forbids old protocols on the client's side: a
	// refusal must come from the server, or it says nothing.
	if bytes.Contains(out, []byte("no protocols available")) || bytes.Contains(out, []byte("no cipher match")) {
		t.Fatalf("openssl itself refused %v:\n%s", args, out)
	}
	return err == nil && bytes.Contains(out, []byte("Verification: OK")), string(out)
}

// A00.FR.318, A00.FR.319: a client with only one of the mandatory suites gets
// through, with a verified ECDSA or RSA certificate as the suite needs.
func TestMandatorySuitesConnect(t *testing.T) {
	t.Parallel()
	srv := newServer(t, map[string]any{"url": "ws://127.0.0.1:1/ocpp"})
	srv.start()
	for _, suite := range suites12 {
		t.Run("TLS 1.2 "+suite, func(t *testing.T) {
			ok, out := openssl(t, srv, "-tls1_2", "-cipher", suite)
			if !ok || !strings.Contains(out, "Ciphersuite: "+suite) {
				t.Errorf("openssl s_client -tls1_2 -cipher %s:\n%s", suite, out)
			}
		})
	}
	for _, suite := range suites13 {
		t.Run("TLS 1.3 "+suite, func(t *testing.T) {
			ok, out := openssl(t, srv, "-tls1_3", "-ciphersuites", suite)
			if !ok || !strings.Contains(out, "Ciphersuite: "+suite) {
				t.Errorf("openssl s_client -tls1_3 -ciphersuites %s:\n%s", suite, out)
			}
		})
	}
	// A00.FR.313 and what no list has: refused by the server with an alert.
	const all = "ALL:@SECLEVEL=0"
	for name, args := range map[string][]string{
		"TLS 1.1":              {"-tls1_1", "-cipher", all},
		"TLS 1.0":              {"-tls1", "-cipher", all},
		"CBC, RSA":             {"-tls1_2", "-cipher", "AES128-SHA:AES256-SHA:AES128-SHA256:@SECLEVEL=0"},
		"CBC, ECDHE_ECDSA":     {"-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA:ECDHE-ECDSA-AES128-SHA256:@SECLEVEL=0"},
		"CBC, ECDHE_RSA":       {"-tls1_2", "-cipher", "ECDHE-RSA-AES128-SHA:ECDHE-RSA-AES128-SHA256:@SECLEVEL=0"},
		"ChaCha20 in TLS 1.2":  {"-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"},
		"finite-field DH":      {"-tls1_2", "-cipher", "DHE-RSA-AES128-GCM-SHA256"},
		"unauthenticated ECDH": {"-tls1_2", "-cipher", "AECDH-AES128-SHA:ADH-AES128-GCM-SHA256:@SECLEVEL=0"},
	} {
		t.Run("refused: "+name, func(t *testing.T) {
			ok, out := openssl(t, srv, args...)
			if ok || !strings.Contains(out, "alert") {
				t.Errorf("openssl s_client %v wasn't refused with an alert:\n%s", args, out)
			}
		})
	}
	t.Run("sslscan lists exactly the wanted suites", func(t *testing.T) { scan(t, srv) })
}

// scan compares sslscan's list with ours.
func scan(t *testing.T, srv *server) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, "sslscan", "--no-colour", "--xml=-", "--sni-name=localhost", srv.ocpp).Output()
	if err != nil {
		t.Fatalf("sslscan: %v\n%s", err, out)
	}
	var doc struct {
		Test struct {
			Protocols []struct {
				Type    string `xml:"type,attr"`
				Version string `xml:"version,attr"`
				Enabled string `xml:"enabled,attr"`
			} `xml:"protocol"`
			Ciphers []struct {
				Version string `xml:"sslversion,attr"`
				Name    string `xml:"cipher,attr"`
			} `xml:"cipher"`
			Heartbleed []struct {
				Vulnerable string `xml:"vulnerable,attr"`
			} `xml:"heartbleed"`
			Compression struct {
				Supported string `xml:"supported,attr"`
			} `xml:"compression"`
		} `xml:"ssltest"`
	}
	err = xml.Unmarshal(out, &doc)
	if err != nil {
		t.Fatalf("sslscan's XML: %v\n%s", err, out)
	}
	got := map[string][]string{}
	for _, c := range doc.Test.Ciphers {
		got[c.Version] = append(got[c.Version], c.Name)
	}
	for _, names := range got {
		slices.Sort(names)
	}
	if diff := cmp.Diff(map[string][]string{"TLSv1.2": suites12, "TLSv1.3": suites13}, got); diff != "" {
		t.Errorf("suites (-want +got):\n%s", diff)
	}
	var enabled []string
	for _, p := range doc.Test.Protocols {
		if p.Enabled == "1" {
			enabled = append(enabled, p.Type+p.Version)
		}
	}
	slices.Sort(enabled)
	if diff := cmp.Diff([]string{"tls1.2", "tls1.3"}, enabled); diff != "" {
		t.Errorf("protocols (-want +got):\n%s", diff)
	}
	if doc.Test.Compression.Supported == "1" {
		t.Error("TLS compression is on")
	}
	for _, h := range doc.Test.Heartbleed {
		if h.Vulnerable != "0" {
			t.Error("heartbleed")
		}
	}
}
