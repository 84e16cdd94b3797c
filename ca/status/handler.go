package status

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
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
		path := r.URL.EscapedPath()
		rest, below := strings.CutPrefix(path, ca.OCSPPath+"/")
		switch {
		case path == ca.OCSPPath || below && rest == "":
			s.post(w, r)
		case below:
			if allowed(w, r, http.MethodGet, http.MethodHead) {
				s.respond(w, r, decodePath(rest))
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
	s.respond(w, r, der)
}

// decodePath reads the base64 of a GET: percent-encoded or not, of either
// alphabet, padded or not. nil, which is malformed, if it is something else.
func decodePath(escaped string) []byte {
	text, err := url.PathUnescape(escaped)
	if err != nil {
		return nil
	}
	// A + that was decoded as in a form is a space. No request's base64 begins
	// with a slash, but one in 64 ends with one.
	whole := []byte(strings.TrimLeft(text, "/"))
	for i, c := range whole {
		switch c {
		case ' ', '-':
			whole[i] = '+'
		case '_':
			whole[i] = '/'
		}
	}
	for _, text := range [][]byte{whole, bytes.TrimSuffix(whole, []byte("/"))} {
		der, err := base64.RawStdEncoding.AppendDecode(nil, bytes.TrimRight(text, "="))
		if err == nil {
			return der
		}
	}
	return nil
}

func (s *Server) respond(w http.ResponseWriter, r *http.Request, der []byte) {
	parsed, err := parseRequest(der)
	var answer *response
	if err == nil {
		answer, err = s.answer(r.Context(), parsed)
	}
	w.Header().Set("Content-Type", "application/ocsp-response")
	if err != nil {
		w.Header().Set("Cache-Control", "no-store")
		_, _ = w.Write(s.failure(err)) // a peer that left has no use for an error
		return
	}
	if !answer.keep || r.Method == http.MethodPost {
		w.Header().Set("Cache-Control", "no-store")
		_, _ = w.Write(assemble(answer.signed, answer.certificate))
		return
	}
	s.cacheable(w, answer.thisUpdate, answer.nextUpdate)
	// Its end is the signature's, and no two signatures have the same.
	etag := `"` + hex.EncodeToString(answer.signed[len(answer.signed)-16:]) + `"`
	w.Header().Set("ETag", etag)
	if r.Header.Get("If-None-Match") == etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	_, _ = w.Write(assemble(answer.signed, answer.certificate))
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
func (s *Server) cacheable(w http.ResponseWriter, this, next time.Time) {
	age := min(maxAge, next.Sub(s.clock()))
	h := w.Header()
	h.Set("Last-Modified", s.begins.format(this))
	h.Set("Expires", s.ends.format(next))
	h.Set("Cache-Control", "max-age="+strconv.Itoa(int(max(age, 0)/time.Second))+", public, no-transform, must-revalidate")
}

// dates remembers how the last times were written: answers are signed many at a time.
type dates struct {
	written [16]atomic.Pointer[date]
}

type date struct {
	unix int64
	text string
}

func (d *dates) format(t time.Time) string {
	at := t.Unix()
	slot := &d.written[uint64(at)%uint64(len(d.written))]
	if known := slot.Load(); known != nil && known.unix == at {
		return known.text
	}
	text := t.UTC().Format(http.TimeFormat)
	slot.Store(&date{at, text})
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
	s.cacheable(w, now, next)
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
