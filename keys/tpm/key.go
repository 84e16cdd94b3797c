package tpm

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"

	"github.com/google/go-tpm/tpm2"

	"bollard/internal/signature"
)

// Kind of a key to create.
type Kind string

// The kinds of keys. Few TPMs make P521 or RSA3072.
const (
	P256    Kind = "p256"
	P384    Kind = "p384"
	P521    Kind = "p521"
	RSA2048 Kind = "rsa2048"
	RSA3072 Kind = "rsa3072"
)

// Key is a key of a TPM.
type Key struct {
	t       *TPM
	name    string
	public  crypto.PublicKey
	object  tpm2.TPM2BName   // of its public area
	context tpm2.TPMSContext // loads faster than the file; good until the TPM starts anew
}

// attributes of a key that no command takes out of its TPM, whoever asks: it was made
// there and is never duplicated (TPM 2.0 part 1, 25.2). NoDA: a TPM counts wrong guesses
// for the whole machine, and power failures with them (part 1, 19.8): anybody who may use
// the TPM could lock the CA.
var attributes = tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, NoDA: true, SignEncrypt: true}

// template is the public area of a new key. Its policy is the digest of its name, role
// included, and no command is allowed by it: the name can't be changed without the key.
func template(name string, kind Kind) (tpm2.TPMTPublic, error) {
	tag := sha256.Sum256([]byte(name))
	area := tpm2.TPMTPublic{Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256, ObjectAttributes: attributes, AuthPolicy: tpm2.TPM2BDigest{Buffer: tag[:]}}
	curves := map[Kind]tpm2.TPMECCCurve{P256: tpm2.TPMECCNistP256, P384: tpm2.TPMECCNistP384, P521: tpm2.TPMECCNistP521}
	bits := map[Kind]tpm2.TPMIRSAKeyBits{RSA2048: 2048, RSA3072: 3072}
	switch {
	case curves[kind] != 0:
		area.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{CurveID: curves[kind]})
	case bits[kind] != 0:
		area.Type = tpm2.TPMAlgRSA
		area.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{KeyBits: bits[kind]})
	default:
		return area, fmt.Errorf("%w: unknown kind %q", ErrUnfit, kind)
	}
	return area, nil
}

// auth is what the TPM asks of who uses a key. It differs with the name, role included:
// a signer of another role is refused by the TPM, even with the PIN. It is text, of the 32
// bytes that a TPM takes: sessions of go-tpm 0.9.8 cut it off at its first zero byte.
func (t *TPM) auth(name string) []byte {
	mac := hmac.New(sha256.New, t.pin)
	mac.Write([]byte(name))
	return []byte(hex.EncodeToString(mac.Sum(nil)[:16]))
}

// sessionNonce is the length of the nonces of a session.
const sessionNonce = 16

// Create makes a key in the TPM and writes its file.
func (t *TPM) Create(name string, kind Kind) (*Key, error) {
	area, err := template(name, kind)
	if err != nil {
		return nil, err
	}
	at := t.above()
	var file []byte
	err = t.parent(at, func(h tpm2.NamedHandle, public *tpm2.TPMTPublic) error {
		// The authorization travels encrypted to the storage key.
		session := tpm2.HMAC(tpm2.TPMAlgSHA256, sessionNonce, tpm2.Salted(h.Handle, *public), tpm2.AESEncryption(128, tpm2.EncryptIn))
		made, err := tpm2.Create{
			ParentHandle: tpm2.AuthHandle{Handle: h.Handle, Name: h.Name, Auth: session},
			InSensitive:  tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{UserAuth: tpm2.TPM2BAuth{Buffer: t.auth(name)}}},
			InPublic:     tpm2.New2B(area),
		}.Execute(t.device)
		if err != nil {
			return fmt.Errorf("the TPM made no key of %s: %w", kind, fault(err))
		}
		file, err = encode(loadable{Parent: int64(at), Public: tpm2.Marshal(made.OutPublic), Private: tpm2.Marshal(made.OutPrivate)})
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := t.files.Write(fileName(name), file); err != nil {
		return nil, err
	}
	return t.Key(name)
}

// Key looks a key up. The error is that of Files if there is no file of it; ErrUnfit if
// it was made under another name or may leave the TPM; ErrPIN.
func (t *TPM) Key(name string) (*Key, error) {
	file, err := t.files.Read(fileName(name))
	if err != nil {
		return nil, err
	}
	from, err := decode(file)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrUnfit, fileName(name), err)
	}
	area, private, err := from.areas()
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrUnfit, fileName(name), err)
	}
	k := &Key{t: t, name: name}
	if k.public, err = fit(area, name); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrUnfit, fileName(name), err)
	}
	// Loading proves that the public area is what the TPM made, attributes and policy
	// included: the file alone could say anything.
	err = t.parent(tpm2.TPMHandle(from.Parent), func(h tpm2.NamedHandle, _ *tpm2.TPMTPublic) error { //nolint:gosec // decode looked
		loaded, err := tpm2.Load{ParentHandle: h, InPrivate: *private, InPublic: tpm2.New2B(*area)}.Execute(t.device)
		if err != nil {
			return fmt.Errorf("this TPM doesn't load %s (another one made it, or this one was cleared since): %w", fileName(name), err)
		}
		k.object = loaded.Name
		saved, err := tpm2.ContextSave{SaveHandle: loaded.ObjectHandle}.Execute(t.device)
		if err == nil {
			k.context = saved.Context
			err = t.mayUse(k, loaded.ObjectHandle, h)
		}
		return errors.Join(err, t.flush(loaded.ObjectHandle))
	})
	if err != nil {
		return nil, err
	}
	return k, nil
}

