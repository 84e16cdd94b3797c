package identifier

import (
	"errors"
	"fmt"
	"strings"
)

// PCID is a provisioning certificate identifier in its normal form: upper case,
// without separators.
type PCID string

// ParsePCID reads a PCID: 17 or 18 characters in ISO 15118-2 practice, up to
// 255 in -20 ([V2G20-2079]); letters but I, O and Q ([V2G20-2077]). No
// specification of its check character was found: it isn't checked.
func ParsePCID(text string) (PCID, error) {
	plain, err := compact(text)
	switch {
	case err != nil:
		return "", fmt.Errorf("PCID: %w", err)
	case len(plain) < 17:
		return "", fmt.Errorf("PCID of %d characters, at least 17 are needed", len(plain))
	case strings.ContainsAny(plain, "IOQ"):
		return "", errors.New("PCID: it has an I, O or Q, which look like digits ([V2G20-2077])")
	}
	return PCID(plain), nil
}

// String hides the car: a PCID is about a person.
func (p PCID) String() string { return "PCID(hidden)" }

// GoString is String, for %#v.
func (p PCID) GoString() string { return p.String() }

// maxCommonName is X.520's bound.
const maxCommonName = 64

// CheckSECC judges the identifier of a charging station's communication
// controller, the CN of its certificate: a CPID in ISO 15118-2, a SECCID in -20
// of country, operator, S and the controller's own.
func CheckSECC(text string) error {
	switch {
	case text == "" || len(text) > maxCommonName:
		return fmt.Errorf("SECC identifier of %d characters, 1 to %d are allowed", len(text), maxCommonName)
	case strings.Trim(text, alphabet+strings.ToLower(letters)+"*-") != "":
		return errors.New("SECC identifier: it isn't letters, digits, * and -")
	}
	return nil
}
