package keys_test

import (
	"strings"
	"testing"

	"bollard/keys"
)

func TestVaultURI(t *testing.T) {
	t.Parallel()
	const address = "address=https://vault.example.com:8200"
	for name, tt := range map[string]struct{ base, want, wantErr string }{
		"token":                {"vault:" + address + "?token-source=/t", "vault:" + address + ";mount=transit;object=x?token-source=/t", ""},
		"all of AppRole":       {"vault:" + address + ";namespace=a/b;mount=m?role-id-source=/r&secret-id-source=/s&auth-mount=fleet&ca-source=/ca", "vault:" + address + ";namespace=a/b;mount=m;object=x?auth-mount=fleet&ca-source=/ca&role-id-source=/r&secret-id-source=/s", ""},
		"each role its own":    {"vault:" + address + "?token-source=/v/{role}", "vault:" + address + ";mount=transit;object=x?token-source=/v/{role}", ""},
		"Kubernetes":           {"vault:" + address + "?jwt-source=/j&auth-role=ca", "vault:" + address + ";mount=transit;object=x?auth-role=ca&jwt-source=/j", ""},
		"on this machine":      {"vault:address=http://127.0.0.1:8200?token-source=/t", "vault:address=http://127.0.0.1:8200;mount=transit;object=x?token-source=/t", ""},
		"in clear":             {"vault:address=http://vault.example.com:8200?token-source=/t", "", "must be https"},
		"credentials in it":    {"vault:address=https://u:canary@v:8200?token-source=/t", "", "https://HOST:PORT"},
		"a path":               {"vault:address=https://v:8200/v1?token-source=/t", "", "https://HOST:PORT"},
		"no address":           {"vault:?token-source=/t", "", "https://HOST:PORT"},
		"no login":             {"vault:" + address, "", "how to log in"},
		"two logins":           {"vault:" + address + "?token-source=/t&jwt-source=/j&auth-role=r", "", "how to log in"},
		"a token in it":        {"vault:" + address + "?token=canary", "", "token-source"},
		"a secret id in it":    {"vault:" + address + "?secret-id=canary", "", "secret-id-source"},
		"relative":             {"vault:" + address + "?token-source=t", "", "absolute path"},
		"role id alone":        {"vault:" + address + "?token-source=/t&role-id-source=/r", "", "go together"},
		"secret id alone":      {"vault:" + address + "?secret-id-source=/s", "", "go together"},
		"certificate alone":    {"vault:" + address + "?cert-source=/c", "", "go together"},
		"Kubernetes, no role":  {"vault:" + address + "?jwt-source=/j", "", "auth-role"},
		"a token with a role":  {"vault:" + address + "?token-source=/t&auth-role=r", "", "auth-role"},
		"a token with a mount": {"vault:" + address + "?token-source=/t&auth-mount=r", "", "auth-mount"},
		"named already":        {"vault:" + address + ";object=o?token-source=/t", "", "leave object out"},
		"unknown":              {"vault:" + address + ";colour=red?token-source=/t", "", "unknown attribute"},
		"twice":                {"vault:" + address + ";mount=a;mount=b?token-source=/t", "", "twice"},
	} {
		got, err := keys.Join(tt.base, "x.key")
		if got != tt.want || tt.wantErr == "" && err != nil {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
		if tt.wantErr != "" && (err == nil || !strings.Contains(err.Error(), tt.wantErr)) {
			t.Errorf("%s: got %v, want %q", name, err, tt.wantErr)
		}
		if err != nil && strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: the secret is in the error: %v", name, err)
		}
	}
}

func TestMountURI(t *testing.T) {
	t.Parallel()
	k, err := keys.New(keys.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct{ uri, role, wantErr string }{
		"token":         {"vault-pki:address=https://vault.example.com:8200?token-source=/t", "", ""},
		"a role":        {"vault-pki:address=https://vault.example.com:8200;mount=m;role=stations?token-source=/t", "stations", ""},
		"a key":         {"vault-pki:address=https://vault.example.com:8200;object=x?token-source=/t", "", "unknown attribute"},
		"a key's":       {"vault:address=https://vault.example.com:8200?token-source=/t", "", "isn't the URI of a PKI mount"},
		"in clear":      {"vault-pki:address=http://vault.example.com:8200?token-source=/t", "", "must be https"},
		"no login":      {"vault-pki:address=https://vault.example.com:8200", "", "how to log in"},
		"a token in it": {"vault-pki:address=https://vault.example.com:8200?token=canary", "", "token-source"},
	} {
		m, err := k.Mount(tt.uri)
		switch {
		case tt.wantErr == "" && (err != nil || m.Role() != tt.role):
			t.Errorf("%s: %v, %v", name, m, err)
		case tt.wantErr != "" && (err == nil || !strings.Contains(err.Error(), tt.wantErr)):
			t.Errorf("%s: got %v, want %q", name, err, tt.wantErr)
		case err != nil && strings.Contains(err.Error(), "canary"):
			t.Errorf("%s: the secret is in the error: %v", name, err)
		}
	}
	const mount = "vault-pki:address=https://vault.example.com:8200?token-source=/t"
	if _, err := k.Create(t.Context(), mount, keys.RoleCA, keys.P256); err == nil {
		t.Error("a key was made in a mount")
	}
	if !keys.Held(mount) || keys.Holder(mount) != "Vault" || keys.Below("softkms:", mount) {
		t.Error("a mount counts as a place of files")
	}
}
