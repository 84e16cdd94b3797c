package station_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"bollard/ocpp"
	"bollard/station"
)

// schemaDir holds the official schemas of the Open Charge Alliance. Their
// licence keeps them out of this repository; where they are not beside it, the
// checks that need them have nothing to compare with and say so.
const schemaDir = "../../shared/ocpp-schemas"

// schemas compiles official schemas on demand.
type schemas struct {
	mu       sync.Mutex
	compiled map[string]*jsonschema.Schema
}

var folders = map[ocpp.Version][]string{ocpp.V16: {"1.6", "1.6-security"}, ocpp.V201: {"2.0.1"}, ocpp.V21: {"2.1"}}

func (s *schemas) find(v ocpp.Version, action string, answer bool) (*jsonschema.Schema, error) {
	name := action + "Request.json"
	if v == ocpp.V16 {
		name = action + ".json"
	}
	if answer {
		name = action + "Response.json"
	}
	for _, folder := range folders[v] {
		path := filepath.Join(schemaDir, folder, name)
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if c := s.compiled[path]; c != nil {
			return c, nil
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			return nil, err
		}
		compiler := jsonschema.NewCompiler()
		if err := compiler.AddResource(path, doc); err != nil {
			return nil, err
		}
		c, err := compiler.Compile(path)
		if err != nil {
			return nil, err
		}
		s.compiled[path] = c
		return c, nil
	}
	return nil, fmt.Errorf("OCPP %s has no schema %s", v, name)
}

// theSchemas is shared: compiling is the slow part.
var theSchemas = &schemas{compiled: map[string]*jsonschema.Schema{}}

// checkSchemas validates every frame the station sent, requests and answers,
// against the official schemas.
func checkSchemas(t *testing.T, v ocpp.Version, frames []station.Frame) {
	t.Helper()
	if _, err := os.Stat(schemaDir); err != nil {
		t.Logf("the official schemas are not at %s: messages are not compared with them", schemaDir)
		return
	}
	asked := map[string]string{}
	checked := 0
	for _, f := range frames {
		head, err := ocpp.ParseHead(f.Bytes)
		if err != nil {
			t.Errorf("frame %s: %v", f.Bytes, err)
			continue
		}
		if f.Direction == ocpp.FromCSMS {
			if head.Type == ocpp.Call {
				asked[string(head.ID)] = head.Action
			}
			continue
		}
		var action string
		switch head.Type {
		case ocpp.Call:
			action = head.Action
		case ocpp.CallResult:
			action = asked[string(head.ID)]
		default:
			continue
		}
		schema, err := theSchemas.find(v, action, head.Type == ocpp.CallResult)
		if err != nil {
			t.Errorf("%s: %v", action, err)
			continue
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(head.Payload))
		if err != nil {
			t.Errorf("%s: %v", action, err)
			continue
		}
		if err := schema.Validate(doc); err != nil {
			t.Errorf("%s breaks its schema: %v\n%s", action, err, f.Bytes)
		}
		checked++
	}
	if checked == 0 {
		t.Error("no frame was checked against a schema")
	}
}

func field(t *testing.T, payload json.RawMessage, name string) string {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(payload, &m); err != nil {
		t.Fatalf("payload %s: %v", payload, err)
	}
	return fmt.Sprint(m[name])
}
