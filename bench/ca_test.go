package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/smallstep/pkcs7"
	"golang.org/x/sys/unix"
)

func newOwn(t *testing.T) *authority {
	t.Helper()
	own, err := newAuthority()
	if err != nil {
		t.Fatal(err)
	}
	return own
}

// certify gives an applicant's key a certificate, with another name if wanted.
func certify(t *testing.T, by *authority, q applicant, name string) []byte {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(9), Subject: stationName(name), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(nil, template, by.cert, q.key.Public(), by.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// An answer counts if it is the certificate asked for, for the key that asked,
// below the root that is trusted, whichever way the program wraps it.
func TestVerifyAnswers(t *testing.T) {
	t.Parallel()
	own, stranger := newOwn(t), newOwn(t)
	between, err := own.intermediate("Between")
	if err != nil {
		t.Fatal(err)
	}
	list, err := newApplicants(2)
	if err != nil {
		t.Fatal(err)
	}
	step := &stepCA{own: own}
	pool, err := poolOf(own.pem())
	if err != nil {
		t.Fatal(err)
	}
	bollard := &bollardCA{trusted: pool, issuing: []*x509.Certificate{between.cert}}
	asStep := func(leaf []byte, by *authority) []byte {
		chain := []string{string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf})), string(by.pem())}
		body, err := json.Marshal(map[string]any{"certChain": chain})
		if err != nil {
			t.Fatal(err)
		}
		return body
	}
	asEST := func(leaf []byte) []byte {
		bag, err := pkcs7.DegenerateCertificate(leaf)
		if err != nil {
			t.Fatal(err)
		}
		text := base64.StdEncoding.EncodeToString(bag)
		return []byte(text[:76] + "\n" + text[76:] + "\n")
	}
	right := certify(t, between, list[0], list[0].serial)
	for _, tt := range []struct {
		name string
		by   issuer
		body []byte
		bad  string
	}{
		{"step-ca", step, asStep(right, between), ""},
		{"EST", bollard, asEST(right), ""},
		{"another's key", bollard, asEST(certify(t, between, list[1], list[0].serial)), "another key or name"},
		{"another name", step, asStep(certify(t, between, list[0], "SN-99999"), between), "another key or name"},
		{"a stranger's signature", step, asStep(certify(t, stranger, list[0], list[0].serial), stranger), "certificate of SN-00000"},
		{"EST from a stranger", bollard, asEST(certify(t, stranger, list[0], list[0].serial)), "certificate of SN-00000"},
		{"nothing", step, []byte(`{"certChain":[]}`), "without a certificate"},
		{"no JSON", step, []byte("oops"), "step-ca's answer"},
		{"no base64", bollard, []byte("????"), "EST answer"},
		{"no CMS", bollard, []byte("MAAA"), "EST answer"},
		{"no PEM", step, []byte(`{"certChain":["oops"]}`), "no PEM"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := verify(tt.by, list[0], tt.body)
			if (err == nil) != (tt.bad == "") || err != nil && !strings.Contains(err.Error(), tt.bad) {
				t.Errorf("%v, want %q", err, tt.bad)
			}
		})
	}
}

// Tokens are JWS compact ES256 (RFC 7515 §7.1, RFC 7518 §3.4) and differ.
func TestStepTokens(t *testing.T) {
	t.Parallel()
	own := newOwn(t)
	step := &stepCA{own: own, key: own.key}
	tokens, err := step.credentials(t.Context(), []applicant{{serial: "SN-1"}, {serial: "SN-1"}})
	if err != nil || tokens[0] == tokens[1] {
		t.Fatalf("%q, %v", tokens, err)
	}
	signed, last, _ := cutLast(tokens[0], ".")
	signature, err := base64.RawURLEncoding.DecodeString(last)
	if err != nil || len(signature) != 64 {
		t.Fatalf("signature of %d bytes, %v", len(signature), err)
	}
	sum := sha256.Sum256([]byte(signed))
	if !ecdsa.Verify(&own.key.PublicKey, sum[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])) {
		t.Error("the signature doesn't verify")
	}
	_, payload, _ := strings.Cut(signed, ".")
	raw, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil {
		t.Fatal(err)
	}
	var claims struct {
		Sub  string   `json:"sub"`
		Sans []string `json:"sans"`
		Exp  int64    `json:"exp"`
	}
	err = json.Unmarshal(raw, &claims)
	if err != nil || claims.Sub != "SN-1" || !cmp.Equal(claims.Sans, []string{"SN-1"}) || claims.Exp <= time.Now().Unix() {
		t.Errorf("claims %+v, %v", claims, err)
	}
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

