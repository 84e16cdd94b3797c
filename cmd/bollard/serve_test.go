package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"database/sql"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"bollard/admin"
	"bollard/ca"
	"bollard/internal/testlog"
)

// rig is a server in this process.
type rig struct {
	dir    string
	at     addresses
	reload chan os.Signal
	log    *lockedLog
	stop   func() error // ends it and returns what serve returned
}

type lockedLog struct{ testlog.Buffer }

func (l *lockedLog) await(t *testing.T, text string) {
	t.Helper()
	for deadline := time.Now().Add(patience); !strings.Contains(l.String(), text); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%q isn't in the log: %s", text, l)
		}
	}
}

func newDataDir(t *testing.T, backend string) string {
	t.Helper()
	return newDataDirAt(t, "127.0.0.1:0", backend)
}

func newDataDirAt(t *testing.T, listen, backend string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	err := initialise(t.Context(), initOptions{dataDir: dir, organisation: "Example CPO", country: "NL", listen: listen, backend: backend})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func startServer(t *testing.T, dir string) *rig { return startServerAt(t, dir, time.Now) }

func startServerAt(t *testing.T, dir string, clock func() time.Time) *rig {
	t.Helper()
	r := &rig{dir: dir, reload: make(chan os.Signal, 1), log: &lockedLog{}}
	ctx, cancel := context.WithCancel(t.Context())
	ready := make(chan addresses, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- serve(ctx, serveOptions{dataDir: dir, log: r.log, reload: r.reload, clock: clock, ready: func(a addresses) { ready <- a }})
	}()
	r.stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Errorf("serve: %v\n%s", err, r.log)
		}
	})
	select {
	case r.at = <-ready:
	case err := <-ended:
		ended <- nil
		t.Fatalf("serve ended: %v\n%s", err, r.log)
	}
	return r
}

func get(t *testing.T, url string) (int, []byte) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, body
}

// shown is the certificate the front door shows to a client that trusts pool.
func shown(t *testing.T, address string, pool *x509.CertPool) *x509.Certificate {
	t.Helper()
	conn, err := tls.Dial("tcp", address, &tls.Config{RootCAs: pool, ServerName: "localhost"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0]
}

func TestServe(t *testing.T) {
	t.Parallel()
	backend := httptest.NewServer(http.NotFoundHandler())
	defer backend.Close()
	// An address nobody else in this process listens on, so that a port given
	// back isn't taken for one still open.
	r := startServer(t, newDataDirAt(t, "127.0.0.83:0", "ws://"+backend.Listener.Addr().String()+"/ocpp"))

	if status, body := get(t, "http://"+r.at.Admin+"/healthz"); status != 200 {
		t.Errorf("healthz: %d %s", status, body)
	}
	status, body := get(t, "http://"+r.at.Admin+"/readyz")
	var ready struct {
		Ready      bool
		Conditions []admin.Condition
	}
	if err := json.Unmarshal(body, &ready); err != nil || status != 200 || !ready.Ready || len(ready.Conditions) != 8 {
		t.Errorf("readyz: %d %s, %v", status, body, err)
	}
	for _, c := range ready.Conditions {
		if !c.OK {
			t.Errorf("readyz: %+v", c)
		}
	}
	if _, body := get(t, "http://"+r.at.Admin+"/metrics"); !strings.Contains(string(body), "bollard_build_info{") || !strings.Contains(string(body), "bollard_status_fault 0") || !strings.Contains(string(body), "go_goroutines") {
		t.Errorf("metrics: %.500s", body)
	}

	// The server certificate is the own CA's, and verifies.
	client := admin.NewClient(r.dir)
	root, err := admin.Call[admin.KindRef, admin.PEM](t.Context(), client, "ca.root", admin.KindRef{Kind: "csms"})
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(root.PEM))
	leaf := shown(t, r.at.OCPP[0], pool)
	if _, ok := leaf.PublicKey.(*ecdsa.PublicKey); !ok {
		t.Errorf("the front door shows %T", leaf.PublicKey)
	}

	// What is revoked is in the next CRL at once.
	before := fetchCRL(t, r.at.Status)
	again := fetchCRL(t, r.at.Status)
	if before.Number.Cmp(again.Number) != 0 {
		t.Error("a CRL was signed for each request")
	}
	if _, err := admin.Call[admin.Revoke, admin.Certificate](t.Context(), client, "ca.revoke", admin.Revoke{Serial: ca.SerialOf(leaf), Reason: "superseded"}); err != nil {
		t.Fatal(err)
	}
	after := fetchCRL(t, r.at.Status)
	if len(after.RevokedCertificateEntries) != len(before.RevokedCertificateEntries)+1 {
		t.Errorf("the CRL has %d entries, had %d", len(after.RevokedCertificateEntries), len(before.RevokedCertificateEntries))
	}

	state, err := admin.Call[admin.None, admin.Status](t.Context(), client, "server.status", admin.None{})
	if err != nil || state.Server == nil || state.Server.OCPP[0] != r.at.OCPP[0] || len(state.Sessions) != 0 {
		t.Errorf("server.status: %+v, %v", state, err)
	}
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	for _, address := range append(r.at.OCPP, r.at.Admin, r.at.Status) {
		// A process another test starts just now holds copies of all descriptors
		// until its exec.
		for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
			conn, err := net.Dial("tcp", address)
			if err != nil {
				break
			}
			_ = conn.Close()
			if time.Now().After(deadline) {
				t.Fatalf("%s is still open", address)
			}
		}
	}
}

