// Command server runs an AWS KMS for tests, on loopback: local-kms, which keeps the keys
// and signs, behind a door that it lacks: who asks has to sign the request (Signature
// Version 4), and is allowed what the policy of docs/keys.md allows a role. It is a module
// of its own, so that its dependencies are none of Bollard's; scripts/server builds it.
//
//	server -dir DIR -logins FILE [-listen 127.0.0.1:0] [-cert FILE -key FILE] [-longest-salt]
//
// It prints its URL, and serves until SIGTERM. What it keeps in DIR an earlier run may have
// left. The file with logins is read anew at each request.
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

	"github.com/nsmithuk/local-kms/src"
	"github.com/nsmithuk/local-kms/src/config"
	"github.com/nsmithuk/local-kms/src/data"
)

func main() {
	var d door
	dir := flag.String("dir", "", "directory of the keys")
	listen := flag.String("listen", "127.0.0.1:0", "loopback address")
	certFile := flag.String("cert", "", "PEM chain: serves TLS")
	keyFile := flag.String("key", "", "its key")
	flag.StringVar(&d.logins, "logins", "", "file that says who may ask, in JSON")
	flag.BoolVar(&d.longestSalt, "longest-salt", false, "signatures of PSS as local-kms makes them, not AWS")
	flag.Parse()
	if err := run(&d, *dir, *listen, *certFile, *keyFile); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(d *door, dir, listen, certFile, keyFile string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	config.AWSAccountId, config.AWSRegion, config.DatabasePath = account, region, dir
	d.database = data.NewDatabase(dir)
	defer d.database.Close()
	d.behind = func(w http.ResponseWriter, r *http.Request) { src.HandleRequest(w, r, d.database) }
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
		listener = tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12})
	}
	server := &http.Server{Handler: d, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		<-ctx.Done()
		_ = server.Close()
	}()
	fmt.Println(url)
	if err := server.Serve(listener); ctx.Err() == nil {
		return err
	}
	return nil
}
