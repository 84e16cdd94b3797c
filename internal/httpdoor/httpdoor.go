// Package httpdoor is what doors over HTTP have in common: what they answered, and whom a
// request names.
package httpdoor

import (
	"net"
	"net/http"
	"strings"
)

// Answer remembers the status of an answer.
type Answer struct {
	http.ResponseWriter
	Status int
}

// NewAnswer writes to w.
func NewAnswer(w http.ResponseWriter) *Answer { return &Answer{w, http.StatusOK} }

// WriteHeader notes and passes on.
func (a *Answer) WriteHeader(status int) {
	a.Status = status
	a.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.MaxBytesReader find the connection.
func (a *Answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// Names says whether a request names a host as its server. The port is whatever leads here.
func Names(r *http.Request, host string) bool {
	named := r.Host
	if h, _, err := net.SplitHostPort(r.Host); err == nil {
		named = h
	}
	return strings.EqualFold(named, host)
}
