// Package approval verifies that enough people have agreed to one thing: m of n,
// none of them its author, each by a signature with a key of their own, over a
// statement that names the thing by its digest.
//
// It promises that a signature counts for that statement alone: what is approved
// can't be changed, widened, repeated or used too late, and nobody counts twice.
// It does no I/O and is given the time: what it says today about a request and
// its signatures it says again offline.
package approval

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
)

// Namespace is the sshsig namespace of approvals (ssh-keygen -Y sign -n).
const Namespace = "bollard-approval"

// Request is what people are asked to approve.
type Request struct {
	Action  string    `json:"action"`  // such as station.downgrade
	Scope   string    `json:"scope"`   // what it is done to, such as station:cs-1
	Digest  string    `json:"sha256"`  // of what is approved, 64 lower-case hex digits
	Author  string    `json:"author"`  // who asks: an actor such as operator:root, behind it perhaps the person, operator:root:carol
	Expires time.Time `json:"expires"` // nothing counts from then on
	Nonce   string    `json:"nonce"`   // 128 random bits in lower-case hex, never used again
}

var (
	actionForm = regexp.MustCompile(`^[a-z][a-z-]*(\.[a-z][a-z-]*)+$`)
	digestForm = regexp.MustCompile(`^[0-9a-f]{64}$`)
	nonceForm  = regexp.MustCompile(`^[0-9a-f]{32}$`)
	nameForm   = regexp.MustCompile(`^[a-z0-9][a-z0-9._@-]{0,63}$`)
)

// What stands in one line of a statement is bounded. A scope may say in words how far
// something goes.
const (
	maxScope  = 1000
	maxAuthor = 200
)

// CheckName says whether a person's name can be registered.
func CheckName(name string) error {
	if !nameForm.MatchString(name) {
		return fmt.Errorf("name %.80q: give lower-case letters, digits and . _ @ -, at most 64", name)
	}
	return nil
}

// Statement is the text that is signed: one line for each part, so that people
// read what they sign and no two requests have the same text.
func (r *Request) Statement() ([]byte, error) {
	printable := func(s string, most int) bool {
		return s != "" && len(s) <= most && !strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsPrint(c) })
	}
	switch {
	case !actionForm.MatchString(r.Action):
		return nil, fmt.Errorf("action %.80q can't be approved", r.Action)
	case !printable(r.Scope, maxScope):
		return nil, errors.New("scope of an approval is missing, too long, or doesn't fit a line")
	case !digestForm.MatchString(r.Digest):
		return nil, errors.New("digest of an approval isn't a SHA-256 in lower-case hex")
	case !printable(r.Author, maxAuthor):
		return nil, errors.New("author of an approval is missing, too long, or doesn't fit a line")
	case r.Expires.IsZero():
		return nil, errors.New("approval never expires")
	case !nonceForm.MatchString(r.Nonce):
		return nil, errors.New("nonce of an approval isn't 32 lower-case hex digits")
	}
	return fmt.Appendf(nil, "bollard approval 1\naction: %s\nscope: %s\nsha256: %s\nauthor: %s\nexpires: %s\nnonce: %s\n",
		r.Action, r.Scope, r.Digest, r.Author, r.Expires.UTC().Format(time.RFC3339), r.Nonce), nil
}

// Approver is a person and their keys. Revoked is when they stopped counting,
// which is looked at when a request is used; zero: they count.
type Approver struct {
	Name    string    `json:"name"`
	Keys    []Key     `json:"keys"`
	Revoked time.Time `json:"revoked,omitzero"`
}

// Distinct refuses people who could count as somebody else: a name or a key
// stands for one person.
func Distinct(people []Approver) error {
	names, keys := map[string]bool{}, map[string]string{}
	for _, p := range people {
		if err := CheckName(p.Name); err != nil {
			return err
		}
		if names[p.Name] {
			return fmt.Errorf("%s stands there twice", p.Name)
		}
		names[p.Name] = true
		for _, k := range p.Keys {
			if owner, taken := keys[k.ID]; taken {
				return fmt.Errorf("key %s is registered for %s and for %s", k.ID, owner, p.Name)
			}
			keys[k.ID] = p.Name
		}
	}
	return nil
}

