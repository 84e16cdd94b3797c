// Package vaulttest runs a real Vault for tests and measurements: the server that
// scripts/vault builds of keys/vault/testdata/server, on loopback, initialised and unsealed.
//
// It promises a Vault of its caller's alone, gone with the caller's context.
package vaulttest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// patience is how long it may take to listen.
const patience = time.Minute

// Server is a running Vault with the transit engine and AppRole.
type Server struct {
	URL   string
	Token string // root's

	dir    string
	args   []string
	unseal string
	web    *http.Client
	cmd    *exec.Cmd
	ended  chan struct{}
}

// Start starts one with its state in a directory. Args go to the server, such as -cert;
// web is the client to speak to it with, nil for one of plain HTTP.
func Start(ctx context.Context, dir string, web *http.Client, args ...string) (*Server, error) {
	if web == nil {
		web = &http.Client{}
	}
	s := &Server{dir: dir, args: args, web: web}
	if err := s.run(ctx, "127.0.0.1:0"); err != nil {
		return nil, err
	}
	answer, err := s.Do(ctx, "", "sys/init", map[string]any{"secret_shares": 1, "secret_threshold": 1})
	if err != nil {
		return nil, err
	}
	shares, _ := answer["keys"].([]any)
	s.Token, _ = answer["root_token"].(string)
	if len(shares) != 1 || s.Token == "" {
		return nil, errors.New("the server isn't initialised as asked")
	}
	s.unseal, _ = shares[0].(string)
	if err := s.Unseal(ctx); err != nil {
		return nil, err
	}
	for path, kind := range map[string]string{"sys/mounts/transit": "transit", "sys/auth/approle": "approle"} {
		if _, err := s.Do(ctx, s.Token, path, map[string]any{"type": kind}); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// run starts the server and waits until it listens.
func (s *Server) run(ctx context.Context, listen string) error {
	binary, err := tool()
	if err != nil {
		return err
	}
	s.cmd = exec.CommandContext(ctx, binary, append([]string{"-dir", s.dir, "-listen", listen}, s.args...)...)
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	var errs bytes.Buffer
	s.cmd.Stderr = &errs
	if err := s.cmd.Start(); err != nil {
		return fmt.Errorf("couldn't start Vault: %w", err)
	}
	ended := make(chan struct{})
	s.ended = ended
	line := make(chan string, 1)
	go func() {
		text, _ := bufio.NewReader(out).ReadString('\n')
		line <- strings.TrimSpace(text)
		_, _ = io.Copy(io.Discard, out)
		_ = s.cmd.Wait()
		close(ended)
	}()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	select {
	case s.URL = <-line:
	case <-limit.C:
	}
	if s.URL == "" {
		return fmt.Errorf("the server doesn't listen: %s", errs.Bytes())
	}
	return nil
}

// tool is the server's binary: below the directory with go.mod that the caller works in.
func tool() (string, error) {
	dir, err := os.Getwd()
	for err == nil {
		if _, missing := os.Stat(filepath.Join(dir, "go.mod")); missing == nil {
			break
		}
		if dir == filepath.Dir(dir) {
			err = errors.New("there is no go.mod above")
		}
		dir = filepath.Dir(dir)
	}
	path := filepath.Join(dir, ".tools", "vault-server")
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		return "", fmt.Errorf("the Vault server for tests is missing (make vault builds it): %w", err)
	}
	return path, nil
}

// Kill ends it as a power cut does, and waits for that.
func (s *Server) Kill() {
	_ = s.cmd.Process.Kill()
	<-s.ended
}

// Wait waits until the context's end has ended it.
func (s *Server) Wait() { <-s.ended }

// Restart starts it again at the same address, on the state there is: it comes up sealed.
func (s *Server) Restart(ctx context.Context) error {
	at, err := url.Parse(s.URL)
	if err != nil {
		return err
	}
	return s.run(ctx, at.Host)
}

// Seal seals it.
func (s *Server) Seal(ctx context.Context) error {
	_, err := s.Do(ctx, s.Token, "sys/seal", nil)
	return err
}

// Unseal unseals it, and waits until it is active.
func (s *Server) Unseal(ctx context.Context) error {
	if _, err := s.Do(ctx, "", "sys/unseal", map[string]any{"key": s.unseal}); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		// Only an active one has health 200.
		if _, err := s.Do(ctx, "", "sys/health", get{}); err == nil || ctx.Err() != nil {
			return err
		}
	}
}

// get asks for a GET instead of a PUT.
type get struct{}

// Read is Do with GET.
func (s *Server) Read(ctx context.Context, token, path string) (map[string]any, error) {
	return s.Do(ctx, token, path, get{})
}

// StatusError is an answer other than 2xx.
type StatusError struct {
	Status int
	Text   string
}

func (e *StatusError) Error() string { return fmt.Sprintf("status %d: %s", e.Status, e.Text) }

