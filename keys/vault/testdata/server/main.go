// Command server runs a Vault server for tests, on loopback: the core of HashiCorp
// Vault with transit, PKI and four ways to log in. It is a module of its own, so that
// its hundreds of dependencies are none of Bollard's; scripts/vault builds it.
//
//	server [-dir DIR] [-listen 127.0.0.1:0] [-cert FILE -key FILE]
//
// It prints its URL, and serves until SIGTERM. It holds no keys: who started it
// initialises and unseals it over its API. With -dir it keeps its state there, and
// comes up sealed on what an earlier run left.
package main

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	kubernetes "github.com/hashicorp/vault-plugin-auth-kubernetes"
	"github.com/hashicorp/vault/builtin/credential/approle"
	"github.com/hashicorp/vault/builtin/credential/cert"
	"github.com/hashicorp/vault/builtin/logical/pki"
	"github.com/hashicorp/vault/builtin/logical/transit"
	vaulthttp "github.com/hashicorp/vault/http"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/physical"
	"github.com/hashicorp/vault/sdk/physical/file"
	"github.com/hashicorp/vault/sdk/physical/inmem"
	"github.com/hashicorp/vault/vault"
)

func main() {
	dir := flag.String("dir", "", "directory of the state; in memory if empty")
	listen := flag.String("listen", "127.0.0.1:0", "loopback address")
	certFile := flag.String("cert", "", "PEM chain: serves TLS, and asks for client certificates")
	keyFile := flag.String("key", "", "its key")
	flag.Parse()
	if err := run(*dir, *listen, *certFile, *keyFile); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(dir, listen, certFile, keyFile string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	logger := hclog.New(&hclog.LoggerOptions{Level: hclog.Error})
	var storage physical.Backend
	var err error
	if dir == "" {
		storage, err = inmem.NewInmem(nil, logger)
	} else {
		storage, err = file.NewFileBackend(map[string]string{"path": dir}, logger)
	}
	if err != nil {
		return err
	}
	core, err := vault.NewCore(&vault.CoreConfig{
		Physical: storage, Logger: logger, DisableMlock: true, BuiltinRegistry: builtins{},
		LogicalBackends: secrets, CredentialBackends: logins,
	})
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	url := "http://" + listener.Addr().String()
	if certFile != "" {
		pair, err := tls.LoadX509KeyPair(certFile, keyFile)
		if err != nil {
			return err
		}
		url = "https://" + listener.Addr().String()
		listener = tls.NewListener(listener, &tls.Config{
			MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequestClientCert,
		})
	}
	server := &http.Server{
		Handler: vaulthttp.Handler.Handler(&vault.HandlerProperties{Core: core}), ReadHeaderTimeout: 10 * time.Second,
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	fmt.Println(url)
	select {
	case err = <-served:
	case <-ctx.Done():
		err = server.Close()
	}
	if end := core.Shutdown(); err == nil {
		err = end
	}
	return err
}

var secrets = map[string]logical.Factory{
	"transit": transit.Factory,
	"pki":     pki.Factory,
	"kv":      vault.PassthroughBackendFactory,
}

var logins = map[string]logical.Factory{
	"approle":    approle.Factory,
	"cert":       cert.Factory,
	"kubernetes": kubernetes.Factory,
}

// builtins is the registry Vault looks engines up in when they are mounted.
type builtins struct{}

func of(kind consts.PluginType) map[string]logical.Factory {
	switch kind {
	case consts.PluginTypeSecrets:
		return secrets
	case consts.PluginTypeCredential:
		return logins
	}
	return nil
}

func (builtins) Contains(name string, kind consts.PluginType) bool { return of(kind)[name] != nil }

func (builtins) Get(name string, kind consts.PluginType) (func() (interface{}, error), bool) {
	factory, ok := of(kind)[name]
	return func() (interface{}, error) { return factory, nil }, ok
}

func (builtins) Keys(consts.PluginType) []string { return nil }

func (builtins) DeprecationStatus(string, consts.PluginType) (consts.DeprecationStatus, bool) {
	return consts.Supported, true
}
