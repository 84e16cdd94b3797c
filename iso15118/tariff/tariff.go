// Package tariff signs the tariffs of an OCPP charging profile as ISO 15118 has them:
// the SalesTariff of -2, the AbsolutePriceSchedule and PriceLevelSchedule of -20. A
// station copies digests and signature into its message to the car, and the car
// verifies them over the EXI the station makes of the same profile.
//
// It promises that a digest is of exactly what the profile's JSON says: what EXI
// doesn't carry, or could carry in more ways than one, is an error and never a guess.
// All else of a profile stays as it came.
package tariff

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"

	"bollard/iso15118/exi"
	"bollard/iso15118/message"
	"bollard/iso15118/signature"
)

// IDPrefix comes before signatureId in the Id of an element: OCPP has a number there,
// an Id begins with a letter (xs:ID), and "id1" is how those of ISO 15118 usually look.
const IDPrefix = "id"

// Limits of OCPP 2.1 ChargingProfileType and of [V2G2-909].
const (
	maxSchedules = 3
	maxProfile   = 1 << 20
)

// Profile is a charging profile with tariffs, all of one edition.
type Profile struct {
	Protocol  message.Protocol
	Schedules []Schedule // those with a tariff, in the profile's order

	members   map[string]json.RawMessage
	schedules []map[string]json.RawMessage // of all chargingSchedules
}

// Schedule is the tariff of one of the profile's chargingSchedules.
type Schedule struct {
	Place       int    // in chargingSchedule
	SignatureID uint32 // as in the profile, or given
	Element     exi.Element
	EXI         []byte // what the digest is of: a fragment
	Digest      []byte // SHA-256 in -2, SHA-512 in -20
}

// elements are the tariffs a chargingSchedule can have.
var elements = []struct {
	member, local string
	protocol      message.Protocol
	of            []member
}{
	{"salesTariff", "SalesTariff", message.ISO2, salesTariff},
	{"absolutePriceSchedule", "AbsolutePriceSchedule", message.ISO20, absolutePriceSchedule},
	{"priceLevelSchedule", "PriceLevelSchedule", message.ISO20, priceLevelSchedule},
}

// Read reads a ChargingProfileType of OCPP 2.x. A schedule without signatureId is given
// the next one that is free, from 1. prefix comes before it in Ids; "" is IDPrefix.
func Read(profile []byte, prefix string) (*Profile, error) {
	if len(profile) > maxProfile {
		return nil, fmt.Errorf("a charging profile of %d bytes, at most %d are read", len(profile), maxProfile)
	}
	p := &Profile{}
	var err error
	if p.members, err = object(profile); err != nil {
		return nil, fmt.Errorf("couldn't read the charging profile: %w", err)
	}
	list, err := array(p.members["chargingSchedule"])
	if err != nil || len(list) == 0 || len(list) > maxSchedules {
		return nil, fmt.Errorf("couldn't read the charging profile: chargingSchedule isn't an array of 1 to %d", maxSchedules)
	}
	taken := map[uint32]bool{}
	for i, raw := range list {
		schedule, err := object(raw)
		if err == nil {
			err = p.read(i, schedule, taken)
		}
		if err != nil {
			return nil, fmt.Errorf("couldn't read chargingSchedule[%d]: %w", i, err)
		}
		p.schedules = append(p.schedules, schedule)
	}
	if len(p.Schedules) == 0 {
		return nil, errors.New("the charging profile has no tariff: salesTariff, absolutePriceSchedule or priceLevelSchedule")
	}
	if prefix == "" {
		prefix = IDPrefix
	}
	for i := range p.Schedules {
		if err := p.Schedules[i].encode(p.Protocol, prefix, taken); err != nil {
			return nil, fmt.Errorf("chargingSchedule[%d]: %w", p.Schedules[i].Place, err)
		}
	}
	return p, nil
}

