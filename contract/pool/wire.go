package pool

import (
	"encoding/base64"
	"errors"
	"fmt"

	"bollard/iso15118/exi"
	"bollard/iso15118/message"
	"bollard/ocpp"
)

// Paths of OPCP.
const (
	tokenPath      = "/oauth/token"
	signedDataPath = "/v1/ccp/signedContractData"
	signPath       = "/v1/cps/contractData/signed"
)

const jsonType = "application/json"

// question is a car's request (GetSignedContractDataRequest).
type question struct {
	Request   string `json:"certificateInstallationReq"` // base64
	Namespace string `json:"xsdMsgDefNamespace"`
}

// answers to it (GetSignedContractDataResponse).
type answers struct {
	CCP *ccpAnswers `json:"CCPResponse"`
}

type ccpAnswers struct {
	Contents []content `json:"emaidContent"`
}

type content struct {
	Message contractAnswer `json:"messageDef"`
}

type contractAnswer struct {
	Answer string `json:"certificateInstallationRes"` // base64
	EMAID  string `json:"emaid,omitempty"`
}

// Bounds of answers: eight contracts are as many as a car names in order
// (PrioritizedEMAIDs), and none is longer than OCPP 2.1 carries.
const (
	maxAnswers = 8
	maxEXI     = ocpp.MaxEXIResponse21
)

// readAnswers reads the EXI of each answer.
func readAnswers(body []byte) ([][]byte, error) {
	var in answers
	if err := ocpp.DecodeStrict(body, &in); err != nil || in.CCP == nil {
		return nil, errors.New("its answer can't be read")
	}
	if len(in.CCP.Contents) > maxAnswers {
		return nil, errors.New("it answers with more than eight contracts")
	}
	var list [][]byte
	for _, c := range in.CCP.Contents {
		if len(c.Message.Answer) > maxEXI {
			return nil, errors.New("one of its answers is longer than a station carries")
		}
		answer, err := base64.StdEncoding.Strict().DecodeString(c.Message.Answer)
		if err != nil || len(answer) == 0 {
			return nil, errors.New("one of its answers isn't base64")
		}
		list = append(list, answer)
	}
	return list, nil
}

// isProblem tells whether a body is OPCP's Error. Proxies and wrong paths answer 404, too.
func isProblem(body []byte) bool {
	var in struct {
		Messages []string `json:"errorMessages"`
	}
	return ocpp.DecodeStrict(body, &in) == nil && in.Messages != nil
}

// unsigned is contract data that a provider made and sealed, for a CPS to sign.
type unsigned struct {
	Namespace string       `json:"xsdMsgDefNamespace"`
	EMAID     string       `json:"emaid"`
	PCID      string       `json:"pcid,omitempty"` // with it, it would be kept
	Data      contractData `json:"contractData"`
}

type contractData struct {
	Chain  contractChain `json:"contractSignatureCertChain"`
	Key    string        `json:"contractSignatureEncryptedPrivateKey"` // base64, as all that follows
	Public string        `json:"dHpublickey"`
	EMAID  string        `json:"emaid"`
}

type contractChain struct {
	Leaf string   `json:"contractSignatureCertChainCertificate"`
	Subs []string `json:"contractSignatureCertChainSubCertificates"`
}

// signed is what the CPS makes of it.
type signed struct {
	EMAID     string `json:"emaid"`
	Namespace string `json:"xsdMsgDefNamespace"`
	Data      string `json:"signedData"` // base64 of the CertificateInstallationRes in XML
	Root      string `json:"cpsRootDistinguishedName,omitempty"`
}

func unsignedOf(a *message.Response) unsigned {
	text := base64.StdEncoding.EncodeToString
	out := unsigned{Namespace: a.Protocol.Namespace(), EMAID: a.EMAID, Data: contractData{Key: text(a.Key), Public: text(a.Public), EMAID: a.EMAID}}
	out.Data.Chain.Leaf = text(a.Contract.Certificate)
	for _, sub := range a.Contract.SubCertificates {
		out.Data.Chain.Subs = append(out.Data.Chain.Subs, text(sub))
	}
	return out
}

// response is the answer to be signed.
func (u *unsigned) response() (*message.Response, error) {
	var values [][]byte
	for _, text := range append([]string{u.Data.Key, u.Data.Public, u.Data.Chain.Leaf}, u.Data.Chain.Subs...) {
		value, err := base64.StdEncoding.Strict().DecodeString(text)
		if err != nil || len(value) == 0 {
			return nil, errors.New("contractData isn't base64")
		}
		values = append(values, value)
	}
	if len(values[0]) != 48 || len(values[1]) != 65 { // [V2G2-820] and following
		return nil, errors.New("contractData isn't sealed as ISO 15118-2 has it: key of 48 bytes, DH public key of 65")
	}
	nothing := make([]byte, 8)
	return &message.Response{Protocol: message.ISO2, Header: message.Header{Session: nothing}, Code: "OK", EMAID: u.Data.EMAID,
		Key: values[0], Public: values[1], Contract: message.Chain{Certificate: values[2], SubCertificates: values[3:]}}, nil
}

// signedOf is the answer, signed, in XML.
func signedOf(a *message.Response) (*signed, error) {
	text, err := inXML(a)
	return &signed{EMAID: a.EMAID, Namespace: a.Protocol.Namespace(), Data: base64.StdEncoding.EncodeToString(text)}, err
}

// inXML writes an answer as XML.
func inXML(a *message.Response) ([]byte, error) {
	data, err := a.Encode()
	if err != nil {
		return nil, err
	}
	el, err := a.Protocol.Set().Decode(exi.Document, data)
	if err != nil {
		return nil, err
	}
	return a.Protocol.Set().ElementXML(el)
}

// maxXML bounds a signed answer in XML: six certificates in base64, and what is around them.
const maxXML = 64 << 10

// readSigned reads the EXI of a signed answer.
func readSigned(body []byte) ([]byte, error) {
	var in signed
	if err := ocpp.DecodeStrict(body, &in); err != nil {
		return nil, errors.New("its answer can't be read")
	}
	return exiOf(message.ISO2, "signedData", in.Data)
}

// exiOf reads the EXI of a message that stands in XML, in base64.
func exiOf(p message.Protocol, member, base string) ([]byte, error) {
	text, err := base64.StdEncoding.Strict().DecodeString(base)
	if err != nil || len(text) == 0 || len(text) > maxXML {
		return nil, fmt.Errorf("%s isn't base64 of XML", member)
	}
	el, err := p.Set().ParseXML(text)
	if err != nil {
		return nil, fmt.Errorf("%s isn't a message of %s in XML", member, p)
	}
	out, err := p.Set().Encode(exi.Document, el)
	if err != nil {
		return nil, fmt.Errorf("%s isn't a message of %s", member, p)
	}
	return out, nil
}

// given is contract data of another provider, to be kept for a car.
type given struct {
	Namespace string `json:"xsdMsgDefNamespace"`
	EMAID     string `json:"emaid"`
	PCID      string `json:"pcid"`
	Data      string `json:"signedContractDataXML"` // base64 of the CertificateInstallationRes in XML
}
