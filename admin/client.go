package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
)

// ErrNoServer says that nobody answers on the socket.
var ErrNoServer = errors.New("no server answers on the admin socket")

// Client reaches the operations of a running server.
type Client struct {
	dir  string
	http *http.Client
}

// NewClient returns a client for the server of a data directory. Nothing is
// dialled before Invoke.
func NewClient(dir string) *Client {
	c := &Client{dir: dir}
	c.http = &http.Client{Transport: &http.Transport{
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx) },
		DisableKeepAlives: true,
	}}
	return c
}

func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	var conn net.Conn
	err := withShortPath(c.dir, func(short string) error {
		var d net.Dialer
		var err error
		conn, err = d.DialContext(ctx, "unix", short)
		return err
	})
	if err != nil {
		return nil, errors.Join(ErrNoServer, err)
	}
	return conn, nil
}

// Invoke runs the named operation on the server. ErrNoServer means that
// nothing was done; any other error is an *Error.
func (c *Client) Invoke(ctx context.Context, name string, in json.RawMessage) (json.RawMessage, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://bollard/v1/"+name, bytes.NewReader(in))
	if err != nil {
		return nil, Explain(fmt.Errorf("couldn't make the request: %w", err))
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if errors.Is(err, ErrNoServer) {
		return nil, fmt.Errorf("couldn't reach %s: %w", filepath.Join(c.dir, SocketName), ErrNoServer)
	}
	if err != nil {
		return nil, Failedf("look at the server's log, then look whether it was done before repeating", "couldn't ask the server: %w", err)
	}
	defer resp.Body.Close()
	// The answer comes from the server of this very user; its size is what it printed.
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, Failedf("look whether it was done before repeating", "couldn't read the server's answer: %w", err)
	}
	if resp.StatusCode == http.StatusOK {
		return body, nil
	}
	var answer errorBody
	if err := json.Unmarshal(body, &answer); err != nil || answer.Error == nil {
		return nil, Failedf("is it another program's socket?", "the server answered %s", resp.Status)
	}
	return nil, answer.Error
}

// Reachable says whether a server accepts connections on the socket.
func (c *Client) Reachable(ctx context.Context) bool {
	conn, err := c.dial(ctx)
	if err != nil {
		return false
	}
	_ = conn.Close() // it was only to see whether somebody is there
	return true
}
