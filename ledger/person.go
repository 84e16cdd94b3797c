package ledger

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"maps"
	"strings"
)

// PersonKeySize is the size of a person's key in bytes.
const PersonKeySize = 32

// ErrNobody says that the ledger has no pseudonym for a name.
var ErrNobody = errors.New("the ledger knows no such person")

// Pseudonym stands for a person in the ledger: a keyed hash of the name. Who has
// the person's key can tell that it is this person's; once the key is destroyed
// nobody can, and the ledger verifies as before.
func Pseudonym(key []byte, name string) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("bollard person v1\n" + name))
	return "p-" + hex.EncodeToString(mac.Sum(nil)[:12])
}

// operators is how the actors begin that are people; behind it stand the
// account and perhaps the person who uses it.
const operators = "operator:"

// WithPseudonyms returns the event with a pseudonym for each person in it: in
// its actor, and in the facts that People names. Others are left as they are.
func (e Event) WithPseudonyms(of func(name string) (string, error)) (Event, error) {
	var err error
	if e.Actor, err = ActorWithPseudonyms(e.Actor, of); err != nil {
		return e, err
	}
	if len(e.People) == 0 {
		return e, nil
	}
	e.Data = maps.Clone(e.Data)
	for _, key := range e.People {
		var list []string
		for _, name := range strings.Split(e.Data[key], ",") {
			switch {
			case name == "":
			case strings.HasPrefix(name, operators):
				name, err = ActorWithPseudonyms(name, of)
			default:
				name, err = of(name)
			}
			if err != nil {
				return e, err
			}
			list = append(list, name)
		}
		e.Data[key] = strings.Join(list, ",")
	}
	e.People = nil
	return e, nil
}

// ActorWithPseudonyms is the actor as the ledger names it: operator:alice is a
// person, a station or Bollard itself isn't.
func ActorWithPseudonyms(actor string, of func(name string) (string, error)) (string, error) {
	names, isPerson := strings.CutPrefix(actor, operators)
	if !isPerson {
		return actor, nil
	}
	parts := strings.Split(names, ":")
	for i, name := range parts {
		var err error
		if parts[i], err = of(name); err != nil {
			return "", err
		}
	}
	return operators + strings.Join(parts, ":"), nil
}
