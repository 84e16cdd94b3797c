package ocpp

import (
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// MaxIdentity is the longest identity in characters (identifierString, OCPP
// 2.0.1 part 2 §2.1).
const MaxIdentity = 48

// Identity is a station's OCPP identity, taken from the URL and judged.
type Identity struct {
	Name    string // as the station spells it, unescaped once
	Escaped string // the escaped path segment as it came
}

// Key is the identity for comparison: lower-cased (identifierString is
// case-insensitive, OCPP 2.0.1 part 2 §2.1).
func (id Identity) Key() string { return strings.ToLower(id.Name) }

// NeedsEnrolment says that only a station enrolled with exactly this Escaped
// spelling may use the identity (1.6 gives no rule for identities): it has a
// character outside a-zA-Z0-9*-_=+|@. or an escape no encoder would make.
//
// The characters *=+|@ may stand raw or escaped without that, because common
// encoders differ about them: encodeURIComponent escapes =+|@, Go's PathEscape
// *|, and RFC 3986 itself only the last one. Each spelling has the same Name,
// hence the same Key.
func (id Identity) NeedsEnrolment() bool {
	rest := id.Escaped
	for i := range len(id.Name) {
		c := id.Name[i]
		if !identifierChar(c) {
			return true
		}
		switch {
		case rest != "" && rest[0] == c:
			rest = rest[1:]
		case len(rest) >= 3 && rest[0] == '%' && strings.IndexByte("*=+|@", c) >= 0:
			rest = rest[3:]
		default:
			return true
		}
	}
	return rest != ""
}

// The reasons ParsePath and ParseIdentity refuse an identity. They hold nothing
// of what was refused, so they are safe to log.
var (
	ErrPathPrefix       = errors.New("path is not below the OCPP path")
	ErrPathQuery        = errors.New("path has a query or a fragment")
	ErrPathSegments     = errors.New("path has more than one segment behind the OCPP path")
	ErrIdentityEmpty    = errors.New("identity is empty")
	ErrIdentityLength   = errors.New("identity is longer than 48 characters")
	ErrIdentityChar     = errors.New("identity has a character no URL may hold unescaped")
	ErrIdentityEscape   = errors.New("identity has a malformed escape")
	ErrIdentityTwice    = errors.New("identity is escaped twice or has a percent sign")
	ErrIdentitySlash    = errors.New("identity has a slash or backslash")
	ErrIdentityControl  = errors.New("identity has a control or invisible character")
	ErrIdentityDot      = errors.New("identity is a dot segment")
	ErrIdentityUTF8     = errors.New("identity is not valid UTF-8")
	ErrIdentityNotEqual = errors.New("identity is not in its normal form (Unicode NFKC)")
)

// ParsePath judges a request target as it stood in the request line, such as
// "/ocpp/CS-1", before any router decodes or cleans it. prefix is "/ocpp/". The
// rest must be one segment; the error is one of the Err values of this package.
//
// Go's ServeMux would accept "CP%2F..%2Fadmin", "%0d%0a", "%00", "%2e%2e" and
// "%FF" as identities and redirect "//"; here each is refused.
func ParsePath(target, prefix string) (Identity, error) {
	segment, ok := strings.CutPrefix(target, prefix)
	switch {
	case !ok:
		return Identity{}, ErrPathPrefix
	case segment == "":
		return Identity{}, ErrIdentityEmpty
	case strings.ContainsAny(segment, "?#"):
		return Identity{}, ErrPathQuery
	case strings.Contains(segment, "/"):
		return Identity{}, ErrPathSegments
	}
	name, err := unescape(segment)
	if err != nil {
		return Identity{}, err
	}
	if err := judge(name); err != nil {
		return Identity{}, err
	}
	return Identity{Name: name, Escaped: segment}, nil
}

// ParseIdentity judges an identity as an operator types it: plain, or, if it
// has a percent sign, in the escaped spelling a 1.6 station uses in its URL.
func ParseIdentity(name string) (Identity, error) {
	if strings.Contains(name, "%") {
		if strings.ContainsAny(name, "/?#") {
			return Identity{}, ErrIdentityChar
		}
		return ParsePath(name, "")
	}
	if strings.ContainsAny(name, `/\`) {
		return Identity{}, ErrIdentitySlash
	}
	if err := judge(name); err != nil {
		return Identity{}, err
	}
	return Identity{Name: name, Escaped: escape(name)}, nil
}

// judge wants a name of visible characters that has one spelling only.
func judge(name string) error {
	switch {
	case name == "":
		return ErrIdentityEmpty
	case !utf8.ValidString(name):
		return ErrIdentityUTF8
	case utf8.RuneCountInString(name) > MaxIdentity:
		return ErrIdentityLength
	case name == "." || name == "..":
		return ErrIdentityDot
	case strings.Contains(name, "%"):
		return ErrIdentityTwice
	case strings.ContainsAny(name, `/\`):
		return ErrIdentitySlash
	}
	for _, r := range name {
		// IsPrint has no controls, no format characters (bidi marks, joiners)
		// and no space but U+0020.
		if !unicode.IsPrint(r) {
			return ErrIdentityControl
		}
	}
	if strings.HasPrefix(name, " ") || strings.HasSuffix(name, " ") {
		return ErrIdentityControl
	}
	// NFKC is stricter than NFC: it also folds full-width letters, ligatures
	// and other characters that look like the plain ones.
	if !norm.NFKC.IsNormalString(name) {
		return ErrIdentityNotEqual
	}
	return nil
}

// unescape decodes one segment once.
func unescape(segment string) (string, error) {
	if strings.IndexByte(segment, '%') < 0 {
		for i := range len(segment) {
			if !rawChar(segment[i]) {
				return "", ErrIdentityChar
			}
		}
		return segment, nil
	}
	out := make([]byte, 0, len(segment))
	for i := 0; i < len(segment); i++ {
		c := segment[i]
		if c != '%' {
			if !rawChar(c) {
				return "", ErrIdentityChar
			}
			out = append(out, c)
			continue
		}
		if i+2 >= len(segment) || !isHex(segment[i+1]) || !isHex(segment[i+2]) {
			return "", ErrIdentityEscape
		}
		out = append(out, unhex(segment[i+1])<<4|unhex(segment[i+2]))
		i += 2
	}
	return string(out), nil
}

// escape spells a judged name as a path segment. What may stand raw does.
func escape(name string) string {
	var b strings.Builder
	for i := range len(name) {
		c := name[i]
		if rawChar(c) && c != '|' {
			b.WriteByte(c)
			continue
		}
		const digits = "0123456789ABCDEF"
		b.Write([]byte{'%', digits[c>>4], digits[c&15]})
	}
	return b.String()
}

// rawChar is what may stand unescaped in a segment: RFC 3986 pchar, and the
// vertical bar, which identifierString allows and stations don't escape.
func rawChar(c byte) bool {
	return identifierChar(c) || strings.IndexByte("~!$&'(),;:", c) >= 0
}

// identifierChar is identifierString without the colon, which separates the
// fields of HTTP Basic (OCPP 2.0.1 part 4 §3.1.1).
func identifierChar(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		strings.IndexByte("*-_=+|@.", c) >= 0
}

func unhex(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c <= 'F':
		return c - 'A' + 10
	}
	return c - 'a' + 10
}
