package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"

	"bollard/e2e/rawws"
)

// backendStats is one line of the back end's output.
type backendStats struct {
	Address     string `json:"address,omitempty"`
	Connections int64  `json:"connections"`
	Messages    int64  `json:"messages"`
	Wrong       string `json:"wrong,omitempty"` // first frame that was no CALL
}

// serveBackend is the plain CSMS behind every proxy. Each line on its input
// asks for a line of statistics.
func serveBackend(stdin io.Reader, stdout io.Writer) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("couldn't listen: %w", err)
	}
	var connections, messages atomic.Int64
	var wrong atomic.Value
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				connections.Add(1)
				defer connections.Add(-1)
				err := answer(conn, &messages)
				if unexpected(err) {
					wrong.CompareAndSwap(nil, err.Error())
				}
			}()
		}
	}()
	enc := json.NewEncoder(stdout)
	err = enc.Encode(backendStats{Address: ln.Addr().String()})
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(stdin)
	for lines.Scan() {
		stats := backendStats{Connections: connections.Load(), Messages: messages.Load()}
		if w := wrong.Load(); w != nil {
			stats.Wrong = w.(string)
		}
		err = enc.Encode(stats)
		if err != nil {
			return err
		}
	}
	return nil
}

// unexpected tells wrong bytes from the end of a connection: whether an answer
// is missing then is for the generator to see.
func unexpected(err error) bool {
	var closed *rawws.CloseError
	var network net.Error
	var refused *rawws.HandshakeError
	return err != nil && !errors.As(err, &closed) && !errors.As(err, &network) && !errors.As(err, &refused) &&
		!errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, net.ErrClosed)
}

// answer serves one station until its connection ends.
func answer(conn net.Conn, messages *atomic.Int64) error {
	c, _, err := rawws.Server(conn, func(*http.Request) (string, int) {
		return "ocpp1.6", http.StatusSwitchingProtocols
	})
	if err != nil {
		return err
	}
	var out []byte
	for {
		msg, err := c.ReadMessage()
		if err != nil {
			return err
		}
		out, err = response(out, msg)
		if err != nil {
			return fmt.Errorf("%w: %.60q", err, msg)
		}
		messages.Add(1)
		err = c.WriteText(out)
		if err != nil {
			return err
		}
	}
}
