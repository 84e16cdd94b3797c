package e2e_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

var enrolling = regexp.MustCompile(`msg="listening for enrolment"\s+address=(\S+)`)

// estClient is curl and openssl as an EST client.
type estClient struct {
	t   *testing.T
	srv *server
	url string
	dir string
	n   int
}

// newESTServer is a server with listen.pki. It isn't started yet.
func newESTServer(t *testing.T) *server {
	t.Helper()
	srv := newServer(t, map[string]any{"url": "ws://127.0.0.1:1/ocpp"})
	srv.conf["listen"].(map[string]any)["pki"] = "127.0.0.1:0"
	srv.configure()
	return srv
}

// est finds the running server's EST listener.
func (s *server) est() *estClient {
	s.t.Helper()
	found := enrolling.FindStringSubmatch(s.proc.log.String())
	if found == nil {
		s.t.Fatalf("bollard doesn't say where it listens for enrolment:\n%s", s.proc.log)
	}
	_, port, _ := strings.Cut(found[1], ":")
	return &estClient{t: s.t, srv: s, url: "https://localhost:" + port + "/.well-known/est/", dir: s.t.TempDir()}
}

func (c *estClient) file(name string) string { return filepath.Join(c.dir, name) }

// tool runs a program that must succeed and returns its standard output.
func (c *estClient) tool(stdin, name string, args ...string) string {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		c.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, errs.String())
	}
	return string(out)
}

// curl asks for an operation and returns status, head and body; status 0 if
// the connection broke.
func (c *estClient) curl(operation string, args ...string) (status int, head, body string) {
	c.t.Helper()
	c.n++
	out, headers := c.file(fmt.Sprintf("body-%d", c.n)), c.file(fmt.Sprintf("head-%d", c.n))
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	all := append([]string{"--silent", "--show-error", "--ipv4", "--cacert", c.srv.root, "--max-time", "20",
		"--output", out, "--dump-header", headers, "--write-out", "%{http_code}"}, args...)
	code, err := exec.CommandContext(ctx, "curl", append(all, c.url+operation)...).Output()
	if err != nil {
		return 0, "", ""
	}
	_, err = fmt.Sscan(string(code), &status)
	if err != nil {
		c.t.Fatalf("curl says status %q", code)
	}
	return status, c.read(headers), c.read(out)
}

func (c *estClient) read(path string) string {
	c.t.Helper()
	data, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return "" // an answer without a body
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return string(data)
}

// request makes a key and a request with openssl; the request as base64 in a file.
func (c *estClient) request(name, subject string) (key, body string) {
	c.t.Helper()
	key, der, body := c.file(name+".key"), c.file(name+".csr"), c.file(name+".b64")
	c.tool("", "openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-keyout", key, "-subj", subject, "-outform", "DER", "-out", der)
	c.tool("", "openssl", "base64", "-e", "-in", der, "-out", body)
	return key, body
}

// post asks for a certificate as RFC 7030 has it.
func (c *estClient) post(operation, body string, args ...string) (status int, head, answer string) {
	c.t.Helper()
	return c.curl(operation, append([]string{"--header", "Content-Type: application/pkcs10", "--data-binary", "@" + body}, args...)...)
}

// certificates decodes a certs-only answer with openssl into a PEM file.
func (c *estClient) certificates(name, answer string) string {
	c.t.Helper()
	der, file := c.file(name+".p7"), c.file(name+".pem")
	c.tool(answer, "openssl", "base64", "-d", "-out", der)
	c.tool("", "openssl", "pkcs7", "-inform", "DER", "-in", der, "-print_certs", "-out", file)
	return file
}

// verified is a certificate openssl trusts, and its subject.
func (c *estClient) verified(chain, cert string) string {
	c.t.Helper()
	c.tool("", "openssl", "verify", "-x509_strict", "-CAfile", c.srv.root, "-untrusted", chain, cert)
	return strings.TrimSpace(c.tool("", "openssl", "x509", "-in", cert, "-noout", "-subject", "-nameopt", "RFC2253"))
}

