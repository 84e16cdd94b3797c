package keys

import (
	"errors"
	"fmt"
	"time"

	"bollard/keys/vault"
)

// vaultLocation is where a vault: URI points: a transit engine, a login, and, if name
// isn't empty, one key; or where a vault-pki: URI does: a PKI mount, and a login.
type vaultLocation struct {
	pki       bool
	signRole  string // of the PKI mount
	address   string
	namespace string
	mount     string // of the transit engine, or of PKI
	name      string // the key in Vault is "bollard-ROLE-NAME"
	authMount string
	authRole  string
	// Files. Which are given says how to log in.
	token, roleID, secretID, jwt, cert, certKey string
	roots                                       string // "": the system's
}

// form is how to write such a URI.
func (at *vaultLocation) form() string {
	return "write " + at.scheme() + ":address=https://HOST:8200?ca-source=/path/of/ca.pem&role-id-source=/path/of/a/file&secret-id-source=/path/of/a/file"
}

// fields are the attributes of a vault: URI in their order.
func (at *vaultLocation) fields() (path, query []uriField) {
	last := uriField{"object", &at.name}
	if at.pki {
		last = uriField{"role", &at.signRole}
	}
	return []uriField{
			{"address", &at.address}, {"namespace", &at.namespace}, {"mount", &at.mount}, last,
		}, []uriField{
			{"auth-mount", &at.authMount}, {"auth-role", &at.authRole}, {"ca-source", &at.roots}, {"token-source", &at.token},
			{"role-id-source", &at.roleID}, {"secret-id-source", &at.secretID}, {"jwt-source", &at.jwt},
			{"cert-source", &at.cert}, {"key-source", &at.certKey},
		}
}

// sources are the fields that name files.
func (at *vaultLocation) sources() []uriField {
	_, query := at.fields()
	return query[2:]
}

// parseVault reads a vault: URI.
func parseVault(uri string) (vaultLocation, error) { return parseVaultURI(uri, vaultLocation{}) }

// parseMount reads a vault-pki: URI.
func parseMount(uri string) (vaultLocation, error) {
	at, err := parseVaultURI(uri, vaultLocation{pki: true})
	return at, malformed(err)
}

func parseVaultURI(uri string, at vaultLocation) (vaultLocation, error) {
	path, query := at.fields()
	err := readFields(uri, at.scheme(), at.form(), append(path, query...), at.sources())
	if err != nil {
		return vaultLocation{}, err
	}
	if at.mount == "" && at.pki {
		at.mount = "pki"
	} else if at.mount == "" {
		at.mount = "transit"
	}
	if failed := vault.CheckAddress(at.address); failed != nil {
		err = errors.Join(err, fmt.Errorf("key URI %s: %w; %s", at.scheme(), failed, at.form()))
	}
	if _, failed := at.method(); failed != nil {
		err = errors.Join(err, fmt.Errorf("key URI %s: %w", at.scheme(), failed))
	}
	if err = errors.Join(err, keyName(at.scheme(), at.name)); err != nil {
		return vaultLocation{}, err
	}
	return at, nil
}

// method is the way to log in that the files given are for.
func (at vaultLocation) method() (vault.Method, error) {
	var methods []vault.Method
	for method, file := range map[vault.Method]string{
		vault.MethodToken: at.token, vault.MethodAppRole: at.secretID, vault.MethodKubernetes: at.jwt, vault.MethodCert: at.cert,
	} {
		if file != "" {
			methods = append(methods, method)
		}
	}
	if len(methods) != 1 {
		return "", errors.New("say how to log in, by one of token-source, secret-id-source (AppRole, with role-id-source), " +
			"jwt-source (Kubernetes, with auth-role) and cert-source (with key-source)")
	}
	method := methods[0]
	switch {
	case (method == vault.MethodAppRole) != (at.roleID != ""):
		return "", errors.New("role-id-source and secret-id-source go together")
	case (method == vault.MethodCert) != (at.certKey != ""):
		return "", errors.New("cert-source and key-source go together")
	case method == vault.MethodKubernetes && at.authRole == "":
		return "", errors.New("jwt-source needs auth-role, the role of Vault's Kubernetes login")
	case at.authRole != "" && method != vault.MethodKubernetes && method != vault.MethodCert:
		return "", errors.New("auth-role is for jwt-source and cert-source")
	case at.authMount != "" && method == vault.MethodToken:
		return "", errors.New("a token has no auth-mount")
	}
	return method, nil
}

func (at vaultLocation) scheme() string {
	if at.pki {
		return SchemeMount
	}
	return SchemeVault
}

func (at vaultLocation) key() string { return at.name }

func (at vaultLocation) named(key string) place {
	at.name = key
	return at
}

func (at vaultLocation) of(role Role) place {
	path, query := at.fields()
	fillRole(append(path[1:3], query...), role) // neither host nor key
	return at
}

func (at vaultLocation) String() string {
	path, query := at.fields()
	return uriText(at.scheme(), pairs(path), pairs(query))
}

func (at vaultLocation) kind() string  { return "Vault" }
func (at vaultLocation) where() string { return at.address }

// module: a login that fails has nothing to do with another one.
func (at vaultLocation) module() string { return at.String() }
func (at vaultLocation) calls() int64   { return vaultCalls }

// again is longer than the quarter of an hour without a failure after which Vault counts
// anew: it locks an AppRole for everybody after five (user lockout, since 1.13).
func (at vaultLocation) again() time.Duration { return 20 * time.Minute }
