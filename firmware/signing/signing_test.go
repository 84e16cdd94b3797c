package signing_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"bollard/firmware/bundle"
	"bollard/firmware/release"
	"bollard/firmware/signing"
)

func TestBundleHolds(t *testing.T) {
	t.Parallel()
	m, image := newMaker(t, ecKey(t), nil), image(t)
	cfg := config(t, m, image)
	cfg.Digests = bundle.Wanted{SHA512: true, MD5: true}
	shown := int64(0)
	cfg.Progress = func(done, _ int64) { shown = done }
	r := sign(t, cfg)
	if wrong := faults(check(t, cfg.Out, image, bundle.Trust{Roots: []*x509.Certificate{m.root}, At: now})); len(wrong) > 0 {
		t.Error(wrong)
	}
	if uint64(shown) != r.Size {
		t.Errorf("progress ended at %d of %d", shown, r.Size)
	}
	for program, sum := range map[string]string{"sha256sum": r.SHA256, "sha512sum": r.SHA512, "md5sum": r.MD5} {
		if out, err := run(t, program, image); err != nil || !strings.HasPrefix(out, sum+" ") {
			t.Errorf("%s: %s %v, not %s", program, out, err, sum)
		}
	}
	if !r.Expires.Equal(now.AddDate(1, 0, 0)) || !r.NotBefore.Equal(now) {
		t.Errorf("good from %s to %s", r.NotBefore, r.Expires)
	}
	// Nothing else is left where it was made.
	if left, err := os.ReadDir(filepath.Dir(cfg.Out)); err != nil || len(left) != 1 {
		t.Errorf("%v, %v", left, err)
	}
}

