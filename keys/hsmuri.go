package keys

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"time"
)

// hsmLocation is where a pkcs11: URI (RFC 7512) points: a token behind a
// module, and in it, if name isn't empty, one key.
type hsmLocation struct {
	library   string // absolute path of the shared library
	selector  string // "token", "serial" or "slot-id"
	token     string // the selector's value
	name      string // attribute object; the label in the token is "bollard:ROLE:NAME"
	pinSource string // file with the PIN; "": Config.PIN
}

const hsmForm = "write pkcs11:module-path=/usr/lib/…/MODULE.so;token=LABEL?pin-source=/path/of/a/file"

// parseHSM reads a pkcs11: URI.
func parseHSM(uri string) (hsmLocation, error) {
	var at hsmLocation
	selectors := 0
	err := attributes(uri, SchemeHSM, hsmForm, func(key, value string) bool {
		switch key {
		case "module-path":
			at.library = value
		case "token", "serial", "slot-id":
			at.selector, at.token = key, value
			selectors++
		case "object":
			at.name = value
		case "pin-source":
			at.pinSource = filePath(value)
		default:
			return false
		}
		return true
	}, "module-path, token, serial, slot-id, object, pin-source")
	switch {
	case err != nil:
	case selectors > 1:
		err = errors.New("key URI pkcs11: give one of token, serial and slot-id")
	case !filepath.IsAbs(at.library):
		err = fmt.Errorf("key URI pkcs11: module-path must be the absolute path of the module's shared library; %s", hsmForm)
	case at.selector == "":
		err = fmt.Errorf("key URI pkcs11: it names no token; %s", hsmForm)
	default:
		err = errors.Join(absolute(SchemeHSM, hsmForm, "pin-source", at.pinSource), keyName(SchemeHSM, at.name))
	}
	if err == nil && at.selector == "slot-id" {
		if _, failed := strconv.ParseUint(at.token, 10, 31); failed != nil {
			err = errors.New("key URI pkcs11: slot-id must be a number")
		}
	}
	if err != nil {
		return hsmLocation{}, err
	}
	return at, nil
}

func (at hsmLocation) scheme() string { return SchemeHSM }
func (at hsmLocation) key() string    { return at.name }

func (at hsmLocation) named(key string) place {
	at.name = key
	return at
}

func (at hsmLocation) of(role Role) place {
	at.token, at.pinSource = forRole(at.token, role), forRole(at.pinSource, role)
	return at
}

func (at hsmLocation) String() string {
	return uriText(SchemeHSM, []string{"module-path", at.library, at.selector, at.token, "object", at.name}, []string{"pin-source", at.pinSource})
}

func (at hsmLocation) kind() string   { return "the hardware security module" }
func (at hsmLocation) where() string  { return fmt.Sprintf("%s %s", at.selector, at.token) }
func (at hsmLocation) module() string { return SchemeHSM + ":" + at.library }
func (at hsmLocation) calls() int64   { return hsmCalls }

// again: a token locks itself after a few wrong PINs.
func (at hsmLocation) again() time.Duration { return 0 }

func (at hsmLocation) dial(pin []byte, _ Config) (hsm, error) { return dialHSM(at, pin) }

func (at hsmLocation) secret(asked func() ([]byte, error)) ([]byte, error) {
	return readPIN(at.pinSource, asked)
}

// readPIN reads the PIN at every login, so that a changed one needs no restart.
func readPIN(source string, asked func() ([]byte, error)) ([]byte, error) {
	var pin []byte
	var err error
	switch {
	case source != "":
		pin, err = readSecret("PIN", source, maxPIN, true)
	case asked != nil:
		pin, err = asked()
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPIN, err)
	}
	if len(pin) == 0 {
		return nil, fmt.Errorf("%w: name a file with pin-source in the key URI or set the environment variable BOLLARD_HSM_PIN", ErrPIN)
	}
	return pin, nil
}
