package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"text/tabwriter"
	"time"

	"bollard/keys"
	"bollard/keys/vault/vaulttest"
	"bollard/tpm/swtpm"
)

const (
	keySpell = time.Second // how long one rate is measured
	keyPIN   = "a-pin-for-the-benchmark"
	softHSM  = "/usr/lib/softhsm/libsofthsm2.so"
)

// signing makes one signature over a digest.
type signing func(digest []byte) ([]byte, error)

// keyBackend is one place of keys, with what signs in it.
type keyBackend struct {
	name    string
	uri     string
	callers []int
	// limit is the plainest client there is of the same backend, one for each caller.
	limit func() (signing, error)
	// public is of the key that limit signs with; nil: of the URI's.
	public *ecdsa.PublicKey
}

// measureKeys measures signatures on P-256 by the keys that CAs sign with, wherever they
// are, beside the plainest client of the same backend in the same round: what Bollard adds
// is logins looked after, roles, time-outs and, in TPM and Vault, each signature verified.
func measureKeys(ctx context.Context, rounds int, out string, stdout io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "keys") // short: a TPM's sockets are in it
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	ctx, stop := context.WithCancel(ctx)
	backends, ended, notes, err := keyBackends(ctx, dir)
	defer func() {
		stop()
		for _, wait := range ended {
			wait()
		}
	}()
	if err != nil {
		return err
	}
	keeper, err := keys.New(keys.Config{Dir: filepath.Join(dir, "keys")})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, keeper.Close()) }()
	signers := make([]keys.Signer, len(backends))
	for i, b := range backends {
		if signers[i], err = keeper.Create(ctx, b.uri, keys.RoleCA, keys.P256); err != nil {
			return err
		}
	}
	var samples []sample
	for round := range rounds {
		for i, b := range backends {
			public, _ := signers[i].Public().(*ecdsa.PublicKey)
			own := func() (signing, error) {
				return func(digest []byte) ([]byte, error) { return signers[i].Sign(rand.Reader, digest, crypto.SHA256) }, nil
			}
			for _, callers := range b.callers {
				measure := fmt.Sprintf("signatures per second, %s, %d at once", b.name, callers)
				for _, side := range []struct {
					name   string
					with   func() (signing, error)
					public *ecdsa.PublicKey
				}{{"bollard", own, public}, {"limit", b.limit, b.public}} {
					if side.public == nil {
						side.public = public
					}
					rate, err := signRate(callers, side.with, side.public)
					if err != nil {
						return fmt.Errorf("%s, %s: %w", b.name, side.name, err)
					}
					samples = append(samples, sample{Round: round, Proxy: side.name, Measure: measure, Value: rate})
				}
			}
		}
	}
	summaries, err := summarise(samples)
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "MEASURE\tBOLLARD\tPLAINEST CLIENT\tRATIO")
	for _, s := range summaries {
		fmt.Fprintf(w, "%s\t%.0f\t%.0f\t%.2f\n", s.Measure, s.Median["bollard"], s.Median["limit"], s.Ratio["limit"])
	}
	for _, note := range notes {
		fmt.Fprintln(w, note)
	}
	return errors.Join(err, w.Flush(), writeReport(stdout, out, "keys", map[string]any{"summary": summaries, "samples": samples, "notes": notes}))
}

// signRate has some callers sign for a while, each with a client of its own, and counts
// what they made. The first signature of each is verified.
func signRate(callers int, with func() (signing, error), public *ecdsa.PublicKey) (float64, error) {
	digest := sha256.Sum256([]byte("to be signed"))
	clients := make([]signing, callers)
	for i := range clients {
		var err error
		if clients[i], err = with(); err != nil {
			return 0, err
		}
		sig, err := clients[i](digest[:])
		if err != nil {
			return 0, err
		}
		if !ecdsa.VerifyASN1(public, digest[:], sig) {
			return 0, errors.New("a signature doesn't verify")
		}
	}
	made, faults := make([]int, callers), make([]error, callers)
	var all sync.WaitGroup
	begun := time.Now()
	for i, sign := range clients {
		all.Go(func() {
			for ; time.Since(begun) < keySpell && faults[i] == nil; made[i]++ {
				_, faults[i] = sign(digest[:])
			}
		})
	}
	all.Wait()
	took, sum := time.Since(begun), 0
	for _, n := range made {
		sum += n
	}
	return float64(sum) / took.Seconds(), errors.Join(faults...)
}

// keyBackends starts what there is. ended waits for what ends with the context; notes say
// what is left out.
func keyBackends(ctx context.Context, dir string) (list []keyBackend, ended []func(), notes []string, err error) {
	pin := filepath.Join(dir, "pin")
	if err := os.WriteFile(pin, []byte(keyPIN+"\n"), 0o600); err != nil {
		return nil, nil, nil, err
	}
	list = append(list, keyBackend{name: "file", uri: "softkms:bench.key", callers: []int{1, 4}, limit: plainECDSA, public: &plainKey().PublicKey})

	conf := filepath.Join(dir, "softhsm2.conf")
	if err := os.WriteFile(conf, []byte("directories.tokendir = "+dir+"\nobjectstore.backend = file\nlog.level = ERROR\n"), 0o600); err != nil {
		return nil, nil, nil, err
	}
	if err := os.Setenv("SOFTHSM2_CONF", conf); err != nil {
		return nil, nil, nil, err
	}
	if text, err := exec.CommandContext(ctx, "softhsm2-util", "--init-token", "--free", "--label", "bench", "--pin", keyPIN, "--so-pin", keyPIN).CombinedOutput(); err != nil {
		return nil, nil, nil, fmt.Errorf("couldn't make a token of SoftHSM2 (make tools installs it): %w: %s", err, text)
	}
	list = append(list, keyBackend{
		name: "SoftHSM2", uri: "pkcs11:module-path=" + softHSM + ";token=bench;object=bench?pin-source=" + pin, callers: []int{1, 4}, limit: plainPKCS11,
	})

	device, wait, err := swtpm.Start(ctx, dir)
	if wait != nil {
		ended = append(ended, wait)
	}
	if err != nil {
		return nil, ended, nil, err
	}
	sign, public, err := plainTPM(device)
	if err != nil {
		return nil, ended, nil, err
	}
	list = append(list, keyBackend{
		name: "swtpm", uri: "tpmkms:device=" + swtpm.Socket(dir) + ";object=bench?pin-source=" + pin, callers: []int{1},
		limit: func() (signing, error) { return sign, nil }, public: public,
	})

	switch _, err := os.Stat(filepath.Join(".tools", "vault-server")); {
	case errors.Is(err, fs.ErrNotExist):
		return list, ended, []string{"Vault is left out: make vault builds its server"}, nil
	case err != nil:
		return nil, ended, nil, err
	}
	state := filepath.Join(dir, "vault")
	if err := os.Mkdir(state, 0o700); err != nil {
		return nil, ended, nil, err
	}
	server, err := vaulttest.Start(ctx, state, nil)
	if err != nil {
		return nil, ended, nil, err
	}
	ended = append(ended, server.Wait)
	if err := server.AppRole(ctx, dir, string(keys.RoleCA), nil); err != nil {
		return nil, ended, nil, err
	}
	token, err := plainVaultLogin(ctx, server, dir)
	if err != nil {
		return nil, ended, nil, err
	}
	uri, err := keys.Join(server.URI(dir), "bench.key")
	if err != nil {
		return nil, ended, nil, err
	}
	list = append(list, keyBackend{name: "Vault", uri: uri, callers: []int{1, 16}, limit: plainVault(server.URL, token)})
	return list, ended, nil, nil
}