// secret makes a one-time secret.
func (s *server) secret(identity string) string {
	s.t.Helper()
	var made struct {
		Secret string `json:"secret"`
	}
	s.cliJSON(&made, "station", "enrol-secret", identity)
	if len(made.Secret) != 20 {
		s.t.Fatalf("station enrol-secret printed %q", made.Secret)
	}
	return made.Secret
}

// RFC 7030 with curl and openssl as the client: CA certificates, attributes,
// the first certificate by one-time secret and by the maker's certificate, and
// its renewal (Shown by 1).
func TestESTWithCurlAndOpenSSL(t *testing.T) {
	t.Parallel()
	srv := newESTServer(t)
	srv.start()
	c := srv.est()

	// What everybody may have.
	status, head, body := c.curl("cacerts")
	if status != 200 || !strings.Contains(strings.ToLower(head), "content-type: application/pkcs7-mime\r\n") {
		t.Fatalf("cacerts: %d\n%s\n%s", status, head, body)
	}
	chain := c.certificates("cacerts", body)
	if n := strings.Count(c.read(chain), "BEGIN CERTIFICATE"); n != 2 {
		t.Errorf("cacerts holds %d certificates, want root and issuing CA", n)
	}
	root := strings.TrimSpace(srv.cli("ca", "root", "csms"))
	if !strings.Contains(c.read(chain), root) {
		t.Error("cacerts lacks the root")
	}
	status, head, body = c.curl("csrattrs")
	if status != 200 || !strings.Contains(strings.ToLower(head), "content-type: application/csrattrs\r\n") {
		t.Fatalf("csrattrs: %d\n%s", status, head)
	}
	attributes := c.tool(c.tool(body, "openssl", "base64", "-d"), "openssl", "asn1parse", "-inform", "DER")
	for _, oid := range []string{"id-ecPublicKey", "prime256v1", "rsaEncryption"} {
		if !strings.Contains(attributes, oid) {
			t.Errorf("csrattrs lacks %s:\n%s", oid, attributes)
		}
	}

	// By one-time secret.
	srv.cli("station", "add", "CS-1", "--serial", "SN-CS-1", "--profile", "3")
	secret := srv.secret("CS-1")
	key, request := c.request("first", "/O=E2E/CN=SN-CS-1")
	status, _, body = c.post("simpleenroll", request)
	if status != 401 {
		t.Errorf("without any proof: %d %s", status, body)
	}
	status, _, body = c.post("simpleenroll", request, "--user", "CS-1:"+secret)
	if status != 200 {
		t.Fatalf("simpleenroll: %d %s", status, body)
	}
	first := c.certificates("first", body)
	if got := c.verified(chain, first); got != "subject=CN=SN-CS-1,O=E2E" {
		t.Errorf("it says %s", got)
	}
	_, _, again := c.post("simpleenroll", request, "--user", "CS-1:"+secret)
	if again != body {
		t.Error("the same request brought another certificate")
	}
	_, other := c.request("other", "/O=E2E/CN=SN-CS-1")
	status, _, _ = c.post("simpleenroll", other, "--user", "CS-1:"+secret)
	if status != 403 {
		t.Errorf("the one-time secret was good for a second key: %d", status)
	}

	// Renewed by the certificate, with TLS 1.2 and 1.3 and a new key each.
	for i, version := range [][]string{{"--tlsv1.3"}, {"--tlsv1.2", "--tls-max", "1.2"}} {
		name := fmt.Sprintf("renewed-%d", i)
		newKey, renewal := c.request(name, "/O=E2E/CN=SN-CS-1")
		status, _, body = c.post("simplereenroll", renewal, append(version, "--cert", first, "--key", key)...)
		if status != 200 {
			t.Fatalf("simplereenroll %v: %d %s", version, status, body)
		}
		first, key = c.certificates(name, body), newKey
		if got := c.verified(chain, first); got != "subject=CN=SN-CS-1,O=E2E" {
			t.Errorf("it says %s", got)
		}
	}
	c.tool("", "openssl", "req", "-new", "-key", key, "-subj", "/O=E2E/CN=SN-CS-1", "-outform", "DER", "-out", c.file("same.csr"))
	c.tool("", "openssl", "base64", "-e", "-in", c.file("same.csr"), "-out", c.file("same.b64"))
	status, _, _ = c.post("simplereenroll", c.file("same.b64"), "--cert", first, "--key", key)
	if status != 400 {
		t.Errorf("renewed with the same key: %d", status)
	}
	srv.cli("ca", "revoke", srv.certificates("--station", "CS-1")[0].Serial, "--reason", "superseded")
	status, _, _ = c.post("simplereenroll", other, "--cert", first, "--key", key)
	if status != 403 {
		t.Errorf("renewed by a revoked certificate: %d", status)
	}

	// By the maker's certificate.
	maker, makerKey := c.file("maker.pem"), c.file("maker.key")
	c.tool("", "openssl", "req", "-x509", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-keyout", makerKey,
		"-subj", "/O=Maker/CN=Maker Root", "-days", "30", "-out", maker)
	srv.write(c.file("factory.ext"), "basicConstraints=CA:FALSE\nkeyUsage=digitalSignature\n")
	factoryKey, factory := c.file("factory.key"), c.file("factory.pem")
	c.tool("", "openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-keyout", factoryKey, "-subj", "/O=Maker/CN=SN-CS-2", "-out", c.file("factory.csr"))
	c.tool("", "openssl", "x509", "-req", "-in", c.file("factory.csr"), "-CA", maker, "-CAkey", makerKey, "-set_serial", "77", "-days", "20", "-extfile", c.file("factory.ext"), "-out", factory)
	srv.cli("station", "add", "CS-2", "--serial", "SN-CS-2", "--profile", "3")
	_, request = c.request("operational", "/CN=SN-CS-2")
	status, _, _ = c.post("simpleenroll", request, "--cert", factory, "--key", factoryKey)
	if status != 403 {
		t.Errorf("by a maker nobody trusts: %d", status)
	}
	srv.cli("ca", "trust", "add", "--use", "station", maker)
	status, _, body = c.post("simpleenroll", request, "--cert", factory, "--key", factoryKey)
	if status != 200 {
		t.Fatalf("simpleenroll by the factory certificate: %d %s", status, body)
	}
	if got := c.verified(chain, c.certificates("operational", body)); got != "subject=CN=SN-CS-2,O=E2E" {
		t.Errorf("it says %s", got)
	}
	srv.stop()
	log := srv.proc.log.String()
	if strings.Contains(log, secret) {
		t.Error("the secret is in the log")
	}
}