func fetchCRL(t *testing.T, address string) *x509.RevocationList {
	t.Helper()
	status, der := get(t, "http://"+address+"/csms.crl")
	list, err := x509.ParseRevocationList(der)
	if status != 200 || err != nil {
		t.Fatalf("csms.crl: %d, %v", status, err)
	}
	return list
}

// A back end that is away doesn't make the server unready: its stations queue.
// A back end that hangs has its port open all the same.
func TestReadyTellsOfAHungBackend(t *testing.T) {
	t.Parallel()
	hung, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer hung.Close()
	r := startServer(t, newDataDir(t, "ws://"+hung.Addr().String()+"/ocpp"))
	status, body := get(t, "http://"+r.at.Admin+"/readyz")
	if status != 200 || !strings.Contains(string(body), `"name":"backend backends[0]","ok":false`) {
		t.Errorf("readyz: %d %s", status, body)
	}
}

// The operator finds why a station that was let in has no session.
func TestShowTellsOfTheBackend(t *testing.T) {
	t.Parallel()
	r := startServer(t, newDataDir(t, "ws://127.0.0.1:1/ocpp"))
	client := admin.NewClient(r.dir)
	added, err := admin.Call[admin.Enrolment, admin.Enrolled](t.Context(), client, "station.add", admin.Enrolment{Identity: "CS-1", Serial: "SN-1", Profile: 2})
	if err != nil {
		t.Fatal(err)
	}
	q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+r.at.OCPP[0]+"/ocpp/CS-1", nil)
	if err != nil {
		t.Fatal(err)
	}
	q.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"},
		"Sec-Websocket-Key": {"AAAAAAAAAAAAAAAAAAAAAA=="}, "Sec-Websocket-Protocol": {"ocpp2.0.1"}}
	q.SetBasicAuth("CS-1", added.Password)
	resp, err := (&http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}).RoundTrip(q)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable {
		t.Fatalf("answered %d", resp.StatusCode)
	}
	detail, err := admin.Call[admin.StationRef, admin.StationDetail](t.Context(), client, "station.show", admin.StationRef{Identity: "CS-1"})
	if err != nil {
		t.Fatal(err)
	}
	var shown strings.Builder
	writeStation(&shown, detail)
	if text := shown.String(); !strings.Contains(text, "no session") || !strings.Contains(text, "couldn't reach back end") || !strings.Contains(text, "refused") {
		t.Errorf("station show: %s", text)
	}
}

func TestReadyWithoutBackend(t *testing.T) {
	t.Parallel()
	r := startServer(t, newDataDir(t, "ws://127.0.0.1:1/ocpp"))
	status, body := get(t, "http://"+r.at.Admin+"/readyz")
	if status != 200 || !strings.Contains(string(body), `"name":"backend backends[0]","ok":false`) {
		t.Errorf("readyz: %d %s", status, body)
	}
}

// Without a CA key nothing is issued, but stations are served: a load balancer
// must not take that away.
func TestDegradedWithoutKeys(t *testing.T) {
	t.Parallel()
	r := startServer(t, newDataDir(t, ""))
	if err := os.Remove(filepath.Join(r.dir, keysName, "csms-root.key")); err != nil {
		t.Fatal(err)
	}
	status, body := get(t, "http://"+r.at.Admin+"/readyz")
	if status != 200 || !strings.Contains(string(body), `"degraded":true`) || !strings.Contains(string(body), `"name":"signer","ok":false`) {
		t.Errorf("readyz: %d %s", status, body)
	}
}

