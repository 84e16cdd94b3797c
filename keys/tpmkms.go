package keys

import (
	"crypto"
	"errors"
	"fmt"
	"io"
	"time"

	"bollard/keys/tpm"
)

// tpmLocation is where a tpmkms: URI points: the TPM of this machine, and in it, if name
// isn't empty, one key.
type tpmLocation struct {
	device    string
	name      string // the key's file is "bollard-ROLE-NAME.tpm" in Config.Dir
	pinSource string // file with the PIN; "": Config.PIN
}

const tpmForm = "write tpmkms:device=/dev/tpmrm0?pin-source=/path/of/a/file"

// parseTPM reads a tpmkms: URI.
func parseTPM(uri string) (tpmLocation, error) {
	var at tpmLocation
	err := attributes(uri, SchemeTPM, tpmForm, func(key, value string) bool {
		switch key {
		case "device":
			at.device = value
		case "object":
			at.name = value
		case "pin-source":
			at.pinSource = filePath(value)
		default:
			return false
		}
		return true
	}, "device, object, pin-source")
	if err == nil && at.device == "" {
		err = fmt.Errorf("key URI tpmkms: it names no TPM; %s", tpmForm)
	}
	if err == nil {
		err = errors.Join(absolute(SchemeTPM, tpmForm, "device", at.device, "pin-source", at.pinSource), keyName(SchemeTPM, at.name))
	}
	if err != nil {
		return tpmLocation{}, err
	}
	return at, nil
}

func (at tpmLocation) scheme() string { return SchemeTPM }
func (at tpmLocation) key() string    { return at.name }

func (at tpmLocation) named(key string) place {
	at.name = key
	return at
}

func (at tpmLocation) of(role Role) place {
	at.pinSource = forRole(at.pinSource, role)
	return at
}

func (at tpmLocation) String() string {
	return uriText(SchemeTPM, []string{"device", at.device, "object", at.name}, []string{"pin-source", at.pinSource})
}

func (at tpmLocation) kind() string   { return "the TPM of this machine" }
func (at tpmLocation) where() string  { return at.device }
func (at tpmLocation) module() string { return SchemeTPM + ":" + at.device }

// calls: a TPM does one thing at a time.
func (at tpmLocation) calls() int64 { return 1 }

// again: a wrong PIN stays wrong.
func (at tpmLocation) again() time.Duration { return 0 }

func (at tpmLocation) secret(asked func() ([]byte, error)) ([]byte, error) {
	return readPIN(at.pinSource, asked)
}

func (at tpmLocation) dial(pin []byte, cfg Config) (hsm, error) {
	opened, err := tpm.Open(tpm.Config{Device: at.device, Files: tpmFiles{directory(cfg.Dir)}, PIN: pin})
	if err != nil {
		return nil, tpmFault(err)
	}
	return tpmLogin{opened}, nil
}

// tpmFiles keeps the keys, which their TPM alone can open, beside those in files.
type tpmFiles struct{ directory }

// Read is tpm.Files'.
func (f tpmFiles) Read(name string) ([]byte, error) { return f.get(location{path: name}) }

// Write is tpm.Files'.
func (f tpmFiles) Write(name string, data []byte) error { return f.put(location{path: name}, data) }

// tpmLogin is a TPM with a PIN.
type tpmLogin struct{ *tpm.TPM }

var tpmKinds = map[Algorithm]tpm.Kind{P256: tpm.P256, P384: tpm.P384, P521: tpm.P521, RSA2048: tpm.RSA2048, RSA3072: tpm.RSA3072}

func (l tpmLogin) create(name string, role Role, alg Algorithm) (crypto.PublicKey, error) {
	made, err := l.Create(label(name, role, "-"), tpmKinds[alg])
	if err != nil {
		return nil, tpmFault(err)
	}
	return made.Public(), nil
}

func (l tpmLogin) find(name string, role Role) (crypto.Signer, error) {
	key, err := l.Key(label(name, role, "-"))
	if err != nil {
		return nil, tpmFault(err)
	}
	return tpmSigner{key}, nil
}

// custody: the TPM loaded the key with these attributes, or the key wouldn't be found.
func (l tpmLogin) custody(name string, role Role) (string, error) {
	_, err := l.find(name, role)
	return "no: fixedTPM, fixedParent, sensitiveDataOrigin", err
}

type tpmSigner struct{ key *tpm.Key }

func (s tpmSigner) Public() crypto.PublicKey { return s.key.Public() }

func (s tpmSigner) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	sig, err := s.key.Sign(digest, opts)
	if err != nil {
		return nil, tpmFault(err)
	}
	return sig, nil
}

// tpmFault says which of this package's errors one of the TPM's is.
func tpmFault(err error) error {
	for theirs, ours := range map[error]error{tpm.ErrPIN: ErrPIN, tpm.ErrUnfit: ErrUnfit} {
		if errors.Is(err, theirs) {
			return both{ours, err}
		}
	}
	return err
}
