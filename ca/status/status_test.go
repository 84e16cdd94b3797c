package status_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"
	"golang.org/x/crypto/ocsp"

	"bollard/ca"
	"bollard/ca/status"
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

// RFC 5019 §5 and §6: GET in the spellings clients have, and what caches read.
func TestGet(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cert := r.issue(t)
	der := request(t, cert, r.issuing, crypto.SHA1)
	standard := base64.StdEncoding.EncodeToString(der)
	for name, path := range map[string]string{
		"escaped":       "/ocsp/" + url.PathEscape(standard),
		"all escaped":   "/ocsp/" + url.QueryEscape(standard),
		"plain":         "/ocsp/" + standard,
		"double slash":  "/ocsp//" + url.PathEscape(standard),
		"no padding":    "/ocsp/" + strings.TrimRight(url.PathEscape(standard), "="),
		"URL alphabet":  "/ocsp/" + base64.URLEncoding.EncodeToString(der),
		"slashes twice": "/ocsp/" + strings.ReplaceAll(standard, "/", "%2f"),
	} {
		answer, body := get(t, r.url+path)
		got, err := ocsp.ParseResponseForCert(body, cert, r.issuing)
		if err != nil || got.Status != ocsp.Good {
			t.Errorf("%s: %s, %v", name, answer.Status, err)
			continue
		}
		h := answer.Header
		if h.Get("Content-Type") != "application/ocsp-response" || h.Get("Last-Modified") != got.ThisUpdate.Format(http.TimeFormat) ||
			h.Get("Expires") != got.NextUpdate.Format(http.TimeFormat) || h.Get("ETag") == "" ||
			h.Get("Cache-Control") != "max-age=60, public, no-transform, must-revalidate" {
			t.Errorf("%s: %v", name, h)
		}
		again, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		again.Header.Set("If-None-Match", h.Get("ETag"))
		unchanged, err := http.DefaultClient.Do(again)
		if err != nil {
			t.Fatal(err)
		}
		_ = unchanged.Body.Close()
		if unchanged.StatusCode != http.StatusNotModified {
			t.Errorf("%s: %s for a known answer", name, unchanged.Status)
		}
	}
	if answer, body := get(t, r.url+"/ocsp/!!!"); !bytes.Equal(body, []byte{0x30, 3, 10, 1, 1}) || answer.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("no base64: %x %v", body, answer.Header)
	}
}

// Of 64 certificates one has a request by SHA-256 whose base64 ends in a slash,
// which is part of it.
func TestGetEndsInSlash(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for range 2000 {
		cert := r.issue(t)
		standard := base64.StdEncoding.EncodeToString(request(t, cert, r.issuing, crypto.SHA256))
		if !strings.HasSuffix(standard, "/") {
			continue
		}
		for _, path := range []string{url.PathEscape(standard), url.QueryEscape(standard), standard, standard + "/"} {
			_, body := get(t, r.url+"/ocsp/"+path)
			if got, err := ocsp.ParseResponseForCert(body, cert, r.issuing); err != nil || got.Status != ocsp.Good {
				t.Errorf("%s: %v", path, err)
			}
		}
		return
	}
	t.Fatal("no request ended in a slash")
}

func TestHTTPRefusals(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for name, tt := range map[string]struct {
		method, path, kind string
		size, want         int
	}{
		"form":         {"POST", "/ocsp", "application/x-www-form-urlencoded", 10, 415},
		"too large":    {"POST", "/ocsp", "application/ocsp-request", 64 << 10, 413},
		"PUT":          {"PUT", "/ocsp", "application/ocsp-request", 10, 405},
		"GET without":  {"GET", "/ocsp", "", 0, 405},
		"POST a list":  {"POST", "/csms.crl", "", 0, 405},
		"unknown list": {"GET", "/v2g.crl", "", 0, 404},
		"unknown CA":   {"GET", "/v2g-root.crt", "", 0, 404},
		"else":         {"GET", "/", "", 0, 404},
		"admin":        {"GET", "/metrics", "", 0, 404},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			q, err := http.NewRequestWithContext(t.Context(), tt.method, r.url+tt.path, bytes.NewReader(make([]byte, tt.size)))
			if err != nil {
				t.Fatal(err)
			}
			q.Header.Set("Content-Type", tt.kind)
			answer, err := http.DefaultClient.Do(q)
			if err != nil {
				t.Fatal(err)
			}
			_ = answer.Body.Close()
			if answer.StatusCode != tt.want {
				t.Errorf("%s, want %d", answer.Status, tt.want)
			}
		})
	}
}