// read takes the tariff of a schedule, if it has one.
func (p *Profile) read(place int, schedule map[string]json.RawMessage, taken map[uint32]bool) error {
	s, found := Schedule{Place: place}, ""
	for _, e := range elements {
		raw, ok := schedule[e.member]
		if !ok {
			continue
		}
		switch {
		case found != "":
			return fmt.Errorf("%s beside %s: it has one digestValue", e.member, found)
		case p.Protocol != 0 && p.Protocol != e.protocol:
			return errors.New("the profile mixes tariffs of ISO 15118-2 and -20: no signature covers both")
		}
		found, p.Protocol = e.member, e.protocol
		name, err := e.protocol.Set().Lookup(exi.Fragment, "", e.local)
		if err != nil {
			return err
		}
		s.Element = exi.Element{Name: name}
		if err := fill(&s.Element, raw, e.of); err != nil {
			return within(e.member, err)
		}
	}
	if found == "" {
		return nil
	}
	if raw, ok := schedule["signatureId"]; ok {
		id, err := strconv.ParseUint(string(raw), 10, 31)
		if err != nil || taken[uint32(id)] {
			return errors.New("signatureId isn't a number of its own from 0")
		}
		s.SignatureID, taken[uint32(id)] = uint32(id), true
	} else {
		s.SignatureID = missing
	}
	p.Schedules = append(p.Schedules, s)
	return nil
}

// missing marks a schedule that is to be given a signatureId.
const missing = ^uint32(0)

func (s *Schedule) encode(p message.Protocol, prefix string, taken map[uint32]bool) error {
	if s.SignatureID == missing {
		for s.SignatureID = 1; taken[s.SignatureID]; s.SignatureID++ {
		}
		taken[s.SignatureID] = true
	}
	s.Element.Attributes = []exi.Attribute{{Name: "Id", Value: prefix + strconv.FormatUint(uint64(s.SignatureID), 10)}}
	var err error
	if s.EXI, err = p.Set().Encode(exi.Fragment, s.Element); err != nil {
		return err
	}
	if p == message.ISO2 {
		sum := sha256.Sum256(s.EXI)
		s.Digest = sum[:]
	} else {
		sum := sha512.Sum512(s.EXI)
		s.Digest = sum[:]
	}
	return nil
}

// Sign is the profile with signatureId and digestValue in each schedule that has a
// tariff, and priceScheduleSignature: over all tariffs, in the profile's order. The key is MO sub-CA 2's, whose certificate a car has in its contract chain.
func (p *Profile) Sign(random io.Reader, key crypto.Signer) ([]byte, error) {
	suite, err := signature.SuiteOf(key.Public())
	if err != nil {
		return nil, err
	}
	if want := map[message.Protocol]signature.Suite{message.ISO2: signature.P256, message.ISO20: signature.P521}[p.Protocol]; suite != want {
		return nil, fmt.Errorf("a tariff of %s is signed with %s, the key is one for %s", p.Protocol, want, suite)
	}
	var parts []exi.Element
	for _, s := range p.Schedules {
		parts = append(parts, s.Element)
	}
	signed, err := signature.Sign(random, key, p.Protocol.Set(), parts...)
	if err != nil {
		return nil, err
	}
	value, _ := signed.Child("SignatureValue").Value.([]byte)
	return p.write(base64.StdEncoding.EncodeToString(value))
}

// write is the profile with digests and a signature, in place of those it had.
func (p *Profile) write(signed string) ([]byte, error) {
	for _, s := range p.Schedules {
		p.schedules[s.Place]["signatureId"] = json.RawMessage(strconv.FormatUint(uint64(s.SignatureID), 10))
		p.schedules[s.Place]["digestValue"] = json.RawMessage(`"` + base64.StdEncoding.EncodeToString(s.Digest) + `"`)
	}
	members := map[string]any{}
	for name, raw := range p.members {
		members[name] = raw
	}
	members["chargingSchedule"] = p.schedules
	members["priceScheduleSignature"] = signed
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(members); err != nil {
		return nil, err
	}
	return bytes.TrimSpace(out.Bytes()), nil
}
