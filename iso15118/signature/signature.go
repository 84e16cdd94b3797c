// Package signature makes and checks the XML signatures of ISO 15118: over EXI
// fragments of the elements of a message that have to be signed.
//
// It promises that what verified is all that had to be signed, each element
// once, and nothing beside it: a reference more or less, one of another element,
// or a member that ISO 15118 forbids is an error.
package signature

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"io"
	"slices"

	"bollard/iso15118/exi"
)

const canonicalEXI = "http://www.w3.org/TR/canonical-exi/"

// maxReferences is [V2G2-909]'s.
const maxReferences = 4

// Sign returns the Signature element over elements of a message of the set. Each
// part needs an Id of its own.
func Sign(random io.Reader, key crypto.Signer, set *exi.Set, parts ...exi.Element) (exi.Element, error) {
	return sign(random, key, func(el exi.Element) ([]byte, error) { return set.Encode(exi.Fragment, el) }, parts)
}

func sign(random io.Reader, key crypto.Signer, encode func(exi.Element) ([]byte, error), parts []exi.Element) (exi.Element, error) {
	suite, err := SuiteOf(key.Public())
	if err != nil {
		return exi.Element{}, err
	}
	if err := checkParts(parts); err != nil {
		return exi.Element{}, err
	}
	a := suite.algorithms()
	info := element("SignedInfo",
		method("CanonicalizationMethod", canonicalEXI),
		method("SignatureMethod", a.signature))
	for _, part := range parts {
		fragment, err := encode(part)
		if err != nil {
			return exi.Element{}, err
		}
		reference := element("Reference",
			element("Transforms", method("Transform", canonicalEXI)),
			method("DigestMethod", a.digest),
			binary("DigestValue", a.sum(fragment)))
		reference.Attributes = []exi.Attribute{{Name: "URI", Value: "#" + part.Attribute("Id")}}
		info.Children = append(info.Children, reference)
	}
	message, err := exi.Signature().Encode(exi.Fragment, info)
	if err != nil {
		return exi.Element{}, err
	}
	value, err := suite.sign(random, key, message)
	if err != nil {
		return exi.Element{}, fmt.Errorf("couldn't sign: %w", err)
	}
	return element("Signature", info, binary("SignatureValue", value)), nil
}

// Verify checks that a Signature element was made with the private half of key,
// by one of the allowed suites, over exactly these parts of a message of the set:
// matched by URI, in any order. The set iso15118-2's eMAID is taken in both of
// its encodings, the standard's and the one some stacks sign.
func Verify(set *exi.Set, signature exi.Element, key crypto.PublicKey, allowed []Suite, parts ...exi.Element) error {
	suite, err := SuiteOf(key)
	if err != nil {
		return err
	}
	if !slices.Contains(allowed, suite) {
		return fmt.Errorf("%s isn't allowed here", suite)
	}
	if err := checkParts(parts); err != nil {
		return err
	}
	info, value := signature.Child("SignedInfo"), signature.Child("SignatureValue")
	if info == nil || value == nil {
		return errors.New("the signature has no SignedInfo or no SignatureValue")
	}
	references, err := suite.referencesOf(set, info)
	if err != nil {
		return err
	}
	// [V2G2-771], [V2G20-771]; elements that are forbidden too aren't even decoded.
	if value.Attribute("Id") != "" {
		return errors.New("SignatureValue has an Id, which ISO 15118 forbids")
	}
	if err := match(set, suite, references, parts); err != nil {
		return err
	}
	message, err := exi.Signature().Encode(exi.Fragment, *info)
	if err != nil {
		return err
	}
	raw, _ := value.Value.([]byte)
	if !suite.verify(key, message, raw) {
		return errors.New("the signature's value isn't the key's")
	}
	return nil
}

func checkParts(parts []exi.Element) error {
	if len(parts) == 0 || len(parts) > maxReferences {
		return fmt.Errorf("%d elements to be signed, 1 to %d can be ([V2G2-909])", len(parts), maxReferences)
	}
	for i, part := range parts {
		id := part.Attribute("Id")
		if id == "" {
			return fmt.Errorf("element %s has no Id", part.Local)
		}
		if slices.ContainsFunc(parts[:i], func(p exi.Element) bool { return p.Attribute("Id") == id }) {
			return errors.New("two elements have one Id")
		}
	}
	return nil
}

