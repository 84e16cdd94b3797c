package status

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"bollard/ca"
)

// maxAge is how long caches on the way may keep an answer: as long as a
// revocation may take to be seen (promise 9).
const maxAge = time.Minute

// Handler serves POST /ocsp, GET /ocsp/<request>, /<issuer>.crl and
// /<issuer>.crt.
func (s *Server) Handler() http.Handler {
	// No ServeMux: it redirects the double slashes base64 may have.
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.Path
		rest, below := strings.CutPrefix(path, ca.OCSPPath+"/")
		switch {
		case path == ca.OCSPPath || below && rest == "":
			s.post(w, r)
		case below:
			if allowed(w, r, http.MethodGet, http.MethodHead) {
				s.get(w, r, rest)
			}
		case strings.HasSuffix(path, ".crl"):
			if allowed(w, r, http.MethodGet, http.MethodHead) {
				s.serveList(w, r, strings.TrimSuffix(path[1:], ".crl"))
			}
		case strings.HasSuffix(path, ".crt"):
			if allowed(w, r, http.MethodGet, http.MethodHead) {
				s.serveCertificate(w, r, strings.TrimSuffix(path[1:], ".crt"))
			}
		default:
			http.NotFound(w, r)
		}
	})
}

func allowed(w http.ResponseWriter, r *http.Request, methods ...string) bool {
	for _, m := range methods {
		if r.Method == m {
			return true
		}
	}
	w.Header().Set("Allow", strings.Join(methods, ", "))
	http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
	return false
}

// post is RFC 6960 appendix A.1's way.
func (s *Server) post(w http.ResponseWriter, r *http.Request) {
	if !allowed(w, r, http.MethodPost) {
		return
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/ocsp-request" {
		http.Error(w, "send application/ocsp-request", http.StatusUnsupportedMediaType)
		return
	}
	der, err := io.ReadAll(io.LimitReader(r.Body, maxRequestBytes+1))
	if err != nil {
		return // the peer left, or was too slow
	}
	if len(der) > maxRequestBytes {
		http.Error(w, "the request is too large", http.StatusRequestEntityTooLarge)
		return
	}
	b := s.borrow()
	defer s.scratch.Put(b)
	s.respond(w, r, der, b)
}

// get is RFC 6960 appendix A.1's other way; text is what stands behind the slash.
func (s *Server) get(w http.ResponseWriter, r *http.Request, text string) {
	b := s.borrow()
	defer s.scratch.Put(b)
	s.respond(w, r, b.decode(text), b)
}

// scratch is what one request's bytes, and its answer's, are written into.
type scratch struct {
	text, der, signed, answer []byte
	ids                       [maxRequests]certID
}

func (s *Server) borrow() *scratch {
	if b, ok := s.scratch.Get().(*scratch); ok {
		return b
	}
	return &scratch{}
}

// decode reads the base64 of a GET, of either alphabet, padded or not. nil, which is
// malformed, if it is something else.
func (b *scratch) decode(text string) []byte {
	// A + that was decoded as in a form is a space. No request's base64 begins
	// with a slash, but one in 64 ends with one.
	b.text = append(b.text[:0], strings.TrimLeft(text, "/")...)
	for i, c := range b.text {
		switch c {
		case ' ', '-':
			b.text[i] = '+'
		case '_':
			b.text[i] = '/'
		}
	}
	for _, text := range [][]byte{b.text, bytes.TrimSuffix(b.text, []byte("/"))} {
		der, err := base64.RawStdEncoding.AppendDecode(b.der[:0], bytes.TrimRight(text, "="))
		if err == nil {
			b.der = der
			return der
		}
	}
	return nil
}

// Values of headers, which nobody changes.
var (
	ocspResponse = []string{"application/ocsp-response"} // RFC 6960 appendix C.2
	noStore      = []string{"no-store"}
)

