// Package device is a station's own side of its TPM 2.0: its endorsement and
// attestation keys, keys that the TPM made and certifies, and quotes.
//
// It promises that no private key leaves the TPM, and that nothing stays loaded in it:
// three objects are all that a small one has room for.
package device

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"sync"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"bollard/tpm/attest"
)

// Device is a station's TPM. Its endorsement, storage and attestation keys are made
// anew of its seeds whenever they are wanted, and are the same each time.
type Device struct {
	mu  sync.Mutex
	tpm transport.TPM
}

// New is of a TPM that is started.
func New(t transport.TPM) *Device { return &Device{tpm: t} }

var ecdsa256 = tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256})}

func signing(restricted bool) tpm2.TPMTPublic {
	return tpm2.TPMTPublic{
		Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{
			FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, NoDA: true, SignEncrypt: true, Restricted: restricted,
		},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{Scheme: ecdsa256, CurveID: tpm2.TPMECCNistP256}),
		Unique:     tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{}),
	}
}

// primary makes a key of a seed, for as long as use runs.
func (d *Device) primary(of tpm2.TPMHandle, template tpm2.TPMTPublic, use func(tpm2.NamedHandle, *tpm2.TPMTPublic) error) error {
	made, err := tpm2.CreatePrimary{PrimaryHandle: of, InPublic: tpm2.New2B(template)}.Execute(d.tpm)
	if err != nil {
		return fmt.Errorf("couldn't make a key in the TPM: %w", err)
	}
	public, err := made.OutPublic.Contents()
	if err == nil {
		err = use(tpm2.NamedHandle{Handle: made.ObjectHandle, Name: made.Name}, public)
	}
	return errors.Join(err, d.flush(made.ObjectHandle))
}

func (d *Device) flush(h tpm2.TPMHandle) error {
	_, err := tpm2.FlushContext{FlushHandle: h}.Execute(d.tpm)
	return err
}

func (d *Device) withEK(use func(tpm2.NamedHandle, *tpm2.TPMTPublic) error) error {
	return d.primary(tpm2.TPMRHEndorsement, tpm2.ECCEKTemplate, use)
}

func (d *Device) withAK(use func(tpm2.NamedHandle, *tpm2.TPMTPublic) error) error {
	return d.primary(tpm2.TPMRHOwner, signing(true), use)
}

// EK is the public endorsement key.
func (d *Device) EK() (public crypto.PublicKey, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	err = d.withEK(func(_ tpm2.NamedHandle, p *tpm2.TPMTPublic) error {
		public, err = tpm2.Pub(*p)
		return err
	})
	return public, err
}

// AK is the public area (TPMT_PUBLIC) of the attestation key.
func (d *Device) AK() (area []byte, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	err = d.withAK(func(_ tpm2.NamedHandle, p *tpm2.TPMTPublic) error {
		area = tpm2.Marshal(*p)
		return nil
	})
	return area, err
}

// Activate answers a challenge.
func (d *Device) Activate(credential, encrypted []byte) (secret []byte, err error) {
	id, err := tpm2.Unmarshal[tpm2.TPM2BIDObject](credential)
	if err != nil {
		return nil, fmt.Errorf("the credential can't be read: %w", err)
	}
	seed, err := tpm2.Unmarshal[tpm2.TPM2BEncryptedSecret](encrypted)
	if err != nil {
		return nil, fmt.Errorf("the credential's secret can't be read: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	err = d.withAK(func(ak tpm2.NamedHandle, _ *tpm2.TPMTPublic) error {
		return d.withEK(func(ek tpm2.NamedHandle, _ *tpm2.TPMTPublic) error {
			policy := tpm2.Policy(tpm2.TPMAlgSHA256, 16, func(t transport.TPM, s tpm2.TPMISHPolicy, nonce tpm2.TPM2BNonce) error {
				_, err := tpm2.PolicySecret{AuthHandle: tpm2.TPMRHEndorsement, PolicySession: s, NonceTPM: nonce}.Execute(t)
				return err
			})
			told, err := tpm2.ActivateCredential{
				ActivateHandle: ak, KeyHandle: tpm2.AuthHandle{Handle: ek.Handle, Name: ek.Name, Auth: policy}, CredentialBlob: *id, Secret: *seed,
			}.Execute(d.tpm)
			if err != nil {
				return fmt.Errorf("the TPM doesn't open the credential: %w", err)
			}
			secret = told.CertInfo.Buffer
			return nil
		})
	})
	return secret, err
}

