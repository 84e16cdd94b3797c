package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"bollard/gateway"
)

// The secrets of TLS session tickets are renewed daily and thrown away after
// another day: a stolen one is soon worth nothing (RFC 9325 §3.4).
const (
	ticketsName  = "tls-tickets"
	ticketsRenew = 24 * time.Hour
	ticketsKept  = 2 * ticketsRenew
	ticketsLook  = 15 * time.Minute // is one due?
)

// ticketSecret is one of them, as it is sealed in the database.
type ticketSecret struct {
	Made   time.Time `json:"made"`
	Secret []byte    `json:"secret"`
}

// renewedTickets leaves out what is too old, or from a future that a wrong clock
// made, and puts a new secret first if one is due.
func renewedTickets(list []ticketSecret, now time.Time) (renewed []ticketSecret, changed bool) {
	renewed = slices.DeleteFunc(slices.Clone(list), func(s ticketSecret) bool {
		return len(s.Secret) != gateway.TicketSecretSize || now.Sub(s.Made) >= ticketsKept || s.Made.After(now.Add(ticketsLook))
	})
	changed = len(renewed) != len(list)
	if len(renewed) == 0 || now.Sub(renewed[0].Made) >= ticketsRenew {
		secret := make([]byte, gateway.TicketSecretSize)
		rand.Read(secret) // never fails
		renewed, changed = slices.Insert(renewed, 0, ticketSecret{now, secret}), true
	}
	return renewed, changed
}

// renewTickets gives the gateway the secrets that are due now. A new one is on
// disk before it seals a ticket; if it can't be, the server goes on with it alone.
func (s *server) renewTickets(ctx context.Context) error {
	known, err := s.readTickets(ctx)
	if err != nil {
		s.log.Warn("couldn't read the secrets of TLS session tickets: stations make full handshakes once", "err", err)
	}
	renewed, changed := renewedTickets(known, time.Now())
	if changed {
		if err := s.storeTickets(ctx, renewed); err != nil {
			s.log.Warn("couldn't store the secrets of TLS session tickets: they end with this process", "err", err)
		}
	}
	secrets := make([][]byte, len(renewed))
	for i, one := range renewed {
		secrets[i] = one.Secret
	}
	return s.gateway.UseTickets(secrets)
}

func (s *server) readTickets(ctx context.Context) ([]ticketSecret, error) {
	sealed, ok, err := s.store.Secret(ctx, ticketsName)
	if err != nil || !ok {
		return nil, err
	}
	plain, err := s.seal.Open(ticketsName, sealed)
	if err != nil {
		return nil, err
	}
	var list []ticketSecret
	if err := json.Unmarshal(plain, &list); err != nil {
		return nil, fmt.Errorf("couldn't read the secret %q", ticketsName) // never its text
	}
	return list, nil
}

func (s *server) storeTickets(ctx context.Context, list []ticketSecret) error {
	plain, err := json.Marshal(list)
	if err != nil {
		return err
	}
	sealed, err := s.seal.Seal(ticketsName, plain)
	if err != nil {
		return err
	}
	return s.store.SetSecret(ctx, ticketsName, sealed)
}

// maintainTickets renews them until ctx ends.
func (s *server) maintainTickets(ctx context.Context) error {
	look := time.NewTicker(ticketsLook)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
			if err := s.renewTickets(ctx); err != nil {
				return err
			}
		}
	}
}
