package status_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"
	"golang.org/x/crypto/ocsp"

	"bollard/ca"
)

// build makes an OCSPRequest for the CertIDs of plain requests, with a nonce
// extension's value if it isn't nil.
func build(t *testing.T, plain [][]byte, nonce []byte) []byte {
	t.Helper()
	var b cryptobyte.Builder
	b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
				for _, der := range plain {
					s := cryptobyte.String(der)
					var outer, tbs, list cryptobyte.String
					if !s.ReadASN1(&outer, tags.SEQUENCE) || !outer.ReadASN1(&tbs, tags.SEQUENCE) || !tbs.ReadASN1(&list, tags.SEQUENCE) {
						t.Fatal("a request that isn't one")
					}
					b.AddBytes(list)
				}
			})
			if nonce == nil {
				return
			}
			b.AddASN1(tags.Tag(2).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
				b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
						b.AddASN1ObjectIdentifier(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 2})
						b.AddASN1OctetString(nonce)
					})
				})
			})
		})
	})
	return b.BytesOrPanic()
}

func octets(n int) []byte {
	der, err := asn1.Marshal(bytes.Repeat([]byte{7}, n))
	if err != nil {
		panic(err)
	}
	return der
}

// RFC 8954 §2.1: 1 to 32 octets come back, anything else is malformed.
func TestNonce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cert := r.issue(t)
	plain := [][]byte{request(t, cert, r.issuing, crypto.SHA1)}
	for name, tt := range map[string]struct {
		value []byte
		want  bool
	}{
		"one octet": {octets(1), true}, "32 octets": {octets(32), true},
		"none": {octets(0), false}, "33 octets": {octets(33), false}, "4 KB": {octets(4096), false},
		"no octet string": {[]byte("raw bytes"), false}, "something behind": {append(octets(8), 5, 0), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			der := r.post(t, build(t, plain, tt.value))
			answer, err := ocsp.ParseResponse(der, r.issuing)
			if !tt.want {
				if !refused(err, ocsp.Malformed) {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil || answer.Status != ocsp.Good || !bytes.Contains(der, tt.value) {
				t.Errorf("%+v, %v", answer, err)
			}
		})
	}
	if r.status.Kept() != 0 {
		t.Error("an answer with a nonce was kept for others")
	}
}

func TestSeveralRequests(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	one := request(t, r.issue(t), r.issuing, crypto.SHA256)
	random := request(t, &x509.Certificate{SerialNumber: big.NewInt(99)}, r.issuing, crypto.SHA256)
	foreign := request(t, r.issuing, r.root, crypto.SHA256)
	for name, tt := range map[string]struct {
		ids  [][]byte
		want ocsp.ResponseStatus
	}{
		"eight":            {[][]byte{one, one, one, one, one, one, one, one}, ocsp.Success},
		"nine":             {[][]byte{one, one, one, one, one, one, one, one, one}, ocsp.Malformed},
		"none":             {nil, ocsp.Malformed},
		"two issuers":      {[][]byte{one, foreign}, ocsp.Unauthorized},
		"one unknown":      {[][]byte{random}, ocsp.Unauthorized},
		"an unknown among": {[][]byte{one, random}, ocsp.Success},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			der := r.post(t, build(t, tt.ids, nil))
			if der[len(der)-1] != byte(tt.want) && tt.want != ocsp.Success {
				t.Errorf("%x", der)
			}
			if tt.want == ocsp.Success {
				if answer, err := ocsp.ParseResponseForCert(der, &x509.Certificate{SerialNumber: big.NewInt(99)}, r.issuing); name == "an unknown among" && (err != nil || answer.Status != ocsp.Unknown) {
					t.Errorf("unknown serial: %+v, %v", answer, err)
				}
				if len(der) < 100 {
					t.Errorf("%x", der)
				}
			}
		})
	}
}

