// Package quality judges public keys before anybody certifies them: kinds and
// sizes, and every weakness that shows in the public half alone.
//
// It promises that a key whose private half is public knowledge, or can be
// computed on one machine by a published method, is refused with the reason:
// small factors, primes found by Fermat's method, the ROCA fingerprint, keys
// from standards and libraries, and whatever the operator's block lists name.
//
// What it can't see: primes shared with another key, weak randomness that no
// list covers, and a modulus that is itself prime. Debian's keys
// (CVE-2008-0166) show only through a list; see Load.
package quality

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"fmt"

	"github.com/cloudflare/circl/sign/ed448"

	"bollard/internal/curve448"
)

// Policy is what a caller allows beyond the usual.
type Policy struct {
	// P224 allows the curve P-224 (A00.FR.503), which TLS 1.3 can't use.
	P224 bool
	// Ed448 allows that curve ([V2G20-2319]).
	Ed448 bool
	// Blocked holds the operator's block lists; nil for none.
	Blocked *Blocklist
}

// Reason is the kind of a refusal, for metrics and tests.
type Reason string

// The reasons.
const (
	Malformed   Reason = "malformed"    // no number or point where one has to be
	Kind        Reason = "kind"         // neither RSA nor ECDSA
	Size        Reason = "size"         // RSA modulus
	Exponent    Reason = "exponent"     // RSA public exponent
	SmallFactor Reason = "small-factor" // a prime below 2^16 divides the modulus
	ClosePrimes Reason = "close-primes" // Fermat's method finds the primes
	ROCA        Reason = "roca"         // CVE-2017-15361
	Curve       Reason = "curve"        // not one of the allowed curves
	Point       Reason = "point"        // not a point of its curve, or not a usable one
	Published   Reason = "published"    // the private key is in a standard or a library
	Blocked     Reason = "blocked"      // on a block list
)

// Error refuses a key. Its text is for an operator and holds nothing of the
// key but kind and size.
type Error struct {
	Reason Reason
	Text   string
}

func (e *Error) Error() string { return e.Text }

func refuse(reason Reason, format string, args ...any) error {
	return &Error{Reason: reason, Text: fmt.Sprintf(format, args...)}
}

// Check returns nil for a key that may be certified, else an *Error, or
// another error if a block list couldn't be read: an unread list refuses.
func Check(public crypto.PublicKey, policy Policy) error {
	var err error
	var spki []byte
	switch key := public.(type) {
	case *rsa.PublicKey:
		err = checkRSA(key)
	case *ecdsa.PublicKey:
		spki, err = checkEC(key, policy)
	case ed448.PublicKey:
		if !policy.Ed448 {
			return refuse(Kind, "Ed448 keys are for ISO 15118-20 alone (allowed: ECDSA, RSA)")
		}
		if fault := curve448.CheckPublicKey(key); fault != nil {
			err = refuse(Point, "%v", fault)
		}
	case ed25519.PublicKey:
		// A00.FR.501 to .503 know RSA and the NIST curves only, and so do the
		// TLS stacks of stations and back ends.
		return refuse(Kind, "Ed25519 keys aren't for charging stations (allowed: ECDSA, RSA)")
	default:
		return refuse(Kind, "key type %T isn't allowed (allowed: ECDSA, RSA)", public)
	}
	if err != nil {
		return err
	}
	if spki == nil {
		spki, err = curve448.MarshalPublicKey(public)
	}
	if err != nil {
		return refuse(Malformed, "the key can't be encoded: %v", err)
	}
	prints := fingerprint(public, spki)
	if source, found := published[prints.spki]; found {
		return refuse(Published, "the private key is public knowledge: it is printed in %s", source)
	}
	list, err := policy.Blocked.find(prints)
	if err != nil {
		return fmt.Errorf("couldn't check the key against the block lists: %w", err)
	}
	if list != "" {
		return refuse(Blocked, "the key is on the block list %s: its private half is known or suspect", list)
	}
	return nil
}
