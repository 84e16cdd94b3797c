package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"database/sql"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"bollard/admin"
	"bollard/tpm/swtpm"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"bollard": cheapMain})
}

// cheapMain is main, but backups cost less to open.
func cheapMain() {
	c := &cli{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, backupCost: 10}
	os.Exit(c.run(context.Background(), os.Args[1:]))
}

func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("BOLLARD_DATA", filepath.Join(e.WorkDir, "data"))
			e.Setenv("GORACE", "atexit_sleep_ms=0") // else each command waits a second at its end
			e.Values[serversKey{}] = map[string]*background{}
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits":   scriptExits,
			"mode":    scriptMode,
			"init":    scriptInit,
			"serve":   scriptServe,
			"signal":  scriptSignal,
			"waitlog": scriptWaitLog,
			"ended":   scriptEnded,
			"csr":     scriptCSR,
			"root":    scriptRoot,
			"capture": scriptCapture,
			"nowhere": scriptNowhere,
			"replace": scriptReplace,
			"occupy":  scriptOccupy,
			"newer":   scriptNewer,
			"people":  scriptPeople,
			"tpm":     scriptTPM,
		},
	})
}

// patience bounds every wait; nothing waits as long when it works.
const patience = 2 * time.Minute

func await(ts *testscript.TestScript, what string, done func() bool) {
	deadline := time.Now().Add(patience)
	for !done() {
		if time.Now().After(deadline) {
			ts.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func usage(ts *testscript.TestScript, right bool, text string) {
	if !right {
		ts.Fatalf("usage: %s", text)
	}
}

// exits CODE args... runs bollard and wants its exit code.
func scriptExits(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) > 0, "exits CODE args...")
	got := 0
	if err := ts.Exec("bollard", args[1:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("exit code %d, want %s", got, args[0])
	}
}

// mode OCTAL FILE...
func scriptMode(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) > 1, "mode OCTAL FILE...")
	for _, name := range args[1:] {
		info, err := os.Stat(ts.MkAbs(name))
		ts.Check(err)
		if got := fmt.Sprintf("%04o", info.Mode().Perm()); got != args[0] {
			ts.Fatalf("%s has mode %s, want %s", name, got, args[0])
		}
	}
}

// init args... makes the data directory, to listen on any free ports.
func scriptInit(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg, "init args...")
	ts.Check(ts.Exec("bollard", append([]string{
		"init", "--org", "Example CPO", "--country", "NL", "--listen", "127.0.0.1:0", "--backend", "ws://127.0.0.1:1/ocpp",
	}, args...)...))
}

type serversKey struct{}

// background is a running server; its log goes to NAME.log.
type background struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed when it has
}

func server1(ts *testscript.TestScript, name string) *background {
	b := ts.Value(serversKey{}).(map[string]*background)[name]
	if b == nil {
		ts.Fatalf("no server %q", name)
	}
	return b
}

// serve NAME starts a server and waits until it answers.
func scriptServe(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 1, "serve NAME")
	path, err := exec.LookPath("bollard")
	ts.Check(err)
	log, err := os.Create(ts.MkAbs(args[0] + ".log"))
	ts.Check(err)
	cmd := exec.Command(path, "serve")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = append(os.Environ(), "BOLLARD_DATA="+ts.Getenv("BOLLARD_DATA"), passphraseEnv+"="+ts.Getenv(passphraseEnv), "SOFTHSM2_CONF="+ts.Getenv("SOFTHSM2_CONF"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	err = cmd.Start()
	_ = log.Close() // the process has its own
	ts.Check(err)
	b := &background{cmd, make(chan struct{})}
	go func() {
		_ = cmd.Wait() // `ended` looks at how
		close(b.ended)
	}()
	ts.Defer(func() {
		_ = cmd.Process.Kill() // it may have ended long ago
		<-b.ended
	})
	ts.Value(serversKey{}).(map[string]*background)[args[0]] = b
	client := admin.NewClient(ts.Getenv("BOLLARD_DATA"))
	await(ts, "the server", func() bool {
		select {
		case <-b.ended:
			ts.Fatalf("the server ended at once: %s", ts.ReadFile(args[0]+".log"))
		default:
		}
		return strings.Contains(ts.ReadFile(args[0]+".log"), "msg=ready") && client.Reachable(context.Background())
	})
}

// signal NAME TERM|HUP|KILL
func scriptSignal(ts *testscript.TestScript, neg bool, args []string) {
	signals := map[string]syscall.Signal{"TERM": syscall.SIGTERM, "HUP": syscall.SIGHUP, "KILL": syscall.SIGKILL}
	usage(ts, !neg && len(args) == 2 && signals[args[1]] != 0, "signal NAME TERM|HUP|KILL")
	ts.Check(server1(ts, args[0]).cmd.Process.Signal(signals[args[1]]))
}

// waitlog NAME REGEXP waits for a line of a server's log.
func scriptWaitLog(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 2, "waitlog NAME REGEXP")
	want := regexp.MustCompile(args[1])
	await(ts, args[1]+" in the log", func() bool { return want.MatchString(ts.ReadFile(args[0] + ".log")) })
}