// EST bodies of each wrong kind: a clear refusal, nothing half done.
func TestESTBodiesOfEachWrongKind(t *testing.T) {
	t.Parallel()
	srv := newESTServer(t)
	srv.start()
	c := srv.est()
	srv.cli("station", "add", "CS-1", "--serial", "SN-CS-1", "--profile", "3")
	user := "CS-1:" + srv.secret("CS-1")
	_, good := c.request("good", "/O=E2E/CN=SN-CS-1")
	der, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(c.read(good), "\n", ""))
	if err != nil {
		t.Fatal(err)
	}
	pkcs10 := "Content-Type: application/pkcs10"
	for _, tt := range []struct {
		name, operation, header, body string
		status                        int
		says                          string
	}{
		{"empty", "simpleenroll", pkcs10, "", 400, "is empty"},
		{"PEM", "simpleenroll", pkcs10, c.tool("", "openssl", "req", "-inform", "DER", "-in", c.file("good.csr")), 400, "PEM armour"},
		{"DER", "simpleenroll", pkcs10, string(der), 400, "binary DER"},
		{"JSON", "simpleenroll", pkcs10, `{"csr":"x"}`, 400, "isn't base64"},
		{"twice", "simpleenroll", pkcs10, base64.StdEncoding.EncodeToString(append(der, der...)), 400, "isn't a PKCS#10"},
		{"a form", "simpleenroll", "Content-Type: application/x-www-form-urlencoded", c.read(good), 415, "application/pkcs10"},
		{"no type", "simpleenroll", "Content-Type:", c.read(good), 415, "application/pkcs10"},
		{"large", "simpleenroll", pkcs10, strings.Repeat("A", 30000), 413, "too large"},
		{"a label", "mylabel/simpleenroll", pkcs10, c.read(good), 404, "directly below"},
		{"full CMC", "fullcmc", "Content-Type: application/pkcs7-mime", c.read(good), 404, "directly below"},
		{"posted to cacerts", "cacerts", pkcs10, c.read(good), 405, "takes GET"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := c.file("body")
			srv.write(file, tt.body)
			status, head, answer := c.curl(tt.operation, "--user", user, "--header", tt.header, "--data-binary", "@"+file)
			if status != tt.status || !strings.Contains(answer, tt.says) {
				t.Errorf("%d, want %d with %q:\n%s%s", status, tt.status, tt.says, head, answer)
			}
		})
	}
	if n := len(srv.certificates("--station", "CS-1")); n != 0 {
		t.Errorf("%d certificates came of it", n)
	}
	if status, _, answer := c.post("simpleenroll", good, "--user", user); status != 200 {
		t.Errorf("the secret was used up by refused requests: %d %s", status, answer)
	}
}

