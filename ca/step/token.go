package step

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"bollard/ca"
)

// Bounds of a token's time. Its life is step's default; a client's clock may be a little
// wrong (RFC 7519 §4.1.4).
const (
	tokenLife      = 5 * time.Minute
	tokenTolerance = time.Minute
	// A token stays known for longer than it is good, so that a clock that is set back
	// brings none back: nothing is signed then (ca.ErrClock).
	tokenKept = 15 * time.Minute
	maxID     = 256
)

// token is one that is readable. Nothing in it is proven until the provisioner's key
// verifies it.
type token struct {
	jwt    *jwt.JSONWebToken
	issuer string
}

// claims of a token (RFC 7519 §4.1), and those step adds.
type claims struct {
	jwt.Claims
	SANs         []string      `json:"sans"`
	SHA          string        `json:"sha"` // the root the client trusts
	Step         any           `json:"step"`
	Confirmation *confirmation `json:"cnf"`
}

// confirmation ties a token to one request (RFC 7800).
type confirmation struct {
	Request string `json:"x5rt#S256"`
}

// parseToken reads the form of a token: JWS compact, one of our algorithms, and in the
// head nothing that says how to verify it otherwise.
func parseToken(text string) (*token, error) {
	t, err := jwt.ParseSigned(text, algorithms)
	if err != nil {
		var algorithm *jose.ErrUnexpectedSignatureAlgorithm
		if errors.As(err, &algorithm) {
			return nil, unauthorized("the token's algorithm isn't taken: ES256, ES384, EdDSA, RS256 and PS256 are", "")
		}
		return nil, unauthorized("the token isn't a readable JWT", "")
	}
	head := t.Headers[0]
	for name := range head.ExtraHeaders {
		if name != jose.HeaderType {
			return nil, unauthorized("the token's head has members that aren't taken: alg, typ, kid and x5c are", "")
		}
	}
	if head.JSONWebKey != nil || head.Nonce != "" {
		return nil, unauthorized("the token's head has members that aren't taken: alg, typ, kid and x5c are", "")
	}
	var unproven jwt.Claims
	if err := t.UnsafeClaimsWithoutVerification(&unproven); err != nil || unproven.Issuer == "" {
		return nil, unauthorized("the token names no issuer", "")
	}
	return &token{t, unproven.Issuer}, nil
}

// proof is a token that is good for a request, or the certificate that stands for it.
type proof struct {
	provisioner *Provisioner
	claims      claims
	signer      *ca.Record // of the certificate that signed it, of X5C; nil
}

// prove verifies a token, made for one of our resources, and takes one of the provisioner's
// requests. Whoever sent a bad one is told what is wrong with it, but not who is known here.
func (d *Door) prove(r *http.Request, text, resource string) (*proof, error) {
	t, err := parseToken(text)
	if err != nil {
		return nil, err
	}
	const refused = "the token isn't by a provisioner that may sign for this"
	p, ok, err := d.cfg.Store.StepProvisioner(r.Context(), t.issuer)
	switch {
	case err != nil:
		return nil, err
	case !ok:
		return nil, unauthorized(refused, "no provisioner "+clip(t.issuer, maxName))
	}
	out := &proof{provisioner: &p}
	var key any
	var leaf *x509.Certificate
	switch p.Type {
	case TypeJWK:
		jwk, err := p.key()
		if err != nil {
			return nil, err
		}
		if t.jwt.Headers[0].KeyID != jwk.KeyID {
			return nil, unauthorized(refused, "kid isn't that of provisioner "+p.Name)
		}
		key = jwk.Key
	case TypeX5C:
		if leaf, err = d.signer(&p, t.jwt.Headers[0]); err != nil {
			return nil, err
		}
		key = leaf.PublicKey
	default:
		return nil, errors.New("internal error: provisioner " + p.Name + " has no type")
	}
	// The key says which algorithm is right, never the token alone (RFC 8725 §3.1).
	if !slices.Contains(algorithmsOf(key), jose.SignatureAlgorithm(t.jwt.Headers[0].Algorithm)) {
		return nil, unauthorized(refused, "algorithm "+t.jwt.Headers[0].Algorithm+" isn't one of the key of provisioner "+p.Name)
	}
	if err := t.jwt.Claims(key, &out.claims); err != nil {
		return nil, unauthorized(refused, "token for provisioner "+p.Name+" doesn't verify")
	}
	// Neither counted nor recorded: who comes with an old token may have found it.
	if err := d.judge(r, &p, &out.claims, resource); err != nil {
		return nil, err
	}
	if !d.provisioners.Allow(p.ID) {
		return nil, busy("provisioner "+p.Name+" asks too often", perProvisioner.Every)
	}
	if leaf != nil {
		if out.signer, err = d.admit(r.Context(), &p, leaf); err != nil {
			return nil, d.recorded(r.Context(), p.Requester(), resource, err)
		}
	}
	return out, nil
}

