//go:build cloudkms

package awskms_test

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"bollard/keys"
	"bollard/keys/keystest"
)

// A wrong access key is a refused login, is shown once, and is taken up when its file
// changes.
func TestAccessKeys(t *testing.T) {
	t.Parallel()
	s := startKMS(t)
	var asked atomic.Int64
	proxy := s.proxy(func(http.ResponseWriter, *http.Request) bool { asked.Add(1); return false }, nil)
	right := s.who[0]
	for name, wrong := range map[string]login{
		"unknown":      {ID: "AKIAUNKNOWN", Secret: "canary-unknown"},
		"wrong secret": {ID: right.ID, Secret: "canary-wrong"},
	} {
		s.writes(wrong, "ca")
		k := keystest.Keeper(t, keys.Config{})
		uri := keystest.Named(t, s.base(proxy), strings.ReplaceAll(name, " ", "-"))
		asked.Store(0)
		for range 3 {
			if _, err := k.Create(t.Context(), uri, keys.RoleCA, keys.P256); !errors.Is(err, keys.ErrLogin) || errors.Is(err, keys.ErrUnavailable) || strings.Contains(err.Error(), "canary") {
				t.Errorf("%s: %v, want ErrLogin", name, err)
			}
		}
		if n := asked.Load(); n != 1 {
			t.Errorf("%s was shown %d times", name, n)
		}
		s.writes(right, "ca")
		keystest.Signs(t, create(t, k, uri))
	}
}

// A key that was taken away ends its login; the next one in the file is taken up.
func TestAccessKeyReplaced(t *testing.T) {
	t.Parallel()
	s := startKMS(t)
	k := keystest.Keeper(t, keys.Config{})
	key := create(t, k, keystest.Named(t, s.base(s.URL), "key"))
	s.mu.Lock()
	s.who[0].Secret = "canary-" + rand.Text()
	s.mu.Unlock()
	s.knows(login{})
	if err := keystest.TrySign(key); !errors.Is(err, keys.ErrLogin) {
		t.Errorf("by a key that was taken away: %v, want ErrLogin", err)
	}
	s.writes(s.who[0], "ca")
	keystest.Signs(t, key)
}

func TestCredentialFiles(t *testing.T) {
	t.Parallel()
	s := startKMS(t)
	keyPair := func(l login) string {
		return "aws_access_key_id = " + l.ID + "\naws_secret_access_key = " + l.Secret + "\n"
	}
	good := keyPair(s.who[0])
	for name, tt := range map[string]struct {
		text    string
		mode    os.FileMode
		profile string
		wantErr string
	}{
		"default":        {"[default]\n" + good, 0o600, "", ""},
		"another":        {"[default]\n" + keyPair(login{ID: "AKIAOTHER", Secret: "canary"}) + "[fleet]\n" + good, 0o600, "&profile=fleet", ""},
		"no such":        {"[default]\n" + good, 0o600, "&profile=fleet", "fleet"},
		"others read it": {"[default]\n" + good, 0o644, "", "chmod 600"},
		"empty":          {"", 0o600, "", "empty"},
		"half":           {"[default]\naws_access_key_id = AKIA\n", 0o600, "", "partial credentials"},
		"not one":        {"canary\x00", 0o600, "", "access keys"},
		"a program":      {"[default]\ncredential_process = /bin/touch " + s.dir + "/ran\n", 0o600, "", "aws_access_key_id"},
	} {
		file := filepath.Join(t.TempDir(), "credentials")
		if err := os.WriteFile(file, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, tt.mode); err != nil {
			t.Fatal(err)
		}
		uri := "awskms:region=" + region + ";endpoint=" + s.URL + ";object=" + strings.ReplaceAll(name, " ", "-") + "?credentials-source=" + file + tt.profile
		_, err := keystest.Keeper(t, keys.Config{}).Create(t.Context(), uri, keys.RoleCA, keys.P256)
		switch {
		case tt.wantErr == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case tt.wantErr != "" && (!errors.Is(err, keys.ErrLogin) || !strings.Contains(err.Error(), tt.wantErr) || strings.Contains(err.Error(), "canary")):
			t.Errorf("%s: got %v, want ErrLogin with %q", name, err, tt.wantErr)
		}
	}
	if _, err := os.Stat(s.dir + "/ran"); err == nil {
		t.Error("a program was run")
	}
}

