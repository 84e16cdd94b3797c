// Package identifier reads the identifiers of plug & charge: e-mobility accounts
// (eMAID), provisioning certificates (PCID), SECCs.
//
// It promises one normal form: what is equal to a person is equal here, and a
// check character that is there has to be right.
package identifier

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// EMAID is an e-mobility account identifier in its normal form: upper case,
// without separators, 14 characters or 15 with the check character.
type EMAID string

// Lengths of an eMAID (ISO 15118-2 annex H): country 2, provider 3, instance 9,
// and the check character.
const (
	emaidLength = 14
	dinInstance = 6
)

// ParseEMAID reads an eMAID of ISO 15118-2, or one of DIN SPEC 91286 with its
// instance of six characters, which becomes the ISO one (00, the six, its check
// digit). Separators and case don't matter. A check character has to be right.
func ParseEMAID(text string) (EMAID, error) {
	plain, err := compact(text)
	if err != nil {
		return "", fmt.Errorf("eMAID: %w", err)
	}
	switch len(plain) {
	case 5 + dinInstance + 1:
		return fromDIN(plain)
	case emaidLength, emaidLength + 1:
	default:
		return "", fmt.Errorf("eMAID of %d characters, ISO 15118-2 has 14, or 15 with the check character (DIN SPEC 91286: 12 with it)", len(plain))
	}
	if strings.Trim(plain[:2], letters) != "" {
		return "", errors.New("eMAID: it doesn't begin with a country of two letters")
	}
	id := EMAID(plain)
	if len(plain) > emaidLength && plain[emaidLength] != id.Check() {
		return "", errors.New("eMAID: its check character is wrong")
	}
	return id, nil
}

// fromDIN makes the ISO form of a DIN SPEC 91286 identifier.
func fromDIN(plain string) (EMAID, error) {
	body, check := plain[:5+dinInstance], plain[5+dinInstance]
	if strings.Trim(body[:2], letters) != "" {
		return "", errors.New("eMAID: it doesn't begin with a country of two letters")
	}
	if DINCheck(body) != check {
		return "", errors.New("eMAID: its check digit by DIN SPEC 91286 is wrong")
	}
	return EMAID(body[:5] + "00" + body[5:] + string(check)), nil
}

// Bare is the identifier without its check character.
func (e EMAID) Bare() EMAID {
	if len(e) > emaidLength {
		return e[:emaidLength]
	}
	return e
}

// Full is the identifier with its check character.
func (e EMAID) Full() EMAID { return e.Bare() + EMAID(e.Check()) }

// Provider is who an account is with: country and provider, the first five
// characters of an eMAID.
type Provider string

// Provider is the account's.
func (e EMAID) Provider() Provider { return Provider(e[:5]) }

// ParseProvider reads a provider as eMAIDs have it, such as NL-EXA.
func ParseProvider(text string) (Provider, error) {
	plain, err := compact(text)
	switch {
	case err != nil:
		return "", fmt.Errorf("provider: %w", err)
	case len(plain) != 5 || strings.Trim(plain[:2], letters) != "":
		return "", errors.New("provider: it isn't a country of two letters and three letters or digits, such as NL-EXA")
	}
	return Provider(plain), nil
}

// Same tells whether two are one account: by their first 14 characters. Both
// parsed, so check characters are right.
func (e EMAID) Same(other EMAID) bool { return e.Bare() == other.Bare() }

// String hides the account: an eMAID is about a person.
func (e EMAID) String() string { return "eMAID(hidden)" }

// GoString is String, for %#v.
func (e EMAID) GoString() string { return e.String() }

// Check is the check character of ISO 15118 and eMI3: the sums over the places
// of the four parts of each character's value, weighted by powers of two
// matrices, one modulo 2 and one modulo 3, and the character's own part make
// zero.
func (e EMAID) Check() byte {
	p := pair{0, 1, 1, 1, 2}
	r := pair{0, 1, 1, 2, 3}
	var sumP, sumR [2]int
	for i := range emaidLength {
		v := value(e[i])
		sumP = p.add(sumP, p.times([2]int{v / 18, v / 9 % 2}, i+1))
		sumR = r.add(sumR, r.times([2]int{v % 9 / 3, v % 3}, i+1))
	}
	for c := range len(alphabet) {
		own := p.add(sumP, p.times([2]int{c / 18, c / 9 % 2}, emaidLength+1))
		third := r.add(sumR, r.times([2]int{c % 9 / 3, c % 3}, emaidLength+1))
		if own == [2]int{} && third == [2]int{} {
			return alphabet[c]
		}
	}
	panic("internal error: no check character makes the sums zero")
}

// pair is a matrix of two rows modulo m.
type pair struct{ a, b, c, d, m int }

func (p pair) add(x, y [2]int) [2]int { return [2]int{(x[0] + y[0]) % p.m, (x[1] + y[1]) % p.m} }

// times is the row vector x times the matrix to the power n.
func (p pair) times(x [2]int, n int) [2]int {
	for range n {
		x = [2]int{(x[0]*p.a + x[1]*p.c) % p.m, (x[0]*p.b + x[1]*p.d) % p.m}
	}
	return x
}

// DINCheck is the check digit of DIN SPEC 91286: each digit weighted with rising
// powers of two, modulo 11; a letter is two digits, 10 to 35.
func DINCheck(body string) byte {
	sum, weight := 0, 1
	add := func(digit int) {
		sum = (sum + digit*weight) % 11
		weight = weight * 2 % 11
	}
	for i := range len(body) {
		v := value(body[i])
		if v >= 10 {
			add(v / 10)
		}
		add(v % 10)
	}
	if sum == 10 {
		return 'X'
	}
	return alphabet[sum]
}

const (
	letters  = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	alphabet = "0123456789" + letters
)

func value(c byte) int { return strings.IndexByte(alphabet, c) }

// compact is an identifier's normal form.
func compact(text string) (string, error) {
	if len(text) > 255 {
		return "", fmt.Errorf("%d characters, at most 255 are allowed", len(text))
	}
	// Before upper case is made: ſ and ı would become ASCII.
	if strings.ContainsFunc(text, func(r rune) bool { return r >= utf8.RuneSelf }) {
		return "", errors.New("it has letters that aren't ASCII")
	}
	plain := strings.NewReplacer("-", "", "*", "").Replace(strings.ToUpper(text))
	if plain == "" || strings.Trim(plain, alphabet) != "" {
		return "", errors.New("it isn't letters and digits with - or * between")
	}
	return plain, nil
}
