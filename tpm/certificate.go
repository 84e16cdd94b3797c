package tpm

import (
	"crypto/ecdh"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
)

// What a provisioning certificate says of its car's TPM, in SubjectInfoAccess
// ([V2G20-2594] to [V2G20-2596]).
var (
	oidSubjectInfoAccess = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 11}
	oidStorageKey        = asn1.ObjectIdentifier{1, 0, 15118, 20, 0, 4}
	oidPolicyDigest      = asn1.ObjectIdentifier{1, 0, 15118, 20, 0, 5}
	oidOther             = asn1.ObjectIdentifier{1, 0, 15118, 20, 0} // the type of an otherName
)

// policySize is SHA-512's ([V2G20-2517]).
const policySize = 64

type accessDescription struct {
	Method   asn1.ObjectIdentifier
	Location asn1.RawValue
}

// StorageOf returns the storage key of a car's TPM, nil for a car without one. A
// certificate that names one which can't be read is an error: the car wants its key
// for the TPM, and no other way will do ([V2G20-2595]).
func StorageOf(cert *x509.Certificate) (*Storage, error) {
	var s *Storage
	var policy []byte
	for _, e := range cert.Extensions {
		if !e.Id.Equal(oidSubjectInfoAccess) {
			continue
		}
		var list []accessDescription
		if rest, err := asn1.Unmarshal(e.Value, &list); err != nil || len(rest) > 0 {
			return nil, errors.New("the certificate's SubjectInfoAccess can't be read")
		}
		for _, d := range list {
			switch {
			case d.Method.Equal(oidStorageKey):
				key, err := ecdh.P521().NewPublicKey(octets(d.Location, 1+2*coordinate))
				if err != nil || s != nil {
					return nil, errors.New("the certificate's storage key isn't one uncompressed point of P-521")
				}
				s = &Storage{Key: key}
			case d.Method.Equal(oidPolicyDigest):
				if policy != nil {
					return nil, errors.New("the certificate has two policies for its TPM")
				}
				if policy = octets(d.Location, policySize); policy == nil {
					return nil, errors.New("the certificate's policy for its TPM isn't a SHA-512")
				}
			}
		}
	}
	if s == nil && policy != nil {
		return nil, errors.New("the certificate has a policy for a TPM, and no storage key")
	}
	if s != nil {
		s.Policy = policy
	}
	return s, nil
}

// octets finds what a GeneralName holds, by its length: the standard says "the
// information itself" and leaves open in which form of name and string it stands.
func octets(v asn1.RawValue, want int) []byte {
	b := v.Bytes
	switch {
	case len(b) == want && !v.IsCompound:
		return b
	case len(b) == want+1 && v.Class == asn1.ClassUniversal && v.Tag == asn1.TagBitString && b[0] == 0: // unused bits
		return b[1:]
	}
	if !v.IsCompound {
		return nil
	}
	for len(b) > 0 {
		var inner asn1.RawValue
		rest, err := asn1.Unmarshal(b, &inner)
		if err != nil {
			return nil
		}
		if found := octets(inner, want); found != nil {
			return found
		}
		b = rest
	}
	return nil
}

// Extension is what StorageOf reads, for certificates of test cars: both as
// otherName with an octet string.
func (s *Storage) Extension() (pkix.Extension, error) {
	list := []accessDescription{}
	for _, d := range []struct {
		method asn1.ObjectIdentifier
		octets []byte
	}{{oidStorageKey, s.Key.Bytes()}, {oidPolicyDigest, s.Policy}} {
		if d.octets == nil {
			continue
		}
		value, err := asn1.Marshal(struct {
			Type  asn1.ObjectIdentifier
			Value []byte `asn1:"explicit,tag:0"`
		}{oidOther, d.octets})
		if err != nil {
			return pkix.Extension{}, err
		}
		value[0] = 0xa0 // [0] IMPLICIT SEQUENCE
		list = append(list, accessDescription{d.method, asn1.RawValue{FullBytes: value}})
	}
	value, err := asn1.Marshal(list)
	return pkix.Extension{Id: oidSubjectInfoAccess, Value: value}, err
}