// Promise 9: a revocation shows in the next answer, kept or not, and stays.
func TestRevocationShowsAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cert := r.issue(t)
	if err := r.status.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	signed := r.front.signed.Load()
	answer, err := r.ask(t, cert)
	if err != nil || answer.Status != ocsp.Good || r.front.signed.Load() != signed {
		t.Fatalf("%+v, %v; %d signatures", answer, err, r.front.signed.Load()-signed)
	}
	_, before := get(t, r.url+"/csms-issuing.crl")
	r.revoke(t, cert, "keyCompromise")
	if answer, err = r.ask(t, cert); err != nil || answer.Status != ocsp.Revoked || answer.RevocationReason != ocsp.KeyCompromise {
		t.Errorf("%+v, %v", answer, err)
	}
	_, after := get(t, r.url+"/csms-issuing.crl")
	older, err1 := x509.ParseRevocationList(before)
	newer, err2 := x509.ParseRevocationList(after)
	if err := errors.Join(err1, err2); err != nil || newer.Number.Cmp(older.Number) <= 0 || len(newer.RevokedCertificateEntries) != 1 {
		t.Errorf("%v, %d entries", err, len(newer.RevokedCertificateEntries))
	}
	// An expired one is still revoked, one that isn't is no longer vouched for.
	other := r.issue(t)
	r.advance(2 * 365 * 24 * time.Hour)
	if answer, err = r.ask(t, cert); err != nil || answer.Status != ocsp.Revoked {
		t.Errorf("%+v, %v", answer, err)
	}
	if _, err = r.ask(t, other); !refused(err, ocsp.Unauthorized) {
		t.Errorf("expired: %v", err)
	}
}

// A status that was read before a revocation and signed after it isn't kept.
func TestRevokedWhileSigning(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cert := r.issue(t)
	r.front.mu.Lock()
	r.front.after = func() { r.revoke(t, cert, "superseded") }
	r.front.mu.Unlock()
	if _, err := r.ask(t, cert); err != nil {
		t.Fatal(err)
	}
	if answer, err := r.ask(t, cert); err != nil || answer.Status != ocsp.Revoked {
		t.Errorf("%+v, %v", answer, err)
	}
}