// Each file of a bundle changed, taken from another or gone is what is named.
func TestWhatDoesNotHoldIsNamed(t *testing.T) {
	t.Parallel()
	m, image := newMaker(t, ecKey(t), nil), image(t)
	good, twin := config(t, m, image), config(t, m, image)
	good.SBOM, good.Build = []byte(goodSBOM), &goodBuild
	good.Log, good.LogKey = newLog(t)
	sign(t, good)
	twin.SBOM, twin.Build = []byte(strings.Replace(goodSBOM, "zlib", "musl", 1)), &goodBuild
	twin.Log, twin.LogKey = newLog(t)
	twin.Release.Sequence++
	sign(t, twin)
	stranger := config(t, newMaker(t, ecKey(t), nil), image)
	sign(t, stranger)
	data, err := os.ReadFile(image)
	must(t, err)
	data[len(data)/2] ^= 1
	flipped := writeFile(t, filepath.Join(t.TempDir(), "flipped"), data)
	trust := bundle.Trust{Roots: []*x509.Certificate{m.root}, At: now, Log: good.LogKey}
	logUnknown, unseen := trust, trust
	logUnknown.Log, unseen.Witnesses = twin.LogKey, []note.Verifier{twin.LogKey}
	signed := []string{bundle.FileEnvelope, bundle.FileSignature, bundle.FileBinary, bundle.FileCMS, bundle.FileProvenance}
	for name, tt := range map[string]struct {
		image  string
		trust  bundle.Trust
		change func(t *testing.T, dir string)
		want   []string // parts
	}{
		"flipped bit":            {flipped, trust, nil, []string{"image", bundle.FileSignature, bundle.FileBinary, bundle.FileCMS, bundle.FileProvenance}},
		"another root":           {image, bundle.Trust{Roots: []*x509.Certificate{newMaker(t, ecKey(t), nil).root}, At: now, Log: trust.Log}, nil, []string{bundle.FileCertificate}},
		"release expired":        {image, later(trust, 1), nil, []string{bundle.FileRelease}},
		"certificate expired":    {image, later(trust, 4), nil, []string{bundle.FileRelease, bundle.FileCertificate}},
		"too early":              {image, bundle.Trust{Roots: trust.Roots, At: now.Add(-time.Minute), Log: trust.Log}, nil, []string{bundle.FileRelease}},
		"record of another":      {image, trust, swap(twin.Out, bundle.FileRelease), []string{bundle.FileEnvelope, bundle.FileSignature, bundle.FileBinary, bundle.FileSBOM, bundle.FileProvenance, bundle.FileProof}},
		"envelope of another":    {image, trust, swap(twin.Out, bundle.FileEnvelope), []string{bundle.FileEnvelope}},
		"line of another":        {image, trust, swap(twin.Out, bundle.FileSignature), []string{bundle.FileSignature}},
		"bytes of another":       {image, trust, swap(twin.Out, bundle.FileBinary), []string{bundle.FileBinary}},
		"CMS of a stranger":      {image, trust, swap(stranger.Out, bundle.FileCMS), []string{bundle.FileCMS}},
		"stranger's certificate": {image, trust, swap(stranger.Out, bundle.FileCertificate), append([]string{bundle.FileCertificate}, signed...)},
		"no certificate":         {image, trust, remove(bundle.FileCertificate), append([]string{bundle.FileCertificate}, signed...)},
		"SBOM of another":        {image, trust, swap(twin.Out, bundle.FileSBOM), []string{bundle.FileSBOM}},
		"no SBOM":                {image, trust, remove(bundle.FileSBOM), []string{bundle.FileSBOM}},
		"provenance of another":  {image, trust, swap(twin.Out, bundle.FileProvenance), []string{bundle.FileProvenance}},
		"proof of another":       {image, trust, swap(twin.Out, bundle.FileProof), []string{bundle.FileProof}},
		"no proof":               {image, trust, remove(bundle.FileProof), []string{bundle.FileProof}},
		"altered proof":          {image, trust, edit(bundle.FileProof, "index 0", "index 1"), []string{bundle.FileProof}},
		"another log":            {image, logUnknown, nil, []string{bundle.FileProof}},
		"no witness":             {image, unseen, nil, []string{bundle.FileProof}},
		"no signature":           {image, trust, remove(bundle.FileSignature), []string{bundle.FileSignature}},
		"no envelope":            {image, trust, remove(bundle.FileEnvelope), []string{bundle.FileEnvelope}},
		"record respelt":         {image, trust, edit(bundle.FileRelease, `"Acme"`, `"\u0041cme"`), append([]string{bundle.FileRelease, "image"}, bundle.FileEnvelope, bundle.FileCMS)},
		"two certificates":       {image, trust, edit(bundle.FileCertificate, "-----BEGIN", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n-----BEGIN"), append([]string{bundle.FileCertificate}, signed...)},
		"CR LF":                  {image, trust, edit(bundle.FileCertificate, "-----\n", "-----\r\n"), append([]string{bundle.FileCertificate}, signed...)},
		"wrapped line":           {image, trust, edit(bundle.FileSignature, "ME", "M\nE"), []string{bundle.FileSignature}},
		"no line end":            {image, trust, edit(bundle.FileSignature, "\n", ""), []string{bundle.FileSignature}},
		"bytes behind":           {image, trust, addTo(bundle.FileBinary), []string{bundle.FileBinary}},
		"bytes behind CMS":       {image, trust, addTo(bundle.FileCMS), []string{bundle.FileCMS}},
		"damaged chain":          {image, trust, edit(bundle.FileChain, "", "x"), []string{bundle.FileCertificate}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "copy")
			must(t, os.CopyFS(dir, os.DirFS(good.Out)))
			if tt.change != nil {
				tt.change(t, dir)
			}
			wrong := faults(check(t, dir, tt.image, tt.trust))
			for _, part := range tt.want {
				if _, ok := wrong[part]; !ok {
					t.Errorf("%s holds", part)
				}
				delete(wrong, part)
			}
			if len(wrong) > 0 {
				t.Errorf("these don't hold either: %v", wrong)
			}
		})
	}
}

