package main

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"bollard/ca"
	"bollard/detect"
)

// What is told before it ends, and how long before. A server renews CAs below roots of
// its own at two thirds of their life: one that is as near to its end isn't renewed.
const (
	contractsEarly = 21 * 24 * time.Hour // cars get the next certificate from 30 days before
	renewedEarly   = 60 * 24 * time.Hour
	plannedEarly   = 365 * 24 * time.Hour // roots, and CAs that others certify: as doctor has it
	anchorEarly    = 90 * 24 * time.Hour
)

// expiryLook is how often is looked; detect's rules for it last three of these.
const expiryLook = 24 * time.Hour

// watchExpiry tells of what ends soon, at the start and then each day, until ctx ends.
func (s *server) watchExpiry(ctx context.Context) error {
	look := time.NewTicker(expiryLook)
	defer look.Stop()
	for {
		if err := s.noticeExpiry(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("couldn't look for everything that ends soon; it is tried again tomorrow", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
		}
	}
}

// noticeExpiry records a finding for contract certificates, CAs of ours, what others
// made for them, lists of offline roots, and trusted roots that end soon.
func (a *app) noticeExpiry(ctx context.Context) error {
	now := a.clock()
	var failed []error
	tell := func(kind detect.Kind, detail string) {
		failed = append(failed, a.alerts.Record(ctx, detect.Sign{Kind: kind, Detail: detail}))
	}
	list, err := a.contracts.Expiring(ctx, now.Add(contractsEarly))
	failed = append(failed, err)
	if len(list) > 0 {
		tell(detect.ContractsEnd, "")
	}
	for _, due := range a.authority.DueCAs() {
		early := renewedEarly
		if due.Outside || due.Root {
			early = plannedEarly
		}
		if due.NotAfter.Before(now.Add(early)) {
			tell(detect.AuthorityEnds, "the CA "+due.Name)
		}
	}
	for _, kind := range ca.Kinds() {
		for _, path := range a.authority.Paths(kind) {
			if end, outside := path.OutsideEnd(); outside && end.Before(now.Add(plannedEarly)) {
				root := sha256.Sum256(path.Root.Raw)
				tell(detect.AuthorityEnds, fmt.Sprintf("the chain of %s to the root %.8x", kind, root[:]))
			}
		}
	}
	for _, kind := range ca.Kinds() {
		lists, err := a.authority.RootLists(ctx, kind)
		failed = append(failed, err)
		for _, l := range lists {
			if l.NextUpdate.Before(now.Add(renewedEarly)) {
				tell(detect.AuthorityEnds, "the revocation list of "+l.Issuer)
			}
		}
	}
	anchors, err := a.authority.Anchors(ctx, "")
	failed = append(failed, err)
	for _, anchor := range anchors {
		cert, err := x509.ParseCertificate(anchor.DER)
		if err != nil {
			failed = append(failed, fmt.Errorf("couldn't read trusted root %s; remove it and add it again: %w", anchor.Hash, err))
			continue
		}
		if cert.NotAfter.Before(now.Add(anchorEarly)) {
			// Its names are its maker's text.
			tell(detect.AuthorityEnds, fmt.Sprintf("the root %.16s trusted for %s", anchor.Hash, anchor.Use))
		}
	}
	return errors.Join(failed...)
}
