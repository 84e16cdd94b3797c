package keys

import (
	"context"
	"encoding/pem"
	"fmt"
)

// Custody is what is known of where a private key is, and of its leaving.
type Custody struct {
	Holder string // for people
	// Exportable begins with "no: ", "yes: " or "not known: "; what follows is the word
	// of what holds the key, nobody's attestation of it.
	Exportable string
}

// Custody asks what holds a key of the role what it says of it. ErrUnfit if the key may
// leave something that keeps keys.
func (k *Keeper) Custody(ctx context.Context, uri string, role Role) (Custody, error) {
	if IsMount(uri) {
		m, err := k.Mount(uri)
		if err == nil {
			_, err = m.Issuer(ctx)
		}
		return Custody{Holder: Holder(uri), Exportable: "not known: a PKI mount says nothing of it"}, err
	}
	if Held(uri) {
		return k.heldCustody(ctx, uri, role)
	}
	at, err := parseURI(uri)
	if err != nil {
		return Custody{}, err
	}
	file, err := directory(k.cfg.Dir).get(at)
	if err != nil {
		return Custody{}, fmt.Errorf("couldn't look at key %s: %w", uri, err)
	}
	c := Custody{Holder: Holder(uri), Exportable: "yes: a file"}
	if block, _ := pem.Decode(file); block != nil && block.Type == encryptedBlock {
		c.Exportable = "yes: a file, encrypted to a passphrase"
	}
	return c, nil
}

func (k *Keeper) heldCustody(ctx context.Context, uri string, role Role) (Custody, error) {
	name, t, err := k.keyPlace(uri, role)
	if err != nil {
		return Custody{}, fmt.Errorf("couldn't look at a key: %w", err)
	}
	said, err := use(ctx, t, func(l *login) (string, error) { return l.hsm.custody(name, role) })
	if err != nil {
		return Custody{}, fmt.Errorf("couldn't look at key %s: %w", uri, err)
	}
	return Custody{Holder: Holder(uri), Exportable: said}, nil
}
