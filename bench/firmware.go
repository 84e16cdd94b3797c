package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

// Names of the measures of signing, with what was promised of them: the CPU of the
// whole command, its look through the image and openssl's check of it included, against
// that of openssl's digest alone.
const (
	signCPU    = "CPU ms for an image of 1 GiB"
	signMemory = "peak MiB of memory, image of %d MiB"
	signTarget = 0.97 // of openssl's speed
)

// measureFirmware measures what signing a release costs beside the digests of others.
func measureFirmware(ctx context.Context, rounds int, bollard, out string, stdout io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "bollard-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if bollard == "" {
		bollard = filepath.Join(dir, "bollard")
		if text, err := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", bollard, "./cmd/bollard").CombinedOutput(); err != nil {
			return fmt.Errorf("couldn't build bollard: %w: %s", err, text)
		}
	}
	key, cert, err := writeSigner(dir)
	if err != nil {
		return err
	}
	images := map[int]string{}
	for _, mib := range []int{64, 1024} {
		if images[mib], err = writeImage(dir, mib); err != nil {
			return err
		}
	}
	var samples []sample
	add := func(round int, name, measure string, value float64) {
		samples = append(samples, sample{Round: round, Proxy: name, Measure: measure, Value: value})
	}
	for round := range rounds {
		for _, mib := range []int{64, 1024} {
			made := filepath.Join(dir, fmt.Sprintf("release-%d-%d", mib, round))
			cpu, peak, err := spent(ctx, bollard, "firmware", "sign", images[mib], "--key", key, "--cert", cert, "--vendor", "ACME", "--model", "Volt",
				"--version", "1", "--sequence", "1", "--out", made, "--data", filepath.Join(dir, "none"))
			if err != nil {
				return err
			}
			add(round, "bollard", fmt.Sprintf(signMemory, mib), peak)
			if mib == 1024 {
				add(round, "bollard", signCPU, cpu)
			}
		}
		for name, args := range map[string][]string{"openssl": {"openssl", "dgst", "-sha256"}, "sha256sum": {"sha256sum"}} {
			cpu, _, err := spent(ctx, args[0], append(args[1:], images[1024])...)
			if err != nil {
				return err
			}
			add(round, name, signCPU, cpu)
		}
	}
	summaries, err := summarise(samples)
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "MEASURE\tBOLLARD\tOPENSSL DGST\tSHA256SUM\tTARGET")
	for _, s := range summaries {
		target := "memory flat"
		if s.Measure == signCPU {
			speed := 1 / s.Ratio["openssl"]
			target = fmt.Sprintf("≥ %.2f of openssl's speed: %.2f, %s", signTarget, speed, map[bool]string{true: "met", false: "missed"}[speed >= signTarget])
		}
		fmt.Fprintf(w, "%s\t%.4g\t%s\t%s\t%s\n", s.Measure, s.Median["bollard"], figure(s.Median, "openssl"), figure(s.Median, "sha256sum"), target)
	}
	return errors.Join(err, w.Flush(), writeReport(stdout, out, "firmware", map[string]any{"summary": summaries, "samples": samples}))
}

func figure(of map[string]float64, name string) string {
	if v, ok := of[name]; ok {
		return fmt.Sprintf("%.4g", v)
	}
	return ""
}

// spent is what a command took, those it ran included: CPU in milliseconds, and the
// most memory that one of them had, in MiB.
func spent(ctx context.Context, name string, args ...string) (cpu, peak float64, err error) {
	cmd := exec.CommandContext(ctx, name, args...)
	if text, err := cmd.CombinedOutput(); err != nil {
		return 0, 0, fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, text)
	}
	state := cmd.ProcessState
	usage, ok := state.SysUsage().(*syscall.Rusage)
	if !ok {
		return 0, 0, errors.New("the system doesn't say what a command used")
	}
	return float64((state.UserTime() + state.SystemTime()).Microseconds()) / 1000, float64(usage.Maxrss) / 1024, nil
}

// writeImage writes what no file system can make small.
func writeImage(dir string, mib int) (string, error) {
	path := filepath.Join(dir, fmt.Sprintf("image-%d.bin", mib))
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	_, err = io.CopyN(w, mathrand.NewChaCha8([32]byte{1}), int64(mib)<<20)
	return path, errors.Join(err, w.Flush(), f.Close())
}

// writeSigner writes a key and its certificate.
func writeSigner(dir string) (key, cert string, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return "", "", err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{Organization: []string{"ACME"}, CommonName: "ACME Firmware 1"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(3, 0, 0), BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning, x509.ExtKeyUsageEmailProtection},
	}
	signed, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		return "", "", err
	}
	key, cert = filepath.Join(dir, "key.pem"), filepath.Join(dir, "cert.pem")
	return key, cert, errors.Join(
		os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600),
		os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signed}), 0o600))
}
