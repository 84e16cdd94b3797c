package ca_test

import (
	"crypto"
	"errors"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"bollard/ca"
	"bollard/keys"
)

// Promise 6, threat C4: one key, one station, one purpose.
func TestKeyInUse(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	key := newKey(t)
	first := r.issue(t, order(t, key))
	t.Run("same station again", func(t *testing.T) { r.issue(t, order(t, key)) })
	refused := func(t *testing.T, o ca.Order) {
		t.Helper()
		if _, err := r.Prepare(t.Context(), o); !errors.Is(err, ca.ErrKeyInUse) {
			t.Errorf("got %v, want ErrKeyInUse", err)
		}
	}
	t.Run("other station", func(t *testing.T) {
		o := order(t, key)
		o.Station = "cs2"
		refused(t, o)
	})
	t.Run("as a server's", func(t *testing.T) {
		o := order(t, key)
		o.Profile, o.Station, o.Subject = ca.ProfileServer, "", ca.Subject{DNSNames: []string{"a.example.com"}}
		refused(t, o)
	})
	t.Run("the CA's own", func(t *testing.T) {
		for _, name := range []string{"csms-root", "csms-issuing"} {
			signer, err := r.keeper.Open(t.Context(), "softkms:"+name+".key", keys.RoleCA)
			if err != nil {
				t.Fatal(err)
			}
			refused(t, order(t, signer))
		}
	})
	t.Run("a server's", func(t *testing.T) {
		names := ca.ServerNames{DNS: []string{"csms.example.com"}}
		s, err := r.ServerCertificates(t.Context(), names, filepath.Join(r.dir, "server"))
		if err != nil {
			t.Fatal(err)
		}
		signer := s.Current()[0].PrivateKey.(crypto.Signer)
		refused(t, order(t, signer))
	})
	t.Run("after keyCompromise", func(t *testing.T) {
		if _, err := r.Revoke(t.Context(), first.Serial, "keyCompromise", "operator"); err != nil {
			t.Fatal(err)
		}
		refused(t, order(t, key))
	})
}

// Two stations that come with one key at the same moment: one gets it.
func TestKeyClaimedAtTheSameMoment(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	key := newKey(t)
	var wg sync.WaitGroup
	var good atomic.Int64
	stations := []string{"a", "b", "c", "d", "e", "f", "g", "h"}
	// None goes on before all have come as far as they get: to the question
	// whose key it is, or to a refusal.
	var come sync.WaitGroup
	come.Add(len(stations))
	r.store.Before = func(method string) {
		if method == "CertificatesByKey" {
			come.Done()
			come.Wait()
		}
	}
	for _, station := range stations {
		o := order(t, key)
		o.Station = station
		wg.Go(func() {
			if _, err := r.Prepare(t.Context(), o); err == nil {
				good.Add(1)
			} else if come.Done(); !errors.Is(err, ca.ErrKeyInUse) {
				t.Errorf("got %v", err)
			}
		})
	}
	wg.Wait()
	if good.Load() != 1 {
		t.Errorf("%d stations got one key", good.Load())
	}
}

// Two who aren't stations prepare with one key before either has a certificate: one is
// issued to, while the other waits at the very door, or comes after.
func TestKeyIsJudgedAgainBeforeItIsSignedFor(t *testing.T) {
	t.Parallel()
	for name, meanwhile := range map[string]bool{"after it": false, "meanwhile": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			key := newKey(t)
			prepare := func(requester string) *ca.Prepared {
				o := order(t, key)
				o.Profile, o.Station, o.Subject, o.Requester = ca.ProfileServer, "", ca.Subject{DNSNames: []string{"a.example.com"}}, requester
				o.Judge = func(onRecord []ca.Record) error {
					for _, known := range onRecord {
						if known.State == ca.StateIssued && known.Requester != requester {
							return ca.ErrKeyInUse
						}
					}
					return nil
				}
				p, err := r.Prepare(t.Context(), o)
				if err != nil {
					t.Fatal(err)
				}
				return p
			}
			one, same, other := prepare("one"), prepare("one"), prepare("other")
			refused := func() {
				if _, err := r.Issue(t.Context(), other); !errors.Is(err, ca.ErrKeyInUse) {
					t.Errorf("another got one: %v", err)
				}
			}
			if meanwhile {
				r.store.Before = func(method string) {
					if method == "PutIssued" {
						r.store.Before = nil
						refused()
					}
				}
			}
			for _, p := range []*ca.Prepared{one, same} {
				if _, err := r.Issue(t.Context(), p); err != nil {
					t.Error(err)
				}
			}
			if !meanwhile {
				refused()
			}
		})
	}
}
