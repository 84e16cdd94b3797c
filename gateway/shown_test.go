package gateway_test

import (
	"testing"

	"bollard/gateway"
)

// What the log shows of a request tells what is wrong with it, and no token or
// password that a client put where it doesn't belong.
func TestShownTarget(t *testing.T) {
	t.Parallel()
	for target, want := range map[string]string{
		"/ocpp/CS-1":                    "/ocpp/CS-1",
		"/ocpp/CS-1?password=canary":    "/ocpp/CS-1…",
		"/ocpp/CS-1/canary/more":        "/ocpp/CS-1/…",
		"/ocpp/CS-1/":                   "/ocpp/CS-1/…",
		"/other/CS-1;canary":            "/other/CS-1…",
		"http://host/ocpp/CS-1#canary":  "http://host/…",
		"//ocpp/../CS-1/token=canary?x": "//ocpp/…",
		"":                              "",
	} {
		if got := gateway.ShownTarget(target); got != want {
			t.Errorf("%q is shown as %q, want %q", target, got, want)
		}
	}
	if got := gateway.ShownOffer([]string{"ocpp1.6", "OCPP2.0.1", "Bearer canary", "ocpp-canary-canary-canary"}); got != `["ocpp1.6" "OCPP2.0.1" "…" "…"]` {
		t.Errorf("the offer is shown as %s", got)
	}
}
