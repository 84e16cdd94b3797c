package ca

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// RootList is the revocation list of a root whose key is elsewhere.
type RootList struct {
	Issuer     string // its name here
	DER        []byte
	NextUpdate time.Time
	Revokes    []string // CAs that issue, by RootLists
}

// ErrListRevokes refuses a list after which relying parties would follow nothing that is
// issued here.
var ErrListRevokes = errors.New("the list revokes a CA in force")

// ErrListForgets refuses a list that knows less than the one there is: a root's list keeps
// what it revoked, so it was signed where that isn't on record, such as in an older copy.
var ErrListForgets = errors.New("the list forgets what the root revoked")

// ImportList takes in a newer revocation list of an offline root. ErrListRevokes if it
// revokes a CA in force, ErrListForgets if it lacks what the one before has, unless it is
// forced.
func (a *Authority) ImportList(ctx context.Context, kind Kind, data []byte, force bool, actor string) (*x509.RevocationList, error) {
	list, err := readList(data)
	if err != nil {
		return nil, err
	}
	a.building.Lock() // of two lists at once the older one isn't the last
	defer a.building.Unlock()
	now, l := a.cfg.Clock().UTC(), a.hierarchy(kind)
	for _, c := range l.cas {
		if c.keyURI != "" || c.profile == profileOutside || list.CheckSignatureFrom(c.cert) != nil {
			continue
		}
		if err := checkList(list, c.cert, now); err != nil {
			return nil, err
		}
		revoked := l.revokedBy(c, list, true)
		if len(revoked) > 0 && !force {
			return nil, fmt.Errorf("%w: %s", ErrListRevokes, strings.Join(revoked, ", "))
		}
		forgotten, err := a.forgottenBy(ctx, c.name, list)
		if err != nil {
			return nil, err
		}
		if len(forgotten) > 0 && !force {
			return nil, fmt.Errorf("%w: %s", ErrListForgets, strings.Join(forgotten, ", "))
		}
		if err := a.takeIn(ctx, intake{kind: kind, actor: actor, name: c.name, list: list, revokes: revoked, forgets: forgotten}); err != nil {
			return nil, err
		}
		for _, w := range a.watchers() {
			w.Revoked(c.name, "") // a list of it is served, and no longer the newest
		}
		return list, nil
	}
	return nil, fmt.Errorf("the list isn't by an offline root of %s", kind)
}

// revokedBy are the CAs in force that a root's list revokes, with or without those whose
// keys moved and that answer for what they issued.
func (l *loadedHierarchy) revokedBy(root caRecord, list *x509.RevocationList, formers bool) []string {
	revoked := func(cert *x509.Certificate) bool {
		return bytes.Equal(cert.RawIssuer, root.cert.RawSubject) && revokes(list, cert)
	}
	var names []string
	for _, c := range l.cas {
		if !c.retired && (formers || !c.former) && revoked(c.cert) {
			names = append(names, c.name)
		}
	}
	if l.cross != nil && revoked(l.cross) {
		names = append(names, "the next root, as certified by "+root.name)
	}
	return names
}

// forgottenBy are the serial numbers on the list of a root here that another doesn't have.
func (a *Authority) forgottenBy(ctx context.Context, name string, list *x509.RevocationList) ([]string, error) {
	known, err := a.rootList(ctx, name)
	if errors.Is(err, ErrOffline) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	has := map[string]bool{}
	for _, e := range list.RevokedCertificateEntries {
		has[e.SerialNumber.Text(16)] = true
	}
	var gone []string
	for _, e := range known.RevokedCertificateEntries {
		if serial := e.SerialNumber.Text(16); !has[serial] {
			gone = append(gone, serial)
		}
	}
	return gone, nil
}

func revokes(list *x509.RevocationList, cert *x509.Certificate) bool {
	return slices.ContainsFunc(list.RevokedCertificateEntries, func(e x509.RevocationListEntry) bool {
		return e.SerialNumber.Cmp(cert.SerialNumber) == 0
	})
}

// checkList: it is in force, and no delta.
func checkList(list *x509.RevocationList, root *x509.Certificate, now time.Time) error {
	switch {
	case list.Number == nil || !bytes.Equal(list.RawIssuer, root.RawSubject):
		return errors.New("the root's list has no number, or is another's")
	case now.Before(list.ThisUpdate) || !now.Before(list.NextUpdate):
		return fmt.Errorf("the root's list is in force from %s to %s only", list.ThisUpdate.Format(time.RFC3339), list.NextUpdate.Format(time.RFC3339))
	}
	return nil
}

func readList(data []byte) (*x509.RevocationList, error) {
	if block, _ := pem.Decode(data); block != nil {
		if block.Type != "X509 CRL" {
			return nil, fmt.Errorf("couldn't read the root's revocation list: it has a %.60q, and has to be an X509 CRL", block.Type)
		}
		data = block.Bytes
	}
	list, err := x509.ParseRevocationList(data)
	if err != nil {
		return nil, fmt.Errorf("couldn't read the root's revocation list: %w", err)
	}
	return list, nil
}

// rootList is the newest list of an offline root.
func (a *Authority) rootList(ctx context.Context, name string) (*x509.RevocationList, error) {
	l, err := a.cfg.Store.RootList(ctx, name)
	if err != nil {
		return nil, err
	}
	if len(l.DER) == 0 {
		return nil, fmt.Errorf("there is no revocation list of %s here: %w", name, ErrOffline)
	}
	return x509.ParseRevocationList(l.DER)
}

// RootLists are the lists of the roots of a hierarchy that are offline and in force.
func (a *Authority) RootLists(ctx context.Context, kind Kind) ([]RootList, error) {
	var lists []RootList
	hierarchy := a.hierarchy(kind)
	for _, c := range hierarchy.cas {
		if c.keyURI != "" || c.profile == profileOutside || c.borrowed || c.retired {
			continue
		}
		l, err := a.cfg.Store.RootList(ctx, c.name)
		if err != nil {
			return nil, err
		}
		l.Issuer = c.name
		if list, err := x509.ParseRevocationList(l.DER); err == nil {
			l.Revokes = hierarchy.revokedBy(c, list, false)
		}
		lists = append(lists, l)
	}
	return lists, nil
}