// Whoever asks while others' answers are dropped and signed anew gets the own one, whole.
func TestAskedMeanwhile(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var done atomic.Bool
	var asking sync.WaitGroup
	for range 2 {
		cert := r.issue(t)
		der := request(t, cert, r.issuing, crypto.SHA1)
		asking.Go(func() {
			for i := 0; i == 0 || !done.Load(); i++ {
				body, own, err := r.status.Respond(t.Context(), der)
				if err != nil || !own {
					t.Errorf("%t, %v", own, err)
					return
				}
				if got, err := ocsp.ParseResponseForCert(body, cert, r.issuing); err != nil || got.Status != ocsp.Good {
					t.Errorf("%x: %v", body, err)
					return
				}
			}
		})
	}
	for range 5 {
		r.advance(9 * time.Hour) // all are due
		if err := r.status.Refresh(t.Context()); err != nil {
			t.Error(err)
		}
	}
	done.Store(true)
	asking.Wait()
}

// What is read without garbage is what DER says (X.690 §8.3).
func TestSerialNumbers(t *testing.T) {
	t.Parallel()
	power := func(n uint, less int64) []byte {
		der, err := asn1.Marshal(new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), n), big.NewInt(less)))
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	sequence := func(parts ...[]byte) []byte {
		var b cryptobyte.Builder
		b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(bytes.Join(parts, nil)) })
		return b.BytesOrPanic()
	}
	sha1 := sequence([]byte{6, 5, 0x2b, 0x0e, 3, 2, 0x1a})
	for name, tt := range map[string]struct {
		der []byte
		ok  bool
	}{
		"1":                    {[]byte{2, 1, 1}, true},
		"127":                  {[]byte{2, 1, 127}, true},
		"128":                  {[]byte{2, 2, 0, 128}, true},
		"20 octets":            {power(159, 1), true},
		"20 octets and a sign": {power(160, 1), true},
		"21 octets":            {power(160, 0), false},
		"zero":                 {[]byte{2, 1, 0}, true},
		"-1":                   {[]byte{2, 1, 0xff}, true},
		"-128":                 {[]byte{2, 1, 128}, true},
		"empty":                {[]byte{2, 0}, false},
		"1 with a zero ahead":  {[]byte{2, 2, 0, 1}, false},
		"-1 in two octets":     {[]byte{2, 2, 0xff, 0xff}, false},
		"-1 in 21 octets":      {append([]byte{2, 21}, bytes.Repeat([]byte{0xff}, 21)...), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := status.SerialIn(sequence(sequence(sequence(sequence(sequence(sha1, octets(20), octets(20), tt.der))))))
			if (err == nil) != tt.ok {
				t.Fatal(err)
			}
			if !tt.ok {
				return
			}
			want := new(big.Int)
			if s := cryptobyte.String(tt.der); !s.ReadASN1Integer(want) || got.Cmp(want) != 0 {
				t.Errorf("%v, want %v", got, want)
			}
		})
	}
}

func FuzzOCSPRequest(f *testing.F) {
	id := func(serial int64) []byte {
		der, err := (&ocsp.Request{HashAlgorithm: crypto.SHA256, IssuerNameHash: make([]byte, 32), IssuerKeyHash: make([]byte, 32), SerialNumber: big.NewInt(serial)}).Marshal()
		if err != nil {
			f.Fatal(err)
		}
		return der
	}
	f.Add(id(1))
	f.Add(id(-1))
	f.Add(append(id(1), 0))
	f.Add([]byte{})
	f.Add([]byte{0x30, 0x80})
	f.Fuzz(func(t *testing.T, der []byte) {
		n, nonce, err := status.ParseRequest(der)
		if err != nil {
			return
		}
		if n < 1 || n > 8 || nonce != nil && (len(nonce) < 1 || len(nonce) > 32) {
			t.Errorf("%d requests, nonce of %d", n, len(nonce))
		}
	})
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
