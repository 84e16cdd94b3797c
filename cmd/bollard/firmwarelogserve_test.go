package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// logHouse is a manufacturer's signing machine, and a log on another one.
type logHouse struct {
	t         *testing.T
	dir, vkey string
	maker     *maker
	told      *lockedLog // by who keeps the log
}

func newLogHouse(t *testing.T) *logHouse {
	t.Helper()
	h := &logHouse{t: t, dir: t.TempDir(), maker: newMaker(t), told: &lockedLog{}}
	h.key("key.pem", h.maker.key)
	writeTest(t, h.in("cert.pem"), []byte(certPEM(h.maker.cert)))
	writeTest(t, h.in("root.pem"), []byte(certPEM(h.maker.root)))
	writeTest(t, h.in("image"), []byte("firmware"))
	writeTest(t, h.in("token"), []byte("0123456789abcdef\n"))
	writeTest(t, h.in("other"), []byte("fedcba9876543210\n"))
	vkey, errs, code := h.cli("firmware", "log", "create", h.in("log"), "--origin", "acme.example/log", "--key", "softkms:"+h.in("log.key"))
	if code != 0 {
		t.Fatal(errs)
	}
	h.vkey = strings.TrimSpace(vkey)
	return h
}

func (h *logHouse) in(name string) string { return filepath.Join(h.dir, name) }

func (h *logHouse) key(name string, key *ecdsa.PrivateKey) {
	h.t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		h.t.Fatal(err)
	}
	writeTest(h.t, h.in(name), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func (h *logHouse) cli(args ...string) (string, string, int) {
	var out, errs strings.Builder
	code := run(h.t.Context(), append(args, "--data", h.dir), strings.NewReader(""), &out, &errs)
	return out.String(), errs.String(), code
}

// serve begins to serve the log; stop returns the exit code.
func (h *logHouse) serve(scheme string, more ...string) (url string, stop func() int) {
	h.t.Helper()
	ctx, cancel := context.WithCancel(h.t.Context())
	read, write := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, append([]string{"firmware", "log", "serve", h.in("log"), "--listen", "127.0.0.1:0", "--log-signer", "softkms:" + h.in("log.key"), "--token-file", h.in("token"), "--data", h.dir}, more...),
			strings.NewReader(""), write, h.told)
		_ = write.Close()
	}()
	line, err := bufio.NewReader(read).ReadString('\n')
	url = strings.TrimSuffix(strings.TrimSpace(line[strings.LastIndex(line, " ")+1:]), "/")
	if err != nil || !strings.HasPrefix(url, scheme+"://127.0.0.1:") {
		cancel()
		h.t.Fatalf("%q, %v: %s", line, err, h.told)
	}
	return url, func() int { cancel(); return <-ended }
}

// sign signs a release into a folder, and enters it into the log at an address.
func (h *logHouse) sign(out, url, token string, more ...string) (string, int) {
	_, errs, code := h.cli(append([]string{"firmware", "sign", h.in("image"), "--key", h.in("key.pem"), "--cert", h.in("cert.pem"), "--vendor", "ACME", "--model", "Volt", "--version", "2.0.0", "--sequence", "20",
		"--out", h.in(out), "--log", url, "--log-token-file", h.in(token)}, more...)...)
	return errs, code
}

// refuses wants that nothing is signed, and why.
func (h *logHouse) refuses(name, want, url, token string, more ...string) {
	h.t.Helper()
	if errs, code := h.sign("none", url, token, more...); code == 0 || !strings.Contains(errs, want) {
		h.t.Errorf("%s: %d %s, want %q", name, code, errs, want)
	}
	if _, err := os.Stat(h.in("none")); err == nil {
		h.t.Errorf("%s: something was kept", name)
	}
}

// A release is entered into a log that is on another machine: by who has the token, with
// a proof that holds offline; without it nothing is signed.
func TestFirmwareLogOverHTTP(t *testing.T) {
	t.Parallel()
	h := newLogHouse(t)
	url, stop := h.serve("http")
	h.refuses("another token", "doesn't know the token", url, "other", "--log-key", h.vkey)
	h.refuses("no key", "takes --log-key", url, "token")
	h.refuses("another key", "isn't a verifier key", url, "token", "--log-key", "x.example+01234567+AAAA")
	h.refuses("its own key", "go together", url, "token", "--log-key", h.vkey, "--log-signer", "softkms:"+h.in("log.key"))
	for i, out := range []string{"one", "two"} {
		if errs, code := h.sign(out, url, "token", "--log-key", h.vkey); code != 0 {
			t.Fatal(errs)
		}
		text, errs, code := h.cli("firmware", "verify", h.in("image"), "--release", h.in(out), "--trust", h.in("root.pem"), "--log-key", h.vkey)
		if want := []string{"entry 0 of", "entry 1 of"}[i]; code != 0 || !strings.Contains(text, want) {
			t.Errorf("%s%s, want %s", text, errs, want)
		}
	}
	if code := stop(); code != 0 {
		t.Errorf("the server ended with %d", code)
	}
	if text := h.told.String(); strings.Count(text, "an entry was appended") != 2 {
		t.Errorf("the server told of what it took: %s", text)
	}
	if _, errs, code := h.cli("firmware", "log", "serve", h.in("log"), "--listen", "0.0.0.0:0", "--log-signer", "softkms:"+h.in("log.key"), "--token-file", h.in("token")); code != 2 || !strings.Contains(errs, "in clear") {
		t.Errorf("in clear on every address: %d %s", code, errs)
	}
}

// The token goes to the log's own machine alone: over TLS, under the root that is named.
func TestFirmwareLogOverHTTPS(t *testing.T) {
	t.Parallel()
	h := newLogHouse(t)
	key := newP256(t)
	server := newCert(t, &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "log"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: h.maker.root.NotBefore, NotAfter: h.maker.root.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, h.maker.root, &key.PublicKey, h.maker.rootKey)
	h.key("tls.key", key)
	writeTest(t, h.in("tls.pem"), []byte(certPEM(server)))
	writeTest(t, h.in("stranger.pem"), []byte(certPEM(newMaker(t).root)))
	url, stop := h.serve("https", "--certificate", h.in("tls.pem"), "--tls-key", h.in("tls.key"))
	logged := []string{"--log-key", h.vkey}
	h.refuses("the system's roots", "certificate", url, "token", logged...)
	h.refuses("another root", "certificate", url, "token", append(logged, "--log-trust", h.in("stranger.pem"))...)
	h.refuses("in clear to another machine", "must begin with https://", "http://log.example", "token", logged...)
	if errs, code := h.sign("one", url, "token", append(logged, "--log-trust", h.in("root.pem"))...); code != 0 {
		t.Error(errs)
	}
	if code := stop(); code != 0 {
		t.Errorf("the server ended with %d", code)
	}
}
