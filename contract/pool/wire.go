package pool

import (
	"encoding/base64"
	"errors"

	"bollard/ocpp"
)

// Paths of OPCP.
const (
	tokenPath      = "/oauth/token"
	signedDataPath = "/v1/ccp/signedContractData"
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
		exi, err := base64.StdEncoding.Strict().DecodeString(c.Message.Answer)
		if err != nil || len(exi) == 0 {
			return nil, errors.New("one of its answers isn't base64")
		}
		list = append(list, exi)
	}
	return list, nil
}
