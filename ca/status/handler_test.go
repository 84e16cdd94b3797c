package status_test

import (
	"bytes"
	"crypto"
	"encoding/asn1"
	"encoding/base64"
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

	"bollard/ca/status"
)

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
