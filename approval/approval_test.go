package approval_test

import (
	"bytes"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bollard/approval"
)

// person is somebody with keys of their own, kept by the real tools.
type person struct {
	t    *testing.T
	name string
	dir  string
	keys []approval.Key
}

func runTool(t *testing.T, stdin []byte, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stdin = bytes.NewReader(stdin)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, &errs)
	}
	return out
}

func newPerson(t *testing.T, name string) *person {
	return &person{t: t, name: name, dir: t.TempDir()}
}

func (p *person) path(name string) string { return filepath.Join(p.dir, name) }

func (p *person) read(name string) []byte {
	p.t.Helper()
	data, err := os.ReadFile(p.path(name))
	if err != nil {
		p.t.Fatal(err)
	}
	return data
}

// ssh makes and registers an SSH key.
func (p *person) ssh(name string, args ...string) *person {
	p.t.Helper()
	runTool(p.t, nil, "ssh-keygen", append([]string{"-q", "-N", "", "-C", "x", "-f", p.path(name)}, args...)...)
	key, err := approval.ParseSSH(p.read(name + ".pub"))
	if err != nil {
		p.t.Fatal(err)
	}
	if want := runTool(p.t, nil, "ssh-keygen", "-l", "-f", p.path(name+".pub")); !bytes.Contains(want, []byte(key.ID)) {
		p.t.Errorf("key is known as %s, ssh-keygen says %s", key.ID, want)
	}
	p.keys = append(p.keys, key)
	return p
}

// x509 makes and registers a certificate of a new key.
func (p *person) x509(name string, args ...string) *person {
	p.t.Helper()
	if args == nil {
		args = []string{"-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"}
	}
	runTool(p.t, nil, "openssl", append([]string{"req", "-x509", "-nodes", "-days", "30", "-subj", "/CN=" + p.name,
		"-keyout", p.path(name + ".key"), "-out", p.path(name + ".pem")}, args...)...)
	key, err := approval.ParseX509(p.read(name + ".pem"))
	if err != nil {
		p.t.Fatal(err)
	}
	p.keys = append(p.keys, key)
	return p
}

func (p *person) approver() approval.Approver { return approval.Approver{Name: p.name, Keys: p.keys} }

func (p *person) signSSH(name, namespace string, text []byte, args ...string) []byte {
	p.t.Helper()
	return runTool(p.t, text, "ssh-keygen", append([]string{"-q", "-Y", "sign", "-n", namespace, "-f", p.path(name)}, args...)...)
}

func (p *person) signCMS(name string, text []byte, args ...string) []byte {
	p.t.Helper()
	if args == nil {
		args = []string{"-binary", "-outform", "PEM"}
	}
	return runTool(p.t, text, "openssl", append([]string{"cms", "-sign", "-signer", p.path(name + ".pem"), "-inkey", p.path(name + ".key")}, args...)...)
}

func request(now time.Time) approval.Request {
	return approval.Request{
		Action: "station.downgrade", Scope: "station:cs-1", Digest: strings.Repeat("0a", 32), Author: "operator:carol",
		Expires: now.Add(time.Hour).Truncate(time.Second), Nonce: strings.Repeat("1f", 16),
	}
}

func unspent(string) bool { return false }

