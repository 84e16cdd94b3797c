package tpm

import (
	"encoding/asn1"
	"encoding/pem"
	"errors"

	"github.com/google/go-tpm/tpm2"
)

// loadable is a key outside its TPM as other software keeps one too: TPMKey of "ASN.1
// Specification for TPM 2.0 Key Files" (draft-woodhouse-cert-best-practice names it),
// without what Bollard's keys haven't: policies, secrets, an empty authorization.
type loadable struct {
	Type    asn1.ObjectIdentifier
	Parent  int64  // a handle; of the owner's hierarchy: the TCG's template
	Public  []byte // TPM2B_PUBLIC
	Private []byte // TPM2B_PRIVATE
}

// oidLoadable is TPM_LoadableKey.
var oidLoadable = asn1.ObjectIdentifier{2, 23, 133, 10, 1, 3}

const blockType = "TSS2 PRIVATE KEY"

func fileName(name string) string { return name + ".tpm" }

func encode(l loadable) ([]byte, error) {
	l.Type = oidLoadable
	der, err := asn1.Marshal(l)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: blockType, Bytes: der}), nil
}

// decode reads a file that encode wrote.
func decode(file []byte) (loadable, error) {
	block, rest := pem.Decode(file)
	if block == nil || block.Type != blockType || len(rest) > 0 {
		return loadable{}, errors.New("it isn't one PEM block " + blockType)
	}
	var l loadable
	rest, err := asn1.Unmarshal(block.Bytes, &l)
	switch {
	case err != nil:
		return loadable{}, err
	case len(rest) > 0 || !l.Type.Equal(oidLoadable):
		return loadable{}, errors.New("it isn't a loadable key of a TPM")
	case l.Parent != int64(tpm2.TPMRHOwner) && (l.Parent < 0x81000000 || l.Parent > 0x81ffffff): // part 2, 7.2: persistent objects
		return loadable{}, errors.New("its storage key is neither the owner's nor one that the TPM keeps")
	}
	return l, nil
}

func (l loadable) areas() (*tpm2.TPMTPublic, *tpm2.TPM2BPrivate, error) {
	outer, err := tpm2.Unmarshal[tpm2.TPM2BPublic](l.Public)
	if err != nil {
		return nil, nil, err
	}
	area, err := outer.Contents()
	if err != nil {
		return nil, nil, err
	}
	private, err := tpm2.Unmarshal[tpm2.TPM2BPrivate](l.Private)
	return area, private, err
}
