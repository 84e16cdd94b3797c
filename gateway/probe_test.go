package gateway_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"bollard/gateway"
)

func TestProbe(t *testing.T) {
	t.Parallel()
	answering := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(answering.Close)
	if err := gateway.Probe(t.Context(), gateway.Backend{URL: "ws" + strings.TrimPrefix(answering.URL, "http") + "/ocpp"}); err != nil {
		t.Errorf("an answer is an answer: %v", err)
	}
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(secure.Close)
	if err := gateway.Probe(t.Context(), gateway.Backend{URL: "ws" + strings.TrimPrefix(secure.URL, "http")}); err == nil {
		t.Error("a certificate nobody trusts was taken")
	}
	// A stopped process: its kernel accepts, nobody answers.
	hung, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer hung.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := gateway.Probe(ctx, gateway.Backend{URL: "ws://" + hung.Addr().String()}); err == nil || !strings.Contains(err.Error(), "no answer") {
		t.Errorf("a hung back end: %v", err)
	}
}
