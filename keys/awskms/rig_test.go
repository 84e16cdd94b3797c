//go:build cloudkms

package awskms_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"bollard/keys"
)

// region of the server's keys.
const region = "eu-west-2"

// login is who may ask the server: see testdata/server.
type login struct {
	ID      string   `json:"id,omitempty"`
	Secret  string   `json:"secret,omitempty"`
	Session string   `json:"session,omitempty"`
	Token   string   `json:"token,omitempty"`
	Role    string   `json:"role,omitempty"`
	Assumes []string `json:"assumes,omitempty"`
}

// server is the one that scripts/server builds of testdata/server.
type server struct {
	t    *testing.T
	URL  string
	dir  string // of keys, logins and credentials
	args []string
	cmd  *exec.Cmd
	mu   sync.Mutex
	who  []login
}

// startKMS starts one of the test's own, which knows an access key of each role and one
// of somebody who may do everything.
func startKMS(t *testing.T, args ...string) *server {
	t.Helper()
	s := &server{t: t, dir: t.TempDir(), args: args}
	for _, role := range []string{"ca", "ocsp", "firmware", "cps", "*"} {
		s.knows(login{ID: "AKIA" + rand.Text()[:16], Secret: "canary-" + rand.Text(), Role: role})
	}
	for _, l := range s.who {
		s.writes(l, strings.ReplaceAll(l.Role, "*", "admin"))
	}
	s.run("127.0.0.1:0")
	t.Cleanup(s.kill)
	return s
}

// knows adds a login.
func (s *server) knows(l login) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.who = append(s.who, l)
	text, err := json.Marshal(s.who)
	if err == nil { // whole at once: it is read at any moment
		if err = os.WriteFile(filepath.Join(s.dir, "logins.new"), text, 0o600); err == nil {
			err = os.Rename(filepath.Join(s.dir, "logins.new"), filepath.Join(s.dir, "logins"))
		}
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// writes puts a login's access key into a file, as AWS's tools do.
func (s *server) writes(l login, name string) {
	s.t.Helper()
	text := "[default]\naws_access_key_id = " + l.ID + "\naws_secret_access_key = " + l.Secret + "\n"
	if err := os.WriteFile(filepath.Join(s.dir, name+".aws"), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) run(listen string) {
	s.t.Helper()
	binary, err := filepath.Abs("../../.tools/kms-server")
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := os.Stat(binary); err != nil {
		s.t.Fatalf("the server of the tests is missing (make cloud builds it): %v", err)
	}
	s.cmd = exec.Command(binary, append([]string{"-dir", filepath.Join(s.dir, "keys"), "-logins", filepath.Join(s.dir, "logins"), "-listen", listen}, s.args...)...)
	s.cmd.Stderr = io.Discard
	if os.Getenv("KMS_LOG") != "" {
		s.cmd.Stderr = os.Stderr
	}
	out, err := s.cmd.StdoutPipe()
	if err == nil {
		err = s.cmd.Start()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		s.t.Fatalf("the server doesn't listen: %v", err)
	}
	s.URL = strings.TrimSpace(line)
}

// kill ends it as a power cut does, and waits for that.
func (s *server) kill() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

// restart starts it again where it was, on the keys there are.
func (s *server) restart() {
	s.t.Helper()
	at, err := url.Parse(s.URL)
	if err != nil {
		s.t.Fatal(err)
	}
	s.run(at.Host)
}

// base is the URI base of keys whose roles log in by access keys.
func (s *server) base(address string) string {
	return "awskms:region=" + region + ";endpoint=" + address + "?credentials-source=" + s.dir + "/{role}.aws"
}

// admin is a client that may do everything.
func (s *server) admin() *kms.Client { return s.client("*") }

// client is one of a role's access key, without any of Bollard's code.
func (s *server) client(role string) *kms.Client {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.who {
		if l.Role == role {
			return kms.New(kms.Options{Region: region, BaseEndpoint: aws.String(s.URL), Credentials: credentials.NewStaticCredentialsProvider(l.ID, l.Secret, "")})
		}
	}
	s.t.Fatalf("nobody has role %q", role)
	return nil
}

// proxy stands between: see may answer itself and says so, change changes what comes back.
func (s *server) proxy(see func(w http.ResponseWriter, r *http.Request) bool, change func(action string, body []byte) []byte) string {
	s.t.Helper()
	target, err := url.Parse(s.URL)
	if err != nil {
		s.t.Fatal(err)
	}
	forward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host // it is signed
	}}
	if change != nil {
		forward.ModifyResponse = func(r *http.Response) error {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return err
			}
			body = change(action(r.Request), body)
			r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
			r.Header.Del("Content-Length")
			return nil
		}
	}
	p := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if see == nil || !see(w, r) {
			forward.ServeHTTP(w, r)
		}
	}))
	s.t.Cleanup(p.Close)
	return p.URL
}

// action is what a request asks KMS for.
func action(r *http.Request) string {
	_, name, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	return name
}

// fails answers as KMS does when it refuses.
func fails(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"__type": code, "message": "said the test"})
}

// create makes a P-256 key of a CA's.
func create(t *testing.T, k *keys.Keeper, uri string) keys.Signer {
	t.Helper()
	key, err := k.Create(t.Context(), uri, keys.RoleCA, keys.P256)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// within bounds a call of the tests' own.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}