// Promise 7: what a crash left between the phases counts as revoked; before it
// is issued it isn't known.
func TestIntents(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	p := r.prepare(t)
	serial, ok := new(big.Int).SetString(p.Intent().Serial, 16)
	if !ok {
		t.Fatal(p.Intent().Serial)
	}
	cert := &x509.Certificate{SerialNumber: serial}
	if _, err := r.ask(t, cert); !refused(err, ocsp.Unauthorized) {
		t.Errorf("intended: %v", err)
	}
	if _, err := r.store.OrphanIntents(t.Context(), time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if answer, err := r.ask(t, cert); err != nil || answer.Status != ocsp.Revoked {
		t.Errorf("orphaned: %+v, %v", answer, err)
	}
}

// Threat D1: with the signer gone, what is there is served to its nextUpdate
// and not a moment longer; what isn't there is tryLater.
func TestFrozenSignerIsNeverStale(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cert, other := r.issue(t), r.issue(t)
	first, err := r.ask(t, cert)
	if err != nil {
		t.Fatal(err)
	}
	if answer, _ := get(t, r.url+"/csms.crl"); answer.StatusCode != http.StatusOK {
		t.Fatal(answer.Status)
	}
	r.front.frozen.Store(true)
	if _, err := r.ask(t, other); !refused(err, ocsp.TryLater) {
		t.Errorf("not kept: %v", err)
	}
	for hour := range 60 {
		answer, err := r.ask(t, cert)
		crl, body := get(t, r.url+"/csms.crl")
		switch now := r.clock(); {
		case now.Before(first.NextUpdate.Add(-time.Minute)):
			if err != nil || answer.Status != ocsp.Good || crl.StatusCode != http.StatusOK {
				t.Errorf("hour %d: %+v, %v, %s", hour, answer, err, crl.Status)
			}
		case now.After(first.NextUpdate.Add(time.Minute)):
			if !refused(err, ocsp.TryLater) || crl.StatusCode != http.StatusServiceUnavailable {
				t.Errorf("hour %d: %+v, %v, %s", hour, answer, err, crl.Status)
			}
		}
		if list, err := x509.ParseRevocationList(body); crl.StatusCode == http.StatusOK && (err != nil || !r.clock().Before(list.NextUpdate)) {
			t.Errorf("hour %d: a stale list, %v", hour, err)
		}
		r.advance(time.Hour)
	}
	r.front.frozen.Store(false)
	if answer, err := r.ask(t, cert); err != nil || answer.Status != ocsp.Good {
		t.Errorf("after recovery: %+v, %v", answer, err)
	}
	if crl, _ := get(t, r.url+"/csms.crl"); crl.StatusCode != http.StatusOK {
		t.Error(crl.Status)
	}
}

// Answers are made anew well before half of their time, without being asked.
func TestRefreshBeforeHalf(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cert := r.issue(t)
	for range 20 {
		if err := r.status.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		signed := r.front.signed.Load()
		answer, err := r.ask(t, cert)
		if err != nil {
			t.Fatal(err)
		}
		if r.front.signed.Load() != signed {
			t.Error("signed while a client waited")
		}
		if half := answer.ThisUpdate.Add(answer.NextUpdate.Sub(answer.ThisUpdate) / 2); !r.clock().Before(half) {
			t.Errorf("at %s an answer of %s is served", r.clock(), answer.ThisUpdate)
		}
		r.advance(3 * time.Hour)
	}
}

// A list that is old when it comes, as a PKI mount's may be, is asked for once a minute,
// not for each client.
func TestOldListIsAskedForSometimes(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	der, err := r.Authority.SignCRL(t.Context(), "csms-issuing")
	if err != nil {
		t.Fatal(err)
	}
	r.front.list.Store(&der)
	r.advance(9 * time.Hour)
	for want := range int64(2) {
		for range 3 {
			if answer, body := get(t, r.url+"/csms-issuing.crl"); answer.StatusCode != http.StatusOK || !bytes.Equal(body, der) {
				t.Error(answer.Status)
			}
		}
		if got := r.front.lists.Load(); got != want+1 {
			t.Errorf("asked for %d times, want %d", got, want+1)
		}
		r.advance(61 * time.Second)
	}
}

// A clock that went back would make expired answers look fresh.
func TestClockGoesBack(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cert := r.issue(t)
	if _, err := r.ask(t, cert); err != nil {
		t.Fatal(err)
	}
	r.advance(-time.Hour)
	if _, err := r.ask(t, cert); !refused(err, ocsp.TryLater) {
		t.Errorf("OCSP: %v", err)
	}
	if crl, _ := get(t, r.url+"/csms.crl"); crl.StatusCode != http.StatusServiceUnavailable {
		t.Error(crl.Status)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	r := newRigOf(t, "", 3)
	for range 5 {
		cert := r.issue(t)
		if _, err := r.ask(t, cert); err != nil {
			t.Error(err)
		}
	}
	if err := r.status.Refresh(t.Context()); err != nil || r.status.Kept() != 3 {
		t.Errorf("%d responses kept, %v", r.status.Kept(), err)
	}
}

// While the signer's certificate is renewed nothing it signed outlives it.
func TestSignerIsRenewed(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cert := r.issue(t)
	seen := map[string]bool{}
	for range 30 {
		answer, err := r.ask(t, cert)
		if err != nil {
			t.Fatal(err)
		}
		signer := answer.Certificate
		seen[ca.SerialOf(signer)] = true
		if answer.NextUpdate.After(signer.NotAfter) || r.clock().After(signer.NotAfter) {
			t.Errorf("an answer until %s by a signer until %s", answer.NextUpdate, signer.NotAfter)
		}
		if fmt.Sprint(signer.ExtKeyUsage) != fmt.Sprint([]x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}) {
			t.Errorf("EKU %v", signer.ExtKeyUsage)
		}
		r.advance(24 * time.Hour)
	}
	if len(seen) != 5 {
		t.Errorf("%d signers in 30 days, want one a week", len(seen))
	}
}

// A signer that was revoked signs nothing more, and its key comes back never:
// clients don't look up whether it is revoked.
func TestRevokedSignerIsReplaced(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cert := r.issue(t)
	before, err := r.ask(t, cert)
	if err != nil {
		t.Fatal(err)
	}
	r.revoke(t, before.Certificate, "keyCompromise")
	after, err := r.ask(t, cert)
	if err != nil || bytes.Equal(after.Certificate.RawSubjectPublicKeyInfo, before.Certificate.RawSubjectPublicKeyInfo) {
		t.Errorf("the same key goes on signing, %v", err)
	}
}

// Run signs without being asked, and ends with its context.
func TestRun(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cert := r.issue(t)
	end := r.run(t)
	wait := waiter(t)
	wait("nothing was signed ahead", func() bool { return r.status.Kept() == 4 }) // two hashes, for the station's and the signer's certificate
	before := r.front.lists.Load()
	r.revoke(t, cert, "superseded")
	wait("a revocation didn't lead to a new list", func() bool { return r.front.lists.Load() > before })
	end()
}

// run runs the server until its end is asked for.
func (r *rig) run(t *testing.T) (end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.status.Run(ctx) }()
	return func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func waiter(t *testing.T) func(what string, ok func() bool) {
	return func(what string, ok func() bool) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal(what)
			}
		}
	}
}

