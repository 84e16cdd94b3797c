package e2e_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// server is one data directory and the bollard process that may run on it.
type server struct {
	t    *testing.T
	dir  string // of the test: keys, CSRs
	data string
	root string // PEM file of the own root
	conf map[string]any

	proc *process
	ocpp string // address of the first OCPP listener
}

// process is one run of `bollard serve`.
type process struct {
	cmd  *exec.Cmd
	log  *syncBuffer
	done chan struct{} // closed when it has ended
	err  error         // of Wait; read after done
}

// syncBuffer collects a process's output while a test reads it.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// noNap keeps the race detector from sleeping a second at every exit.
const noNap = "GORACE=atexit_sleep_ms=0"

// newServer makes a data directory whose stations go to the given back ends.
// The process isn't started yet.
func newServer(t *testing.T, backends ...map[string]any) *server {
	t.Helper()
	s := &server{t: t, dir: t.TempDir()}
	s.data = filepath.Join(s.dir, "data")
	s.cli("init", "--org", "E2E", "--country", "NL", "--listen", "127.0.0.1:0")
	s.root = filepath.Join(s.dir, "root.pem")
	s.write(s.root, s.cli("ca", "root", "csms"))
	s.conf = map[string]any{
		"organisation": "E2E",
		"country":      "NL",
		"host":         "localhost",
		"listen":       map[string]any{"ocpp": []any{map[string]any{"address": "127.0.0.1:0", "profiles": []int{2, 3}}}},
		"backends":     backends,
		// Tests reconnect more often than stations, see pings, and share the machine.
		"limits": map[string]any{"ping": "5s", "handshake": "1m", "header": "1m", "write": "1m", "drain": "1m", "takeovers": 1000000, "per_source": 2000},
	}
	s.configure()
	return s
}

func (s *server) write(path, content string) {
	s.t.Helper()
	err := os.WriteFile(path, []byte(content), 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
}

// configure writes bollard.yaml; JSON is YAML too.
func (s *server) configure() {
	s.t.Helper()
	raw, err := json.MarshalIndent(s.conf, "", "  ")
	if err != nil {
		s.t.Fatal(err)
	}
	s.write(filepath.Join(s.data, "bollard.yaml"), string(raw)+"\n")
}

// try runs one command and returns its output and exit code.
func (s *server) try(stdin string, args ...string) (stdout, stderr string, code int) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, bollardBinary, append(args, "--data", s.data)...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Env = append(os.Environ(), noNap)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if err != nil && cmd.ProcessState == nil {
		s.t.Fatalf("couldn't run bollard: %v", err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// cli runs a command that must succeed.
func (s *server) cli(args ...string) string {
	s.t.Helper()
	out, errs, code := s.try("", args...)
	if code != 0 {
		s.t.Fatalf("bollard %s: exit code %d\n%s", strings.Join(args, " "), code, errs)
	}
	return out
}

// cliJSON is cli with --json.
func (s *server) cliJSON(into any, args ...string) {
	s.t.Helper()
	out := s.cli(append(args, "--json")...)
	err := json.Unmarshal([]byte(out), into)
	if err != nil {
		s.t.Fatalf("bollard %s --json: %v\n%s", strings.Join(args, " "), err, out)
	}
}

var listening = regexp.MustCompile(`msg="listening for stations"\s+address=(\S+)`)

// start runs serve and waits until it is ready. env is added to its environment.
func (s *server) start(env ...string) {
	s.t.Helper()
	p := &process{cmd: exec.Command(bollardBinary, "serve", "--data", s.data), log: &syncBuffer{}, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.Env = append(append(os.Environ(), noNap), env...)
	// If the test process dies, so does the server.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	err := p.cmd.Start()
	if err != nil {
		s.t.Fatalf("couldn't start bollard: %v", err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	s.proc = p
	s.t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.done
		if strings.Contains(p.log.String(), "DATA RACE") {
			s.t.Errorf("bollard reported a data race:\n%s", p.log)
		}
		if s.t.Failed() {
			s.t.Logf("log of bollard:\n%s", tail(p.log.String(), 8000))
		}
	})
	eventually(s.t, "bollard is ready", func() bool {
		select {
		case <-p.done:
			s.t.Fatalf("bollard ended: %v\n%s", p.err, p.log)
		default:
		}
		return strings.Contains(p.log.String(), "msg=ready")
	})
	found := listening.FindStringSubmatch(p.log.String())
	if found == nil {
		s.t.Fatalf("bollard doesn't say where it listens:\n%s", p.log)
	}
	s.ocpp = found[1]
}

func tail(s string, n int) string {
	if len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}

// wait waits for the process's end.
func (p *process) wait(t *testing.T) {
	t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		t.Fatalf("bollard still runs:\n%s", tail(p.log.String(), 4000))
	}
}

// stop ends the server as an operator would; it must end cleanly.
func (s *server) stop() {
	s.t.Helper()
	_ = s.proc.cmd.Process.Signal(syscall.SIGTERM)
	s.proc.wait(s.t)
	if s.proc.err != nil {
		s.t.Fatalf("bollard ended with %v after SIGTERM\n%s", s.proc.err, tail(s.proc.log.String(), 4000))
	}
}

// enlisted is a station the test has added.
type enlisted struct {
	identity, serial, password string
	cert, key                  string // PEM files
}

// enlist adds a station on profile 2 or 3; on profile 3 it gets a certificate
// through `ca issue`.
func (s *server) enlist(identity string, profile int) enlisted {
	s.t.Helper()
	e := enlisted{identity: identity, serial: "SN-" + identity}
	var added struct {
		Password string `json:"password"`
	}
	s.cliJSON(&added, "station", "add", identity, "--serial", e.serial, "--profile", fmt.Sprint(profile))
	e.password = added.Password
	if profile == 3 {
		s.certify(&e)
	} else if e.password == "" {
		s.t.Fatalf("station add printed no password for %s", identity)
	}
	return e
}

func (s *server) certify(e *enlisted) {
	s.t.Helper()
	csr, key := newCSR(s.t, e.serial)
	csrFile := filepath.Join(s.dir, e.identity+".csr")
	e.cert = filepath.Join(s.dir, e.identity+".crt")
	e.key = filepath.Join(s.dir, e.identity+".key")
	s.write(csrFile, csr)
	s.write(e.key, key)
	s.write(e.cert, s.cli("ca", "issue", "--profile", "station", "--csr", csrFile, "--station", e.identity))
}

// newCSR returns a CSR and its key as PEM.
func newCSR(t *testing.T, cn string) (csr, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: cn, Organization: []string{"E2E"}}}, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
}

// certificate is what `cert list` says of one.
type certificate struct {
	Serial  string `json:"serial"`
	Station string `json:"station"`
	Profile string `json:"profile"`
	State   string `json:"state"`
	KeyHash string `json:"key_sha256"`
	PEM     string `json:"pem"`
}

func (s *server) certificates(args ...string) []certificate {
	s.t.Helper()
	var list struct {
		Certificates []certificate `json:"certificates"`
	}
	s.cliJSON(&list, append([]string{"cert", "list"}, args...)...)
	return list.Certificates
}
