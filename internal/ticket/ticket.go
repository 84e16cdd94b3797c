// Package ticket makes tickets: texts fit for a URL that let whoever holds one
// do one thing, for one station and one request, until a time.
//
// It promises that nobody without the key makes a ticket or changes one, and
// that a ticket for one purpose is none for another. That it is used once is
// for its taker to see to.
package ticket

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"time"
)

// KeySize is the number of bytes of a Keeper's key.
const KeySize = 32

// Domains separate the uses of the key's HMAC. A change of the encoding below
// needs a new version in the first.
const (
	domain      = "bollard ticket v1\n"
	thingDomain = "bollard ticket thing v1\n"
)

// sumSize is how much of the HMAC-SHA256 a ticket carries: 128 bits (RFC 2104 §5).
const sumSize = 16

// Longest purpose and station key, so that a URL stays below the 512 characters
// of OCPP 2.x's remoteLocation and location.
const (
	maxPurpose = 32
	maxStation = 200
)

// Ticket says what its holder may do.
type Ticket struct {
	Purpose string // a word of the program's own, such as security-log
	Station string // station key
	Request int64  // the requestId it belongs to
	Expires time.Time
}

// Keeper issues and reads tickets. It is safe for concurrent use.
type Keeper struct{ key []byte }

// New takes a key of KeySize random bytes.
func New(key []byte) (*Keeper, error) {
	if len(key) != KeySize {
		return nil, errors.New("the key of tickets hasn't 32 bytes")
	}
	return &Keeper{append([]byte(nil), key...)}, nil
}

// For is the keeper of tickets for one thing that is named beside them, such as a
// file by its digest: they are none for another thing.
func (k *Keeper) For(thing string) *Keeper {
	h := hmac.New(sha256.New, k.key)
	h.Write([]byte(thingDomain))
	h.Write([]byte(thing))
	return &Keeper{h.Sum(nil)}
}

// Issue writes a ticket, in letters, digits, "-" and "_".
func (k *Keeper) Issue(t Ticket) (string, error) {
	if t.Purpose == "" || len(t.Purpose) > maxPurpose || len(t.Station) > maxStation {
		return "", errors.New("a ticket's purpose or station is too long, or there is no purpose")
	}
	body := binary.BigEndian.AppendUint64(nil, uint64(t.Expires.Unix()))
	body = binary.BigEndian.AppendUint64(body, uint64(t.Request))
	body = append(body, byte(len(t.Purpose)))
	body = append(body, t.Purpose...)
	body = append(body, t.Station...) // the rest: no two tickets have one encoding
	return base64.RawURLEncoding.EncodeToString(append(k.sum(body), body...)), nil
}

// ErrInvalid is every fault of a text that is no ticket for a purpose, or none
// any more: a stranger learns no more than that.
var ErrInvalid = errors.New("no valid ticket")

// Read takes a ticket for a purpose.
func (k *Keeper) Read(text, purpose string, now time.Time) (Ticket, error) {
	raw, err := base64.RawURLEncoding.DecodeString(text)
	// Decoders take line breaks anywhere: a ticket has one spelling.
	if err != nil || len(raw) < sumSize+17 || base64.RawURLEncoding.EncodeToString(raw) != text {
		return Ticket{}, ErrInvalid
	}
	sum, body := raw[:sumSize], raw[sumSize:]
	if !hmac.Equal(sum, k.sum(body)) {
		return Ticket{}, ErrInvalid
	}
	end := 17 + int(body[16])
	if len(body) < end {
		return Ticket{}, ErrInvalid // cannot be: the code is right
	}
	t := Ticket{
		Expires: time.Unix(int64(binary.BigEndian.Uint64(body)), 0), Request: int64(binary.BigEndian.Uint64(body[8:])),
		Purpose: string(body[17:end]), Station: string(body[end:]),
	}
	if t.Purpose != purpose || !now.Before(t.Expires) {
		return Ticket{}, ErrInvalid
	}
	return t, nil
}

func (k *Keeper) sum(body []byte) []byte {
	h := hmac.New(sha256.New, k.key)
	h.Write([]byte(domain))
	h.Write(body)
	return h.Sum(nil)[:sumSize]
}