// Do sends one request as the owner of a token and returns the answer.
func (s *Server) Do(ctx context.Context, token, path string, body any) (map[string]any, error) {
	method, text := http.MethodPut, []byte(nil)
	if _, read := body.(get); read {
		method = http.MethodGet
	} else if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return nil, err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, s.URL+"/v1/"+path, bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	req.Header.Set("X-Vault-Request", "true")
	if token != "" {
		req.Header.Set("X-Vault-Token", token)
	}
	resp, err := s.web.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode/100 != 2 {
		return nil, &StatusError{resp.StatusCode, strings.TrimSpace(string(raw))}
	}
	answer := map[string]any{}
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &answer); err != nil {
			return nil, err
		}
	}
	return answer, nil
}

// Policy is what a role's login is allowed: its own keys and no others.
func Policy(role string) string {
	return fmt.Sprintf(`path "transit/keys/bollard-%[1]s-*" { capabilities = ["create", "read", "update"] }
path "transit/sign/bollard-%[1]s-*" { capabilities = ["update"] }`, role)
}

// AppRole makes a login for a role, with settings such as token_ttl, and writes its
// credentials into two files of a directory, of which Query names them in a URI.
func (s *Server) AppRole(ctx context.Context, dir, role string, settings map[string]any) error {
	wanted := map[string]any{"token_policies": role}
	for key, value := range settings {
		wanted[key] = value
	}
	if _, err := s.Do(ctx, s.Token, "sys/policies/acl/"+role, map[string]any{"policy": Policy(role)}); err != nil {
		return err
	}
	if _, err := s.Do(ctx, s.Token, "auth/approle/role/"+role, wanted); err != nil {
		return err
	}
	id, err := s.Read(ctx, s.Token, "auth/approle/role/"+role+"/role-id")
	if err != nil {
		return err
	}
	secret, err := s.Do(ctx, s.Token, "auth/approle/role/"+role+"/secret-id", map[string]any{})
	if err != nil {
		return err
	}
	for _, f := range []struct{ name, text string }{{"role-id", data(id, "role_id")}, {"secret-id", data(secret, "secret_id")}} {
		if err := os.WriteFile(filepath.Join(dir, role+"."+f.name), []byte(f.text+"\n"), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// URI is the base of keys whose roles log in with the credentials that AppRole wrote.
func (s *Server) URI(dir string) string {
	return "vault:address=" + s.URL + "?role-id-source=" + dir + "/{role}.role-id&secret-id-source=" + dir + "/{role}.secret-id"
}

// MountPolicy is what a CA's login is allowed at the PKI mount "stations": to issue, by
// requests and by the role "stations", to revoke, and to read what was issued.
const MountPolicy = `path "stations/sign-verbatim" { capabilities = ["update"] }
path "stations/sign/stations" { capabilities = ["update"] }
path "stations/revoke" { capabilities = ["update"] }
path "stations/cert/*" { capabilities = ["read"] }
path "stations/certs" { capabilities = ["list"] }`

// StationRole are the settings of that role: names, usages and times are Bollard's, and
// of a request the key counts alone. The organisation is for the caller to add.
func StationRole() map[string]any {
	return map[string]any{
		"allow_any_name": true, "enforce_hostnames": false, "cn_validations": "disabled", "use_csr_common_name": false, "use_csr_sans": false,
		"key_type": "any", "key_usage": "DigitalSignature", "ext_key_usage": "", "server_flag": false, "client_flag": false,
		"basic_constraints_valid_for_non_ca": true, "not_before_duration": "1h",
	}
}

// Mount makes the PKI mount "stations" with a key of its own, the role "stations" and a
// login, whose credentials it writes into a directory. It returns the mount's request
// (PEM) and its URI.
func (s *Server) Mount(ctx context.Context, dir, organisation string, settings map[string]any) (request, uri string, err error) {
	role := StationRole()
	role["organization"] = organisation
	if err := s.AppRole(ctx, dir, "mount", settings); err != nil {
		return "", "", err
	}
	for _, step := range []struct {
		path string
		body map[string]any
	}{
		{"sys/policies/acl/mount", map[string]any{"policy": MountPolicy}},
		{"sys/mounts/stations", map[string]any{"type": "pki", "config": map[string]any{"max_lease_ttl": "87600h"}}},
		{"stations/roles/stations", role},
	} {
		if _, err := s.Do(ctx, s.Token, step.path, step.body); err != nil {
			return "", "", err
		}
	}
	made, err := s.Do(ctx, s.Token, "stations/intermediate/generate/internal", map[string]any{"common_name": "stations", "key_type": "ec", "key_bits": 256})
	if err != nil {
		return "", "", err
	}
	uri = "vault-pki:address=" + s.URL + ";mount=stations;role=stations?role-id-source=" + dir + "/mount.role-id&secret-id-source=" + dir + "/mount.secret-id"
	return data(made, "csr"), uri, nil
}

func data(answer map[string]any, field string) string {
	inner, _ := answer["data"].(map[string]any)
	text, _ := inner[field].(string)
	return text
}