func statement(t *testing.T, r approval.Request) []byte {
	t.Helper()
	text, err := r.Statement()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// Each kind of key signs with the tool its owner has, and counts.
func TestRealSignatures(t *testing.T) {
	t.Parallel()
	now := time.Now().Add(time.Minute) // after the certificates that are made meanwhile
	r := request(now)
	text := statement(t, r)
	p := newPerson(t, "alice").ssh("ed", "-t", "ed25519").ssh("ec", "-t", "ecdsa", "-b", "384").ssh("rsa", "-t", "rsa", "-b", "3072").
		x509("p256").x509("p521", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-521").x509("rsa4", "-newkey", "rsa:3072")
	for name, sig := range map[string][]byte{
		"ed25519":                  p.signSSH("ed", approval.Namespace, text),
		"ed25519 over SHA-256":     p.signSSH("ed", approval.Namespace, text, "-O", "hashalg=sha256"),
		"ecdsa":                    p.signSSH("ec", approval.Namespace, text),
		"rsa":                      p.signSSH("rsa", approval.Namespace, text),
		"with CR LF":               bytes.ReplaceAll(p.signSSH("ed", approval.Namespace, text), []byte("\n"), []byte("\r\n")),
		"CMS":                      p.signCMS("p256", text),
		"CMS DER":                  p.signCMS("p256", text, "-binary", "-outform", "DER"),
		"CMS of P-521":             p.signCMS("p521", text, "-md", "sha512", "-binary", "-outform", "PEM"),
		"CMS of RSA":               p.signCMS("rsa4", text),
		"CMS without -binary":      p.signCMS("p256", text, "-outform", "PEM"),
		"CMS with the text":        p.signCMS("p256", text, "-nodetach", "-binary", "-outform", "PEM"),
		"CMS without certificates": p.signCMS("p256", text, "-nocerts", "-binary", "-outform", "PEM"),
		"CMS without attributes":   p.signCMS("p256", text, "-noattr", "-binary", "-outform", "PEM"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := approval.Signer(&r, sig, []approval.Approver{newPerson(t, "bob").approver(), p.approver()}, now)
			if err != nil || got.Name != "alice" {
				t.Errorf("%q, %v", got.Name, err)
			}
		})
	}
}

// What doesn't count, and why.
func TestSignaturesThatCountForNobody(t *testing.T) {
	t.Parallel()
	now := time.Now().Add(time.Minute) // after the certificates that are made meanwhile
	r := request(now)
	text := statement(t, r)
	alice := newPerson(t, "alice").ssh("ed", "-t", "ed25519").x509("p256")
	bob := newPerson(t, "bob").ssh("ed", "-t", "ed25519").x509("p256")
	carol := newPerson(t, "carol").ssh("ed", "-t", "ed25519")
	stranger := newPerson(t, "stranger").ssh("ed", "-t", "ed25519").x509("p256")
	// A certificate with Alice's issuer and serial number, and another key.
	twin := newPerson(t, "alice")
	serial := strings.TrimPrefix(strings.TrimSpace(string(runTool(t, nil, "openssl", "x509", "-in", alice.path("p256.pem"), "-noout", "-serial"))), "serial=")
	twin.x509("p256", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-set_serial", "0x"+serial)
	revoked := newPerson(t, "dave").ssh("ed", "-t", "ed25519")
	left := revoked.approver()
	left.Revoked = now.Add(-time.Minute)
	everybody := []approval.Approver{alice.approver(), bob.approver(), carol.approver(), left}
	changed := func(f func(*approval.Request)) []byte {
		other := r
		f(&other)
		return statement(t, other)
	}
	good := alice.signSSH("ed", approval.Namespace, text)
	block, _ := pem.Decode(good)
	broken := slices.Clone(block.Bytes)
	broken[len(broken)-1] ^= 1
	for name, tt := range map[string]struct {
		sig []byte
		why string
	}{
		"other namespace":     {alice.signSSH("ed", "file", text), "namespace"},
		"other action":        {alice.signSSH("ed", approval.Namespace, changed(func(r *approval.Request) { r.Action = "station.upgrade" })), "this statement"},
		"other scope":         {alice.signSSH("ed", approval.Namespace, changed(func(r *approval.Request) { r.Scope = "station:cs-2" })), "this statement"},
		"other digest":        {alice.signSSH("ed", approval.Namespace, changed(func(r *approval.Request) { r.Digest = "1" + r.Digest[1:] })), "this statement"},
		"other author":        {alice.signSSH("ed", approval.Namespace, changed(func(r *approval.Request) { r.Author = "dave" })), "this statement"},
		"other expiry":        {alice.signSSH("ed", approval.Namespace, changed(func(r *approval.Request) { r.Expires = r.Expires.Add(time.Second) })), "this statement"},
		"other nonce":         {alice.signSSH("ed", approval.Namespace, changed(func(r *approval.Request) { r.Nonce = "0" + r.Nonce[1:] })), "this statement"},
		"CMS of other scope":  {alice.signCMS("p256", changed(func(r *approval.Request) { r.Scope = "station:cs-2" })), "this statement"},
		"CMS with other text": {alice.signCMS("p256", changed(func(r *approval.Request) { r.Scope = "station:cs-2" }), "-nodetach", "-binary", "-outform", "DER"), "this statement"},
		"CMS of a twin":       {twin.signCMS("p256", text), "this statement"},
		"CMS over SHA-1":      {alice.signCMS("p256", text, "-md", "sha1", "-binary", "-outform", "PEM"), "old hash"},
		"CMS of two":          {alice.signCMS("p256", text, "-signer", bob.path("p256.pem"), "-inkey", bob.path("p256.key"), "-binary", "-outform", "PEM"), "one signer"},
		"stranger's key":      {stranger.signSSH("ed", approval.Namespace, text), "no registered key"},
		"stranger's CMS":      {stranger.signCMS("p256", text), "no registered key"},
		"the author":          {carol.signSSH("ed", approval.Namespace, text), "can't approve"},
		"who has left":        {revoked.signSSH("ed", approval.Namespace, text), "any more"},
		"last bit":            {pem.EncodeToMemory(&pem.Block{Type: "SSH SIGNATURE", Bytes: broken}), "this statement"},
		"cut":                 {good[:len(good)/2], "BEGIN and END"},
		"empty":               {nil, "neither"},
		"noise":               {[]byte("yes"), "neither"},
		"too long":            {bytes.Repeat([]byte("x"), 65<<10), "more than"},
		"certificate":         {alice.read("p256.pem"), "something else"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := approval.Signer(&r, tt.sig, everybody, now)
			if err == nil || !strings.Contains(err.Error(), tt.why) {
				t.Errorf("counts for %q: %v; want %q", got.Name, err, tt.why)
			}
			if names, err := (approval.Quorum{Needed: 1}).Check(&r, [][]byte{tt.sig}, everybody, unspent, now); err == nil || len(names) > 0 {
				t.Errorf("approved by %v", names)
			}
		})
	}
	if _, err := approval.Signer(&r, alice.signCMS("p256", text), everybody, now.AddDate(0, 2, 0)); err == nil || !strings.Contains(err.Error(), "isn't valid") {
		t.Errorf("expired certificate: %v", err)
	}
}

func TestQuorum(t *testing.T) {
	t.Parallel()
	now := time.Now().Add(time.Minute) // after the certificates that are made meanwhile
	r := request(now)
	text := statement(t, r)
	alice := newPerson(t, "alice").ssh("one", "-t", "ed25519").ssh("two", "-t", "ed25519").x509("p256")
	bob := newPerson(t, "bob").ssh("ed", "-t", "ed25519")
	people := []approval.Approver{alice.approver(), bob.approver()}
	a1, a2, a3 := alice.signSSH("one", approval.Namespace, text), alice.signSSH("two", approval.Namespace, text), alice.signCMS("p256", text)
	b := bob.signSSH("ed", approval.Namespace, text)
	two := approval.Quorum{Needed: 2}
	for name, tt := range map[string]struct {
		quorum approval.Quorum
		sigs   [][]byte
		now    time.Time
		names  string
		ok     bool
	}{
		"two of two":             {two, [][]byte{a1, b}, now, "alice,bob", true},
		"one":                    {two, [][]byte{a1}, now, "alice", false},
		"the same twice":         {two, [][]byte{a1, a1}, now, "alice", false},
		"two keys of one":        {two, [][]byte{a1, a2, a3}, now, "alice", false},
		"more than needed":       {approval.Quorum{Needed: 1}, [][]byte{b, a2}, now, "bob,alice", true},
		"one that doesn't count": {two, [][]byte{[]byte("x"), b, a3}, now, "bob,alice", true},
		"among others":           {approval.Quorum{Needed: 1, Of: []string{"carol"}}, [][]byte{a1, b}, now, "", false},
		"among them":             {approval.Quorum{Needed: 1, Of: []string{"bob", "carol"}}, [][]byte{a1, b}, now, "bob", true},
		"a moment before":        {two, [][]byte{a1, b}, r.Expires.Add(-1), "alice,bob", true},
		"expired":                {two, [][]byte{a1, b}, r.Expires, "", false},
		"nobody is needed":       {approval.Quorum{}, [][]byte{a1, b}, now, "", false},
		"no signatures":          {two, nil, now, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			names, err := tt.quorum.Check(&r, tt.sigs, people, unspent, tt.now)
			if (err == nil) != tt.ok || strings.Join(names, ",") != tt.names {
				t.Errorf("%v, %v", names, err)
			}
		})
	}
}

