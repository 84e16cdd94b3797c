package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync/atomic"
)

// direct is the back end with TLS of its own and nothing in front: what a
// proxy adds is the difference.
type direct struct{ files *files }

func (direct) name() string { return directName }

func (direct) version(context.Context) (string, error) { return runtime.Version(), nil }

func (d direct) command(ctx context.Context, listen, _ string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return exec.CommandContext(ctx, self, "direct", listen, d.files.server, d.files.clientCA), nil
}

// serveDirect serves until it is killed.
func serveDirect(listen, server, clientCA string) error {
	pair, err := tls.LoadX509KeyPair(server, server)
	if err != nil {
		return fmt.Errorf("couldn't load the server certificate: %w", err)
	}
	raw, err := os.ReadFile(clientCA)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(raw) {
		return errors.New("no certificate among the clients' roots")
	}
	ln, err := tls.Listen("tcp", listen, &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, ClientCAs: roots, ClientAuth: tls.RequireAndVerifyClientCert,
	})
	if err != nil {
		return err
	}
	var messages atomic.Int64
	for {
		conn, err := ln.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			_ = answer(conn, &messages) // the stations check every answer
		}()
	}
}
