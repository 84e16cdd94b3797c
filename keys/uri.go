package keys

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"bollard/internal/mark"
)

// Schemes of key URIs: keys in files, in a hardware security module behind PKCS#11
// (RFC 7512), in the TPM 2.0 of this machine, in the transit engine of a HashiCorp Vault,
// and in the KMS of Amazon's cloud (a Bollard built with the tag cloudkms).
const (
	SchemeSoft  = "softkms"
	SchemeHSM   = "pkcs11"
	SchemeTPM   = "tpmkms"
	SchemeVault = "vault"
	SchemeAWS   = "awskms"
)

// SchemeMount is that of a PKI mount of a HashiCorp Vault: a CA whose key nobody else
// signs with, and none of the Schemes.
const SchemeMount = "vault-pki"

// IsMount says whether a URI is one of a PKI mount.
func IsMount(uri string) bool { return strings.HasPrefix(uri, SchemeMount+":") }

// Schemes returns those of key URIs.
func Schemes() []string {
	return []string{SchemeSoft, SchemeHSM, SchemeTPM, SchemeVault, SchemeAWS}
}

// Held says whether a URI, of a key or of a base, names something that keys never leave:
// a hardware security module, a TPM, a Vault, its PKI mounts included, or a cloud's KMS. No backup brings
// such keys back.
func Held(uri string) bool {
	scheme, _, ok := strings.Cut(uri, ":")
	return ok && scheme != SchemeSoft && (slices.Contains(Schemes(), scheme) || scheme == SchemeMount)
}

// Holder says for people what a key is in.
func Holder(uri string) string {
	if IsMount(uri) {
		return vaultLocation{}.kind()
	}
	at, err := parsePlace(uri)
	if err != nil {
		return "a file"
	}
	return at.kind()
}

// ErrURI is a key URI that says nothing, or what can't be.
var ErrURI = errors.New("malformed key URI")

// malformed makes an error ErrURI, and says no more; nil stays nil.
func malformed(err error) error { return mark.As(err, ErrURI) }

func malformedf(format string, args ...any) error { return malformed(fmt.Errorf(format, args...)) }

func unknownScheme(uri string) error {
	scheme, _, ok := strings.Cut(uri, ":")
	if !ok {
		return malformedf("key URI %q has no scheme; write %s:NAME", uri, SchemeSoft)
	}
	return malformedf("key URI: unknown scheme %.32q (supported: %s)", scheme, strings.Join(Schemes(), ", "))
}

// Below says whether a key's URI is one that Join makes below a base.
func Below(base, uri string) bool {
	if Held(base) != Held(uri) {
		return false
	}
	if Held(uri) {
		of, err := parsePlace(base)
		if err != nil {
			return false
		}
		at, err := parsePlace(uri)
		return err == nil && at.named("").String() == of.String()
	}
	key, err := parseURI(uri)
	if err != nil {
		return false
	}
	again, err := Join(base, filepath.Base(key.path))
	if err != nil {
		return false
	}
	same, err := parseURI(again)
	return err == nil && same == key
}

// location is where a softkms: URI points: a file in the key directory, or
// anywhere if its path is absolute.
type location struct {
	path     string // cleaned
	absolute bool
}

// parseURI reads softkms:NAME or softkms:path=NAME.
func parseURI(uri string) (location, error) {
	rest, ok := strings.CutPrefix(uri, SchemeSoft+":")
	if !ok {
		return location{}, unknownScheme(uri)
	}
	path := strings.TrimPrefix(rest, "path=")
	if path == "" || strings.ContainsAny(path, ";?\x00") || strings.HasSuffix(path, "/") {
		return location{}, malformedf("key URI %q names no file; write %s:NAME or %s:path=NAME", uri, SchemeSoft, SchemeSoft)
	}
	if filepath.IsAbs(path) {
		return location{path: filepath.Clean(path), absolute: true}, nil
	}
	if !filepath.IsLocal(path) || filepath.Clean(path) == "." {
		return location{}, malformedf("key URI %q leaves the key directory; give an absolute path if that is meant", uri)
	}
	return location{path: filepath.Clean(path)}, nil
}

// Join returns the URI of a key called name below a base such as "softkms:",
// "softkms:tls", "softkms:/var/lib/keys" or "pkcs11:…;token=T", the setting
// keys.uri. Outside files the name loses its ".key".
func Join(base, name string) (string, error) {
	if Held(base) {
		at, err := parsePlace(base)
		switch {
		case err != nil:
			return "", err
		case at.key() != "":
			return "", fmt.Errorf("key URI base %s: leave object out, Bollard names its keys itself", at.scheme())
		case !built(at):
			return "", errNotBuilt(at)
		}
		return at.named(strings.TrimSuffix(name, ".key")).String(), nil
	}
	rest, ok := strings.CutPrefix(base, SchemeSoft+":")
	if !ok {
		return "", unknownScheme(base)
	}
	rest = strings.TrimPrefix(rest, "path=")
	uri := SchemeSoft + ":" + name
	if rest != "" {
		uri = SchemeSoft + ":" + strings.TrimSuffix(rest, "/") + "/" + name
	}
	if _, err := parseURI(uri); err != nil {
		return "", err
	}
	return uri, nil
}