// What was acted on once isn't acted on again.
func TestReplay(t *testing.T) {
	t.Parallel()
	now := time.Now()
	r := request(now)
	alice := newPerson(t, "alice").ssh("ed", "-t", "ed25519")
	sigs := [][]byte{alice.signSSH("ed", approval.Namespace, statement(t, r))}
	spent := map[string]bool{}
	for _, want := range []bool{true, false} {
		names, err := (approval.Quorum{Needed: 1}).Check(&r, sigs, []approval.Approver{alice.approver()}, func(nonce string) bool { return spent[nonce] }, now)
		if (err == nil) != want || (len(names) == 1) != want {
			t.Errorf("%v, %v; want %t", names, err, want)
		}
		spent[r.Nonce] = true
	}
}

// A statement says one thing in one way, or isn't made.
func TestStatement(t *testing.T) {
	t.Parallel()
	r := request(time.Date(2026, 11, 25, 16, 0, 0, 0, time.FixedZone("", 3600)))
	want := "bollard approval 1\naction: station.downgrade\nscope: station:cs-1\nsha256: " + r.Digest +
		"\nauthor: operator:carol\nexpires: 2026-11-25T16:00:00Z\nnonce: " + r.Nonce + "\n"
	if got := string(statement(t, r)); got != want {
		t.Errorf("got %q", got)
	}
	for name, change := range map[string]func(*approval.Request){
		"no action":       func(r *approval.Request) { r.Action = "" },
		"action in words": func(r *approval.Request) { r.Action = "station downgrade" },
		"a second line":   func(r *approval.Request) { r.Scope = "station:cs-1\nsha256: 00" },
		"carriage return": func(r *approval.Request) { r.Author = "a\rb" },
		"text that turns": func(r *approval.Request) { r.Scope = "a\u202eb" },
		"long scope":      func(r *approval.Request) { r.Scope = strings.Repeat("x", 1001) },
		"short digest":    func(r *approval.Request) { r.Digest = r.Digest[1:] },
		"upper case":      func(r *approval.Request) { r.Digest = strings.ToUpper(r.Digest) },
		"no author":       func(r *approval.Request) { r.Author = "" },
		"no expiry":       func(r *approval.Request) { r.Expires = time.Time{} },
		"no nonce":        func(r *approval.Request) { r.Nonce = "" },
	} {
		bad := r
		change(&bad)
		if text, err := bad.Statement(); err == nil {
			t.Errorf("%s: %q", name, text)
		}
	}
}

