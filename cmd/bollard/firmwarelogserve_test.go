package main

import (
	"bufio"
	"context"
	"crypto/x509"
	"encoding/pem"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A release is entered into a log that is on another machine: by who has the token, with
// a proof that holds offline; without it nothing is signed.
func TestFirmwareLogOverHTTP(t *testing.T) {
	t.Parallel()
	dir, m := t.TempDir(), newMaker(t)
	in := func(name string) string { return filepath.Join(dir, name) }
	cli := func(args ...string) (string, string, int) {
		var out, errs strings.Builder
		code := run(t.Context(), append(args, "--data", dir), strings.NewReader(""), &out, &errs)
		return out.String(), errs.String(), code
	}
	key, err := x509.MarshalPKCS8PrivateKey(m.key)
	if err != nil {
		t.Fatal(err)
	}
	writeTest(t, in("key.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	writeTest(t, in("cert.pem"), []byte(certPEM(m.cert)))
	writeTest(t, in("root.pem"), []byte(certPEM(m.root)))
	writeTest(t, in("image"), []byte("firmware"))
	writeTest(t, in("token"), []byte("0123456789abcdef\n"))
	writeTest(t, in("other"), []byte("fedcba9876543210\n"))
	vkey, errs, code := cli("firmware", "log", "create", in("log"), "--origin", "acme.example/log", "--key", "softkms:"+in("log.key"))
	if code != 0 {
		t.Fatal(errs)
	}
	ctx, cancel := context.WithCancel(t.Context())
	read, write := io.Pipe()
	ended, told := make(chan int, 1), &lockedLog{}
	go func() {
		ended <- run(ctx, []string{"firmware", "log", "serve", in("log"), "--listen", "127.0.0.1:0", "--log-signer", "softkms:" + in("log.key"), "--token-file", in("token"), "--data", dir}, strings.NewReader(""), write, told)
		_ = write.Close()
	}()
	line, err := bufio.NewReader(read).ReadString('\n')
	url := strings.TrimSuffix(strings.TrimSpace(line[strings.LastIndex(line, " ")+1:]), "/")
	if err != nil || !strings.HasPrefix(url, "http://127.0.0.1:") {
		t.Fatalf("%q, %v", line, err)
	}
	sign := func(out, token string, more ...string) (string, int) {
		_, errs, code := cli(append([]string{"firmware", "sign", in("image"), "--key", in("key.pem"), "--cert", in("cert.pem"), "--vendor", "ACME", "--model", "Volt", "--version", "2.0.0", "--sequence", "20",
			"--out", in(out), "--log", url, "--log-token-file", in(token)}, more...)...)
		return errs, code
	}
	logged := []string{"--log-key", strings.TrimSpace(vkey)}
	for name, try := range map[string]func() (string, int){
		"another token": func() (string, int) { return sign("none", "other", logged...) },
		"no key":        func() (string, int) { return sign("none", "token") },
		"another key":   func() (string, int) { return sign("none", "token", "--log-key", "x.example+01234567+AAAA") },
		"its own key": func() (string, int) {
			return sign("none", "token", append(logged, "--log-signer", "softkms:"+in("log.key"))...)
		},
	} {
		if errs, code := try(); code == 0 {
			t.Errorf("%s: %s", name, errs)
		}
		if _, err := os.Stat(in("none")); err == nil {
			t.Errorf("%s: something was kept", name)
		}
	}
	for i, out := range []string{"one", "two"} {
		if errs, code := sign(out, "token", logged...); code != 0 {
			t.Fatal(errs)
		}
		text, errs, code := cli("firmware", "verify", in("image"), "--release", in(out), "--trust", in("root.pem"), "--log-key", strings.TrimSpace(vkey))
		if want := []string{"entry 0 of", "entry 1 of"}[i]; code != 0 || !strings.Contains(text, want) {
			t.Errorf("%s%s, want %s", text, errs, want)
		}
	}
	cancel()
	if code := <-ended; code != 0 {
		t.Errorf("the server ended with %d", code)
	}
	if text := told.String(); strings.Count(text, "an entry was appended") != 2 {
		t.Errorf("the server told of what it took: %s", text)
	}
	if _, errs, code := cli("firmware", "log", "serve", in("log"), "--listen", "0.0.0.0:0", "--log-signer", "softkms:"+in("log.key"), "--token-file", in("token")); code != 2 || !strings.Contains(errs, "in clear") {
		t.Errorf("in clear on every address: %d %s", code, errs)
	}
}
