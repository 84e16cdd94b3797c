// Package tpm signs with keys of a TPM 2.0 of this machine.
//
// It promises: a key can't leave its TPM; the TPM refuses it to whoever hasn't the PIN it
// was made with, and to a signer of another role or name; what is signed was signed by
// the key that was asked for, verified before it is given out; and nothing stays loaded in
// the TPM, which has room for three objects.
package tpm

import (
	"crypto"
	"errors"
	"fmt"
	"os"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxtpm"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"
)

// Errors callers branch on. What is none of them, nor comes from Files, comes from a TPM
// that is away, cleared or another one: it is worth trying again.
var (
	// ErrPIN: it isn't the one the key was made with, or no PIN for a TPM.
	ErrPIN = errors.New("the PIN of the key in the TPM is wrong")
	// ErrUnfit: this key is never to be used, or can't sign what is asked.
	ErrUnfit = errors.New("the key in the TPM isn't fit")
)

// Files keeps what a TPM keeps outside itself: keys that it alone can open.
type Files interface {
	Read(name string) ([]byte, error)
	Write(name string, data []byte) error // never over another; on disk when it returns
}

// Config of a TPM.
type Config struct {
	Device string // a character device, rather /dev/tpmrm0, or the socket of a software TPM
	Files  Files
	PIN    []byte
}

// minPIN makes a guess at a PIN hopeless: see attributes.
const minPIN = 16

// TPM is for one caller at a time.
type TPM struct {
	device transport.TPMCloser
	files  Files
	pin    []byte
}

// Open opens a TPM and asks it for a sign of life.
func Open(cfg Config) (*TPM, error) {
	if len(cfg.PIN) < minPIN {
		return nil, fmt.Errorf("%w: it has at least %d characters, since a TPM doesn't count guesses at it; make one with openssl rand -hex 32", ErrPIN, minPIN)
	}
	info, err := os.Stat(cfg.Device)
	if err != nil {
		return nil, fmt.Errorf("couldn't open the TPM: %w", err)
	}
	open := linuxtpm.Open
	if info.Mode()&os.ModeSocket != 0 {
		open = linuxudstpm.Open
	}
	device, err := open(cfg.Device)
	if err != nil {
		return nil, fmt.Errorf("couldn't open the TPM: %w", err)
	}
	t := &TPM{device: device, files: cfg.Files, pin: cfg.PIN}
	if _, err := (tpm2.GetCapability{Capability: tpm2.TPMCapTPMProperties, Property: uint32(tpm2.TPMPTFamilyIndicator), PropertyCount: 1}).Execute(device); err != nil {
		return nil, errors.Join(fmt.Errorf("%s doesn't answer as a TPM 2.0: %w", cfg.Device, err), device.Close())
	}
	return t, nil
}

// Close lets go of the device.
func (t *TPM) Close() error { return t.device.Close() }

// storageRootKey is where the owner of a machine may keep the storage root key (TCG TPM
// v2.0 Provisioning Guidance 1.0, 7.8).
const storageRootKey = tpm2.TPMHandle(0x81000001)

// above says which key new ones are made below: the one the owner keeps, else that of the
// TCG's template, which the TPM makes of its seed each time, always the same.
func (t *TPM) above() tpm2.TPMHandle {
	if _, err := (tpm2.ReadPublic{ObjectHandle: storageRootKey}).Execute(t.device); err == nil {
		return storageRootKey
	}
	return tpm2.TPMRHOwner
}

// parent is a key that others are below, for as long as use runs.
func (t *TPM) parent(at tpm2.TPMHandle, use func(tpm2.NamedHandle, *tpm2.TPMTPublic) error) error {
	if at != tpm2.TPMRHOwner {
		kept, err := tpm2.ReadPublic{ObjectHandle: at}.Execute(t.device)
		if err != nil {
			return fmt.Errorf("the TPM hasn't the storage key %#x: %w", uint32(at), err)
		}
		public, err := kept.OutPublic.Contents()
		if err != nil {
			return err
		}
		return use(tpm2.NamedHandle{Handle: at, Name: kept.Name}, public)
	}
	made, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}.Execute(t.device)
	if err != nil {
		return fmt.Errorf("couldn't make the storage key in the TPM: %w", err)
	}
	public, err := made.OutPublic.Contents()
	if err == nil {
		err = use(tpm2.NamedHandle{Handle: made.ObjectHandle, Name: made.Name}, public)
	}
	return errors.Join(err, t.flush(made.ObjectHandle))
}

func (t *TPM) flush(h tpm2.TPMHandle) error {
	_, err := tpm2.FlushContext{FlushHandle: h}.Execute(t.device)
	return err
}

// fault makes one of this package's errors of the TPM's, if it objects to what was asked.
func fault(err error) error {
	for _, code := range []tpm2.TPMRC{tpm2.TPMRCCurve, tpm2.TPMRCKeySize, tpm2.TPMRCValue, tpm2.TPMRCScheme, tpm2.TPMRCHash} {
		if errors.Is(err, code) {
			return fmt.Errorf("%w: %w", ErrUnfit, err)
		}
	}
	return err
}

var hashes = map[crypto.Hash]tpm2.TPMIAlgHash{crypto.SHA256: tpm2.TPMAlgSHA256, crypto.SHA384: tpm2.TPMAlgSHA384, crypto.SHA512: tpm2.TPMAlgSHA512}
