package e2e_test

import (
	"crypto/rand"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// stepCLI is smallstep's own client, which `make step` builds.
type stepCLI struct {
	t      *testing.T
	srv    *server
	binary string
	dir    string
}

func newStepCLI(t *testing.T, srv *server) *stepCLI {
	t.Helper()
	binary, err := filepath.Abs("../.tools/step")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(binary); err != nil {
		t.Fatalf("the step CLI isn't built: make step: %v", err)
	}
	return &stepCLI{t: t, srv: srv, binary: binary, dir: t.TempDir()}
}

func (c *stepCLI) file(name string) string { return filepath.Join(c.dir, name) }

func (c *stepCLI) try(args ...string) (string, error) {
	c.t.Helper()
	cmd := exec.CommandContext(c.t.Context(), c.binary, args...)
	cmd.Env = append(os.Environ(), "STEPPATH="+c.dir, "HOME="+c.dir)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// run must succeed.
func (c *stepCLI) run(args ...string) string {
	c.t.Helper()
	out, err := c.try(args...)
	if err != nil {
		c.t.Fatalf("step %s: %v\n%s\n%s", strings.Join(args, " "), err, out, tail(c.srv.proc.log.String(), 3000))
	}
	return out
}

// ca runs a command toward the server.
func (c *stepCLI) ca(args ...string) string {
	c.t.Helper()
	return c.run(c.toward(args...)...)
}

func (c *stepCLI) toward(args ...string) []string {
	return append([]string{"ca"}, append(args, "--ca-url", c.srv.stepURL(), "--root", c.srv.root)...)
}

// token is a one-time token.
func (c *stepCLI) token(args ...string) string {
	c.t.Helper()
	file := c.file(rand.Text())
	c.ca(append(append([]string{"token"}, args...), "--output-file", file)...)
	text, err := os.ReadFile(file)
	if err != nil {
		c.t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

// decimal is a serial number as step has it.
func decimal(t *testing.T, serial string) string {
	t.Helper()
	n, ok := new(big.Int).SetString(serial, 16)
	if !ok {
		t.Fatalf("%s is no serial number", serial)
	}
	return n.String()
}

// shown is a certificate as Bollard has it.
func (s *server) shown(serial string) (state, profile, requester string) {
	s.t.Helper()
	var shown struct {
		State     string `json:"state"`
		Profile   string `json:"profile"`
		Requester string `json:"requester"`
	}
	s.cliJSON(&shown, "cert", "show", serial)
	return shown.State, shown.Profile, shown.Requester
}

// The step CLI gets, renews and revokes certificates: with tokens by a key, by a
// certificate of somebody else's CA, and over ACME; what it may not, it is told.
func TestStepCLI(t *testing.T) {
	t.Parallel()
	port := laterPort(t)
	srv := newACMEServer(t, port)
	acme := srv.conf["acme"].(map[string]any)
	acme["open"] = true // the CLI knows no account binding
	srv.configure()
	srv.start()
	c := newStepCLI(t, srv)
	key, public, deployer, deployerKey, root := c.file("priv.json"), c.file("pub.json"), c.file("deployer.crt"), c.file("deployer.key"), c.file("outside.crt")
	c.run("crypto", "jwk", "create", public, key, "--no-password", "--insecure")
	c.run("certificate", "create", "Outside Root", root, c.file("outside.key"), "--profile", "root-ca", "--no-password", "--insecure")
	c.run("certificate", "create", "deployer", deployer, deployerKey, "--profile", "leaf", "--ca", root, "--ca-key", c.file("outside.key"), "--no-password", "--insecure", "--bundle")
	srv.cli("step", "add", "ops", "--jwk", public, "--host", "*.servers.example")
	srv.cli("step", "add", "deployers", "--x5c", root, "--host", "*.servers.example")
	if out := c.ca("health"); !strings.Contains(out, "ok") {
		t.Errorf("step ca health says %q", out)
	}
	sum := strings.TrimSpace(c.run("certificate", "fingerprint", srv.root))
	c.run("ca", "bootstrap", "--ca-url", srv.stepURL(), "--fingerprint", sum)
	if out := c.ca("roots", c.file("roots.crt")); !strings.Contains(out, "saved") {
		t.Errorf("step ca roots says %q", out)
	}
	if out := c.ca("provisioner", "list"); !strings.Contains(out, `"deployers"`) || !strings.Contains(out, `"ops"`) || !strings.Contains(out, `"ACME"`) {
		t.Errorf("step ca provisioner list says %q", out)
	}
	// What makes a token, and how ACME is asked; with --x5c-cert the CLI makes it by itself, too.
	byKey := []string{"--provisioner", "ops", "--key", key}
	byChain := []string{"--provisioner", "deployers", "--x5c-cert", deployer, "--x5c-key", deployerKey}
	standalone := []string{"--standalone", "--http-listen", "127.0.0.1:" + strconv.Itoa(port)}
	for name, tt := range map[string]struct {
		token []string
		acme  []string
		from  string
	}{
		"jwk":       {token: byKey, from: "step:ops/"},
		"x5c":       {token: byChain, from: "step:deployers/"},
		"acme":      {acme: append([]string{"--acme", srv.directory()}, standalone...), from: "acme:"},
		"acme-list": {acme: append([]string{"--provisioner", "names"}, standalone...), from: "acme:"},
	} {
		t.Run(name, func(t *testing.T) {
			c := &stepCLI{t, srv, c.binary, c.dir}
			host, crt, private := name+".servers.example", c.file(name+".crt"), c.file(name+".key")
			how := tt.acme
			if tt.token != nil {
				how = []string{"--token", c.token(append([]string{host, "--san", host, "--san", "also." + host}, tt.token...)...)}
			}
			c.ca(append([]string{"certificate", host, crt, private, "--force"}, how...)...)
			first := serialOf(t, crt)
			if tt.token != nil {
				c.ca("renew", crt, private, "--force")
			} else { // proven anew
				c.ca(append([]string{"certificate", host, crt, private, "--force"}, how...)...)
			}
			second := serialOf(t, crt)
			if state, profile, from := srv.shown(second); first == second || state != "issued" || profile != "server" || !strings.HasPrefix(from, tt.from) {
				t.Errorf("renewed, %s is %s, %s, from %s", second, state, profile, from)
			}
			if tt.token != nil {
				serial := decimal(t, first)
				c.ca("revoke", serial, "--token", c.token(append([]string{serial, "--revoke"}, tt.token...)...), "--reasonCode", "superseded")
				if state, _, _ := srv.shown(first); state != "revoked" {
					t.Errorf("the first is %s", state)
				}
			}
			c.ca("revoke", "--cert", crt, "--key", private)
			if state, _, _ := srv.shown(second); state != "revoked" {
				t.Errorf("the second is %s", state)
			}
			if out, err := c.try(c.toward("renew", crt, private, "--force")...); err == nil {
				t.Errorf("revoked, it is renewed: %s", out)
			}
		})
	}
	c.ca(append([]string{"certificate", "alone.servers.example", c.file("a.crt"), c.file("a.key")}, byChain...)...)
	token := c.token(append([]string{"other.example"}, byKey...)...)
	out, err := c.try(c.toward("certificate", "other.example", c.file("o.crt"), c.file("o.key"), "--token", token)...)
	if err == nil || !strings.Contains(out, "no certificates for other.example here") {
		t.Errorf("a foreign name: %v: %s", err, out)
	}
	srv.stop()
	srv.cli("ledger", "verify")
}
