package message

import (
	"fmt"

	"bollard/iso15118/exi"
)

// Curve is where the contract key of an answer of -20 is.
type Curve string

// The curves of ISO 15118-20.
const (
	SECP521 Curve = "SECP521"
	X448    Curve = "X448"
	// TPM is secp521r1 for a car that keeps its keys in a TPM: the key is one to
	// be imported there.
	TPM Curve = "TPM"
)

// Response is a CertificateInstallationRes, or a CertificateUpdateRes of
// ISO 15118-2.
type Response struct {
	Protocol Protocol
	Header
	Update bool   // of -2
	Code   string // ResponseCode

	CPS      Chain // who signed
	Contract Chain
	Public   []byte // DHpublickey, DHPublicKey
	Key      []byte // the contract's private key, enveloped
	EMAID    string // of -2

	// IDs of -2's signed elements: chain (in Contract), key, public key, eMAID; of
	// -20's SignedInstallationData.
	KeyID, PublicID, EMAIDID, DataID string

	Retry *int64 // RetryCounter of an update; nil: none

	Curve      Curve  // of -20
	Processing string // of -20: Finished, Ongoing
	Remaining  int64  // of -20: contracts left to fetch

	signed []exi.Element
}

// SetIDs gives the signed elements the usual Ids.
func (r *Response) SetIDs() {
	if r.Protocol == ISO20 {
		r.DataID = "id1"
		return
	}
	r.Contract.ID, r.KeyID, r.PublicID, r.EMAIDID = "id1", "id2", "id3", "id4"
}

// DecodeResponse reads an answer; its signature isn't verified.
func DecodeResponse(p Protocol, data []byte) (*Response, error) {
	h, body, err := decode(p, data)
	if err != nil {
		return nil, err
	}
	r := &Response{Protocol: p, Header: h, Code: text(body.Child("ResponseCode"))}
	switch {
	case p == ISO20 && body.Local == "CertificateInstallationRes":
		r.read20(body)
	case p == ISO2 && (body.Local == "CertificateInstallationRes" || body.Local == "CertificateUpdateRes"):
		r.Update = body.Local == "CertificateUpdateRes"
		r.read2(body)
	default:
		return nil, fmt.Errorf("a %s isn't an answer with a certificate", body.Local)
	}
	return r, nil
}

func (r *Response) read2(body *exi.Element) {
	r.CPS, r.Contract = chainOf(body.Child("SAProvisioningCertificateChain")), chainOf(body.Child("ContractSignatureCertChain"))
	for local, to := range map[string]struct {
		value *[]byte
		id    *string
	}{
		"ContractSignatureEncryptedPrivateKey": {&r.Key, &r.KeyID},
		"DHpublickey":                          {&r.Public, &r.PublicID},
	} {
		if el := body.Child(local); el != nil {
			*to.value, *to.id = octets(el), el.Attribute("Id")
		}
	}
	if el := body.Child("eMAID"); el != nil {
		r.EMAID, r.EMAIDID = text(el), el.Attribute("Id")
	}
	if el := body.Child("RetryCounter"); el != nil {
		n := number(el)
		r.Retry = &n
	}
	for _, local := range signed2 {
		if el := body.Child(local); el != nil {
			r.signed = append(r.signed, *el)
		}
	}
}

func (r *Response) read20(body *exi.Element) {
	r.CPS, r.Processing = chainOf(body.Child("CPSCertificateChain")), text(body.Child("EVSEProcessing"))
	r.Remaining = number(body.Child("RemainingContractCertificateChains"))
	data := body.Child("SignedInstallationData")
	if data == nil {
		return
	}
	r.DataID, r.Contract = data.Attribute("Id"), chainOf(data.Child("ContractCertificateChain"))
	r.Public = octets(data.Child("DHPublicKey"))
	for _, c := range []Curve{SECP521, X448, TPM} {
		if el := data.Child(string(c) + keySuffix); el != nil {
			r.Curve, r.Key = c, octets(el)
		}
	}
	r.signed = []exi.Element{*data}
}

// signed2 are the elements a CPS signs in ISO 15118-2, in the body's order.
var signed2 = [...]string{"ContractSignatureCertChain", "ContractSignatureEncryptedPrivateKey", "DHpublickey", "eMAID"}

const keySuffix = "_EncryptedPrivateKey"

// Signed are the elements the answer's signature has to cover.
func (r *Response) Signed() []exi.Element {
	switch {
	case r.signed != nil:
		return r.signed
	case r.Protocol == ISO20:
		return []exi.Element{r.data()}
	}
	return r.parts()
}

// Encode writes the answer.
func (r *Response) Encode() ([]byte, error) {
	local := "CertificateInstallationRes"
	if r.Update {
		local = "CertificateUpdateRes"
	}
	body := named(r.Protocol, local)
	if r.Protocol == ISO20 {
		body.Children = []exi.Element{
			value("ResponseCode", r.Code), value("EVSEProcessing", r.Processing),
			r.CPS.element(ISO20, "CPSCertificateChain"), r.data(),
			value("RemainingContractCertificateChains", r.Remaining),
		}
		return encode(ISO20, r.Header, body)
	}
	body.Children = append([]exi.Element{value("ResponseCode", r.Code), r.CPS.element(ISO2, "SAProvisioningCertificateChain")}, r.parts()...)
	if r.Update && r.Retry != nil {
		body.Children = append(body.Children, value("RetryCounter", *r.Retry))
	}
	return encode(ISO2, r.Header, body)
}

// parts are the signed elements of ISO 15118-2.
func (r *Response) parts() []exi.Element {
	part := func(local, id string, v any) exi.Element {
		el := withID(named(ISO2, local), id)
		el.Value = v
		return el
	}
	return []exi.Element{
		r.Contract.element(ISO2, signed2[0]),
		part(signed2[1], r.KeyID, r.Key),
		part(signed2[2], r.PublicID, r.Public),
		part(signed2[3], r.EMAIDID, r.EMAID),
	}
}

// data is the SignedInstallationData of ISO 15118-20.
func (r *Response) data() exi.Element {
	curve := r.Curve
	if curve == TPM {
		curve = SECP521
	}
	data := withID(named(ISO20, "SignedInstallationData"), r.DataID)
	data.Children = []exi.Element{
		r.Contract.element(ISO20, "ContractCertificateChain"), value("ECDHCurve", string(curve)),
		value("DHPublicKey", r.Public), value(string(r.Curve)+keySuffix, r.Key),
	}
	return data
}
