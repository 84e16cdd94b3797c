package ocpp_test

import (
	"testing"

	"bollard/ocpp"
)

func TestSubprotocols(t *testing.T) {
	t.Parallel()
	for name, v := range map[string]ocpp.Version{"ocpp1.6": ocpp.V16, "ocpp2.0.1": ocpp.V201, "ocpp2.1": ocpp.V21} {
		if got, ok := ocpp.ParseSubprotocol(name); !ok || got != v || v.Subprotocol() != name || "ocpp"+v.String() != name {
			t.Errorf("%s is %v", name, got)
		}
	}
	for _, name := range []string{"", "ocpp2.0", "OCPP1.6", "ocpp1.5", "1.6"} {
		if v, ok := ocpp.ParseSubprotocol(name); ok {
			t.Errorf("%q is %v", name, v)
		}
	}
	if v := ocpp.Version(0); v.Subprotocol() != "" || v.String() != "none" {
		t.Error("the zero Version has a name")
	}
}