// signer is the certificate whose key signed a token: under the provisioner's roots now,
// for signatures and for clients.
func (d *Door) signer(p *Provisioner, head jose.Header) (*x509.Certificate, error) {
	pool, err := p.pool()
	if err != nil {
		return nil, err
	}
	refuse := func(reason string) (*x509.Certificate, error) {
		return nil, unauthorized("x5c doesn't lead from a certificate that may sign tokens to a root of the provisioner", "provisioner "+p.Name+": "+reason)
	}
	chains, err := head.Certificates(x509.VerifyOptions{
		Roots: pool, CurrentTime: d.cfg.Clock(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return refuse("x5c doesn't verify: " + clip(err.Error(), maxReason))
	}
	leaf := chains[0][0]
	if leaf.IsCA || leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return refuse("certificate " + ca.SerialOf(leaf) + " isn't for digital signatures")
	}
	if err := checkKey(leaf.PublicKey, d.cfg.Blocked); err != nil {
		var bad *InvalidError
		if errors.As(err, &bad) {
			return refuse(bad.Reason)
		}
		return nil, err
	}
	return leaf, nil
}

// admit notes whose certificate signs tokens here, so that it can be revoked here, and
// refuses one that is, or that is a station's, or was issued here for something else.
func (d *Door) admit(ctx context.Context, p *Provisioner, leaf *x509.Certificate) (*ca.Record, error) {
	refuse := func(serial, reason string) error {
		return unauthorized("the certificate that signed the token may not sign tokens", "provisioner "+p.Name+": certificate "+serial+" "+reason)
	}
	err := d.cfg.Authority.RecordExternal(ctx, leaf, "", p.Requester())
	if errors.Is(err, ca.ErrKeyInUse) {
		return nil, refuse(ca.SerialOf(leaf), "has a key that is in use here")
	}
	if err != nil {
		return nil, err
	}
	record, known, err := d.cfg.Authority.Status(ctx, leaf)
	switch {
	case err != nil:
		return nil, err
	case !known || !record.External || record.Station != "":
		return nil, refuse(ca.SerialOf(leaf), "is of something else here")
	case record.State != ca.StateIssued:
		return nil, refuse(record.Serial, "is "+string(record.State))
	}
	return &record, nil
}

// judge compares what a token says with what it is used for.
func (d *Door) judge(r *http.Request, p *Provisioner, c *claims, resource string) error {
	now := d.cfg.Clock()
	switch {
	case !d.audience(r, p, c.Audience, resource):
		return unauthorized("the token's audience (aud) isn't this resource", "token of provisioner "+p.Name+" is for "+clip(strings.Join(c.Audience, " "), maxReason))
	case c.Expiry == nil || c.NotBefore == nil || c.IssuedAt == nil:
		return unauthorized("the token has to have exp, nbf and iat", "")
	case c.IssuedAt.Time().Before(p.CreatedAt.Truncate(time.Second)): // iat has whole seconds
		return unauthorized("the token is from before its provisioner was added: make another", "")
	case c.Expiry.Time().Sub(c.NotBefore.Time()) > tokenLife || c.Expiry.Time().Sub(c.IssuedAt.Time()) > tokenLife:
		return unauthorized("the token is valid for longer than five minutes", "")
	case c.ID == "" || len(c.ID) > maxID:
		return unauthorized("the token needs an identifier (jti)", "")
	case c.Subject == "":
		return unauthorized("the token has no subject (sub)", "")
	case c.Step != nil:
		return unauthorized("the token is for SSH or a registration authority: there is none here", "")
	}
	if err := c.ValidateWithLeeway(jwt.Expected{Issuer: p.Name, Time: now}, tokenTolerance); err != nil {
		return unauthorized("the token isn't valid now: it begins later, or is over", "")
	}
	if c.SHA != "" && !d.cfg.OtherRoot && !slices.ContainsFunc(d.cfg.Authority.Roots(ca.KindCSMS), func(root *x509.Certificate) bool {
		return strings.EqualFold(c.SHA, fingerprint(root))
	}) {
		return unauthorized("the token's root (sha) isn't a root of this CA", "")
	}
	return nil
}

// audience says whether a token is for a resource of ours, under the URL it was asked at.
func (d *Door) audience(r *http.Request, p *Provisioner, list jwt.Audience, resource string) bool {
	if len(list) != 1 {
		return false
	}
	u, err := url.Parse(list[0])
	return err == nil && u.Scheme == "https" && u.User == nil && u.RawQuery == "" && strings.EqualFold(strings.TrimSuffix(u.Host, ":443"), strings.TrimSuffix(r.Host, ":443")) &&
		(u.Path == "/1.0/"+resource || u.Path == "/"+resource) &&
		(u.Fragment == "" || p.Type == TypeX5C && u.Fragment == "x5c/"+p.Name)
}

// use of a proven token, for one thing.
func (d *Door) use(p *proof, data map[string]string) Use {
	sum := sha256.Sum256([]byte(p.claims.Issuer + "\x00" + p.claims.ID))
	u := Use{Provisioner: p.provisioner.ID, Token: hex.EncodeToString(sum[:]), At: d.cfg.Clock().UTC(), Until: p.claims.Expiry.Time().Add(tokenKept).UTC()}
	data["token"] = u.Token
	if p.signer != nil {
		data["signer"] = p.signer.Serial
	}
	u.Event = eventOf(p.provisioner.Requester(), "step.token-used", data)
	return u
}

func fingerprint(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return hex.EncodeToString(sum[:])
}
