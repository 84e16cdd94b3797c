package exi_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bollard/iso15118/exi"
)

const answerXML = `<?xml version="1.0" encoding="UTF-8"?>
<a:V2G_Message xmlns:a="urn:iso:15118:2:2013:MsgDef" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="x y">
 <a:Header><h:SessionID xmlns:h="urn:iso:15118:2:2013:MsgHeader">0A0b</h:SessionID></a:Header>
 <a:Body><b:CertificateUpdateRes xmlns:b="urn:iso:15118:2:2013:MsgBody" xmlns:t="urn:iso:15118:2:2013:MsgDataTypes">
  <b:ResponseCode> OK </b:ResponseCode>
  <b:SAProvisioningCertificateChain><t:Certificate>AQ
   ==</t:Certificate></b:SAProvisioningCertificateChain>
  <b:ContractSignatureCertChain t:Id="id1"><t:Certificate>Ag==</t:Certificate></b:ContractSignatureCertChain>
  <b:ContractSignatureEncryptedPrivateKey t:Id="id2">Aw==</b:ContractSignatureEncryptedPrivateKey>
  <b:DHpublickey t:Id="id3">BA==</b:DHpublickey>
  <b:eMAID t:Id="id4">NLEXA1234567&#56;9</b:eMAID>
  <b:RetryCounter>-1</b:RetryCounter>
 </b:CertificateUpdateRes></a:Body>
</a:V2G_Message>
`

// What stands in XML is the same message as in EXI, and comes back the same.
func TestXML(t *testing.T) {
	t.Parallel()
	el, err := exi.ISO2().ParseXML([]byte(answerXML))
	if err != nil {
		t.Fatal(err)
	}
	data, err := exi.ISO2().Encode(exi.Document, el)
	if err != nil {
		t.Fatal(err)
	}
	decoded, err := exi.ISO2().Decode(exi.Document, data)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(el, decoded); diff != "" {
		t.Error(diff)
	}
	body := el.Find("Body", "CertificateUpdateRes")
	if v := body.Child("eMAID"); v.Value != "NLEXA123456789" || v.Attribute("Id") != "id4" {
		t.Errorf("eMAID: %+v", v)
	}
	if v := el.Find("Header", "SessionID"); string(v.Value.([]byte)) != "\x0a\x0b" {
		t.Errorf("session: %+v", v)
	}
	text, err := exi.ISO2().ElementXML(el)
	if err != nil {
		t.Fatal(err)
	}
	again, err := exi.ISO2().ParseXML(text)
	if diff := cmp.Diff(el, again); diff != "" || err != nil {
		t.Errorf("%v: %s\n%s", err, diff, text)
	}
	for name, edit := range map[string][2]string{
		"foreign namespace":   {`xmlns:a="urn:iso:15118:2:2013:MsgDef"`, `xmlns:a="urn:x"`},
		"foreign element":     {"<b:RetryCounter>-1</b:RetryCounter>", "<b:Other/>"},
		"its own namespace":   {"<b:RetryCounter>-1</b:RetryCounter>", "<t:RetryCounter>-1</t:RetryCounter>"},
		"text between":        {"<b:RetryCounter>", "text<b:RetryCounter>"},
		"element in text":     {"NLEXA", "<t:Certificate/>"},
		"comment":             {"<b:RetryCounter>", "<!-- --><b:RetryCounter>"},
		"instruction":         {"<b:RetryCounter>", "<?x y?><b:RetryCounter>"},
		"directive":           {`encoding="UTF-8"?>`, `?><!DOCTYPE a [<!ENTITY b "c">]>`},
		"entity":              {"NLEXA", "&b;"},
		"unknown attribute":   {`t:Id="id4"`, `t:Other="id4"`},
		"attribute twice":     {`t:Id="id4"`, `t:Id="id4" Id="id5"`},
		"no base64":           {"BA==", "B"},
		"no hex":              {"0A0b", "0A0"},
		"no number":           {">-1<", ">one<"},
		"second root":         {"</a:V2G_Message>", "</a:V2G_Message><x/>"},
		"cut off":             {"</a:V2G_Message>", ""},
		"another end":         {"</a:Body>", "</a:Header>"},
		"another character":   {`encoding="UTF-8"`, `encoding="UTF-16"`},
		"something behind it": {"</a:V2G_Message>", "</a:V2G_Message>x"},
	} {
		changed := strings.Replace(answerXML, edit[0], edit[1], 1)
		if changed == answerXML {
			t.Fatalf("%s changes nothing", name)
		}
		if el, err := exi.ISO2().ParseXML([]byte(changed)); err == nil {
			t.Errorf("%s: taken as %v", name, el)
		}
	}
}

func FuzzXML(f *testing.F) {
	f.Add([]byte(answerXML))
	f.Fuzz(func(t *testing.T, data []byte) {
		el, err := exi.ISO2().ParseXML(data)
		if err != nil {
			return
		}
		if _, err := exi.ISO2().Encode(exi.Document, el); err != nil {
			return
		}
		text, err := exi.ISO2().ElementXML(el)
		if err != nil {
			t.Fatal(err)
		}
		again, err := exi.ISO2().ParseXML(text)
		if diff := cmp.Diff(el, again); err != nil || diff != "" {
			t.Errorf("%v: %s", err, diff)
		}
	})
}
