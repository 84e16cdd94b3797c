package gateway

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
)

// Probe asks a back end for an HTTP answer, any at all, until ctx ends: a
// process that hangs still has its port open. It is no WebSocket handshake,
// which would need a station's identity and could displace its session.
func Probe(ctx context.Context, b Backend) error {
	compiled, err := compileBackends([]Backend{b})
	if err != nil {
		return err
	}
	transport := &http.Transport{
		DialContext: (&net.Dialer{}).DialContext, TLSClientConfig: compiled[0].tls,
		DisableKeepAlives: true, MaxResponseHeaderBytes: 16 << 10,
	}
	defer transport.CloseIdleConnections()
	// ws: and wss: become http: and https:.
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http"+strings.TrimPrefix(compiled[0].base, "ws"), nil)
	if err != nil {
		return fmt.Errorf("couldn't read the URL: %w", err)
	}
	resp, err := transport.RoundTrip(r)
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("no answer to an HTTP request in time: %w", ctx.Err())
	}
	if err != nil {
		return err
	}
	return resp.Body.Close()
}
