package est

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"mime"
	"net/http"
)

// maxBody bounds a request's body: base64 of the longest CSR (8 KiB) with
// line breaks, twice over.
const maxBody = 24 << 10

// checkHead judges what a request says about its body, before it is read.
//
// Content-Transfer-Encoding is left aside: RFC 8951 deprecates it, and the body
// is base64 whatever it says.
func checkHead(r *http.Request) *Refusal {
	types := r.Header.Values("Content-Type")
	if len(types) != 1 {
		return public(http.StatusUnsupportedMediaType, "give exactly one Content-Type: application/pkcs10")
	}
	if kind, _, err := mime.ParseMediaType(types[0]); err != nil || kind != "application/pkcs10" {
		return public(http.StatusUnsupportedMediaType, "the Content-Type of a request is application/pkcs10 (RFC 7030 §4.2.1)")
	}
	if e := r.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		return public(http.StatusUnsupportedMediaType, "the body must not have a Content-Encoding")
	}
	if r.ContentLength > maxBody {
		return tooLarge()
	}
	return nil
}

// readRequest returns the DER of a body. Its size is bounded by w's and r's
// connection being given up beyond it.
func readRequest(w http.ResponseWriter, r *http.Request) ([]byte, *Refusal) {
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, tooLarge()
	case err != nil:
		return nil, public(http.StatusBadRequest, "the body ended early")
	}
	return decodeBody(data)
}

// strict refuses bits that aren't part of any octet, which would be a second spelling.
var strict = base64.StdEncoding.Strict()

// decodeBody reads the one form a body has: base64 of a DER PKCS#10 request,
// with or without line breaks (RFC 8951 §3.1, RFC 4648 §4). What real clients
// send instead gets an answer that says what they did.
func decodeBody(data []byte) ([]byte, *Refusal) {
	text := data
	if bytes.ContainsAny(data, " \t\r\n") {
		text = bytes.Map(func(r rune) rune {
			switch r {
			case ' ', '\t', '\r', '\n':
				return -1
			}
			return r
		}, data)
	}
	switch {
	case len(text) == 0:
		return nil, public(http.StatusBadRequest, "the body is empty")
	case bytes.HasPrefix(text, []byte("-----BEGIN")):
		return nil, public(http.StatusBadRequest, "the body has PEM armour: send the base64 lines between BEGIN and END alone")
	case data[0] == 0x30 && bytes.ContainsFunc(data, func(r rune) bool { return r < ' ' && r != '\t' && r != '\r' && r != '\n' || r > '~' }):
		return nil, public(http.StatusBadRequest, "the body is binary DER: send it base64-encoded (RFC 8951)")
	}
	der, err := strict.AppendDecode(nil, text)
	switch {
	case err != nil:
		return nil, public(http.StatusBadRequest, "the body isn't base64 with padding (RFC 4648 §4)")
	case len(der) == 0 || der[0] != 0x30:
		return nil, public(http.StatusBadRequest, "the body isn't base64 of a DER PKCS#10 request")
	}
	return der, nil
}

func tooLarge() *Refusal {
	return public(http.StatusRequestEntityTooLarge, "the request is too large: 8 KiB of DER are taken")
}

// public is a refusal whose reason holds nothing the client mustn't see.
func public(status int, text string) *Refusal {
	return &Refusal{Status: status, Public: text, Reason: text}
}
