package message

import (
	"errors"
	"fmt"

	"bollard/iso15118/exi"
)

// Request is a CertificateInstallationReq, or a CertificateUpdateReq of
// ISO 15118-2.
type Request struct {
	Protocol Protocol
	Header
	Update bool   // of -2: the chain is the old contract's
	ID     string // of -2: the Id of the body
	// Chain is the car's provisioning certificate, in -2 without sub-CAs, or the
	// contract certificate to be replaced.
	Chain Chain
	EMAID string   // of an update
	Roots []RootID // V2G roots the car trusts

	MaximumChains int64    // of -20: contracts the car has room for
	Prioritized   []string // of -20: eMAIDs the car wants first

	signed []exi.Element
}

// DecodeRequest reads a request; its signature isn't verified.
func DecodeRequest(p Protocol, data []byte) (*Request, error) {
	h, body, err := decode(p, data)
	if err != nil {
		return nil, err
	}
	r := &Request{Protocol: p, Header: h, Roots: rootIDsOf(body.Child("ListOfRootCertificateIDs"))}
	switch {
	case p == ISO20 && body.Local == "CertificateInstallationReq":
		chain := body.Child("OEMProvisioningCertificateChain")
		r.Chain = chainOf(chain)
		r.MaximumChains = number(body.Child("MaximumContractCertificateChains"))
		if list := body.Child("PrioritizedEMAIDs"); list != nil {
			for i := range list.Children {
				r.Prioritized = append(r.Prioritized, text(&list.Children[i]))
			}
		}
		if chain == nil {
			return nil, errors.New("the request has no certificate chain")
		}
		r.signed = []exi.Element{*chain}
	case p == ISO2 && body.Local == "CertificateInstallationReq":
		r.ID, r.Chain.Certificate = body.Attribute("Id"), octets(body.Child("OEMProvisioningCert"))
		r.signed = []exi.Element{*body}
	case p == ISO2 && body.Local == "CertificateUpdateReq":
		r.Update, r.ID, r.EMAID = true, body.Attribute("Id"), text(body.Child("eMAID"))
		r.Chain = chainOf(body.Child("ContractSignatureCertChain"))
		r.signed = []exi.Element{*body}
	default:
		return nil, fmt.Errorf("a %s isn't a request for a certificate", body.Local)
	}
	return r, nil
}

// Signed are the elements the request's signature has to cover: the body in -2,
// the provisioning chain in -20.
func (r *Request) Signed() []exi.Element {
	if r.signed == nil {
		body := r.body()
		if r.Protocol == ISO20 {
			return body.Children[:1]
		}
		return []exi.Element{body}
	}
	return r.signed
}

// Encode writes the request.
func (r *Request) Encode() ([]byte, error) { return encode(r.Protocol, r.Header, r.body()) }

func (r *Request) body() exi.Element {
	local := "CertificateInstallationReq"
	if r.Update {
		local = "CertificateUpdateReq"
	}
	body := named(r.Protocol, local)
	switch {
	case r.Protocol == ISO20:
		body.Children = []exi.Element{
			r.Chain.element(ISO20, "OEMProvisioningCertificateChain"), rootIDs(r.Roots),
			value("MaximumContractCertificateChains", r.MaximumChains),
		}
		if len(r.Prioritized) > 0 {
			list := exi.New("", "PrioritizedEMAIDs")
			for _, id := range r.Prioritized {
				list.Children = append(list.Children, value("EMAID", id))
			}
			body.Children = append(body.Children, list)
		}
		return body
	case r.Update:
		body.Children = []exi.Element{r.Chain.element(ISO2, "ContractSignatureCertChain"), value("eMAID", r.EMAID), rootIDs(r.Roots)}
	default:
		body.Children = []exi.Element{value("OEMProvisioningCert", r.Chain.Certificate), rootIDs(r.Roots)}
	}
	return withID(body, r.ID)
}