func TestReadHead(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, head string
		length     int
		bad        string
	}{
		{"whole", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX: y\r\n\r\n", 44, ""},
		{"any case", "HTTP/1.1 200 OK\r\ncontent-length:3\r\n\r\n", 37, ""},
		{"refused", "HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\n", 0, "status line"},
		{"another length", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", 0, "4 bytes were announced"},
		{"no length", "HTTP/1.1 200 OK\r\n\r\n", 0, "-1 bytes were announced"},
		{"no number", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", 0, "Content-Length"},
		{"cut", "HTTP/1.1 200 OK\r\nContent-", 0, "EOF"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			n, err := readHead(bufio.NewReader(strings.NewReader(tt.head+"abc")), 3)
			if (err == nil) != (tt.bad == "") || err != nil && !strings.Contains(err.Error(), tt.bad) || n != tt.length {
				t.Errorf("%d, %v; want %d, %q", n, err, tt.length, tt.bad)
			}
		})
	}
}

// The load counts right answers, and one wrong byte, one answer of another
// query or a lost connection ends it.
func TestLoad(t *testing.T) {
	t.Parallel()
	list := []query{{"/ocsp/a", bytes.Repeat([]byte("a"), 700)}, {"/ocsp/b", bytes.Repeat([]byte("b"), 900)}}
	for _, tt := range []struct {
		name  string
		after int // requests that are answered rightly
		wrong func(w http.ResponseWriter, body []byte)
		bad   string
	}{
		{"right", 1 << 30, nil, ""},
		{"a wrong byte", 50, func(w http.ResponseWriter, body []byte) { w.Write(append([]byte("x"), body[1:]...)) }, "wrong bytes"},
		{"an error", 50, func(w http.ResponseWriter, body []byte) { w.WriteHeader(http.StatusServiceUnavailable); w.Write(body) }, "wrong bytes"},
		{"a cut", 50, func(http.ResponseWriter, []byte) { panic(http.ErrAbortHandler) }, "lost"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			served := make(chan int, 1)
			served <- 0
			web := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body := list[0].body
				if r.URL.Path == list[1].path {
					body = list[1].body
				}
				n := <-served
				served <- n + 1
				if n >= tt.after {
					tt.wrong(w, body)
					return
				}
				w.Write(body)
			})}
			ended := make(chan error, 1)
			go func() { ended <- web.Serve(ln) }()
			defer func() {
				web.Close()
				<-ended
			}()
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			l, err := newLoad(ctx, ln.Addr().String(), list, 4)
			if err != nil {
				t.Fatal(err)
			}
			defer l.close()
			long := 50 * time.Millisecond
			if tt.bad != "" {
				long = 90 * time.Second // it ends by itself
			}
			count, err := l.run(ctx, long)
			if (err == nil) != (tt.bad == "") || err != nil && !strings.Contains(err.Error(), tt.bad) || count == 0 {
				t.Errorf("%d, %v; want %q", count, err, tt.bad)
			}
			if tt.bad == "" && count != <-served-len(list) {
				t.Errorf("%d were counted", count)
			}
		})
	}
}

// A load that always has something to do rests for a quarter of the time.
func TestLoadRests(t *testing.T) {
	t.Parallel()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	rest, began, before := rester(), time.Now(), threadCPU()
	for time.Since(began) < 200*time.Millisecond {
		rest()
	}
	if share := float64(threadCPU()-before) / float64(time.Since(began)); share > busiest+0.02 {
		t.Errorf("it took %.2f of a core, more than %v", share, busiest)
	}
}