// Roles of AWS's are assumed by an access key or by a token of another's, one for each role
// of Bollard's.
func TestAssumesRoles(t *testing.T) {
	t.Parallel()
	s := startKMS(t)
	arn := func(role string) string { return "arn:aws:iam::111122223333:role/bollard-" + role }
	machine := login{ID: "AKIAMACHINE", Secret: "canary-machine", Assumes: []string{arn("ca"), arn("ocsp")}}
	s.knows(machine)
	s.writes(machine, "machine")
	s.knows(login{Token: "canary-token", Assumes: []string{arn("ca")}})
	token := filepath.Join(s.dir, "token")
	if err := os.WriteFile(token, []byte("canary-token\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	at := "awskms:region=" + region + ";endpoint=" + s.URL + ";sts-endpoint=" + s.URL + "?assume-role=arn:aws:iam::111122223333:role/bollard-{role}"
	for name, base := range map[string]string{
		"access key": at + "&credentials-source=" + s.dir + "/machine.aws",
		"token":      at + "&web-identity-source=" + token,
	} {
		k := keystest.Keeper(t, keys.Config{})
		uri := keystest.Named(t, base, strings.ReplaceAll(name, " ", "-"))
		keystest.Signs(t, create(t, k, uri))
		// AWS doesn't let it be the role: its login is refused, not what it asks.
		if _, err := k.Open(t.Context(), uri, keys.RoleFirmware); !errors.Is(err, keys.ErrLogin) || !strings.Contains(err.Error(), "AccessDenied") || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: firmware: %v, want ErrLogin", name, err)
		}
		// The CA's session may not use another role's key.
		if _, err := k.Create(t.Context(), strings.ReplaceAll(keystest.Named(t, base, "another"), "{role}", "ca"), keys.RoleOCSP, keys.P256); !errors.Is(err, keys.ErrDenied) {
			t.Errorf("%s: a key of OCSP by the CA's role: %v, want ErrDenied", name, err)
		}
	}
	wrong := filepath.Join(s.dir, "wrong")
	if err := os.WriteFile(wrong, []byte("canary-wrong\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := keystest.Keeper(t, keys.Config{}).Open(t.Context(), keystest.Named(t, at+"&web-identity-source="+wrong, "key"), keys.RoleCA); !errors.Is(err, keys.ErrLogin) || strings.Contains(err.Error(), "canary") {
		t.Errorf("a wrong token: %v, want ErrLogin", err)
	}
	s.kill()
	if _, err := keystest.Keeper(t, keys.Config{}).Open(t.Context(), keystest.Named(t, at+"&web-identity-source="+token, "key"), keys.RoleCA); !errors.Is(err, keys.ErrUnavailable) {
		t.Errorf("no STS: %v, want ErrUnavailable", err)
	}
}

// A session that has ended, or that AWS no longer knows, is replaced by a new one.
func TestEndedSessionIsReplaced(t *testing.T) {
	t.Parallel()
	s := startKMS(t)
	arn := "arn:aws:iam::111122223333:role/bollard-ca"
	s.knows(login{ID: "AKIAMACHINE", Secret: "canary-machine", Assumes: []string{arn}})
	s.writes(s.who[len(s.who)-1], "machine")
	var ended atomic.Bool
	proxy := s.proxy(func(w http.ResponseWriter, r *http.Request) bool {
		if action(r) != "" && ended.CompareAndSwap(true, false) {
			fails(w, http.StatusBadRequest, "ExpiredTokenException")
			return true
		}
		return false
	}, nil)
	key := create(t, keystest.Keeper(t, keys.Config{}), keystest.Named(t, "awskms:region="+region+";endpoint="+proxy+";sts-endpoint="+s.URL+"?assume-role="+arn+"&credentials-source="+s.dir+"/machine.aws", "key"))
	ended.Store(true)
	keystest.Signs(t, key)
	if ended.Load() {
		t.Error("it wasn't asked")
	}
}

// A private endpoint of a company's CA is known by ca-source, and by nothing else.
func TestPrivateEndpoint(t *testing.T) {
	t.Parallel()
	rig := httptest.NewUnstartedServer(nil)
	rig.StartTLS() // for its certificate, of 127.0.0.1
	t.Cleanup(rig.Close)
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	der, err := x509.MarshalPKCS8PrivateKey(rig.TLS.Certificates[0].PrivateKey)
	if err == nil {
		err = os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
	}
	if err == nil {
		err = os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: rig.Certificate().Raw}), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	s := startKMS(t, "-cert", certFile, "-key", keyFile)
	k := keystest.Keeper(t, keys.Config{})
	base := s.base(s.URL) + "&ca-source=" + certFile
	keystest.Signs(t, create(t, k, keystest.Named(t, base, "key")))
	var unknown *tls.CertificateVerificationError
	if _, err := k.Open(t.Context(), keystest.Named(t, s.base(s.URL), "key"), keys.RoleCA); !errors.Is(err, keys.ErrUnavailable) || !errors.As(err, &unknown) {
		t.Errorf("without ca-source: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "none.pem"), []byte("none"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Open(t.Context(), keystest.Named(t, s.base(s.URL)+"&ca-source="+dir+"/none.pem", "key"), keys.RoleCA); !errors.Is(err, keys.ErrLogin) || !strings.Contains(err.Error(), "PEM") {
		t.Errorf("ca-source without certificates: %v", err)
	}
}

// metadata is the service that tells a machine of AWS's who it is (IMDSv2).
func metadata(t *testing.T, who login) string {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /latest/api/token", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", r.Header.Get("X-Aws-Ec2-Metadata-Token-Ttl-Seconds"))
		_, _ = io.WriteString(w, "canary-metadata")
	})
	const path = "GET /latest/meta-data/iam/security-credentials/"
	mux.HandleFunc(path+"{$}", func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "machine") })
	mux.HandleFunc(path+"machine", func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{
			"Code": "Success", "AccessKeyId": who.ID, "SecretAccessKey": who.Secret, "Token": who.Session, "Expiration": time.Now().Add(time.Hour).UTC(),
		})
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s.URL
}