// Quote quotes registers of the SHA-256 bank over a nonce.
func (d *Device) Quote(nonce []byte, registers ...int) (q attest.Quote, err error) {
	selected := tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: tpm2.TPMAlgSHA256, PCRSelect: mask(registers...)}}}
	d.mu.Lock()
	defer d.mu.Unlock()
	q.Registers = attest.Registers{}
	for _, i := range registers {
		one := tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: tpm2.TPMAlgSHA256, PCRSelect: mask(i)}}}
		read, err := tpm2.PCRRead{PCRSelectionIn: one}.Execute(d.tpm)
		if err != nil || len(read.PCRValues.Digests) != 1 {
			return q, fmt.Errorf("couldn't read register %d: %w", i, err)
		}
		q.Registers[i] = read.PCRValues.Digests[0].Buffer
	}
	err = d.withAK(func(ak tpm2.NamedHandle, _ *tpm2.TPMTPublic) error {
		said, err := tpm2.Quote{SignHandle: ak, QualifyingData: tpm2.TPM2BData{Buffer: nonce}, InScheme: tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull}, PCRSelect: selected}.Execute(d.tpm)
		if err != nil {
			return fmt.Errorf("couldn't quote: %w", err)
		}
		q.Statement, q.Signature = said.Quoted.Bytes(), tpm2.Marshal(said.Signature)
		return nil
	})
	return q, err
}

func mask(registers ...int) []byte {
	var m [3]byte
	for _, i := range registers {
		m[i/8] |= 1 << (i % 8)
	}
	return m[:]
}

// Extend measures something into a register, as the boot of a machine does.
func (d *Device) Extend(register int, measured []byte) error {
	return d.ExtendDigest(register, sha256.Sum256(measured))
}

// Reset takes a register back to what it was when the TPM was switched on; most can't be
// (TPM2_PCR_Reset).
func (d *Device) Reset(register int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, err := tpm2.PCRReset{PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(register), Auth: tpm2.PasswordAuth(nil)}}.Execute(d.tpm) //nolint:gosec // 0 to 23
	if err != nil {
		return fmt.Errorf("couldn't reset register %d: %w", register, err)
	}
	return nil
}

// ExtendDigest is Extend where the digest is known.
func (d *Device) ExtendDigest(register int, digest [sha256.Size]byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, err := tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(register), Auth: tpm2.PasswordAuth(nil)}, //nolint:gosec // 0 to 23
		Digests:   tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: digest[:]}}},
	}.Execute(d.tpm)
	return err
}

// Key is a signing key that the TPM made: it is kept outside as a blob that this TPM
// alone can load.
type Key struct {
	device  *Device
	public  *ecdsa.PublicKey
	area    tpm2.TPM2BPublic
	private tpm2.TPM2BPrivate
}