func later(trust bundle.Trust, years int) bundle.Trust {
	trust.At = now.AddDate(years, 0, 0)
	return trust
}

func swap(from, file string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		data, err := os.ReadFile(filepath.Join(from, file))
		must(t, err)
		writeFile(t, filepath.Join(dir, file), data)
	}
}

func remove(file string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		must(t, os.Remove(filepath.Join(dir, file)))
	}
}

func edit(file, old, to string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		data, err := os.ReadFile(filepath.Join(dir, file))
		if old != "" {
			must(t, err)
		}
		if !bytes.Contains(data, []byte(old)) {
			t.Fatalf("%q isn't in %s", old, data)
		}
		writeFile(t, filepath.Join(dir, file), bytes.Replace(data, []byte(old), []byte(to), 1))
	}
}

func addTo(file string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		data, err := os.ReadFile(filepath.Join(dir, file))
		must(t, err)
		writeFile(t, filepath.Join(dir, file), append(data, 0))
	}
}

// Nothing is there after a refusal: no bundle, and no rest of one.
func TestSignRefuses(t *testing.T) {
	t.Parallel()
	m := newMaker(t, ecKey(t), nil)
	profile := func(change func(*x509.Certificate)) func(*testing.T, *signing.Config) {
		return func(t *testing.T, cfg *signing.Config) {
			t.Helper()
			cfg.Chain = newMaker(t, m.key, change).chain
		}
	}
	sbom := func(old, to string) func(*testing.T, *signing.Config) {
		return func(t *testing.T, cfg *signing.Config) {
			t.Helper()
			if !strings.Contains(goodSBOM, old) {
				t.Fatalf("%s isn't in the SBOM", old)
			}
			cfg.SBOM = []byte(strings.Replace(goodSBOM, old, to, 1))
		}
	}
	for want, change := range map[string]func(*testing.T, *signing.Config){
		"SBOM isn't CycloneDX in strict JSON": sbom(`"bomFormat"`, `"specVersion":"1.4","bomFormat"`),
		"give CycloneDX 1.2":                  sbom("CycloneDX", "SPDX"),
		"SBOM names no components":            sbom(`"components":[{`, `"services":[{`),
		"without name or type":                sbom(`"zlib"`, `""`),
		"twice":                               sbom(`"bom-ref":"b"`, `"bom-ref":"a"`),
		"which isn't in it":                   sbom(`"dependsOn":["b"]`, `"dependsOn":["c"]`),
		"SBOM is of another image":            sbom(`"type":"firmware"`, `"type":"firmware","hashes":[{"alg":"SHA-256","content":"00"}]`),
		"isn't 40 or 64": func(_ *testing.T, cfg *signing.Config) {
			cfg.Build = &bundle.Build{Builder: "https://b", Type: "https://t", Source: "https://s", Commit: "HEAD"}
		},
		"builder, build type and source": func(_ *testing.T, cfg *signing.Config) { cfg.Build = &bundle.Build{Commit: goodBuild.Commit} },
		"the log is full": func(t *testing.T, cfg *signing.Config) {
			log, key := newLog(t)
			cfg.Log, cfg.LogKey = fullLog{log}, key
		},
		"checkpoint isn't signed by the log's key": func(t *testing.T, cfg *signing.Config) {
			cfg.Log, _ = newLog(t)
			_, cfg.LogKey = newLog(t)
		},
		"isn't that of the signing certificate": func(t *testing.T, cfg *signing.Config) { cfg.Signer = ecKey(t) },
		"signing certificate is missing":        func(_ *testing.T, cfg *signing.Config) { cfg.Chain = nil },
		"CA:TRUE":                               profile(func(c *x509.Certificate) { c.IsCA = true }),
		"keyCertSign":                           profile(func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign }),
		"keyUsage isn't critical":               profile(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageContentCommitment }),
		"extendedKeyUsage isn't":                profile(func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[:1] }),
		"the manufacturer as O":                 profile(func(c *x509.Certificate) { c.Subject.Organization = nil }),
		"5500 characters":                       profile(func(c *x509.Certificate) { c.DNSNames = []string{strings.Repeat("x", 5000)} }),
		"wasn't issued by the next": func(t *testing.T, cfg *signing.Config) {
			cfg.Chain = append(cfg.Chain, newMaker(t, ecKey(t), nil).root)
		},
		"isn't a dialect of the key": func(_ *testing.T, cfg *signing.Config) { cfg.Dialects = []release.Dialect{release.RSAPSS} },
		"no dialect that every station": func(t *testing.T, cfg *signing.Config) {
			rsa := newMaker(t, rsaSigner(t), nil)
			cfg.Signer, cfg.Chain = rsa.key, rsa.chain
		},
		"stations refuse it outside of both": func(_ *testing.T, cfg *signing.Config) { cfg.Release.Expires = now.AddDate(4, 0, 0) },
		"expires before it begins":           func(_ *testing.T, cfg *signing.Config) { cfg.Release.Expires = now.AddDate(-1, 0, 0) },
		"sequence is 0":                      func(_ *testing.T, cfg *signing.Config) { cfg.Release.Sequence = 0 },
		"file name":                          func(_ *testing.T, cfg *signing.Config) { cfg.Release.File = "a b" },
		"never overwritten":                  func(t *testing.T, cfg *signing.Config) { must(t, os.Mkdir(cfg.Out, 0o700)) },
		"no such file":                       func(_ *testing.T, cfg *signing.Config) { cfg.Image += "x" },
		"isn't a regular file":               func(_ *testing.T, cfg *signing.Config) { cfg.Image = filepath.Dir(cfg.Image) },
		"is empty":                           func(t *testing.T, cfg *signing.Config) { must(t, os.Truncate(cfg.Image, 0)) },
		"changed while it was read": func(t *testing.T, cfg *signing.Config) {
			cfg.Progress = func(done, _ int64) {
				f, err := os.OpenFile(cfg.Image, os.O_APPEND|os.O_WRONLY, 0)
				must(t, err)
				_, err = f.Write([]byte{1})
				must(t, errors.Join(err, f.Close()))
			}
		},
		"the token is gone": func(_ *testing.T, cfg *signing.Config) {
			cfg.Signer = broken{cfg.Signer, errors.New("the token is gone")}
		},
		"doesn't verify": func(_ *testing.T, cfg *signing.Config) { cfg.Signer = broken{cfg.Signer, nil} },
		"openssl doesn't take the CMS": func(t *testing.T, cfg *signing.Config) {
			cfg.OpenSSL = writeProgram(t, `test $1 != asn1parse && exec `+cfg.OpenSSL+` "$@"`)
		},
		"openssl doesn't take release.dsse.json": func(t *testing.T, cfg *signing.Config) {
			cfg.OpenSSL = writeProgram(t, `test $1 != dgst && exec `+cfg.OpenSSL+` "$@"`)
		},
		"openssl doesn't take the ecdsa-p256-sha256 signature": func(t *testing.T, cfg *signing.Config) {
			cfg.OpenSSL = writeProgram(t, `test $1 != pkeyutl && exec `+cfg.OpenSSL+` "$@"`)
		},
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			cfg := config(t, m, image(t))
			change(t, &cfg)
			_, err := signing.Sign(t.Context(), cfg)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v", err)
			}
			left, err := os.ReadDir(filepath.Dir(cfg.Out))
			must(t, err)
			for _, l := range left {
				if want != "never overwritten" || l.Name() != "out" {
					t.Errorf("%s was left", l.Name())
				}
			}
		})
	}
}

