package message_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"math/big"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"bollard/iso15118/exi"
	"bollard/iso15118/message"
)

var unexported = cmpopts.IgnoreUnexported(message.Request{}, message.Response{}, big.Int{})

// documents are messages whose bytes two independent encoders agree on.
func documents(t *testing.T) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	for _, file := range []string{"iso15118-2-documents", "iso15118-20-documents"} {
		raw, err := os.ReadFile("../exi/testdata/" + file + ".json")
		if err != nil {
			t.Fatal(err)
		}
		var in struct{ Vectors []struct{ Name, EXI string } }
		if err := json.Unmarshal(raw, &in); err != nil {
			t.Fatal(err)
		}
		for _, v := range in.Vectors {
			if out[v.Name], err = hex.DecodeString(v.EXI); err != nil {
				t.Fatal(err)
			}
		}
	}
	return out
}

func protocolOf(name string) message.Protocol {
	if strings.HasPrefix(name, "iso20") {
		return message.ISO20
	}
	return message.ISO2
}

// Every certificate message of the vectors is written again as it was.
func TestBothWays(t *testing.T) {
	t.Parallel()
	requests, responses := 0, 0
	for name, data := range documents(t) {
		p := protocolOf(name)
		switch {
		case strings.Contains(name, "InstallationReq"), strings.Contains(name, "UpdateReq"):
			requests++
			r, err := message.DecodeRequest(p, data)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if out, err := r.Encode(); err != nil || !bytes.Equal(out, data) {
				t.Errorf("%s: encoded to %x: %v", name, out, err)
			}
			if _, err := message.DecodeResponse(p, data); err == nil {
				t.Errorf("%s is an answer", name)
			}
		case strings.Contains(name, "InstallationRes"), strings.Contains(name, "UpdateRes"):
			responses++
			r, err := message.DecodeResponse(p, data)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if out, err := r.Encode(); err != nil || !bytes.Equal(out, data) {
				t.Errorf("%s: encoded to %x: %v", name, out, err)
			}
			if _, err := message.DecodeRequest(p, data); err == nil {
				t.Errorf("%s is a request", name)
			}
		default:
			if _, err := message.DecodeRequest(p, data); err == nil {
				t.Errorf("%s is a request", name)
			}
		}
	}
	if requests < 6 || responses < 6 {
		t.Errorf("%d requests, %d answers", requests, responses)
	}
}

// What was built has the same signed elements as what is read.
func TestSigned(t *testing.T) {
	t.Parallel()
	for name, data := range documents(t) {
		p := protocolOf(name)
		fragments := func(parts []exi.Element) (out []string) {
			for _, part := range parts {
				b, err := p.Set().Encode(exi.Fragment, part)
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
				out = append(out, hex.EncodeToString(b))
			}
			return out
		}
		var read, built []string
		if r, err := message.DecodeRequest(p, data); err == nil {
			again := *r
			message.Forget(&again, nil)
			read, built = fragments(r.Signed()), fragments(again.Signed())
		} else if r, err := message.DecodeResponse(p, data); err == nil {
			again := *r
			message.Forget(nil, &again)
			read, built = fragments(r.Signed()), fragments(again.Signed())
			if want := map[message.Protocol]int{message.ISO2: 4, message.ISO20: 1}[p]; len(read) != want {
				t.Errorf("%s: %d elements are signed", name, len(read))
			}
		}
		if diff := cmp.Diff(read, built); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestFields(t *testing.T) {
	t.Parallel()
	all := documents(t)
	r, err := message.DecodeRequest(message.ISO20, all["iso20-doc-CertificateInstallationReq-signed"])
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Session) != 8 || r.Time == 0 || r.Signature == nil || len(r.Chain.Certificate) == 0 || len(r.Chain.SubCertificates) != 2 || len(r.Roots) == 0 || r.Roots[0].Serial == nil {
		t.Errorf("got %+v", r)
	}
	a, err := message.DecodeResponse(message.ISO2, all["iso2-doc-CertificateUpdateRes-1"])
	if err != nil {
		t.Fatal(err)
	}
	if !a.Update || a.Code != "OK" || a.EMAID == "" || len(a.Key) != 48 || len(a.Public) != 65 || a.Contract.ID == "" || a.KeyID == "" || a.PublicID == "" || a.EMAIDID == "" {
		t.Errorf("got %+v", a)
	}
	b := *a
	b.SetIDs()
	if out, err := b.Encode(); err != nil {
		t.Error(err)
	} else if again, err := message.DecodeResponse(message.ISO2, out); err != nil {
		t.Error(err)
	} else if diff := cmp.Diff(&b, again, unexported); diff != "" {
		t.Error(diff)
	}
}

// Two elements of one Id: a reference to it would mean either.
func TestReusedID(t *testing.T) {
	t.Parallel()
	a, err := message.DecodeResponse(message.ISO2, documents(t)["iso2-doc-CertificateInstallationRes-signed"])
	if err != nil {
		t.Fatal(err)
	}
	a.KeyID = a.Contract.ID
	out, err := a.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := message.DecodeResponse(message.ISO2, out); err == nil {
		t.Error("a message with one Id twice was read")
	}
}

func TestProtocol(t *testing.T) {
	t.Parallel()
	for _, p := range []message.Protocol{message.ISO2, message.ISO20} {
		if got, err := message.ParseProtocol(p.Namespace()); err != nil || got != p {
			t.Errorf("%s: %v", got, err)
		}
	}
	if _, err := message.ParseProtocol("urn:din:70121:2012:MsgDef"); err == nil {
		t.Error("DIN 70121 has no certificates")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(true, []byte{0x80})
	f.Fuzz(func(t *testing.T, new bool, data []byte) {
		p := message.ISO2
		if new {
			p = message.ISO20
		}
		if r, err := message.DecodeRequest(p, data); err == nil {
			if out, err := r.Encode(); err != nil || !bytes.Equal(out, data) {
				t.Errorf("%x became %x: %v", data, out, err)
			}
		}
		if r, err := message.DecodeResponse(p, data); err == nil {
			if out, err := r.Encode(); err != nil || !bytes.Equal(out, data) {
				t.Errorf("%x became %x: %v", data, out, err)
			}
		}
	})
}
