package ocpp_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"bollard/ocpp"
)

type inner struct {
	A string `json:"a"`
}

type outer struct {
	CSR   string            `json:"csr"`
	N     int               `json:"n"`
	Inner inner             `json:"inner"`
	Ptr   *inner            `json:"ptr"`
	List  []inner           `json:"list"`
	Map   map[string]*inner `json:"map"`
	Raw   json.RawMessage   `json:"raw"`
	Skip  string            `json:"-"`
	inner
}

func TestDecodeStrict(t *testing.T) {
	t.Parallel()
	const format, typ = ocpp.FormatViolation, ocpp.TypeConstraintViolation
	for payload, want := range map[string]ocpp.ErrorCode{
		`{}`:                              "",
		` { } `:                           "",
		`null`:                            "",
		`{"csr":"x","unknown":{"x":1}}`:   "",
		`{"raw":{"csr":1,"CSR":2}}`:       "", // nobody acts on what stays raw
		`{"unknown":{"b":1,"B":2}}`:       "",
		`{"inner":null,"list":[]}`:        "",
		`{"c\u0073r":"x"}`:                "",
		`{"csr":"1","csr":"2"}`:           format,
		`{"csr":"1","c\u0073r":"2"}`:      format,
		`{"csr":"1","CSR":"2"}`:           format,
		`{"Csr":"1"}`:                     format,
		`{"c\u017fr":"1"}`:                format, // ſ folds to s
		`{"inner":{"A":"1"}}`:             format,
		`{"ptr":{"a":"1","a":"2"}}`:       format,
		`{"list":[{"a":"1"},{"A":"1"}]}`:  format,
		`{"map":{"x":{"A":"1"}}}`:         format,
		`{"A":"1"}`:                       format, // embedded
		`{"unknown":{"x":1,"x":2}}`:       format,
		`{"raw":{"x":1,"x":2}}`:           format,
		`{"csr":"\ud800"}`:                format,
		`{"csr":"x\u0000y"}`:              format, // C strings end there
		`{"csr\u0000":"x"}`:               format,
		`{"list":[{"a":"\u0000"}]}`:       format,
		`{"raw":"\u0000"}`:                "", // nobody acts on what stays raw
		`{"unknown":{"\u0000":"\u0000"}}`: "",
		"{\"csr\":\"\xff\"}":              format,
		`{} {}`:                           format,
		`{}x`:                             format,
		`{`:                               format,
		``:                                format,
		`[]`:                              format,
		`"x"`:                             format,
		nest(ocpp.MaxDepth):               format,
		`{"csr":1}`:                       typ,
		`{"n":1.5}`:                       typ,
		`{"n":99999999999999999999}`:      typ,
		`{"list":{}}`:                     typ,
	} {
		var into outer
		err := ocpp.DecodeStrict([]byte(payload), &into)
		var e *ocpp.FrameError
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", payload, err)
		case want != "" && (!errors.As(err, &e) || e.Code != want):
			t.Errorf("%s: %v, want %s", payload, err, want)
		}
	}
}

func TestDecodeStrictTellsNothing(t *testing.T) {
	t.Parallel()
	var into ocpp.ChangeConfigurationRequest16
	for _, payload := range []string{`{"key":"AuthorizationKey","value":{"s3cret":1}}`, `{"s3cret":1,"s3cret":2}`, `{"value":"s3cret`} {
		if err := ocpp.DecodeStrict([]byte(payload), &into); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", payload, err)
		}
	}
}

func TestDecodeSigned(t *testing.T) {
	t.Parallel()
	enc := base64.RawURLEncoding.EncodeToString
	got, err := ocpp.DecodeSigned([]byte(`{"protected":"e30","payload":"` + enc([]byte(`{"csr":"?>"}`)) + `","signature":"eA"}`))
	if err != nil || string(got) != `{"csr":"?>"}` {
		t.Errorf("%s, %v", got, err)
	}
	for _, payload := range []string{
		`{}`, `{"payload":""}`, `{"payload":"e30="}`, `{"payload":"e31"}`, `{"payload":"!"}`, `{"payload":1}`,
		`{"payload":"e30","Payload":"e30"}`,
		`{"payload":"` + enc([]byte(`[]`)) + `"}`, `{"payload":"` + enc([]byte(`{}{}`)) + `"}`, `{"payload":"` + enc([]byte(`{"a"}`)) + `"}`,
		`{"payload":"` + enc([]byte(nest(ocpp.MaxDepth))) + `"}`,
	} {
		if got, err := ocpp.DecodeSigned([]byte(payload)); err == nil {
			t.Errorf("%s gave %s", payload, got)
		}
	}
}

// FuzzDecodeStrict wants that what is accepted reads alike to a decoder that
// keeps the first of several keys and one that keeps the last.
func FuzzDecodeStrict(f *testing.F) {
	for _, seed := range []string{`{"csr":"1","CSR":"2"}`, `{"csr":"1","requestId":3}`, `null`, `{"certificateType":"\u0041"}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		var into ocpp.SignCertificateRequest
		if ocpp.DecodeStrict(payload, &into) != nil {
			return
		}
		var keys map[string]json.RawMessage
		if err := json.Unmarshal(payload, &keys); err != nil {
			t.Fatal(err)
		}
		var csr string
		if raw, ok := keys["csr"]; ok && json.Unmarshal(raw, &csr) != nil || csr != into.CSR {
			t.Fatalf("%q: csr is %q, not %q", payload, csr, into.CSR)
		}
	})
}