// mayUse has the TPM judge the PIN before there is something to sign: the authorization is
// replaced by itself, and the outcome thrown away.
func (t *TPM) mayUse(k *Key, loaded tpm2.TPMHandle, parent tpm2.NamedHandle) error {
	auth := t.auth(k.name)
	_, err := tpm2.ObjectChangeAuth{
		ObjectHandle: tpm2.AuthHandle{Handle: loaded, Name: k.object, Auth: tpm2.HMAC(tpm2.TPMAlgSHA256, sessionNonce, tpm2.Auth(auth), tpm2.AESEncryption(128, tpm2.EncryptIn))},
		ParentHandle: parent, NewAuth: tpm2.TPM2BAuth{Buffer: auth},
	}.Execute(t.device)
	return k.refusal(err)
}

// refusal makes ErrPIN of the TPM's word that the authorization is wrong.
func (k *Key) refusal(err error) error {
	if errors.Is(err, tpm2.TPMRCBadAuth) || errors.Is(err, tpm2.TPMRCAuthFail) {
		return fmt.Errorf("%w: the TPM refuses %s: %w", ErrPIN, k.name, err)
	}
	return err
}

// fit is the public key of an area that is good for a key of this name.
func fit(area *tpm2.TPMTPublic, name string) (crypto.PublicKey, error) {
	tag := sha256.Sum256([]byte(name))
	switch {
	case area.ObjectAttributes != attributes:
		return nil, errors.New("its attributes aren't those of a signing key that was made in this TPM and stays there")
	case area.NameAlg != tpm2.TPMAlgSHA256 || !bytes.Equal(area.AuthPolicy.Buffer, tag[:]):
		return nil, errors.New("it was made under another name or for another role")
	}
	return tpm2.Pub(*area)
}

// Public is the key's public half.
func (k *Key) Public() crypto.PublicKey { return k.public }

// Sign signs a digest: ECDSA in ASN.1, RSA as PKCS #1 v1.5 or, with rsa.PSSOptions, PSS.
func (k *Key) Sign(digest []byte, opts crypto.SignerOpts) (sig []byte, err error) {
	hash, known := hashes[opts.HashFunc()]
	if !known || len(digest) != opts.HashFunc().Size() {
		return nil, fmt.Errorf("%w: it signs digests of SHA-256, SHA-384 and SHA-512", ErrUnfit)
	}
	scheme, err := k.scheme(hash, opts)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnfit, err)
	}
	loaded, err := tpm2.ContextLoad{Context: k.context}.Execute(k.t.device)
	if err != nil {
		return nil, fmt.Errorf("the TPM doesn't load %s again (it was started anew): %w", k.name, err)
	}
	defer func() { err = errors.Join(err, k.t.flush(loaded.LoadedHandle)) }()
	// The authorization never travels: it is in the HMAC of a session of this use.
	signed, err := tpm2.Sign{
		KeyHandle: tpm2.AuthHandle{Handle: loaded.LoadedHandle, Name: k.object, Auth: tpm2.HMAC(tpm2.TPMAlgSHA256, sessionNonce, tpm2.Auth(k.t.auth(k.name)))},
		Digest:    tpm2.TPM2BDigest{Buffer: digest}, InScheme: scheme,
		Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck, Hierarchy: tpm2.TPMRHNull},
	}.Execute(k.t.device)
	if err != nil {
		return nil, fmt.Errorf("the TPM doesn't sign with %s: %w", k.name, fault(k.refusal(err)))
	}
	sig, err = encoded(&signed.Signature)
	if err != nil {
		return nil, err
	}
	if !signature.Verifies(k.public, digest, sig, opts) {
		return nil, fmt.Errorf("%w: the signature that came back isn't that of %s in the scheme that was asked for", ErrUnfit, k.name)
	}
	return sig, nil
}

func (k *Key) scheme(hash tpm2.TPMIAlgHash, opts crypto.SignerOpts) (tpm2.TPMTSigScheme, error) {
	alg := tpm2.TPMAlgECDSA
	if _, ok := k.public.(*rsa.PublicKey); ok {
		pss, err := signature.PSS(opts)
		switch {
		case err != nil:
			return tpm2.TPMTSigScheme{}, err
		case pss:
			alg = tpm2.TPMAlgRSAPSS
		default:
			alg = tpm2.TPMAlgRSASSA
		}
	} else if _, ok := k.public.(*ecdsa.PublicKey); !ok {
		return tpm2.TPMTSigScheme{}, errors.New("it is neither ECDSA nor RSA")
	}
	return tpm2.TPMTSigScheme{Scheme: alg, Details: tpm2.NewTPMUSigScheme(alg, &tpm2.TPMSSchemeHash{HashAlg: hash})}, nil
}

// encoded is a signature as crypto.Signer has it.
func encoded(s *tpm2.TPMTSignature) ([]byte, error) {
	switch s.SigAlg {
	case tpm2.TPMAlgECDSA:
		v, err := s.Signature.ECDSA()
		if err != nil {
			return nil, err
		}
		return asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(v.SignatureR.Buffer), new(big.Int).SetBytes(v.SignatureS.Buffer)})
	case tpm2.TPMAlgRSASSA:
		v, err := s.Signature.RSASSA()
		if err != nil {
			return nil, err
		}
		return v.Sig.Buffer, nil
	case tpm2.TPMAlgRSAPSS:
		v, err := s.Signature.RSAPSS()
		if err != nil {
			return nil, err
		}
		return v.Sig.Buffer, nil
	}
	return nil, fmt.Errorf("%w: the TPM signed in the scheme %#x", ErrUnfit, uint16(s.SigAlg))
}