// Clients in this process leave the first processor to the server.
func TestAside(t *testing.T) {
	on := func() (free []int) {
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			t.Fatal(err)
		}
		for _, th := range threads {
			tid, err := strconv.Atoi(th.Name())
			var set unix.CPUSet
			if err == nil {
				err = unix.SchedGetaffinity(tid, &set)
			}
			if err == nil {
				free = append(free, set.Count())
			}
		}
		return free
	}
	n := on()[0]
	if n < 2 {
		t.Log("one processor, which all share")
	}
	failed := errors.New("failed")
	err := aside(func() error {
		for _, got := range on() {
			if got != max(n-1, 1) {
				t.Errorf("a thread may run on %d processors of %d", got, n)
			}
		}
		return failed
	})
	if !errors.Is(err, failed) {
		t.Errorf("%v", err)
	}
	for _, got := range on() {
		if got != n {
			t.Errorf("afterwards a thread may run on %d processors of %d", got, n)
		}
	}
}

// A small database is filled and measured, with everything checked that a
// large one is.
func TestMeasureSize(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	order, err := json.Marshal(sizeOrder{Dir: t.TempDir(), Certificates: 301})
	if err != nil {
		t.Fatal(err)
	}
	err = serveSize(bytes.NewReader(order), &out)
	if err != nil {
		t.Fatal(err)
	}
	var got size
	err = json.Unmarshal(out.Bytes(), &got)
	if err != nil || got.Error != "" {
		t.Fatalf("%v %s", err, got.Error)
	}
	if got.Revoked != 3 || got.Responses != 2*298 || got.FileMB <= 0 || got.List <= 0 || got.CRL <= 0 || got.First <= 0 || got.PeakMB <= 0 {
		t.Errorf("%+v", got)
	}
}

func TestStatusKB(t *testing.T) {
	t.Parallel()
	const text = "Name:\tVmRSS: 1 kB\nVmHWM:\t    2048 kB\nVmRSS:\t  1024 kB\n"
	for name, want := range map[string]int{"VmRSS:": 1024, "VmHWM:": 2048} {
		kb, err := statusKB(text, name)
		if err != nil || kb != want {
			t.Errorf("%s %d, %v; want %d", name, kb, err, want)
		}
	}
	for _, bad := range []string{"", "VmRSS: x kB\n"} {
		_, err := statusKB(bad, "VmRSS:")
		if err == nil {
			t.Errorf("%q has a VmRSS", bad)
		}
	}
}

func TestTables(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	caTable(&out, []summary{{Measure: ocspGet, Median: map[string]float64{"bollard": 50, "nginx": 100}, Ratio: map[string]float64{"nginx": 0.5}}})
	growthTable(&out, []size{{Certificates: 1000, CRL: 2}, {Certificates: 10_000, CRL: 24}})
	got := out.String()
	for _, want := range []string{"nginx                        100        0.50\n", "SQLite, certificates:                             1000       10000   last step\n",
		"CRL, ms                                            2.0        24.0      x 12.0\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

// Durable figures from a file system in memory would be none.
func TestOnDisk(t *testing.T) {
	t.Parallel()
	err := onDisk("/dev/shm")
	if err == nil || !strings.Contains(err.Error(), "TMPDIR") {
		t.Errorf("/dev/shm: %v", err)
	}
	if err = onDisk(t.TempDir() + "/none"); err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("no directory: %v", err)
	}
}

func TestUnknownPart(t *testing.T) {
	t.Parallel()
	plan := newCAPlan(false)
	plan.Parts = []string{"issuance", "poetry"}
	err := measureCA(t.Context(), plan, t.TempDir(), &bytes.Buffer{})
	if err == nil || !strings.Contains(err.Error(), `no such part: "poetry"`) {
		t.Errorf("poetry: %v", err)
	}
}
