package acme

import (
	"crypto"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"

	jose "github.com/go-jose/go-jose/v4"

	"bollard/internal/strictjson"
)

// maxBody bounds a request's body: base64 of an attestation statement or of the
// longest CSR, signed.
const maxBody = 64 << 10

// algorithms an account's key may sign with. RFC 8555 §6.2: none that is MAC
// based; ES256 is what everybody has.
var algorithms = []jose.SignatureAlgorithm{jose.ES256, jose.ES384, jose.ES512, jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512}

// signed is a message whose form is right. Nothing in it is proven until verify.
type signed struct {
	jws   *jose.JSONWebSignature
	url   string
	nonce string
	kid   string
	jwk   *jose.JSONWebKey // nil with kid
}

// readMessage reads a body. Its size is bounded by the connection being given up
// beyond it.
func readMessage(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/jose+json" {
		return nil, &Problem{Type: malformed, Detail: "the Content-Type of a request is application/jose+json (RFC 8555 §6.2)", Status: http.StatusUnsupportedMediaType}
	}
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, &Problem{Type: malformed, Detail: "the request is too large", Status: http.StatusRequestEntityTooLarge}
	case err != nil:
		return nil, problem(malformed, "the body ended early")
	}
	return data, nil
}

// parseSigned reads the one form a message has: flattened JSON with everything in
// the protected header (RFC 8555 §6.2).
func parseSigned(data []byte) (*signed, error) {
	if err := checkMembers(data, "protected", "payload", "signature"); err != nil {
		return nil, problem(malformed, "the body isn't one JWS in flattened JSON: %v", err)
	}
	jws, err := jose.ParseSignedJSON(string(data), algorithms)
	if err != nil {
		var algorithm *jose.ErrUnexpectedSignatureAlgorithm
		if errors.As(err, &algorithm) {
			return nil, badAlgorithm()
		}
		return nil, problem(malformed, "the body isn't a readable JWS")
	}
	if len(jws.Signatures) != 1 {
		return nil, problem(malformed, "the message has to have one signature")
	}
	head := jws.Signatures[0].Protected
	out := &signed{jws: jws, nonce: head.Nonce, kid: head.KeyID, jwk: head.JSONWebKey}
	out.url, _ = head.ExtraHeaders["url"].(string)
	switch {
	case out.url == "":
		return nil, problem(malformed, "the protected header has no url (RFC 8555 §6.4)")
	case (out.kid == "") == (out.jwk == nil):
		return nil, problem(malformed, "the protected header has to have either kid or jwk (RFC 8555 §6.2)")
	case out.jwk != nil && (!out.jwk.Valid() || !out.jwk.IsPublic()):
		return nil, problem(badPublicKey, "jwk isn't a public key")
	}
	return out, nil
}

// checkMembers refuses an object that has other members than these: what parsers read
// differently isn't read at all.
func checkMembers(data []byte, members ...string) error {
	found, err := strictjson.Object(data)
	if err != nil {
		return err
	}
	for _, m := range members {
		if _, ok := found[m]; !ok {
			return errors.New(m + " is missing")
		}
	}
	if len(found) != len(members) {
		return errors.New("it has other members")
	}
	return nil
}

func badAlgorithm() *Problem {
	p := problem(badSignatureAlgorithm, "the signature algorithm isn't taken")
	for _, a := range algorithms {
		p.Algorithms = append(p.Algorithms, string(a))
	}
	return p
}

// verify returns the payload if the key signed it.
func (s *signed) verify(key *jose.JSONWebKey) ([]byte, error) {
	payload, err := s.jws.Verify(key)
	if err != nil {
		return nil, problem(malformed, "the signature doesn't verify")
	}
	return payload, nil
}

// thumbprint identifies a key (RFC 7638).
func thumbprint(key *jose.JSONWebKey) (string, error) {
	sum, err := key.Thumbprint(crypto.SHA256)
	if err != nil {
		return "", problem(badPublicKey, "jwk isn't a public key")
	}
	return base64.RawURLEncoding.EncodeToString(sum), nil
}

// encodeKey is a public key as it is stored: without what a client wrote beside it.
func encodeKey(key *jose.JSONWebKey) (json.RawMessage, error) {
	return json.Marshal(jose.JSONWebKey{Key: key.Key})
}

func decodeKey(stored json.RawMessage) (*jose.JSONWebKey, error) {
	key := &jose.JSONWebKey{}
	return key, key.UnmarshalJSON(stored)
}

// keyAuthorization is what an answer to a challenge has to show (RFC 8555 §8.1).
func keyAuthorization(token, thumb string) string { return token + "." + thumb }

// bindingIs verifies an external account binding (RFC 8555 §7.3.4): that who has
// the token's key spoke for the account's key, at this URL.
func bindingIs(binding json.RawMessage, url, kid string, secret []byte, account *jose.JSONWebKey) error {
	jws, err := jose.ParseSignedJSON(string(binding), []jose.SignatureAlgorithm{jose.HS256, jose.HS384, jose.HS512})
	if err != nil || len(jws.Signatures) != 1 {
		return problem(malformed, "externalAccountBinding isn't a readable JWS by HMAC")
	}
	head := jws.Signatures[0].Protected
	payload, err := jws.Verify(secret)
	if err != nil {
		return problem(unauthorized, "externalAccountBinding isn't made with the token's key")
	}
	if at, _ := head.ExtraHeaders["url"].(string); at != url || head.Nonce != "" || head.KeyID != kid {
		return problem(malformed, "externalAccountBinding is for another request")
	}
	bound := &jose.JSONWebKey{}
	if err := bound.UnmarshalJSON(payload); err != nil || !sameKey(bound, account) {
		return problem(malformed, "externalAccountBinding is for another key")
	}
	return nil
}

// bindingKID reads whose token a binding is made with, before it is verified.
func bindingKID(binding json.RawMessage) (string, error) {
	jws, err := jose.ParseSignedJSON(string(binding), []jose.SignatureAlgorithm{jose.HS256, jose.HS384, jose.HS512})
	if err != nil || len(jws.Signatures) != 1 || jws.Signatures[0].Protected.KeyID == "" {
		return "", problem(malformed, "externalAccountBinding isn't a readable JWS by HMAC")
	}
	return jws.Signatures[0].Protected.KeyID, nil
}

func sameKey(a, b *jose.JSONWebKey) bool {
	x, errX := a.Thumbprint(crypto.SHA256)
	y, errY := b.Thumbprint(crypto.SHA256)
	return errX == nil && errY == nil && subtle.ConstantTimeCompare(x, y) == 1
}

// digest of a key authorization, as dns-01, tls-alpn-01 and device-attest-01 show it.
func digest(keyAuth string) [sha256.Size]byte { return sha256.Sum256([]byte(keyAuth)) }
