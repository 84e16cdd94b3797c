package gateway

import (
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
)

// TicketSecretSize is the number of bytes of a secret for UseTickets.
const TicketSecretSize = 32

// UseTickets replaces the secrets of TLS session tickets: the first one seals
// new tickets, all open old ones. Stations can go on with their TLS sessions after
// a restart if the next process has the same secrets. Without any the keys are
// made at the start and renewed by crypto/tls.
//
// Whoever has a secret can be any station: a ticket holds the certificate its
// holder once proved (RFC 5077 §5.3, RFC 9325 §3.4).
func (g *Gateway) UseTickets(secrets [][]byte) error {
	for _, s := range secrets {
		if len(s) != TicketSecretSize {
			return fmt.Errorf("gateway: a ticket secret has %d bytes instead of %d", len(s), TicketSecretSize)
		}
	}
	g.tickets.Store(&secrets)
	return nil
}

// ticketKeys are a listener's own: no ticket of another is one here.
func ticketKeys(secrets [][]byte, listener string) ([][32]byte, error) {
	keys := make([][32]byte, len(secrets))
	for i, s := range secrets {
		key, err := hkdf.Key(sha256.New, s, nil, "bollard session tickets\n"+listener, len(keys[i]))
		if err != nil {
			return nil, fmt.Errorf("couldn't derive a ticket key: %w", err)
		}
		copy(keys[i][:], key)
	}
	return keys, nil
}

// rekey takes over other secrets than the listener has, which copies of base
// don't. The caller holds t.mu.
func (t *tlsSettings) rekey() bool {
	secrets := t.tickets.Load()
	if secrets == t.sealedBy || secrets == nil || len(*secrets) == 0 {
		return false
	}
	t.sealedBy = secrets
	keys, err := ticketKeys(*secrets, t.listener)
	if err != nil {
		t.log.Error("TLS sessions can't go on after a restart", "err", err)
		return false
	}
	t.base.SetSessionTicketKeys(keys)
	return true
}
