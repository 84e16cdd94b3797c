package ocpp_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"bollard/ocpp"
)

// The catalogue has exactly the official messages, and each refusal fits its
// answer's schema.
func TestCatalogueAgreesWithTheSchemas(t *testing.T) {
	t.Parallel()
	root := filepath.Join("..", "..", "shared", "ocpp-schemas")
	if _, err := os.Stat(filepath.Dir(root)); errors.Is(err, fs.ErrNotExist) {
		t.Skip("the official schemas are not beside this checkout")
	}
	for v, folders := range map[ocpp.Version][]string{ocpp.V16: {"1.6", "1.6-security"}, ocpp.V201: {"2.0.1"}, ocpp.V21: {"2.1"}} {
		official := map[string]string{}
		for _, folder := range folders {
			files, err := filepath.Glob(filepath.Join(root, folder, "*.json"))
			if err != nil || len(files) == 0 {
				t.Fatalf("no schemas in %s: %v", folder, err)
			}
			for _, file := range files {
				name := strings.TrimSuffix(filepath.Base(file), ".json")
				if !strings.HasSuffix(name, "Response") {
					official[strings.TrimSuffix(name, "Request")] = filepath.Join(root, folder)
				}
			}
		}
		for name, folder := range official {
			a, ok := ocpp.FindAction(name)
			if !ok || !slices.Contains(a.Versions, v) {
				t.Errorf("%s of %s is missing", name, v)
				continue
			}
			if a.Refusal(v) == "" {
				continue
			}
			answer := ocpp.GenericStatus{Status: a.Refusal(v)}
			if v != ocpp.V16 {
				answer.StatusInfo = &ocpp.StatusInfo{ReasonCode: ocpp.ReasonUnsupportedRequest, AdditionalInfo: "x"}
			}
			raw, err := json.Marshal(answer)
			if err != nil {
				t.Fatal(err)
			}
			document, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
			if err != nil {
				t.Fatal(err)
			}
			schema, err := jsonschema.NewCompiler().Compile(filepath.Join(folder, name+"Response.json"))
			if err != nil {
				t.Fatal(err)
			}
			if err := schema.Validate(document); err != nil {
				t.Errorf("refusal of %s %s: %v", v, name, err)
			}
		}
		for _, a := range ocpp.Actions() {
			if _, ok := official[a.Name]; slices.Contains(a.Versions, v) && !ok {
				t.Errorf("%s has no %s", v, a.Name)
			}
		}
	}
	if a, _ := ocpp.FindAction("Reset"); !a.In(ocpp.V16, ocpp.FromCSMS) || a.In(ocpp.V16, ocpp.FromStation) {
		t.Error("who sends Reset?")
	}
	if _, ok := ocpp.FindAction("reset"); ok {
		t.Error("actions are case-sensitive")
	}
}
