package locker_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"

	"bollard/locker"
)

const patience = time.Minute

// box is a file in memory, or the place for one.
type box struct {
	bytes.Reader
	mu     sync.Mutex
	opened int
	closed int

	brought []byte
	kept    bool
	dropped chan struct{}
}

func (b *box) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed++
	return nil
}

// parcel keeps what is brought.
type parcel struct{ b *box }

func (p parcel) WriteAt(text []byte, off int64) (int, error) {
	p.b.mu.Lock()
	defer p.b.mu.Unlock()
	if need := int(off) + len(text); need > len(p.b.brought) {
		p.b.brought = append(p.b.brought, make([]byte, need-len(p.b.brought))...)
	}
	return copy(p.b.brought[off:], text), nil
}

func (p parcel) Close() error {
	p.b.mu.Lock()
	defer p.b.mu.Unlock()
	p.b.kept = true
	return nil
}

func (p parcel) Drop() { close(p.b.dropped) }

// rig is a server with one file to fetch and one place to bring.
type rig struct {
	t     *testing.T
	image []byte
	box   *box
	at    string // HOST:PORT
	key   ssh.PublicKey
	keys  []ssh.PublicKey
}

func newRig(t *testing.T, change func(*locker.Config)) *rig {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	old, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, image: bytes.Repeat([]byte("firmware"), 50_000), box: &box{dropped: make(chan struct{})}}
	r.box.Reader.Reset(r.image)
	cfg := locker.Config{Keys: []crypto.Signer{key, edwards, old}, PerSource: 100, All: 100, Login: func(_ context.Context, user, password string) (locker.Box, error) {
		switch user + ":" + password {
		case "firmware:good":
			return locker.Box{Name: "volt.bin", Size: int64(len(r.image)), Fetch: func(context.Context) (locker.File, error) {
				r.box.mu.Lock()
				defer r.box.mu.Unlock()
				r.box.opened++
				return r.box, nil
			}}, nil
		case "upload:good":
			return locker.Box{Bring: func(context.Context) (locker.Parcel, error) { return parcel{r.box}, nil }}, nil
		}
		return locker.Box{}, errors.New("nobody")
	}}
	if change != nil {
		change(&cfg)
	}
	s, err := locker.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range s.HostKeys() {
		key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
		if err != nil {
			t.Fatal(err)
		}
		r.keys = append(r.keys, key)
	}
	r.key = r.keys[0]
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.at = l.Addr().String()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *rig) dial(user, password string) (*ssh.Client, error) {
	return ssh.Dial("tcp", r.at, &ssh.ClientConfig{User: user, Auth: []ssh.AuthMethod{ssh.Password(password)}, HostKeyCallback: ssh.FixedHostKey(r.key), HostKeyAlgorithms: []string{r.key.Type()}, Timeout: patience})
}

// A station proves the host by the kind of key that its SSH has, with no signature over
// SHA-1.
func TestHostKeys(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	kinds := map[string]ssh.PublicKey{}
	for _, key := range r.keys {
		kinds[key.Type()] = key
	}
	for algorithm, kind := range map[string]string{ssh.KeyAlgoECDSA256: ssh.KeyAlgoECDSA256, ssh.KeyAlgoED25519: ssh.KeyAlgoED25519, ssh.KeyAlgoRSASHA256: ssh.KeyAlgoRSA, ssh.KeyAlgoRSASHA512: ssh.KeyAlgoRSA, ssh.KeyAlgoRSA: ""} {
		cfg := &ssh.ClientConfig{User: "firmware", Auth: []ssh.AuthMethod{ssh.Password("good")}, HostKeyAlgorithms: []string{algorithm}, HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: patience} //nolint:gosec // it is refused before
		if kind != "" {
			cfg.HostKeyCallback = ssh.FixedHostKey(kinds[kind])
		}
		conn, err := ssh.Dial("tcp", r.at, cfg)
		if (err == nil) != (kind != "") {
			t.Errorf("%s: %v", algorithm, err)
		}
		if err == nil {
			_ = conn.Close()
		}
	}
}