// keepFromWriting makes the probe's write fail, as a full disk does.
func keepFromWriting(t *testing.T, dir string) {
	t.Helper()
	db, err := sql.Open("sqlite3", filepath.Join(dir, databaseName))
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.ExecContext(t.Context(), "CREATE TRIGGER full BEFORE INSERT ON secrets BEGIN SELECT RAISE(FAIL, 'no room'); END")
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

// A database that can't be written stops issuing only.
func TestDegradedWithoutWrites(t *testing.T) {
	t.Parallel()
	r := startServer(t, newDataDir(t, ""))
	keepFromWriting(t, r.dir)
	status, body := get(t, "http://"+r.at.Admin+"/readyz")
	if status != 200 || !strings.Contains(string(body), `"degraded":true`) || !strings.Contains(string(body), `"name":"recording","ok":false`) {
		t.Errorf("readyz: %d %s", status, body)
	}
	if !strings.Contains(string(body), `"name":"store","ok":true`) {
		t.Errorf("readyz: %s", body)
	}
}

// A clock that is behind stops signing only, and shows.
func TestReadyTellsOfTheClock(t *testing.T) {
	t.Parallel()
	dir := newDataDir(t, "")
	if err := startServer(t, dir).stop(); err != nil { // it has its certificates now
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite3", filepath.Join(dir, databaseName))
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.ExecContext(t.Context(), "UPDATE meta SET value = ? WHERE name = 'newest'", time.Now().Add(time.Hour).UnixMilli())
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	r := startServer(t, dir)
	status, body := get(t, "http://"+r.at.Admin+"/readyz")
	if status != 200 || !strings.Contains(string(body), `"name":"clock","ok":false`) {
		t.Errorf("readyz: %d %s", status, body)
	}
}

// writePair writes a self-signed server certificate for localhost.
func writePair(t *testing.T, dir, name string, number int64) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(number), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{
		name + ".pem": {Type: "CERTIFICATE", Bytes: der},
		name + ".key": {Type: "PRIVATE KEY", Bytes: keyDER},
	} {
		if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func edit(t *testing.T, path, old, replacement string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(data), old) {
		t.Fatalf("%q isn't in %s", old, path)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(data), old, replacement, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestReloadReplacesCertificateFiles(t *testing.T) {
	t.Parallel()
	dir := newDataDir(t, "")
	first := writePair(t, dir, "front", 1)
	edit(t, filepath.Join(dir, configName), "country: NL", "country: NL\nserver_certificate: {ecdsa: {certificate: front.pem, key: front.key}} #")
	r := startServer(t, dir)
	pool := x509.NewCertPool()
	pool.AddCert(first)
	if got := shown(t, r.at.OCPP[0], pool); !got.Equal(first) {
		t.Errorf("the front door shows serial %v", got.SerialNumber)
	}

	// A key that isn't the certificate's: everything stays as it was.
	second := writePair(t, dir, "front", 2)
	writePair(t, dir, "other", 3)
	edit(t, filepath.Join(dir, configName), "key: front.key", "key: other.key")
	r.reload <- syscall.SIGHUP
	r.log.await(t, "couldn't reload")
	if got := shown(t, r.at.OCPP[0], pool); !got.Equal(first) {
		t.Errorf("after a failed reload the front door shows serial %v", got.SerialNumber)
	}

	// Who is connected stays so, whatever certificate others are shown.
	held, err := tls.Dial("tcp", r.at.OCPP[0], &tls.Config{RootCAs: pool, ServerName: "localhost"})
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	edit(t, filepath.Join(dir, configName), "key: other.key", "key: front.key")
	r.reload <- syscall.SIGHUP
	r.log.await(t, "configuration reloaded")
	pool.AddCert(second)
	if got := shown(t, r.at.OCPP[0], pool); !got.Equal(second) {
		t.Errorf("after the reload the front door shows serial %v", got.SerialNumber)
	}
	if _, err := io.WriteString(held, "GET /ocpp/CS-1 HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		t.Error(err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(held), nil)
	if err != nil {
		t.Fatalf("the connection of before is gone: %v", err)
	}
	defer answer.Body.Close()
}

// The address of a second server is refused before anything else happens, and
// the first one's socket isn't touched.
func TestServeTwice(t *testing.T) {
	t.Parallel()
	r := startServer(t, newDataDir(t, ""))
	err := serve(t.Context(), serveOptions{dataDir: r.dir, log: io.Discard})
	if err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("got %v", err)
	}
	if !admin.NewClient(r.dir).Reachable(t.Context()) {
		t.Error("the first server's socket is gone")
	}
}

// Commands beside each other wait for the lock instead of failing.
func TestCommandsQueueForTheLock(t *testing.T) {
	t.Parallel()
	dir := newDataDir(t, "")
	var wait sync.WaitGroup
	for i := range 4 {
		wait.Go(func() {
			var out, errs strings.Builder
			id := fmt.Sprintf("CS-%d", i)
			if code := run(t.Context(), []string{"station", "add", id, "--serial", "SN-" + id, "--data", dir}, strings.NewReader(""), &out, &errs); code != exitDone {
				t.Errorf("exit code %d: %s", code, errs.String())
			}
		})
	}
	wait.Wait()
}
