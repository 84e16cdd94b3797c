// Package message is the certificate messages of ISO 15118-2 and -20 as values:
// what a car asks for and what a provider answers, each with the elements that
// its signature covers.
//
// It promises that what Encode writes is what DecodeRequest and DecodeResponse
// read, and that Ids are unique in a message, so that a reference means one
// element.
package message

import (
	"errors"
	"fmt"
	"math/big"

	"bollard/iso15118/exi"
)

// Protocol is an edition of ISO 15118.
type Protocol uint8

// The editions with plug & charge.
const (
	ISO2  Protocol = iota + 1 // ISO 15118-2:2014
	ISO20                     // ISO 15118-20:2022
)

// Namespaces by which OCPP names the editions (iso15118SchemaVersion).
const (
	Namespace2  = "urn:iso:15118:2:2013:MsgDef"
	Namespace20 = "urn:iso:std:iso:15118:-20:CommonMessages"
)

// ParseProtocol reads the schema version of an OCPP message.
func ParseProtocol(namespace string) (Protocol, error) {
	switch namespace {
	case Namespace2:
		return ISO2, nil
	case Namespace20:
		return ISO20, nil
	}
	return 0, fmt.Errorf("schema version is neither %s nor %s", Namespace2, Namespace20)
}

// Namespace is what ParseProtocol reads.
func (p Protocol) Namespace() string {
	if p == ISO20 {
		return Namespace20
	}
	return Namespace2
}

// String names the edition for people.
func (p Protocol) String() string {
	if p == ISO20 {
		return "ISO 15118-20"
	}
	return "ISO 15118-2"
}

// Set is the schema set of the edition's messages.
func (p Protocol) Set() *exi.Set {
	if p == ISO20 {
		return exi.ISO20Common()
	}
	return exi.ISO2()
}

// Header is what every message begins with.
type Header struct {
	Session   []byte       // SessionID: 8 bytes, in ISO 15118-2 at most
	Time      int64        // TimeStamp of -20, Unix seconds
	Signature *exi.Element // nil: unsigned
}

// Chain is a certificate with those above it, without the root: sub-CA 2, then
// sub-CA 1. All are DER.
type Chain struct {
	ID              string // where the chain itself is signed
	Certificate     []byte
	SubCertificates [][]byte
}

// RootID names a V2G root the car trusts. Real cars put free text into Issuer.
type RootID struct {
	Issuer string
	Serial *big.Int
}

// decode reads a message of any kind and returns its header and the element that
// says what it is.
func decode(p Protocol, data []byte) (Header, *exi.Element, error) {
	root, err := p.Set().Decode(exi.Document, data)
	if err != nil {
		return Header{}, nil, err
	}
	if err := uniqueIDs(&root, map[string]bool{}); err != nil {
		return Header{}, nil, err
	}
	header, body := root.Child("Header"), &root
	if p == ISO2 {
		if body = root.Child("Body"); body == nil || len(body.Children) != 1 {
			return Header{}, nil, errors.New("the message has no body")
		}
		body = &body.Children[0]
	}
	if header == nil {
		return Header{}, nil, errors.New("the message has no header")
	}
	h := Header{Session: octets(header.Child("SessionID")), Time: number(header.Child("TimeStamp")), Signature: header.Child("Signature")}
	return h, body, nil
}

// uniqueIDs refuses a message in which two elements have one Id: a reference to
// it would mean either.
func uniqueIDs(el *exi.Element, seen map[string]bool) error {
	if id := el.Attribute("Id"); id != "" {
		if seen[id] {
			return errors.New("two elements of the message have one Id")
		}
		seen[id] = true
	}
	for i := range el.Children {
		if err := uniqueIDs(&el.Children[i], seen); err != nil {
			return err
		}
	}
	return nil
}

// encode writes a message of one body element.
func encode(p Protocol, h Header, body exi.Element) ([]byte, error) {
	header := exi.New("", "Header")
	header.Children = []exi.Element{value("SessionID", h.Session)}
	if p == ISO20 {
		header.Children = append(header.Children, value("TimeStamp", h.Time))
	}
	if h.Signature != nil {
		header.Children = append(header.Children, *h.Signature)
	}
	if p == ISO20 {
		body.Children = append([]exi.Element{header}, body.Children...)
		return p.Set().Encode(exi.Document, body)
	}
	root := exi.New(Namespace2, "V2G_Message")
	root.Children = []exi.Element{header, group("Body", body)}
	return p.Set().Encode(exi.Document, root)
}

// named is an element of the set by its local name: its namespace follows.
func named(p Protocol, local string) exi.Element {
	name, err := p.Set().Lookup(exi.Fragment, "", local)
	if err != nil {
		panic("internal error: " + err.Error())
	}
	return exi.Element{Name: name}
}

func group(local string, children ...exi.Element) exi.Element {
	el := exi.New("", local)
	el.Children = children
	return el
}

// value is an element with text; only values of the kinds exi.Element has.
func value(local string, v any) exi.Element {
	el := exi.New("", local)
	el.Value = v
	return el
}

func withID(el exi.Element, id string) exi.Element {
	if id != "" {
		el.Attributes = []exi.Attribute{{Name: "Id", Value: id}}
	}
	return el
}

// element writes a chain as an element of the name.
func (c Chain) element(p Protocol, local string) exi.Element {
	el := withID(named(p, local), c.ID)
	el.Children = []exi.Element{value("Certificate", c.Certificate)}
	if len(c.SubCertificates) == 0 {
		return el
	}
	subs := exi.New("", "SubCertificates")
	for _, der := range c.SubCertificates {
		subs.Children = append(subs.Children, value("Certificate", der))
	}
	el.Children = append(el.Children, subs)
	return el
}

func chainOf(el *exi.Element) Chain {
	if el == nil {
		return Chain{}
	}
	c := Chain{ID: el.Attribute("Id"), Certificate: octets(el.Child("Certificate"))}
	if subs := el.Child("SubCertificates"); subs != nil {
		for i := range subs.Children {
			c.SubCertificates = append(c.SubCertificates, octets(&subs.Children[i]))
		}
	}
	return c
}

func rootIDs(list []RootID) exi.Element {
	el := exi.New("", "ListOfRootCertificateIDs")
	for _, r := range list {
		el.Children = append(el.Children, group("RootCertificateID",
			value("X509IssuerName", r.Issuer), value("X509SerialNumber", r.Serial)))
	}
	return el
}

func rootIDsOf(el *exi.Element) []RootID {
	var list []RootID
	if el == nil {
		return nil
	}
	for i := range el.Children {
		id := RootID{Issuer: text(el.Children[i].Child("X509IssuerName"))}
		switch serial := el.Children[i].Child("X509SerialNumber"); v := valueOf(serial).(type) {
		case *big.Int:
			id.Serial = v
		case int64:
			id.Serial = big.NewInt(v)
		}
		list = append(list, id)
	}
	return list
}

func valueOf(el *exi.Element) any {
	if el == nil {
		return nil
	}
	return el.Value
}

func octets(el *exi.Element) []byte {
	b, _ := valueOf(el).([]byte)
	return b
}

func text(el *exi.Element) string {
	s, _ := valueOf(el).(string)
	return s
}

func number(el *exi.Element) int64 {
	n, _ := valueOf(el).(int64)
	return n
}
