package fleet

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"time"

	"bollard/ca"
	"bollard/ledger"
)

// Registration is a one-time secret with which a station asks for its first
// certificate over EST. It is bound to the first key it was used for: an answer
// that got lost can be asked for again, another certificate can't.
type Registration struct {
	Station   string // key
	Salt      []byte
	Hash      []byte // fast: the secret has 119 random bits
	CreatedAt time.Time
	ExpiresAt time.Time
	KeyHash   string // SHA-256 of the SubjectPublicKeyInfo it was used for, or ""
}

// ErrRegistrationUsed says that a one-time secret was used for another key or
// has been replaced.
var ErrRegistrationUsed = errors.New("the one-time secret was used already")

// Longest and shortest validity of a one-time secret.
const (
	minRegistration = time.Minute
	maxRegistration = 90 * 24 * time.Hour
)

// EnrolmentStore is what enrolling over EST keeps beside the stations. Its
// methods are bound as Store's are.
type EnrolmentStore interface {
	// Applicant returns a station with its one-time secret, nil without one.
	// ErrUnknownStation.
	Applicant(ctx context.Context, station string) (Station, *Registration, error)
	// PutRegistration replaces the secret. ErrUnknownStation if there is no such station.
	PutRegistration(ctx context.Context, r Registration, events ...ledger.Event) error
	// UseRegistration binds the secret with this hash to a key; once more to the
	// same key changes nothing and records nothing. Else ErrRegistrationUsed.
	UseRegistration(ctx context.Context, station string, hash []byte, keyHash string, events ...ledger.Event) error
	// Recorder returns what records an application with its certificate.
	// ErrUnknownStation and ErrRegistrationUsed are in the chain of its errors.
	Recorder(a Application) ca.Recorder
}

// Registrar lets stations enrol without an OCPP session: it is est.Registrar.
type Registrar struct {
	service *Service
	store   EnrolmentStore
}

// NewRegistrar returns the registrar of a service's stations.
func NewRegistrar(s *Service, store EnrolmentStore) *Registrar {
	return &Registrar{service: s, store: store}
}

// NewSecret makes a station's one-time secret and tells it, this once, with the
// end of its validity. An earlier one, used or not, ends.
func (r *Registrar) NewSecret(ctx context.Context, actor, identity string, valid time.Duration) (string, time.Time, error) {
	if valid < minRegistration || valid > maxRegistration {
		return "", time.Time{}, badInput("a one-time secret can't be valid for %s: give 1m to 2160h (90 days)", valid)
	}
	key, err := r.service.key(identity)
	if err != nil {
		return "", time.Time{}, err
	}
	now := r.service.clock()
	secret := generatePassword()
	reg := Registration{Station: key, Salt: make([]byte, 16), CreatedAt: now, ExpiresAt: now.Add(valid)}
	_, _ = rand.Read(reg.Salt) // never fails (crypto/rand)
	reg.Hash = keyedHash(reg.Salt, []byte(secret))
	event := ledger.Event{Kind: "station.enrol-secret", Subject: key, Actor: actor, Data: map[string]string{
		"until": reg.ExpiresAt.UTC().Format(time.RFC3339),
	}}
	if err := r.store.PutRegistration(ctx, reg, event); err != nil {
		return "", time.Time{}, fmt.Errorf("couldn't store a one-time secret: %w", err)
	}
	return secret, reg.ExpiresAt, nil
}

// right compares a secret with what is stored; for a station without one the
// same work is done and the answer is no.
func (r *Registrar) right(reg *Registration, known bool, secret []byte) bool {
	known = known && reg != nil
	if !known {
		reg = &Registration{Salt: make([]byte, 16), Hash: make([]byte, 32)}
	}
	return subtle.ConstantTimeCompare(r.service.secrets.fast(reg.Salt, secret), reg.Hash) == 1 && known
}