func writeProgram(t *testing.T, script string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "openssl")
	must(t, os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o700))
	return path
}

// broken is a key whose signatures are of something else, or fail.
type broken struct {
	crypto.Signer
	err error
}

func (b broken) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if b.err != nil {
		return nil, b.err
	}
	return b.Signer.Sign(random, bytes.Repeat([]byte{1}, len(digest)), opts)
}

func TestSignStops(t *testing.T) {
	t.Parallel()
	cfg := config(t, newMaker(t, ecKey(t), nil), image(t))
	ctx, cancel := context.WithCancel(t.Context())
	cfg.Progress = func(int64, int64) { cancel() }
	if _, err := signing.Sign(ctx, cfg); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := os.Stat(cfg.Out); err == nil {
		t.Error("there is a bundle")
	}
}

// Installers that read CMS look for emailProtection: what is for OCPP alone needs codeSigning only.
func TestOCPPOnly(t *testing.T) {
	t.Parallel()
	m := newMaker(t, ecKey(t), func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning} })
	image := image(t)
	cfg := config(t, m, image)
	cfg.OCPPOnly = true
	sign(t, cfg)
	if _, err := os.Stat(filepath.Join(cfg.Out, bundle.FileCMS)); err == nil {
		t.Error("there is a CMS")
	}
	if wrong := faults(check(t, cfg.Out, image, bundle.Trust{Roots: []*x509.Certificate{m.root}, At: now})); len(wrong) > 0 {
		t.Error(wrong)
	}
}