func TestKeysThatDontApprove(t *testing.T) {
	t.Parallel()
	p := newPerson(t, "alice").ssh("ed", "-t", "ed25519")
	runTool(t, nil, "ssh-keygen", "-q", "-N", "", "-t", "rsa", "-b", "2048", "-f", p.path("small"))
	for name, text := range map[string][]byte{
		"small RSA": p.read("small.pub"), "private key": p.read("ed"), "two": append(p.read("ed.pub"), p.read("ed.pub")...),
		"options": append([]byte(`command="x" `), p.read("ed.pub")...), "empty": nil,
	} {
		if k, err := approval.ParseSSH(text); err == nil {
			t.Errorf("%s: %s", name, k.ID)
		}
	}
	make := func(name string, args ...string) []byte {
		runTool(t, nil, "openssl", append([]string{"req", "-x509", "-nodes", "-subj", "/CN=a", "-keyout", p.path(name + ".key"), "-out", p.path(name + ".pem")}, args...)...)
		return p.read(name + ".pem")
	}
	for name, text := range map[string][]byte{
		"small RSA": make("small", "-newkey", "rsa:2048"), "Ed25519": make("ed", "-newkey", "ed25519"),
		"two": append(p.read("ed.pem"), p.read("ed.pem")...), "its key": p.read("ed.key"), "empty": nil,
	} {
		if k, err := approval.ParseX509(text); err == nil {
			t.Errorf("%s: %s", name, k.ID)
		}
	}
	for name, ok := range map[string]bool{"alice": true, "a.b@c-1_d": true, "": false, "Alice": false, "a b": false, "-a": false, "a:b": false, strings.Repeat("a", 65): false} {
		if err := approval.CheckName(name); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
}
