package keys

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// Schemes of key URIs: keys in files, and keys in a hardware security module
// behind PKCS#11 (RFC 7512).
const (
	SchemeSoft = "softkms"
	SchemeHSM  = "pkcs11"
)

// InHSM says whether a URI, of a key or of a base, names a hardware security
// module: such keys leave neither it nor get into a backup.
func InHSM(uri string) bool { return strings.HasPrefix(uri, SchemeHSM+":") }

// location is where a softkms: URI points: a file in the key directory, or
// anywhere if its path is absolute.
type location struct {
	path     string // cleaned
	absolute bool
}

// parseURI reads softkms:NAME or softkms:path=NAME.
func parseURI(uri string) (location, error) {
	scheme, rest, ok := strings.Cut(uri, ":")
	if !ok {
		return location{}, fmt.Errorf("key URI %q has no scheme; write %s:NAME", uri, SchemeSoft)
	}
	if scheme != SchemeSoft {
		return location{}, fmt.Errorf("key URI %q: unknown scheme %q (supported: %s, %s)", uri, scheme, SchemeSoft, SchemeHSM)
	}
	path := strings.TrimPrefix(rest, "path=")
	if path == "" || strings.ContainsAny(path, ";?\x00") || strings.HasSuffix(path, "/") {
		return location{}, fmt.Errorf("key URI %q names no file; write %s:NAME or %s:path=NAME", uri, SchemeSoft, SchemeSoft)
	}
	if filepath.IsAbs(path) {
		return location{path: filepath.Clean(path), absolute: true}, nil
	}
	if !filepath.IsLocal(path) || filepath.Clean(path) == "." {
		return location{}, fmt.Errorf("key URI %q leaves the key directory; give an absolute path if that is meant", uri)
	}
	return location{path: filepath.Clean(path)}, nil
}

// Join returns the URI of a key called name below a base such as "softkms:",
// "softkms:tls", "softkms:/var/lib/keys" or "pkcs11:…;token=T", the setting
// keys.uri. In a token the name loses its ".key".
func Join(base, name string) (string, error) {
	if InHSM(base) {
		at, err := parseHSM(base)
		switch {
		case err != nil:
			return "", err
		case at.name != "":
			return "", errors.New("key URI base pkcs11: leave object out, Bollard names its keys itself")
		}
		at.name = strings.TrimSuffix(name, ".key")
		return at.String(), nil
	}
	scheme, rest, ok := strings.Cut(base, ":")
	if !ok || scheme != SchemeSoft {
		return "", fmt.Errorf("key URI base %q: unknown scheme (supported: %s:, %s:)", base, SchemeSoft, SchemeHSM)
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