// A record says of its registers that they prove nothing, where a process can forge all.
func TestForgeableRegistersAreSaid(t *testing.T) {
	t.Parallel()
	m := newMaker(t, ecKey(t), nil)
	for name, tt := range map[string]struct {
		registers *release.Registers
		warned    bool
	}{
		"none":           {nil, false},
		"applications'":  {&release.Registers{SHA256: map[string][]string{"23": {strings.Repeat("ab", 32)}}}, true},
		"and debugging":  {&release.Registers{SHA256: map[string][]string{"23": {strings.Repeat("ab", 32)}}, Events: map[string][]string{"16": {strings.Repeat("ab", 32)}}}, true},
		"one of a boot":  {&release.Registers{SHA256: map[string][]string{"23": {strings.Repeat("ab", 32)}, "8": {strings.Repeat("ab", 32)}}}, false},
		"a boot's event": {&release.Registers{Events: map[string][]string{"9": {strings.Repeat("ab", 32)}}}, false},
	} {
		cfg := config(t, m, image(t))
		cfg.Release.PCRs = tt.registers
		r := sign(t, cfg)
		if warned := slices.ContainsFunc(r.Warnings, func(w string) bool { return strings.Contains(w, "registers 16 and 23 alone") }); warned != tt.warned {
			t.Errorf("%s: warnings %q", name, r.Warnings)
		}
	}
}

// A chain of a root kept away, an issuer and the signer verifies from the root.
func TestIssuersBetween(t *testing.T) {
	t.Parallel()
	m := newMaker(t, ecKey(t), nil)
	rootKey := ecKey(t)
	top := &x509.Certificate{SerialNumber: m.root.SerialNumber, Subject: m.root.Issuer, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	top.Subject.CommonName = "Acme Top"
	top = certificate(t, top, top, rootKey.Public(), rootKey)
	between := &x509.Certificate{SerialNumber: m.root.SerialNumber, Subject: m.root.Subject, SubjectKeyId: m.root.SubjectKeyId, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	between = certificate(t, between, top, m.root.PublicKey, rootKey)
	image := image(t)
	cfg := config(t, m, image)
	cfg.Chain = append(cfg.Chain, between)
	sign(t, cfg)
	for name, root := range map[string]*x509.Certificate{"the root above": top, "the issuer itself, as stations install it": m.root} {
		if wrong := faults(check(t, cfg.Out, image, bundle.Trust{Roots: []*x509.Certificate{root}, At: now})); len(wrong) > 0 {
			t.Errorf("%s: %v", name, wrong)
		}
	}
}