// Signer finds whose signature this is and checks it over the request. The
// error says why it counts for nobody.
func Signer(r *Request, signature []byte, approvers []Approver, now time.Time) (Approver, error) {
	statement, err := r.Statement()
	if err != nil {
		return Approver{}, err
	}
	if len(signature) > maxSignature {
		return Approver{}, fmt.Errorf("signature has more than %d bytes", maxSignature)
	}
	check := checkCMS(signature)
	if isSSH(signature) {
		check = checkSSH(signature)
	}
	reason := errors.New("signature is by no registered key: `bollard approver list` shows them")
	for _, a := range approvers {
		for _, k := range a.Keys {
			mine, err := check(&k, statement, now)
			switch {
			case !mine:
				if err != nil {
					return Approver{}, err
				}
				continue
			case err != nil:
				return Approver{}, fmt.Errorf("signature by %s: %w", a.Name, err)
			case !a.Revoked.IsZero():
				return Approver{}, fmt.Errorf("%s doesn't approve any more since %s", a.Name, a.Revoked.UTC().Format(time.RFC3339))
			case samePerson(a.Name, r.Author):
				return Approver{}, fmt.Errorf("%s has asked for it and can't approve it", a.Name)
			}
			return a, nil
		}
	}
	return Approver{}, reason
}

// samePerson compares a name as it is registered with an author's: the account
// and the person behind it.
func samePerson(name, author string) bool {
	parts := strings.Split(author, ":")
	if len(parts) > 1 {
		parts = parts[1:] // operator: what kind of actor it is
	}
	return slices.ContainsFunc(parts, func(part string) bool { return strings.EqualFold(name, part) })
}

// Quorum is how many people an action takes, and whom.
type Quorum struct {
	Needed int      `json:"needed"`
	Of     []string `json:"of,omitempty"` // names that count; none: every approver
	// With are names of whom at least one has to be among them; none: anybody will do.
	With []string `json:"with,omitempty"`
}

// Check says who of the people the quorum counts have signed the request, and
// an error while they aren't enough. A signature that counts for nobody is left
// out, and said of in the error. spent tells whether a nonce was used before:
// whoever acts on an approval records that in the same write as what they do.
func (q Quorum) Check(r *Request, signatures [][]byte, approvers []Approver, spent func(nonce string) bool, now time.Time) ([]string, error) {
	if _, err := r.Statement(); err != nil {
		return nil, err
	}
	if spent(r.Nonce) {
		return nil, fmt.Errorf("approval of %s for %s was used already: ask for it anew", r.Action, r.Scope)
	}
	if !now.Before(r.Expires) {
		return nil, fmt.Errorf("approval of %s expired at %s", r.Action, r.Expires.UTC().Format(time.RFC3339))
	}
	if q.Needed < 1 {
		return nil, fmt.Errorf("quorum of %s is %d: nothing is approved by nobody", r.Action, q.Needed)
	}
	var names []string
	var faults []error
	for _, sig := range signatures {
		a, err := Signer(r, sig, approvers, now)
		switch {
		case err != nil:
			faults = append(faults, err)
		case len(q.Of) > 0 && !slices.Contains(q.Of, a.Name):
			faults = append(faults, fmt.Errorf("%s isn't among those who approve %s", a.Name, r.Action))
		case !slices.Contains(names, a.Name): // nobody counts twice, whatever keys they have
			names = append(names, a.Name)
		}
	}
	if len(names) < q.Needed {
		missing := fmt.Errorf("%s of %s has %d of %d approvals", r.Action, r.Scope, len(names), q.Needed)
		return names, errors.Join(append([]error{missing}, faults...)...)
	}
	if len(q.With) > 0 && !slices.ContainsFunc(names, func(name string) bool { return slices.Contains(q.With, name) }) {
		return names, fmt.Errorf("%s of %s needs one of %s among those who approve it", r.Action, r.Scope, strings.Join(q.With, ", "))
	}
	return names, nil
}