// NewKey makes one on P-256.
func (d *Device) NewKey() (*Key, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var blob []byte
	err := d.primary(tpm2.TPMRHOwner, tpm2.ECCSRKTemplate, func(parent tpm2.NamedHandle, _ *tpm2.TPMTPublic) error {
		made, err := tpm2.Create{ParentHandle: parent, InPublic: tpm2.New2B(signing(false))}.Execute(d.tpm)
		if err != nil {
			return fmt.Errorf("couldn't make a key in the TPM: %w", err)
		}
		blob = append(tpm2.Marshal(made.OutPublic), tpm2.Marshal(made.OutPrivate)...)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return d.Key(blob)
}

// Key is the key of a blob.
func (d *Device) Key(blob []byte) (*Key, error) {
	k := &Key{device: d}
	area, err := tpm2.Unmarshal[tpm2.TPM2BPublic](blob)
	if err != nil {
		return nil, fmt.Errorf("the TPM's key can't be read: %w", err)
	}
	private, err := tpm2.Unmarshal[tpm2.TPM2BPrivate](blob[len(tpm2.Marshal(*area)):])
	if err != nil {
		return nil, fmt.Errorf("the TPM's key can't be read: %w", err)
	}
	k.area, k.private = *area, *private
	contents, err := area.Contents()
	if err != nil {
		return nil, err
	}
	public, err := tpm2.Pub(*contents)
	if err != nil {
		return nil, err
	}
	var ok bool
	if k.public, ok = public.(*ecdsa.PublicKey); !ok {
		return nil, errors.New("the TPM's key isn't on an elliptic curve")
	}
	return k, nil
}

// Blob is what Device.Key takes.
func (k *Key) Blob() []byte { return append(tpm2.Marshal(k.area), tpm2.Marshal(k.private)...) }

// Public is the key's public half.
func (k *Key) Public() crypto.PublicKey { return k.public }

// loaded loads the key for as long as use runs.
func (k *Key) loaded(use func(tpm2.NamedHandle) error) error {
	d := k.device
	var handle tpm2.NamedHandle
	err := d.primary(tpm2.TPMRHOwner, tpm2.ECCSRKTemplate, func(parent tpm2.NamedHandle, _ *tpm2.TPMTPublic) error {
		loaded, err := tpm2.Load{ParentHandle: parent, InPrivate: k.private, InPublic: k.area}.Execute(d.tpm)
		if err != nil {
			return fmt.Errorf("this TPM doesn't load the key: %w", err)
		}
		handle = tpm2.NamedHandle{Handle: loaded.ObjectHandle, Name: loaded.Name}
		return nil
	})
	if err != nil {
		return err
	}
	return errors.Join(use(handle), d.flush(handle.Handle))
}

// Sign makes it a crypto.Signer, for SHA-256.
func (k *Key) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) (signature []byte, err error) {
	if opts.HashFunc() != crypto.SHA256 || len(digest) != sha256.Size {
		return nil, fmt.Errorf("the TPM's key signs SHA-256, not %s", opts.HashFunc())
	}
	k.device.mu.Lock()
	defer k.device.mu.Unlock()
	err = k.loaded(func(h tpm2.NamedHandle) error {
		signed, err := tpm2.Sign{
			KeyHandle: h, Digest: tpm2.TPM2BDigest{Buffer: digest}, InScheme: tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
			Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck, Hierarchy: tpm2.TPMRHNull},
		}.Execute(k.device.tpm)
		if err != nil {
			return fmt.Errorf("couldn't sign with the TPM: %w", err)
		}
		v, err := signed.Signature.Signature.ECDSA()
		if err != nil {
			return err
		}
		signature, err = asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(v.SignatureR.Buffer), new(big.Int).SetBytes(v.SignatureS.Buffer)})
		return err
	})
	return signature, err
}

// Certify has the attestation key say that the TPM made this one, in answer to a nonce.
func (k *Key) Certify(nonce []byte) (c attest.Certified, err error) {
	k.device.mu.Lock()
	defer k.device.mu.Unlock()
	err = k.device.withAK(func(ak tpm2.NamedHandle, _ *tpm2.TPMTPublic) error {
		return k.loaded(func(h tpm2.NamedHandle) error {
			said, err := tpm2.Certify{ObjectHandle: h, SignHandle: ak, QualifyingData: tpm2.TPM2BData{Buffer: nonce}, InScheme: tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull}}.Execute(k.device.tpm)
			if err != nil {
				return fmt.Errorf("couldn't certify the key: %w", err)
			}
			c = attest.Certified{Public: k.area.Bytes(), Statement: said.CertifyInfo.Bytes(), Signature: tpm2.Marshal(said.Signature)}
			return nil
		})
	})
	return c, err
}
