package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"bollard/admin"
	"bollard/firmware/signing"
	"bollard/internal/safehttp"
	"bollard/keys"
	"bollard/ledger"
	"bollard/ledger/tiles"
)

const (
	// logPatience bounds one request of a log over HTTP, with waiting for others.
	logPatience = time.Minute
	// maxLogAnswer bounds what such a log answers: a tile has 8 KiB.
	maxLogAnswer = 1 << 20
)

// logServing are the flags of firmware log serve.
type logServing struct{ listen, key, token, cert, tlsKey string }

func (c *cli) firmwareLogServe() *cobra.Command {
	o := logServing{}
	cmd := &cobra.Command{
		Use:   "serve DIR --listen ADDR --log-signer URI --token-file FILE [--certificate FILE --tls-key FILE]",
		Short: "Serve a log, and let who has a token enter releases over HTTPS",
		Long: `Serve a log read-only, as c2sp.org/tlog-tiles has it, and let who has the token enter
releases (firmware sign --log https://…) until it is stopped. c2sp.org has no way to
write: an entry is 32 bytes, POSTed to /add with Authorization: Bearer, and the answer
its proof (c2sp.org/tlog-proof). Without a certificate it listens on this machine only,
such as behind a proxy.`,
		Args: cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			if o.listen == "" || o.key == "" || o.token == "" || (o.cert == "") != (o.tlsKey == "") {
				return admin.Usagef("", "--listen, --log-signer and --token-file are needed, --certificate and --tls-key go together")
			}
			ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			k, err := c.firmwareKeeper(ctx)
			if err != nil {
				return err
			}
			defer func() { _ = k.Close() }() // nothing is left to lose
			log := slog.New(slog.NewTextHandler(c.stderr, nil))
			handler, err := o.handler(ctx, k, args[0], log)
			if err != nil {
				return err
			}
			return c.serveLog(ctx, &o, handler, log)
		}),
	}
	f := cmd.Flags()
	f.StringVar(&o.listen, "listen", "", "address, such as 0.0.0.0:8447")
	f.StringVar(&o.key, "log-signer", "", "the log's key: softkms:…")
	f.StringVar(&o.token, "token-file", "", "file with the token of who may enter releases, one line of 16 characters at least, mode 0600")
	f.StringVar(&o.cert, "certificate", "", "PEM file with the server's certificate and its chain")
	f.StringVar(&o.tlsKey, "tls-key", "", "PEM file with its key")
	return cmd
}

func (o *logServing) handler(ctx context.Context, k *keys.Keeper, dir string, log *slog.Logger) (http.Handler, error) {
	token, err := secretFile(o.token)
	if err != nil {
		return nil, err
	}
	if len(token) < tiles.MinToken {
		return nil, admin.Usagef("`openssl rand -hex 32` makes a good one", "the token in %s is shorter than %d characters", o.token, tiles.MinToken)
	}
	origin, err := tiles.Origin(dir)
	if err != nil {
		return nil, err
	}
	signer, vkey, err := logSigner(ctx, k, o.key, origin)
	if err != nil {
		return nil, err
	}
	verifier, err := ledger.NewVerifier(vkey)
	if err != nil {
		return nil, err
	}
	return tiles.Receiver(tiles.ReceiverConfig{
		Dir: dir, Token: string(token), Size: sha256.Size, Log: log,
		Open: func(ctx context.Context) (*tiles.Log, error) { return tiles.Open(ctx, dir, signer, verifier) },
	})
}

func (c *cli) serveLog(ctx context.Context, o *logServing, handler http.Handler, log *slog.Logger) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", o.listen)
	if err != nil {
		return admin.Usagef("", "couldn't listen: %w", err)
	}
	scheme, local := "http", false
	if at, ok := listener.Addr().(*net.TCPAddr); ok {
		local = at.IP.IsLoopback()
	}
	server := &http.Server{Handler: http.TimeoutHandler(handler, logPatience, "too late"), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: logPatience, MaxHeaderBytes: 8 << 10,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn)}
	switch {
	case o.cert != "":
		pair, err := tls.LoadX509KeyPair(o.cert, o.tlsKey)
		if err != nil {
			return errors.Join(admin.Usagef("", "couldn't read the server's certificate: %w", err), listener.Close())
		}
		listener, scheme = tls.NewListener(listener, &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}), "https"
	case !local:
		return errors.Join(admin.Usagef("give --certificate and --tls-key, or an address of this machine", "the token would go over the network in clear"), listener.Close())
	}
	fmt.Fprintf(c.stdout, "serving the log at %s://%s/\n", scheme, listener.Addr())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return fmt.Errorf("couldn't serve the log: %w", err)
	case <-ctx.Done():
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), logPatience)
	defer cancel()
	err = server.Shutdown(last)
	if served := <-ended; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// remoteLog is a log over HTTP for the release that cfg is about.
func (c *cli) remoteLog(o *signOptions, cfg *signing.Config) (*tiles.Remote, error) {
	if o.logKey == "" || o.logToken == "" {
		return nil, admin.Usagef("`bollard firmware log create` printed the key", "a log over HTTP takes --log-key and --log-token-file")
	}
	var err error
	if cfg.LogKey, err = ledger.NewVerifier(o.logKey); err != nil {
		return nil, admin.Usagef("", "--log-key: %w", err)
	}
	token, err := secretFile(o.logToken)
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(o.log)
	if err != nil || u.Hostname() == "" || u.User != nil || u.RawQuery != "" {
		return nil, admin.Usagef("such as https://log.acme.example", "--log %.200q is no URL of a log", o.log)
	}
	addr, err := netip.ParseAddr(u.Hostname())
	if u.Scheme != "https" && (err != nil || !addr.IsLoopback()) {
		return nil, admin.Usagef("", "--log %.200q must begin with https:// (http:// only to this machine)", o.log)
	}
	// Who signs says where the log is: it may be in a network of the manufacturer's.
	safe := safehttp.Config{Schemes: []string{u.Scheme}, Hosts: []string{strings.ToLower(u.Hostname())}, MaxBytes: maxLogAnswer, Timeout: logPatience, Clock: time.Now,
		AllowPrivate: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}}
	if u.Port() != "" {
		port, err := strconv.Atoi(u.Port())
		if err != nil {
			return nil, admin.Usagef("", "--log %.200q has no valid port", o.log)
		}
		safe.Ports = []int{port}
	}
	if o.logTrust != "" {
		roots, err := c.readCertificates(o.logTrust)
		if err != nil {
			return nil, err
		}
		safe.RootCAs = x509.NewCertPool()
		for _, root := range roots {
			safe.RootCAs.AddCert(root)
		}
	}
	client, err := safehttp.New(safe)
	if err != nil {
		return nil, err
	}
	log, err := tiles.NewRemote(tiles.RemoteConfig{URL: o.log, Token: string(token), Key: cfg.LogKey, Client: client})
	if err == nil {
		cfg.Log = log
	}
	return log, err
}
