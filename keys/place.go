package keys

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"time"
)

// place is a parsed URI of a key, or of a base, outside files. It holds no secret.
type place interface {
	scheme() string
	key() string            // "" of a base
	named(key string) place // the same with another key
	// of is the place for one role: "{role}" in what chooses token and login stands
	// for it, so that each role may have its own.
	of(role Role) place
	String() string

	kind() string  // for people
	where() string // for people
	// module names what is used by no more than calls at a time, and closed as one.
	module() string
	calls() int64
	// secret is what to log in with, read anew each time.
	secret(pin func() ([]byte, error)) ([]byte, error)
	// again is when a refused secret may be shown again; 0: never.
	again() time.Duration
	dial(secret []byte, cfg Config) (hsm, error)
}

func parsePlace(uri string) (place, error) {
	scheme, _, _ := strings.Cut(uri, ":")
	switch scheme {
	case SchemeHSM:
		return asPlace(parseHSM(uri))
	case SchemeTPM:
		return asPlace(parseTPM(uri))
	case SchemeVault:
		return asPlace(parseVault(uri))
	case SchemeAWS:
		return asPlace(parseAWS(uri))
	}
	return nil, unknownScheme(uri)
}

func asPlace[P place](p P, err error) (place, error) { return p, malformed(err) }

// attributes reads the attributes of a URI in the manner of RFC 7512, path and query
// together, and hands each to take, which says whether it knows it. Its errors never
// repeat the URI: somebody may have written a secret into it.
func attributes(uri, scheme, form string, take func(key, value string) bool, known string) error {
	path, query, _ := strings.Cut(strings.TrimPrefix(uri, scheme+":"), "?")
	seen := map[string]bool{}
	for _, part := range append(strings.Split(path, ";"), strings.Split(query, "&")...) {
		if part == "" {
			continue
		}
		key, escaped, _ := strings.Cut(part, "=")
		if err := secretInURI(scheme, key); err != nil {
			return err
		}
		value, err := url.PathUnescape(escaped)
		switch {
		case err != nil || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f }):
			return fmt.Errorf("key URI %s: the value of %.32q isn't percent-encoded text", scheme, key)
		case seen[key]:
			return fmt.Errorf("key URI %s: %.32q stands there twice", scheme, key)
		case value == "":
			return fmt.Errorf("key URI %s: %.32q is empty; %s", scheme, key, form)
		}
		seen[key] = true
		if !take(key, value) {
			return fmt.Errorf("key URI %s: unknown attribute %.32q (known: %s)", scheme, key, known)
		}
	}
	return nil
}

// uriField is one attribute of a URI, and where its value is kept.
type uriField struct {
	name  string
	value *string
}

// readFields reads the attributes of a URI into fields, of which files name files.
func readFields(uri, scheme, form string, fields, files []uriField) error {
	known := ""
	for _, f := range fields {
		known += ", " + f.name
	}
	err := attributes(uri, scheme, form, func(key, value string) bool {
		for _, f := range fields {
			if f.name == key {
				*f.value = value
				return true
			}
		}
		return false
	}, known[2:])
	if err != nil {
		return err
	}
	for _, f := range files {
		*f.value = filePath(*f.value)
		err = errors.Join(err, absolute(scheme, form, f.name, *f.value))
	}
	return err
}

// pairs are fields as uriText takes them.
func pairs(fields []uriField) (out []string) {
	for _, f := range fields {
		out = append(out, f.name, *f.value)
	}
	return out
}

// fillRole puts a role in where fields leave it open.
func fillRole(fields []uriField, role Role) {
	for _, f := range fields {
		*f.value = forRole(*f.value, role)
	}
}

// secretInURI refuses a URI with a secret in it, whatever else it is.
func secretInURI(scheme, key string) error {
	switch strings.ToLower(key) {
	case "pin-value":
		return fmt.Errorf("key URI %s: pin-value would leave the PIN in process lists, configuration and logs; "+
			"put the PIN into a file with mode 0600 and name it with pin-source, or set the environment variable BOLLARD_HSM_PIN; and change this PIN", scheme)
	case "token", "secret-id", "jwt", "password":
		if scheme == SchemeVault || scheme == SchemeMount {
			return secretFound(scheme, key, strings.ToLower(key)+"-source")
		}
	case "secret-access-key", "aws_secret_access_key", "session-token", "aws_session_token", "access-key-id", "aws_access_key_id", "web-identity":
		if scheme == SchemeAWS {
			return secretFound(scheme, key, "credentials-source or web-identity-source")
		}
	}
	return nil
}

func secretFound(scheme, key, source string) error {
	return fmt.Errorf("key URI %s: %s would leave the secret in process lists, configuration and logs; "+
		"put it into a file with mode 0600 and name that with %s; and change this secret", scheme, strings.ToLower(key), source)
}

// uriText writes a URI of pairs of keys and values; those without a value are left out.
func uriText(scheme string, path, query []string) string {
	join := func(pairs []string, separator string) string {
		var parts []string
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i+1] != "" {
				parts = append(parts, pairs[i]+"="+escape(pairs[i+1]))
			}
		}
		return strings.Join(parts, separator)
	}
	text := scheme + ":" + join(path, ";")
	if q := join(query, "&"); q != "" {
		text += "?" + q
	}
	return text
}

// escape leaves slashes as they are, which RFC 7512 §2.3 allows and people
// expect to read, and the braces of {role}.
func escape(s string) string {
	return strings.NewReplacer("%2F", "/", "%7B", "{", "%7D", "}", "=", "%3D", "&", "%26", "+", "%2B", "@", "%40", "$", "%24").Replace(url.PathEscape(s))
}

// forRole puts a role in where a URI leaves it open.
func forRole(s string, role Role) string { return strings.ReplaceAll(s, "{role}", string(role)) }

// filePath is the path of an attribute that names a file, plain or as file URI.
func filePath(value string) string {
	return strings.TrimPrefix(strings.TrimPrefix(value, "file://"), "file:")
}

// absolute says which of the paths that are given isn't absolute.
func absolute(scheme, form string, pairs ...string) error {
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" && !filepath.IsAbs(pairs[i+1]) {
			return fmt.Errorf("key URI %s: %s must be an absolute path; %s", scheme, pairs[i], form)
		}
	}
	return nil
}

// keyName refuses names of keys that would be read as more than a name.
func keyName(scheme, name string) error {
	if strings.ContainsAny(name, ":/") {
		return fmt.Errorf("key URI %s: object must have neither colon nor slash", scheme)
	}
	return nil
}
