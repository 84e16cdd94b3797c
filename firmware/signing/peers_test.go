package signing_test

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bollard/firmware/bundle"
	"bollard/firmware/release"
)

// Every signature is one that openssl takes the way stations call it, and no other.
func TestOpenSSLTakesEverySignature(t *testing.T) {
	t.Parallel()
	pss := []string{"rsa_padding_mode:pss", "rsa_pss_saltlen:digest"}
	anySalt := []string{"rsa_padding_mode:pss", "rsa_pss_saltlen:auto"}
	for dialect, tt := range map[release.Dialect]struct {
		key  crypto.Signer
		opts [][]string // what verifiers set; nothing: what most stations do
		bad  [][]string
	}{
		release.ECDSAP256: {ecKey(t), [][]string{nil}, nil},
		release.RSAPKCS1:  {rsaSigner(t), [][]string{nil}, [][]string{pss}},
		release.RSAPSS:    {rsaSigner(t), [][]string{pss, anySalt}, [][]string{nil}},
	} {
		t.Run(string(dialect), func(t *testing.T) {
			t.Parallel()
			m, image, dir := newMaker(t, tt.key, nil), image(t), t.TempDir()
			cfg := config(t, m, image)
			cfg.Dialects = []release.Dialect{dialect}
			sign(t, cfg)
			spki, err := x509.MarshalPKIXPublicKey(tt.key.Public())
			must(t, err)
			public := writeFile(t, filepath.Join(dir, "key.pem"), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}))
			data, err := os.ReadFile(image)
			must(t, err)
			sum := sha256.Sum256(data)
			digest := writeFile(t, filepath.Join(dir, "digest"), sum[:])
			// As EVerest's downloader has it: Base64 by openssl, then dgst.
			raw := filepath.Join(dir, "sig")
			out, err := run(t, "openssl", "base64", "-d", "-A", "-in", filepath.Join(cfg.Out, bundle.FileSignature), "-out", raw)
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			verify := func(opts []string) (string, error) {
				dgst, pkeyutl := []string{"dgst", "-sha256", "-verify", public, "-signature", raw}, []string{"pkeyutl", "-verify", "-pubin", "-inkey", public, "-sigfile", raw, "-in", digest, "-pkeyopt", "digest:sha256"}
				for _, o := range opts {
					dgst, pkeyutl = append(dgst, "-sigopt", o), append(pkeyutl, "-pkeyopt", o)
				}
				first, err := run(t, "openssl", append(dgst, image)...)
				second, other := run(t, "openssl", pkeyutl...)
				if (err == nil) != (other == nil) {
					t.Errorf("openssl dgst says %q, pkeyutl %q", first, second)
				}
				return first, err
			}
			for _, opts := range tt.opts {
				if out, err := verify(opts); err != nil {
					t.Errorf("with %v: %s", opts, out)
				}
			}
			for _, opts := range tt.bad {
				if _, err := verify(opts); err == nil {
					t.Errorf("with %v: taken", opts)
				}
			}
		})
	}
}

