package main

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/tlog"

	"bollard/admin"
	"bollard/firmware/signing"
	"bollard/keys"
	"bollard/ledger"
	"bollard/ledger/tiles"
	"bollard/ledger/witness"
)

// maxSBOM bounds a bill of materials.
const maxSBOM = 32 << 20

func readSBOM(path string) ([]byte, error) {
	if err := wantFile(path); err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	defer func() { _ = f.Close() }() // it was only read
	text, err := io.ReadAll(io.LimitReader(f, maxSBOM+1))
	if err == nil && len(text) > maxSBOM {
		err = fmt.Errorf("it has more than %d bytes", maxSBOM)
	}
	if err != nil {
		return nil, admin.Usagef("", "couldn't read the SBOM: %w", err)
	}
	return text, nil
}

// createdLog is what firmware log create prints.
type createdLog struct {
	Dir    string `json:"dir"`
	Origin string `json:"origin"`
	Key    string `json:"key"` // verifier key, for firmware verify --log-key
}

func (c *cli) firmwareLog() *cobra.Command {
	origin, key := "", ""
	create := &cobra.Command{
		Use:   "create DIR --origin NAME --key URI",
		Short: "Make an empty transparency log in a directory, and print its verifier key",
		Long: `Make an empty transparency log of releases in a directory, and print its verifier
key, which whoever verifies releases needs. The directory has the files of
c2sp.org/tlog-tiles: serve it read-only by any web server. --origin names the log for
ever, such as firmware.acme.example/log; --key, softkms:PATH, is made if it isn't there.`,
		Args: cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			if origin == "" || key == "" {
				return admin.Usagef("such as --origin firmware.acme.example/log --key softkms:log.key", "--origin and --key are needed")
			}
			k, err := c.firmwareKeeper(ctx)
			if err != nil {
				return err
			}
			defer func() { _ = k.Close() }() // nothing is left to lose
			if _, err := k.Create(ctx, key, keys.RoleLedger, keys.Ed25519); err != nil && !errors.Is(err, keys.ErrExists) {
				return err
			}
			signer, vkey, err := logSigner(ctx, k, key, origin)
			if err != nil {
				return err
			}
			if err := tiles.Create(args[0], origin, signer); err != nil {
				return err
			}
			out := createdLog{Dir: args[0], Origin: origin, Key: vkey}
			return c.print(out, func(w io.Writer) { fmt.Fprintln(w, out.Key) })
		}),
	}
	create.Flags().StringVar(&origin, "origin", "", "name of the log")
	create.Flags().StringVar(&key, "key", "", "the log's key: softkms:PATH")
	return c.group("log", "A transparency log of releases", create, c.firmwareLogServe())
}

// logSigner opens a log's key under the log's name.
func logSigner(ctx context.Context, k *keys.Keeper, uri, origin string) (*ledger.Signer, string, error) {
	key, err := k.Open(ctx, uri, keys.RoleLedger)
	if err != nil {
		return nil, "", err
	}
	public, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return nil, "", admin.Usagef("`bollard firmware log create` makes one", "%s isn't an Ed25519 key, which logs sign with", uri)
	}
	signer, err := ledger.NewSigner(origin, public, func(message []byte) ([]byte, error) {
		return key.Sign(rand.Reader, message, crypto.Hash(0))
	})
	if err != nil {
		return nil, "", err
	}
	vkey, err := ledger.VerifierKey(origin, public)
	return signer, vkey, err
}

// statusHandler answers certificate status, and serves an own log of releases. It is
// no ServeMux: that redirects paths of OCSP requests, which are Base64.
func (s *server) statusHandler() http.Handler {
	status := s.status.Handler()
	if s.cfg.Firmware.Log == "" {
		return status
	}
	log := http.StripPrefix("/log", tiles.Handler(within(s.dir, s.cfg.Firmware.Log)))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/log/") {
			log.ServeHTTP(w, r)
			return
		}
		status.ServeHTTP(w, r)
	})
}

// logTree is a log whose tree can be read.
type logTree interface {
	Hashes(ctx context.Context) tlog.HashReader
}

// cosigners ask witnesses, each given as URL and verifier key with a comma between, to
// sign a log's checkpoint.
func cosigners(given []string, log logTree) (func(context.Context, ledger.Note) (ledger.Note, error), error) {
	var list []*witness.Cosigner
	for _, text := range given {
		url, key, _ := strings.Cut(text, ",")
		c, err := witness.NewCosigner(witness.HTTPConfig{Name: url, URL: url, Clock: time.Now}, key, log.Hashes)
		if err != nil {
			return nil, admin.Usagef("such as https://witness.example/,witness.example/w1+…", "--witness %.200q: %w", text, err)
		}
		list = append(list, c)
	}
	if list == nil {
		return nil, nil
	}
	return func(ctx context.Context, n ledger.Note) (ledger.Note, error) {
		for _, c := range list {
			signed, err := c.Keep(ctx, n)
			if err != nil {
				return n, fmt.Errorf("witness %s: %w", c.Name(), err)
			}
			n = signed
		}
		return n, nil
	}, nil
}

// openFirmwareLog opens a log for the release that cfg is about.
func openFirmwareLog(ctx context.Context, k *keys.Keeper, dir, key string, cfg *signing.Config) (*tiles.Log, error) {
	origin, err := tiles.Origin(dir)
	if err != nil {
		return nil, err
	}
	signer, vkey, err := logSigner(ctx, k, key, origin)
	if err != nil {
		return nil, err
	}
	if cfg.LogKey, err = ledger.NewVerifier(vkey); err != nil {
		return nil, err
	}
	log, err := tiles.Open(ctx, dir, signer, cfg.LogKey)
	if err != nil {
		return nil, err
	}
	cfg.Log = log
	return log, nil
}