type reference struct {
	uri    string
	digest []byte
}

// referencesOf reads a SignedInfo of the suite.
func (s Suite) referencesOf(set *exi.Set, info *exi.Element) ([]reference, error) {
	a := s.algorithms()
	if info.Attribute("Id") != "" {
		return nil, errors.New("SignedInfo has an Id, which ISO 15118 forbids")
	}
	var list []reference
	for i := range info.Children {
		el := &info.Children[i]
		switch algorithm := el.Attribute("Algorithm"); {
		case el.Local == "CanonicalizationMethod" && algorithm != canonicalEXI:
			return nil, errors.New("the signature isn't over canonical EXI")
		case el.Local == "SignatureMethod" && algorithm != a.signature:
			return nil, fmt.Errorf("the signature's method isn't that of its key, %s", s)
		case el.Local == "Reference":
			r, err := a.reference(set, el)
			if err != nil {
				return nil, err
			}
			list = append(list, r)
		}
	}
	return list, nil
}

func (a algorithms) reference(set *exi.Set, el *exi.Element) (reference, error) {
	if el.Attribute("Type") != "" {
		return reference{}, errors.New("a Reference has a Type, which ISO 15118 forbids")
	}
	transforms := 0
	if t := el.Child("Transforms"); t != nil {
		transforms = len(t.Children)
		for _, transform := range t.Children {
			if transform.Attribute("Algorithm") != canonicalEXI {
				return reference{}, errors.New("a Reference is transformed otherwise than to canonical EXI")
			}
		}
	}
	// One in ISO 15118-2, at most one in -20 ([V2G20-767]).
	if transforms > 1 || transforms == 0 && set == exi.ISO2() {
		return reference{}, fmt.Errorf("a Reference has %d transforms, 1 is wanted", transforms)
	}
	method, digest := el.Child("DigestMethod"), el.Child("DigestValue")
	if method == nil || digest == nil || method.Attribute("Algorithm") != a.digest {
		return reference{}, fmt.Errorf("the digest of a Reference isn't that of %s", a.name)
	}
	value, _ := digest.Value.([]byte)
	return reference{el.Attribute("URI"), value}, nil
}

// match pairs references with the parts, each exactly once.
func match(set *exi.Set, suite Suite, references []reference, parts []exi.Element) error {
	if len(references) != len(parts) {
		return fmt.Errorf("%d elements are signed, %d have to be", len(references), len(parts))
	}
	for _, part := range parts {
		uri := "#" + part.Attribute("Id")
		i := slices.IndexFunc(references, func(r reference) bool { return r.uri == uri })
		if i < 0 {
			return fmt.Errorf("element %s isn't signed", part.Local)
		}
		ok, err := suite.digests(set, part, references[i].digest)
		if err != nil {
			return err
		}
		if !ok {
			return fmt.Errorf("element %s isn't the one that was signed", part.Local)
		}
	}
	return nil
}

// digests tells whether a digest is that of a part.
func (s Suite) digests(set *exi.Set, part exi.Element, digest []byte) (bool, error) {
	sum := s.algorithms().sum
	for _, encode := range []func(exi.Element) ([]byte, error){
		func(el exi.Element) ([]byte, error) { return set.Encode(exi.Fragment, el) },
		set.EncodeDeclared,
	} {
		fragment, err := encode(part)
		if err != nil {
			return false, err
		}
		if bytes.Equal(sum(fragment), digest) {
			return true, nil
		}
	}
	return false, nil
}

func element(local string, children ...exi.Element) exi.Element {
	el := exi.New(exi.NamespaceSignature, local)
	el.Children = children
	return el
}

func method(local, algorithm string) exi.Element {
	el := element(local)
	el.Attributes = []exi.Attribute{{Name: "Algorithm", Value: algorithm}}
	return el
}

func binary(local string, value []byte) exi.Element {
	el := element(local)
	el.Value = value
	return el
}