// CMS as RAUC and SWUpdate read it, whichever EKU they look for.
func TestOpenSSLAndRAUCTakeTheCMS(t *testing.T) {
	t.Parallel()
	for name, key := range map[string]crypto.Signer{"ECDSA": ecKey(t), "RSA": rsaSigner(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, dir := newMaker(t, key, nil), t.TempDir()
			squash := raucPayload(t, dir)
			cfg := config(t, m, squash)
			if name == "RSA" {
				cfg.Dialects = []release.Dialect{release.RSAPSS} // the CMS has PKCS #1 all the same
			}
			sign(t, cfg)
			roots := writeFile(t, filepath.Join(dir, "root.pem"), release.EncodeCertificate(m.root))
			cms := filepath.Join(cfg.Out, bundle.FileCMS)
			verify := []string{"cms", "-verify", "-binary", "-inform", "DER", "-in", cms, "-CAfile", roots, "-out", os.DevNull, "-content"}
			if out, err := run(t, "openssl", append(verify, squash)...); err != nil {
				t.Errorf("openssl: %s", out)
			}
			if _, err := run(t, "openssl", append(verify, roots)...); err == nil {
				t.Error("openssl takes another file")
			}
			// Without a purpose RAUC looks for emailProtection, the purpose of S/MIME.
			for purpose, line := range map[string]string{"smime": "", "codesign": "check-purpose=codesign\n"} {
				conf := writeFile(t, filepath.Join(dir, purpose+".conf"), []byte("[system]\ncompatible=ac22\nbootloader=noop\n[keyring]\npath="+roots+"\n"+line))
				raucBundle := raucBundle(t, dir, purpose, squash, cms)
				if out, err := run(t, "rauc", "info", "--conf="+conf, raucBundle); err != nil || !strings.Contains(out, "ac22") {
					t.Errorf("rauc, %s: %v: %s", purpose, err, out)
				}
				other := writeFile(t, filepath.Join(dir, "other.pem"), release.EncodeCertificate(newMaker(t, key, nil).root))
				if out, err := run(t, "rauc", "info", "--conf="+conf, "--keyring="+other, raucBundle); err == nil {
					t.Errorf("rauc takes another root: %s", out)
				}
			}
		})
	}
}

// raucPayload is the content of a plain bundle.
func raucPayload(t *testing.T, dir string) string {
	t.Helper()
	content := filepath.Join(dir, "content")
	must(t, os.Mkdir(content, 0o700))
	writeFile(t, filepath.Join(content, "manifest.raucm"), []byte("[update]\ncompatible=ac22\nversion=1.10\n"))
	writeFile(t, filepath.Join(content, "filler"), slices.Repeat([]byte("0123456789abcdef"), 1024))
	squash := filepath.Join(dir, "ac22.squashfs")
	if out, err := run(t, "mksquashfs", content, squash, "-quiet", "-no-progress", "-all-root"); err != nil {
		t.Fatalf("this test needs mksquashfs (sudo apt-get install squashfs-tools): %v: %s", err, out)
	}
	return squash
}

// raucBundle is a plain bundle: payload, CMS, and the length of that.
func raucBundle(t *testing.T, dir, name, squash, cms string) string {
	t.Helper()
	payload, err := os.ReadFile(squash)
	must(t, err)
	signature, err := os.ReadFile(cms)
	must(t, err)
	all := binary.BigEndian.AppendUint64(slices.Concat(payload, signature), uint64(len(signature)))
	return writeFile(t, filepath.Join(dir, name+".raucb"), all)
}

// What stands in OCPP's fields is one line, and fits.
func TestOutputsFitOCPP(t *testing.T) {
	t.Parallel()
	m := newMaker(t, rsaSigner(t), nil)
	cfg := config(t, m, image(t))
	cfg.Dialects = []release.Dialect{release.RSAPKCS1, release.RSAPSS}
	r := sign(t, cfg)
	text, err := os.ReadFile(filepath.Join(cfg.Out, bundle.FileSignature))
	must(t, err)
	line, rest, _ := strings.Cut(string(text), "\n")
	if raw, err := base64.StdEncoding.DecodeString(line); err != nil || len(raw) != 384 || rest != "" || len(line) > release.MaxSignature {
		t.Errorf("%q, %v", text, err)
	}
	if len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "rsa-pkcs1v15-sha256") {
		t.Errorf("the legacy dialect has the warnings %q", r.Warnings)
	}
	cert, err := os.ReadFile(filepath.Join(cfg.Out, bundle.FileCertificate))
	must(t, err)
	if n := strings.Count(string(cert), "BEGIN"); n != 1 || len(cert) > release.MaxCertificate || strings.Contains(string(cert), "\r") {
		t.Errorf("%d certificates: %s", n, cert)
	}
	if _, err := os.Stat(filepath.Join(cfg.Out, bundle.FileOf(release.RSAPSS))); err != nil {
		t.Errorf("the further dialect: %v", err)
	}
}