// Promise 7 over EST: killed anywhere between request and answer, the station
// repeats its request and gets one certificate.
func TestKilledWhileEnrolling(t *testing.T) {
	t.Parallel()
	for _, point := range []string{"ca.after-intent", "ca.after-sign", "ca.after-issued"} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			srv := newESTServer(t)
			srv.start() // the server certificates are issued here, not at the failpoint
			srv.cli("station", "add", "CS-1", "--serial", "SN-CS-1", "--profile", "3")
			user := "CS-1:" + srv.secret("CS-1")
			srv.stop()
			srv.start("BOLLARD_FAILPOINT=" + point)
			c := srv.est()
			_, request := c.request("first", "/O=E2E/CN=SN-CS-1")
			status, _, _ := c.post("simpleenroll", request, "--user", user)
			if status != 0 {
				t.Fatalf("the server answered %d instead of dying", status)
			}
			srv.proc.wait(t)
			if state, ok := srv.proc.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || state.Signal() != syscall.SIGKILL {
				t.Fatalf("the server ended with %v", srv.proc.err)
			}
			srv.start()
			fresh := srv.est()
			fresh.dir = c.dir
			status, _, answer := fresh.post("simpleenroll", request, "--user", user)
			if status != 200 {
				t.Fatalf("the repeated request: %d %s", status, answer)
			}
			issued, all := 0, srv.certificates("--station", "CS-1")
			for _, cert := range all {
				if cert.State == "issued" {
					issued++
				} else if cert.State != "orphaned" {
					t.Errorf("certificate %s is %s", cert.Serial, cert.State)
				}
			}
			if issued != 1 || len(all) > 2 {
				t.Errorf("%d certificates are issued, of %d", issued, len(all))
			}
			var detail struct {
				Orders []struct {
					State string `json:"state"`
				} `json:"orders"`
			}
			err := json.Unmarshal([]byte(srv.cli("station", "show", "CS-1", "--json")), &detail)
			if err != nil || len(detail.Orders) != 1 || detail.Orders[0].State != "delivered" {
				t.Errorf("orders %+v, %v", detail.Orders, err)
			}
			srv.cli("ledger", "verify")
		})
	}
}