// ended NAME CODE waits for a server's end; -1 is one by a signal.
func scriptEnded(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 2, "ended NAME CODE")
	b := server1(ts, args[0])
	select {
	case <-b.ended:
	case <-time.After(patience):
		ts.Fatalf("the server still runs")
	}
	if got := strconv.Itoa(b.cmd.ProcessState.ExitCode()); got != args[1] {
		ts.Fatalf("the server ended with %s: %s", got, ts.ReadFile(args[0]+".log"))
	}
}

// csr FILE CN writes a CSR with a name of its own choosing.
func scriptCSR(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 2, "csr FILE CN")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: args[1], Province: []string{"Somebody Else"}},
	}, key)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), 0o600))
}

// root FILE CN makes a maker's root and its key; root -leaf FILE CN something
// that can't be one.
func scriptRoot(ts *testscript.TestScript, neg bool, args []string) {
	leaf := len(args) > 0 && args[0] == "-leaf"
	if leaf {
		args = args[1:]
	}
	usage(ts, !neg && len(args) == 2, "root [-leaf] FILE CN")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: args[1]},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		BasicConstraintsValid: true, IsCA: !leaf, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]+".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600))
}

// capture NAME FILE REGEXP puts the first group's text into the environment.
func scriptCapture(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 3, "capture NAME FILE REGEXP")
	found := regexp.MustCompile("(?m)" + args[2]).FindStringSubmatch(ts.ReadFile(args[1]))
	if len(found) < 2 {
		ts.Fatalf("%s isn't in %s", args[2], args[1])
	}
	ts.Setenv(args[0], found[1])
}

// nowhere TEXT... looks through every file of the data directory and every log.
func scriptNowhere(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) > 0, "nowhere TEXT...")
	look := func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, text := range args {
			if len(text) < 8 {
				return fmt.Errorf("%q is too short to look for", text)
			}
			if strings.Contains(string(data), text) {
				return fmt.Errorf("%s holds %q", path, text)
			}
		}
		return nil
	}
	ts.Check(filepath.WalkDir(ts.Getenv("BOLLARD_DATA"), look))
	logs, err := filepath.Glob(ts.MkAbs("*.log"))
	ts.Check(err)
	for _, log := range logs {
		info, err := os.Stat(log)
		ts.Check(err)
		ts.Check(look(log, dirEntry{info}, nil))
	}
}

type dirEntry struct{ os.FileInfo }

func (e dirEntry) Type() os.FileMode          { return e.Mode().Type() }
func (e dirEntry) Info() (os.FileInfo, error) { return e.FileInfo, nil }

// replace FILE OLD NEW edits a file; \\n in NEW is a new line.
func scriptReplace(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 3, "replace FILE OLD NEW")
	text := ts.ReadFile(args[0])
	if !strings.Contains(text, args[1]) {
		ts.Fatalf("%q isn't in %s", args[1], args[0])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.Replace(text, args[1], strings.ReplaceAll(args[2], `\n`, "\n"), 1)), 0o600))
}

// occupy NAME listens on a port and puts its address into the environment.
func scriptOccupy(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 1, "occupy NAME")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { _ = l.Close() })
	ts.Setenv(args[0], l.Addr().String())
}

// people ALICE BOB CAROL has them approve downgrades, two of them, each by the
// keys given.
func scriptPeople(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 3, "people ALICE BOB CAROL")
	text := "approvals: [{action: station.downgrade, needed: 2}]\napprovers:\n"
	for i, name := range []string{"alice", "bob", "carol"} {
		text += fmt.Sprintf("  - {name: %s, %s}\n", name, os.Expand(args[i], ts.Getenv))
	}
	path := filepath.Join(ts.Getenv("BOLLARD_DATA"), configName)
	before, err := os.ReadFile(path)
	ts.Check(err)
	ts.Check(os.WriteFile(path, append(before, text...), 0o600))
}

// newer FILE marks a database as one of a later version.
func scriptNewer(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 1, "newer FILE")
	db, err := sql.Open("sqlite3", ts.MkAbs(args[0]))
	ts.Check(err)
	_, err = db.Exec("INSERT INTO goose_db_version (version_id, is_applied) VALUES (99999, 1)")
	ts.Check(errors.Join(err, db.Close()))
}

// tpm starts a software TPM, its socket in $TPM; tpm again starts one with the state it had;
// tpm kill kills it.
func scriptTPM(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) <= 1, "tpm [kill|again]")
	dir := filepath.Dir(ts.Getenv("TPM"))
	if len(args) == 1 && args[0] == "kill" {
		p, err := swtpm.Process(dir)
		ts.Check(err)
		ts.Check(p.Kill())
		return
	}
	if len(args) == 0 {
		var err error
		dir, err = os.MkdirTemp("", "tpm") // short: a socket is in it
		ts.Check(err)
		ts.Defer(func() { _ = os.RemoveAll(dir) })
		ts.Setenv("TPM", swtpm.Socket(dir))
	}
	ctx, cancel := context.WithCancel(context.Background())
	_, wait, err := swtpm.Start(ctx, dir)
	ts.Defer(func() {
		cancel()
		if wait != nil {
			wait()
		}
	})
	ts.Check(err)
}