// Whom the machine is for AWS, by the environment or the service of its own, is used
// without a file, and where the environment has AWS isn't. It can't run beside others: the
// environment is the process's.
func TestMachineItself(t *testing.T) {
	s := startKMS(t)
	machine := login{ID: "ASIAMACHINE", Secret: "canary-machine", Session: "canary-session", Role: "ca"}
	s.knows(machine)
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": s.who[0].ID, "AWS_SECRET_ACCESS_KEY": s.who[0].Secret, "AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_ENDPOINT_URL_STS": "http://127.0.0.1:1",
		"AWS_CONFIG_FILE": s.dir + "/config", "AWS_SHARED_CREDENTIALS_FILE": s.dir + "/admin.aws", "AWS_EC2_METADATA_DISABLED": "true",
	} {
		t.Setenv(name, value)
	}
	// Who started it may have files of AWS's tools, which say to run a program, too.
	if err := os.WriteFile(s.dir+"/config", []byte("[default]\ncredential_process = /bin/touch "+s.dir+"/ran\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	base := "awskms:region=" + region + ";endpoint=" + s.URL
	keystest.Signs(t, create(t, keystest.Keeper(t, keys.Config{}), keystest.Named(t, base, "environment")))
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	if _, err := keystest.Keeper(t, keys.Config{}).Open(t.Context(), keystest.Named(t, base, "environment"), keys.RoleCA); !errors.Is(err, keys.ErrUnavailable) {
		t.Errorf("as nobody: %v, want ErrUnavailable", err)
	}
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
	if _, err := keystest.Keeper(t, keys.Config{}).Open(t.Context(), keystest.Named(t, base, "environment"), keys.RoleCA); !errors.Is(err, keys.ErrUnavailable) {
		t.Errorf("as nobody who may run a program: %v, want ErrUnavailable", err)
	}
	if _, err := os.Stat(s.dir + "/ran"); err == nil {
		t.Error("a program was run")
	}
	// As Kubernetes has it: the token is for the STS of the URI alone.
	const token = "canary-token"
	s.knows(login{Token: token, Assumes: []string{"arn:aws:iam::111122223333:role/bollard-ca"}})
	file := filepath.Join(s.dir, "token")
	if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_WEB_IDENTITY_TOKEN_FILE", file)
	t.Setenv("AWS_ROLE_ARN", "arn:aws:iam::111122223333:role/bollard-ca")
	keystest.Signs(t, create(t, keystest.Keeper(t, keys.Config{}), keystest.Named(t, "awskms:region="+region+";endpoint="+s.URL+";sts-endpoint="+s.URL, "pod")))
	t.Setenv("AWS_WEB_IDENTITY_TOKEN_FILE", "")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "false")
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata(t, machine))
	keystest.Signs(t, create(t, keystest.Keeper(t, keys.Config{}), keystest.Named(t, base, "machine")))
	// One that isn't told: what the SDK has to say about it is in the error alone.
	silent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
	t.Cleanup(silent.Close)
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", silent.URL)
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr := os.Stderr
	os.Stderr = write
	_, opens := keystest.Keeper(t, keys.Config{}).Open(t.Context(), keystest.Named(t, base, "machine"), keys.RoleCA)
	os.Stderr = stderr
	_ = write.Close()
	if said, err := io.ReadAll(read); err != nil || len(said) > 0 || !errors.Is(opens, keys.ErrUnavailable) {
		t.Errorf("one that isn't told: %v, and the SDK says %q", opens, said)
	}
}
