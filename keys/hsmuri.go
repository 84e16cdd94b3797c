package keys

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
)

// hsmLocation is where a pkcs11: URI (RFC 7512) points: a token behind a
// module, and in it, if name isn't empty, one key.
type hsmLocation struct {
	module    string // absolute path of the shared library
	selector  string // "token", "serial" or "slot-id"
	token     string // the selector's value
	name      string // attribute object; the label in the token is "bollard:ROLE:NAME"
	pinSource string // file with the PIN; "": Config.PIN
}

const hsmForm = "write pkcs11:module-path=/usr/lib/…/MODULE.so;token=LABEL?pin-source=/path/of/a/file"

// parseHSM reads a pkcs11: URI. Its errors never repeat the URI: somebody may
// have written a PIN into it.
func parseHSM(uri string) (hsmLocation, error) {
	var at hsmLocation
	refuse := func(format string, args ...any) (hsmLocation, error) {
		return hsmLocation{}, fmt.Errorf("key URI pkcs11: "+format, args...)
	}
	path, query, _ := strings.Cut(strings.TrimPrefix(uri, SchemeHSM+":"), "?")
	seen := map[string]bool{}
	for _, part := range append(strings.Split(path, ";"), strings.Split(query, "&")...) {
		if part == "" {
			continue
		}
		key, escaped, _ := strings.Cut(part, "=")
		if strings.EqualFold(key, "pin-value") {
			return hsmLocation{}, errPINInURI
		}
		value, err := url.PathUnescape(escaped)
		switch {
		case err != nil || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f }):
			return refuse("the value of %.32q isn't percent-encoded text", key)
		case seen[key]:
			return refuse("%.32q stands there twice", key)
		case value == "":
			return refuse("%.32q is empty; %s", key, hsmForm)
		}
		seen[key] = true
		switch key {
		case "module-path":
			at.module = value
		case "token", "serial", "slot-id":
			if at.selector != "" {
				return refuse("give one of token, serial and slot-id")
			}
			at.selector, at.token = key, value
		case "object":
			at.name = value
		case "pin-source":
			at.pinSource = strings.TrimPrefix(strings.TrimPrefix(value, "file://"), "file:")
		default:
			return refuse("unknown attribute %.32q (known: module-path, token, serial, slot-id, object, pin-source)", key)
		}
	}
	switch {
	case !filepath.IsAbs(at.module):
		return refuse("module-path must be the absolute path of the module's shared library; %s", hsmForm)
	case at.selector == "":
		return refuse("it names no token; %s", hsmForm)
	case at.pinSource != "" && !filepath.IsAbs(at.pinSource):
		return refuse("pin-source must be the absolute path of a file; %s", hsmForm)
	case strings.ContainsAny(at.name, ":/"):
		return refuse("object must have neither colon nor slash")
	}
	if at.selector == "slot-id" {
		if _, err := strconv.ParseUint(at.token, 10, 31); err != nil {
			return refuse("slot-id must be a number")
		}
	}
	return at, nil
}

// errPINInURI refuses a URI with a PIN in it, whatever else it is.
var errPINInURI = errors.New("key URI pkcs11: pin-value would leave the PIN in process lists, configuration and logs; " +
	"put the PIN into a file with mode 0600 and name it with pin-source, or set the environment variable BOLLARD_HSM_PIN; and change this PIN")

// String is the URI again; there is no secret in it.
func (at hsmLocation) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:module-path=%s;%s=%s", SchemeHSM, escape(at.module), at.selector, escape(at.token))
	if at.name != "" {
		fmt.Fprintf(&b, ";object=%s", escape(at.name))
	}
	if at.pinSource != "" {
		fmt.Fprintf(&b, "?pin-source=%s", escape(at.pinSource))
	}
	return b.String()
}

// escape leaves slashes as they are, which RFC 7512 §2.3 allows and people
// expect to read.
func escape(s string) string {
	return strings.NewReplacer("%2F", "/", "=", "%3D", "&", "%26", "+", "%2B", ":", "%3A", "@", "%40", "$", "%24").Replace(url.PathEscape(s))
}

// where is the token's place for people.
func (at hsmLocation) where() string { return fmt.Sprintf("%s %s", at.selector, at.token) }