func (r *rig) client(user string) *sftp.Client {
	r.t.Helper()
	conn, err := r.dial(user, "good")
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { conn.Close() })
	c, err := sftp.NewClient(conn)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	return c
}

// The client that is on every machine fetches, goes on where it was cut, and brings.
func TestRealClient(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	dir := t.TempDir()
	host, port, _ := net.SplitHostPort(r.at)
	write := func(name, text string, mode os.FileMode) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	known := write("known_hosts", fmt.Sprintf("[%s]:%s %s", host, port, ssh.MarshalAuthorizedKey(r.key)), 0o600)
	ask := write("ask", "#!/bin/sh\necho good\n", 0o700)
	run := func(user, batch string) (string, error) {
		t.Helper()
		script := write("batch", batch, 0o600)
		// -b alone would forbid passwords; the client reads its commands from a pipe.
		cmd := exec.CommandContext(t.Context(), "sftp", "-q", "-F", "none", "-P", port, "-o", "UserKnownHostsFile="+known, "-o", "StrictHostKeyChecking=yes",
			"-o", "PubkeyAuthentication=no", "-o", "NumberOfPasswordPrompts=1", "-o", "BatchMode=no", "-b", script, user+"@"+host)
		cmd.Env = append(os.Environ(), "SSH_ASKPASS="+ask, "SSH_ASKPASS_REQUIRE=force", "DISPLAY=x", "HOME="+dir)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	got := filepath.Join(dir, "got")
	write("got", string(r.image[:100_000]), 0o600)
	if out, err := run("firmware", "ls -l\nreget volt.bin "+got+"\n"); err != nil || !strings.Contains(out, "volt.bin") {
		t.Fatalf("%v: %s", err, out)
	}
	if text, err := os.ReadFile(got); err != nil || !bytes.Equal(text, r.image) {
		t.Errorf("%d bytes, %v", len(text), err)
	}
	mine := write("diagnostics.log", strings.Repeat("a line\n", 20_000), 0o644)
	if out, err := run("upload", "put -p "+mine+"\n"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	r.box.mu.Lock()
	defer r.box.mu.Unlock()
	if !r.box.kept || string(r.box.brought) != strings.Repeat("a line\n", 20_000) || r.box.closed != r.box.opened {
		t.Errorf("%d bytes brought, kept %v; opened %d times, closed %d", len(r.box.brought), r.box.kept, r.box.opened, r.box.closed)
	}
}

// A login sees its one file by one path, and changes nothing.
func TestOneFileAlone(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	c := r.client("firmware")
	for _, path := range []string{"/volt.bin", "volt.bin", "../../volt.bin", "/./x/../volt.bin"} {
		f, err := c.Open(path)
		if err != nil {
			t.Errorf("%q: %v", path, err)
			continue
		}
		head := make([]byte, 8)
		if _, err := io.ReadFull(f, head); err != nil || string(head) != "firmware" {
			t.Errorf("%q: %q, %v", path, head, err)
		}
		if second, err := c.Open(path); err == nil {
			second.Close()
			t.Errorf("%q was opened twice at once", path)
		}
		f.Close()
	}
	for _, path := range []string{"/etc/passwd", "../../../../etc/passwd", "/volt.bin/x", "/volt.bin\x00", "//etc//passwd", "", "/", "~", "/proc/self/environ", strings.Repeat("../", 1000) + "etc/passwd", "/VOLT.BIN"} {
		if f, err := c.Open(path); err == nil {
			f.Close()
			t.Errorf("%q was opened", path)
		}
	}
	list, err := c.ReadDir("/")
	if err != nil || len(list) != 1 || list[0].Name() != "volt.bin" || list[0].Size() != int64(len(r.image)) || list[0].Mode().Perm()&0o222 != 0 {
		t.Errorf("the root: %v, %v", list, err)
	}
	up := r.client("upload")
	for name, try := range map[string]func() error{
		"write":     func() error { _, err := c.Create("/volt.bin"); return err },
		"append":    func() error { _, err := c.OpenFile("/volt.bin", os.O_WRONLY|os.O_APPEND); return err },
		"truncate":  func() error { return c.Truncate("/volt.bin", 0) },
		"mode":      func() error { return c.Chmod("/volt.bin", 0o777) },
		"rename":    func() error { return c.Rename("/volt.bin", "/x") },
		"replace":   func() error { return c.PosixRename("/volt.bin", "/x") },
		"remove":    func() error { return c.Remove("/volt.bin") },
		"folder":    func() error { return c.Mkdir("/x") },
		"link":      func() error { return c.Link("/etc/passwd", "/x") },
		"symlink":   func() error { return c.Symlink("/etc/passwd", "/x") },
		"read link": func() error { _, err := c.ReadLink("/etc"); return err },
		"volume":    func() error { _, err := c.StatVFS("/"); return err },
		"elsewhere": func() error { _, err := c.ReadDir("/etc"); return err },
		"its file":  func() error { _, err := up.Open("/x.log"); return err },
		"nested":    func() error { _, err := up.OpenFile("/a/b/x.log", os.O_WRONLY|os.O_CREATE); return err },
		"both ways": func() error { _, err := up.OpenFile("/x.log", os.O_RDWR|os.O_CREATE|os.O_APPEND); return err },
	} {
		if err := try(); err == nil {
			t.Errorf("%s was allowed", name)
		}
	}
}

// Nothing but files: no command, no shell, no way further from here.
func TestNothingElseIsServed(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	for user, password := range map[string]string{"firmware": "bad", "nobody": "good", "upload": "", "root": strings.Repeat("x", 10_000)} {
		if conn, err := r.dial(user, password); err == nil {
			conn.Close()
			t.Errorf("%s was let in", user)
		}
	}
	conn, err := r.dial("firmware", "good")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Dial("tcp", r.at); err == nil {
		t.Error("it forwards")
	}
	if _, err := conn.Listen("tcp", "127.0.0.1:0"); err == nil {
		t.Error("it listens for others")
	}
	channel, requests, err := conn.OpenChannel("session", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer channel.Close()
	go ssh.DiscardRequests(requests)
	named := func(name string) []byte { return ssh.Marshal(struct{ Name string }{name}) }
	for name, payload := range map[string][]byte{"exec": named("id"), "shell": nil, "pty-req": named("vt100"), "env": named("LD_PRELOAD"), "subsystem": named("netconf"), "x11-req": nil} {
		if granted, err := channel.SendRequest(name, true, payload); err != nil || granted {
			t.Errorf("%s was granted, %v", name, err)
		}
	}
	if _, err := conn.NewSession(); err == nil {
		t.Error("a second channel was opened")
	}
}

// Who asks without end is turned away; what broke off is thrown away; connections are
// counted.
func TestBounds(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *locker.Config) { c.PerSource = 3 })
	c := r.client("firmware")
	n := 0
	for ; n < 1000; n++ {
		if _, err := c.Stat("/volt.bin"); err != nil {
			break
		}
	}
	if n != 200 {
		t.Errorf("%d calls were answered", n)
	}
	conn, err := r.dial("upload", "good")
	if err != nil {
		t.Fatal(err)
	}
	up, err := sftp.NewClient(conn)
	if err != nil {
		t.Fatal(err)
	}
	f, err := up.Create("/half.log")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("half")); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	select {
	case <-r.box.dropped:
	case <-time.After(patience):
		t.Error("half a file is waited for")
	}
	r.box.mu.Lock()
	if r.box.kept {
		t.Error("half a file was kept")
	}
	r.box.mu.Unlock()
	// One connection is open; of a stranger's silent ones two more are.
	for silent, deadline := 0, time.Now().Add(patience); silent < 2; { // the one that broke off may count still
		conn, err := net.Dial("tcp", r.at)
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("%d are open, %v", silent, err)
		}
		defer conn.Close()
		if _, err := io.ReadFull(conn, make([]byte, 4)); err == nil { // SSH-
			silent++
		}
	}
	if late, err := r.dial("firmware", "good"); err == nil {
		late.Close()
		t.Error("a fourth connection was kept")
	}
}
