package keys

import (
	"fmt"
	"path/filepath"
	"strings"
)

// SchemeSoft is the scheme of keys in files, the only one so far.
const SchemeSoft = "softkms"

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
		return location{}, fmt.Errorf("key URI %q: unknown scheme %q (supported: %s)", uri, scheme, SchemeSoft)
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
// "softkms:tls" or "softkms:/var/lib/keys", the setting keys.uri.
func Join(base, name string) (string, error) {
	scheme, rest, ok := strings.Cut(base, ":")
	if !ok || scheme != SchemeSoft {
		return "", fmt.Errorf("key URI base %q: unknown scheme (supported: %s:)", base, SchemeSoft)
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
