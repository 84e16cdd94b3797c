package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go/aws/credentials"
	v4 "github.com/aws/aws-sdk-go/aws/signer/v4"
	"github.com/nsmithuk/local-kms/src/data"
)

const (
	account = "111122223333"
	region  = "eu-west-2"
	maxBody = 1 << 20
)

// login is somebody who may ask: by an access key, or by a token of another's that is
// good for a role of AWS's.
type login struct {
	ID      string   `json:"id"`
	Secret  string   `json:"secret"`
	Token   string   `json:"token"`
	Role    string   `json:"role"`    // of Bollard's, "*" for everything, "" for nothing
	Assumes []string `json:"assumes"` // ARNs of roles, each "…/bollard-ROLE"
	// Session is set of credentials for a while, such as STS gives out.
	Session string    `json:"session"`
	until   time.Time // of what STS gave out
}

// door is what AWS has before the keys.
type door struct {
	logins      string
	longestSalt bool
	database    *data.Database
	behind      http.HandlerFunc

	mu     sync.Mutex
	issued []login
}

// refusal is an error of AWS's.
type refusal struct{ code, message string }

func (d *door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return
	}
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		d.sts(w, r, body)
		return
	}
	who, refused := d.who(r, body, "kms")
	if refused == nil {
		refused = d.allows(who, r.Header.Get("X-Amz-Target"), body)
	}
	if refused != nil {
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		w.WriteHeader(http.StatusBadRequest)
		_ = json.NewEncoder(w).Encode(map[string]string{"__type": refused.code, "message": refused.message})
		return
	}
	if !d.longestSalt && d.signedAsAWS(w, r, body) {
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	d.behind(w, r)
}

// everybody reads who may ask.
func (d *door) everybody() []login {
	text, err := os.ReadFile(d.logins)
	var list []login
	if err == nil {
		err = json.Unmarshal(text, &list)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return append(list, d.issued...)
}

// who finds whose signature a request has.
func (d *door) who(r *http.Request, body []byte, service string) (login, *refusal) {
	said := r.Header.Get("Authorization")
	_, rest, _ := strings.Cut(said, "Credential=")
	credential, rest, _ := strings.Cut(rest, ",")
	_, rest, _ = strings.Cut(rest, "SignedHeaders=")
	signed, _, _ := strings.Cut(rest, ",")
	id, _, _ := strings.Cut(credential, "/")
	if id == "" {
		return login{}, &refusal{"MissingAuthenticationTokenException", "Missing Authentication Token"}
	}
	for _, l := range d.everybody() {
		if l.ID != id {
			continue
		}
		at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
		if err != nil || time.Since(at).Abs() > 5*time.Minute {
			return l, &refusal{"InvalidSignatureException", "Signature expired"}
		}
		again := &http.Request{Method: r.Method, URL: r.URL, Host: r.Host, Header: http.Header{}, ContentLength: int64(len(body))}
		again.URL.Host = r.Host
		for _, name := range strings.Split(signed, ";") {
			switch value := r.Header.Get(name); {
			case name == "content-length": // net/http takes it out of the header
				again.Header.Set(name, strconv.Itoa(len(body)))
			case name != "host" && value != "":
				again.Header.Set(name, value)
			}
		}
		if _, err := v4.NewSigner(credentials.NewStaticCredentials(l.ID, l.Secret, l.Session)).Sign(again, bytes.NewReader(body), service, region, at); err != nil || again.Header.Get("Authorization") != said {
			return l, &refusal{"InvalidSignatureException", "The request signature we calculated does not match the signature you provided."}
		}
		if l.Session != r.Header.Get("X-Amz-Security-Token") {
			return l, &refusal{"UnrecognizedClientException", "The security token included in the request is invalid."}
		}
		if !l.until.IsZero() && time.Now().After(l.until) {
			return l, &refusal{"ExpiredTokenException", "The security token included in the request is expired"}
		}
		return l, nil
	}
	return login{}, &refusal{"UnrecognizedClientException", "The security token included in the request is invalid."}
}
