package ocpp_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"bollard/ocpp"
)

// The messages about events, logs and status fit the official schemas, at their
// longest too, and come back as they were.
func TestEventAndStatusMessagesFitTheSchemas(t *testing.T) {
	t.Parallel()
	folder := filepath.Join("..", "..", "shared", "ocpp-schemas")
	if _, err := os.Stat(filepath.Dir(folder)); errors.Is(err, fs.ErrNotExist) {
		t.Skip("the official schemas are not beside this checkout")
	}
	event := ocpp.SecurityEventRequest{Type: strings.Repeat("t", ocpp.MaxEventType), Timestamp: "2026-01-01T00:00:00Z", TechInfo: strings.Repeat("ä", ocpp.MaxEventTechInfo)}
	hash := ocpp.CertificateHashData{HashAlgorithm: ocpp.HashSHA512, IssuerNameHash: strings.Repeat("a", ocpp.MaxIssuerHash),
		IssuerKeyHash: strings.Repeat("b", ocpp.MaxIssuerHash), SerialNumber: strings.Repeat("f", ocpp.MaxHashSerial)}
	ask := ocpp.GetCertificateStatusRequest{OCSPRequestData: ocpp.OCSPRequestData{HashAlgorithm: hash.HashAlgorithm, IssuerNameHash: hash.IssuerNameHash,
		IssuerKeyHash: hash.IssuerKeyHash, SerialNumber: hash.SerialNumber, ResponderURL: "http://h/"}}
	told := func(n int) any {
		return ocpp.GetCertificateStatusResponse{Status: ocpp.StatusAccepted, OCSPResult: strings.Repeat("A", n)}
	}
	url := "http://h/" + strings.Repeat("x", ocpp.MaxStatusURL-len("http://h/"))
	one := ocpp.CertificateStatusRequest{CertificateHashData: hash, Source: ocpp.SourceCRL, URLs: []string{url, url, url, url, url}[:ocpp.MaxStatusURLs]}
	chain := ocpp.GetCertificateChainStatusRequest{Requests: []ocpp.CertificateStatusRequest{one, one, one, one}[:ocpp.MaxStatusRequests]}
	var statuses ocpp.GetCertificateChainStatusResponse
	for _, s := range []string{ocpp.CertificateGood, ocpp.CertificateRevoked, ocpp.CertificateUnknown, ocpp.CertificateFailed} {
		statuses.Statuses = append(statuses.Statuses, ocpp.CertificateStatus{CertificateHashData: hash, Source: ocpp.SourceOCSP, Status: s, NextUpdate: "2026-01-01T00:00:00Z"})
	}
	id := 7
	log := ocpp.LogStatusRequest{Status: "Uploaded", RequestID: &id}
	type nothing struct{}
	for _, test := range []struct {
		schema  string
		message any
	}{
		{"1.6-security/SecurityEventNotification", event},
		{"1.6-security/SecurityEventNotificationResponse", nothing{}},
		{"1.6-security/LogStatusNotification", log},
		{"2.0.1/SecurityEventNotificationRequest", event},
		{"2.0.1/SecurityEventNotificationResponse", nothing{}},
		{"2.0.1/LogStatusNotificationRequest", log},
		{"2.0.1/GetCertificateStatusRequest", ask},
		{"2.0.1/GetCertificateStatusResponse", told(ocpp.MaxOCSPResult201)},
		{"2.1/SecurityEventNotificationRequest", event},
		{"2.1/LogStatusNotificationRequest", ocpp.LogStatusRequest{Status: "Uploaded", RequestID: &id, StatusInfo: &ocpp.StatusInfo{ReasonCode: "x"}}},
		{"2.1/GetCertificateStatusRequest", ask},
		{"2.1/GetCertificateStatusResponse", told(ocpp.MaxOCSPResult21)},
		{"2.1/GetCertificateStatusResponse", ocpp.GetCertificateStatusResponse{Status: ocpp.StatusFailed, StatusInfo: &ocpp.StatusInfo{ReasonCode: ocpp.ReasonInternalError}}},
		{"2.1/GetCertificateChainStatusRequest", chain},
		{"2.1/GetCertificateChainStatusResponse", statuses},
	} {
		schema, err := jsonschema.NewCompiler().Compile(filepath.Join(folder, test.schema+".json"))
		if err != nil {
			t.Fatal(err)
		}
		encoded, err := json.Marshal(test.message)
		if err != nil {
			t.Fatal(err)
		}
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(encoded))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(value); err != nil {
			t.Errorf("%s: %v", test.schema, err)
		}
		back := reflect.New(reflect.TypeOf(test.message))
		if err := ocpp.DecodeStrict(encoded, back.Interface()); err != nil || !reflect.DeepEqual(back.Elem().Interface(), test.message) {
			t.Errorf("%s came back as %+v, %v", test.schema, back.Elem(), err)
		}
	}
}
