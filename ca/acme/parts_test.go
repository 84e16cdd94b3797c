package acme_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"net/netip"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"pgregory.net/rapid"

	"bollard/ca/acme"
)

// weakKey is an RSA key that is too short.
func weakKey(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// A nonce is good once, and they are bounded.
func TestNonces(t *testing.T) {
	t.Parallel()
	make, take := acme.Nonces()
	first, second := make(), make()
	if first == second || !take(second) || take(second) || take("") || take("x") {
		t.Error("a nonce is good for other than one message")
	}
	for range acme.MaxNonces {
		nonce := make()
		if raw, err := base64.RawURLEncoding.DecodeString(nonce); err != nil || base64.RawURLEncoding.EncodeToString(raw) != nonce {
			t.Fatalf("%s isn't what a client that decodes it sends back: %v", nonce, err)
		}
	}
	if take(first) {
		t.Error("the oldest is still there")
	}
}

// Whatever happens to the parts of an order: it is ready only while each of them is
// valid and it hasn't ended, and what is decided stays so.
func TestOrderStates(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		end := start.Add(time.Hour)
		o := acme.Order{State: acme.StatePending, ExpiresAt: end, Authorizations: make([]acme.Authorization, rapid.IntRange(1, 3).Draw(t, "parts"))}
		for i := range o.Authorizations {
			o.Authorizations[i].State = acme.StatePending
		}
		now := start
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			before := o.State
			part := &o.Authorizations[rapid.IntRange(0, len(o.Authorizations)-1).Draw(t, "part")]
			to := rapid.SampledFrom([]acme.State{acme.StateValid, acme.StateInvalid, acme.StateDeactivated, "", "later"}).Draw(t, "to")
			switch {
			case to == "later":
				now = now.Add(25 * time.Minute)
			case to == acme.StateDeactivated && (part.State == acme.StatePending || part.State == acme.StateValid), to != "" && part.State == acme.StatePending:
				part.State = to
			}
			acme.Settle(&o, now)
			all := true
			for _, z := range o.Authorizations {
				all = all && z.State == acme.StateValid
			}
			switch {
			case before == acme.StateInvalid && o.State != acme.StateInvalid:
				t.Fatal("an invalid order came back")
			case o.State == acme.StateReady && (!all || !now.Before(end)):
				t.Fatalf("ready at %s with %v", now, o.Authorizations)
			case all && now.Before(end) && before != acme.StateInvalid && o.State != acme.StateReady:
				t.Fatalf("%s with everything proven", o.State)
			}
		}
	})
}

// Messages of any form are refused with a problem, never a panic.
func FuzzParseSigned(f *testing.F) {
	key := newKey(f)
	options := (&jose.SignerOptions{EmbedJWK: true}).WithHeader("url", "https://a/b").WithHeader("nonce", "x")
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, options)
	if err != nil {
		f.Fatal(err)
	}
	jws, err := s.Sign([]byte(`{"a":1}`))
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(jws.FullSerialize()))
	f.Add([]byte(`{"protected":"e30","payload":"","signature":""}`))
	f.Add([]byte(`{"protected":1,"payload":[],"signature":{}}`))
	f.Add([]byte(`{`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var p *acme.Problem
		if err := acme.ParseSigned(data); err != nil && !errors.As(err, &p) {
			t.Fatalf("%T: %v", err, err)
		}
	})
}

type asked func(host string)

func (a asked) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	a(host)
	return nil, nil
}

// No search domain of the machine makes another name of one that is probed.
func TestNamesAreLookedUpAsTheyStand(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"one.example", "one.example."} {
		_, err := acme.Rooted(asked(func(host string) {
			if host != "one.example." {
				t.Errorf("%s is looked up as %q", name, host)
			}
		})).LookupNetIP(t.Context(), "ip", name)
		if err != nil {
			t.Error(err)
		}
	}
}