func (s *Server) respond(w http.ResponseWriter, r *http.Request, der []byte, b *scratch) {
	parsed, err := parseRequest(der, b.ids[:0])
	var answer response
	if err == nil {
		answer, err = s.answer(r.Context(), parsed, b.signed[:0])
	}
	h := w.Header()
	h["Content-Type"] = ocspResponse
	if err != nil {
		h["Cache-Control"] = noStore
		_, _ = w.Write(s.failure(err)) // a peer that left has no use for an error
		return
	}
	b.signed = answer.signed
	b.answer = assemble(b.answer[:0], answer.signed, answer.certificate)
	if !answer.keep || r.Method == http.MethodPost {
		h["Cache-Control"] = noStore
		_, _ = w.Write(b.answer)
		return
	}
	s.cacheable(h, answer.thisUpdate, answer.nextUpdate)
	// Its end is the signature's, and no two signatures have the same.
	var quoted [2 + 2*16]byte
	quoted[0], quoted[len(quoted)-1] = '"', '"'
	hex.Encode(quoted[1:], answer.signed[len(answer.signed)-16:])
	etag := string(quoted[:])
	h["Etag"] = []string{etag} // in the form Header.Set gives it
	if r.Header.Get("If-None-Match") == etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	_, _ = w.Write(b.answer)
}

func (s *Server) failure(err error) []byte {
	switch {
	case errors.Is(err, errMalformed):
		return malformed
	case errors.Is(err, errUnauthorized):
		return unauthorized
	}
	s.log.Warn("OCSP request not answered", "err", err)
	return tryLater
}

// cacheable sets RFC 5019 §6.2's headers.
func (s *Server) cacheable(h http.Header, this, next time.Time) {
	age := min(maxAge, next.Sub(s.clock()))
	h["Last-Modified"] = s.begins.format(this)
	h["Expires"] = s.ends.format(next)
	h["Cache-Control"] = s.ages.format(max(age, 0))
}

// dates remembers how the last times were written: answers are signed many at a time.
type dates struct {
	written [16]atomic.Pointer[date]
}

type date struct {
	unix int64
	text []string // one, as a header's value
}

func (d *dates) format(t time.Time) []string {
	at := t.Unix()
	slot := &d.written[uint64(at)%uint64(len(d.written))]
	if known := slot.Load(); known != nil && known.unix == at {
		return known.text
	}
	text := []string{t.UTC().Format(http.TimeFormat)}
	slot.Store(&date{at, text})
	return text
}

// ages remembers how the last age was written: nearly always it is the longest.
type ages struct{ written atomic.Pointer[date] }

func (a *ages) format(age time.Duration) []string {
	seconds := int64(age / time.Second)
	if known := a.written.Load(); known != nil && known.unix == seconds {
		return known.text
	}
	text := []string{"max-age=" + strconv.FormatInt(seconds, 10) + ", public, no-transform, must-revalidate"}
	a.written.Store(&date{seconds, text})
	return text
}

// serveList serves a CRL (RFC 5280 §4.2.1.13, RFC 2585 §4.2).
func (s *Server) serveList(w http.ResponseWriter, r *http.Request, name string) {
	p := s.publicationOf(name)
	if p == nil {
		http.NotFound(w, r)
		return
	}
	now, err := s.now()
	var der []byte
	var next time.Time
	if err == nil {
		der, next, err = s.list(r.Context(), p, now)
	}
	if err != nil {
		s.log.Warn("revocation list not signed", "issuer", p.name, "err", err)
	}
	if der == nil {
		w.Header().Set("Retry-After", "30")
		w.Header().Set("Cache-Control", "no-store")
		http.Error(w, "no CRL at the moment", http.StatusServiceUnavailable)
		return
	}
	s.cacheable(w.Header(), now, next)
	w.Header().Set("Content-Type", "application/pkix-crl")
	_, _ = w.Write(der) // a peer that left has no use for an error
}

// serveCertificate serves a CA's certificate as DER (RFC 5280 §4.2.2.1).
func (s *Server) serveCertificate(w http.ResponseWriter, r *http.Request, name string) {
	p := s.publicationOf(name)
	if p == nil {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/pkix-cert")
	w.Header().Set("Cache-Control", "max-age=300")
	_, _ = w.Write(p.certificate.Load().Raw)
}