// While the fleet comes back nothing is signed but what is asked for, and lists; once it
// has, and after a while either way, the rest is.
func TestRunWaitsForCalm(t *testing.T) {
	t.Parallel()
	for name, over := range map[string]func(r *rig){
		"calm again":    func(r *rig) { r.storm.Store(false) },
		"it never ends": func(r *rig) { r.advance(16 * time.Minute) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			asked, gone, other := r.issue(t), r.issue(t), r.issue(t)
			r.storm.Store(true)
			end := r.run(t)
			wait := waiter(t)
			wait("no list was signed", func() bool { return r.front.lists.Load() > 0 })
			if answer, err := r.ask(t, asked); err != nil || answer.Status != ocsp.Good {
				t.Fatalf("%+v, %v", answer, err)
			}
			before := r.front.lists.Load()
			r.revoke(t, gone, "superseded")
			wait("a revocation didn't lead to a new list", func() bool { return r.front.lists.Load() > before })
			time.Sleep(300 * time.Millisecond) // it has looked again by now
			if signed, kept := r.front.signed.Load(), r.status.Kept(); signed != 1 || kept != 1 {
				t.Errorf("%d signed, %d kept, and one was asked for", signed, kept)
			}
			over(r)
			wait("nothing was signed then", func() bool { return r.status.Kept() == 6 }) // two hashes, for two stations' certificates and the signer's
			signed := r.front.signed.Load()
			if _, err := r.ask(t, other); err != nil || r.front.signed.Load() != signed {
				t.Errorf("signed while a client waited, %v", err)
			}
			end()
		})
	}
}

// Nothing is said in one CA's name about another's certificates.
func TestIssuersAreKeptApart(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cert := r.issue(t)
	if _, err := r.ask(t, &x509.Certificate{SerialNumber: r.issuing.SerialNumber}); !refused(err, ocsp.Unauthorized) {
		t.Errorf("the root's certificate under the issuing CA: %v", err)
	}
	if err := r.Create(t.Context(), ca.KindManufacturer, "operator"); err != nil {
		t.Fatal(err)
	}
	other := r.Intermediates(ca.KindManufacturer)[0]
	if der := r.post(t, request(t, cert, other, crypto.SHA256)); !bytes.Equal(der, []byte{0x30, 3, 10, 1, 6}) {
		t.Errorf("a serial number of another hierarchy: %x", der)
	}
	both := [][]byte{request(t, cert, r.issuing, crypto.SHA256), request(t, cert, other, crypto.SHA256)}
	if der := r.post(t, build(t, both, nil)); !bytes.Equal(der, []byte{0x30, 3, 10, 1, 6}) {
		t.Errorf("one signer for two CAs: %x", der)
	}
	if answer, body := get(t, r.url+"/manufacturer-issuing.crt"); answer.StatusCode != http.StatusOK || !bytes.Equal(body, other.Raw) {
		t.Errorf("the new CA's certificate: %s", answer.Status)
	}
}

// A signer that can't be renewed signs nothing that outlives it.
func TestSignerThatIsNotRenewed(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cert := r.issue(t)
	pinned, err := r.OCSPSigner(t.Context(), "csms-issuing")
	if err != nil {
		t.Fatal(err)
	}
	r.front.pinned.Store(pinned)
	r.advance(time.Until(pinned.Certificate.NotAfter) - time.Hour)
	if answer, err := r.ask(t, cert); err != nil || answer.NextUpdate.After(pinned.Certificate.NotAfter) {
		t.Errorf("%+v, %v", answer, err)
	}
	r.advance(2 * time.Hour)
	if _, err := r.ask(t, cert); !refused(err, ocsp.TryLater) {
		t.Errorf("expired signer: %v", err)
	}
}

// What keeps answers from being signed anew shows until it is over.
func TestFault(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.issue(t)
	r.front.frozen.Store(true)
	if err := r.status.Refresh(t.Context()); err == nil || r.status.Fault() == nil {
		t.Errorf("refreshed without a key: %v, fault %v", err, r.status.Fault())
	}
	r.front.frozen.Store(false)
	r.advance(time.Minute) // past the pause after a failure
	if err := r.status.Refresh(t.Context()); err != nil || r.status.Fault() != nil {
		t.Errorf("with the key back: %v, fault %v", err, r.status.Fault())
	}
}
