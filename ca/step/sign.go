package step

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"bollard/ca"
	"bollard/internal/strictjson"
)

// certifyTimeout bounds what is begun: it doesn't end with the client.
const certifyTimeout = time.Minute

// Bounds of what is asked for.
const (
	maxHosts     = 20
	shortestLife = 5 * time.Minute
)

// signRequest is the body of /sign.
type signRequest struct {
	csr       string
	ott       string
	notBefore string
	notAfter  string
}

func parseSign(data []byte) (*signRequest, error) {
	in := &signRequest{}
	err := members(data, map[string]any{"csr": &in.csr, "ott": &in.ott, "notBefore": &in.notBefore, "notAfter": &in.notAfter})
	switch {
	case err != nil:
		return nil, err
	case in.csr == "":
		return nil, badRequest("missing csr")
	case in.ott == "":
		return nil, badRequest("missing ott")
	}
	return in, nil
}

// members reads an object that may have these members, and no other.
func members(data []byte, into map[string]any) error {
	found, err := strictjson.Object(data)
	if err != nil {
		return badRequest("the body isn't one JSON object: %s", err)
	}
	for name, value := range found {
		target, known := into[name]
		if !known {
			return badRequest("the body has a member that isn't taken: %.64q", name)
		}
		if err := json.Unmarshal(value, target); err != nil {
			return badRequest("%s is of another type", name)
		}
	}
	return nil
}

// sign issues a server certificate for the names of a token.
func (d *Door) sign(w http.ResponseWriter, r *http.Request, _ string) error {
	data, err := body(w, r)
	if err != nil {
		return err
	}
	in, err := parseSign(data)
	if err != nil {
		return err
	}
	by, err := d.prove(r, in.ott, "sign")
	if err != nil {
		return err
	}
	issued, err := d.certify(r.Context(), by, in)
	if err != nil {
		return d.recorded(r.Context(), by.provisioner.Requester(), "sign", err)
	}
	sendChain(w, issued)
	return nil
}

func (d *Door) certify(ctx context.Context, by *proof, in *signRequest) (*ca.Issued, error) {
	hosts, err := hostsOf(&by.claims)
	if err != nil {
		return nil, err
	}
	if err := d.admissible(ctx, by.provisioner, hosts); err != nil {
		return nil, err
	}
	csr, err := ca.ParseCSR([]byte(in.csr))
	if err != nil {
		return nil, unissued(err)
	}
	if err := asks(&csr, hosts, by.claims.Confirmation); err != nil {
		return nil, err
	}
	life, err := d.life(in)
	if err != nil {
		return nil, err
	}
	use := d.use(by, map[string]string{"for": "sign", "names": clip(strings.Join(hosts, " "), 1024)})
	return d.issue(ctx, by.provisioner, by.signer, ca.Order{
		Profile: ca.ProfileServer, Key: csr.Key, Subject: ca.Subject{CommonName: hosts[0], DNSNames: hosts}, Life: life,
		Requester: by.provisioner.Requester(), Reference: requesterPrefix + use.Token, Recorder: d.cfg.Store.StepRecorder(use),
	})
}

// issue drives an order through both phases. Who stops waiting doesn't stop what was begun.
// A certificate doesn't outlast the one that signed for it, if one did, and its record
// names that.
func (d *Door) issue(ctx context.Context, p *Provisioner, signer *ca.Record, order ca.Order) (*ca.Issued, error) {
	if signer != nil {
		if signer.NotAfter.Sub(d.cfg.Clock()) < shortestLife {
			return nil, forbidden("the certificate would last for less than five minutes: the one that signed for it ends", "")
		}
		order.Until, order.Reference = signer.NotAfter, order.Reference+signerMark+signer.Serial
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), certifyTimeout)
	defer cancel()
	order.Judge = func(onRecord []ca.Record) error { return judgeKey(p, onRecord) }
	prepared, err := d.cfg.Authority.Prepare(ctx, order)
	if err != nil {
		return nil, unissued(err)
	}
	issued, err := d.cfg.Authority.Issue(ctx, prepared)
	return issued, unissued(err)
}

// judgeKey refuses a key that others have a certificate for. A provisioner's own may have
// another, as on renewal; revoked ones never.
func judgeKey(p *Provisioner, onRecord []ca.Record) error {
	for _, r := range onRecord {
		switch {
		case r.State == ca.StateIntended || r.State == ca.StateOrphaned:
			// Nobody ever got it.
		case r.Requester != p.Requester() || r.State != ca.StateIssued || r.External:
			return fmt.Errorf("%w: certificate %s has it", ca.ErrKeyInUse, r.Serial)
		}
	}
	return nil
}

// hostsOf are the names of a token, the subject first: it becomes the common name. Without
// sans it is the only one, as step has it.
func hostsOf(c *claims) ([]string, error) {
	names := c.SANs
	if len(names) == 0 {
		names = []string{c.Subject}
	}
	if len(names) > maxHosts {
		return nil, forbidden(fmt.Sprintf("the token is for more than %d names", maxHosts), "")
	}
	hosts := make([]string, 0, len(names)+1)
	for _, name := range append([]string{c.Subject}, names...) {
		host, err := ca.HostName(name)
		if err != nil {
			return nil, forbidden("the token is for something that is no host name: "+err.Error(), "")
		}
		if !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	// The common name is one of the names that are certified (RFC 6125 §2.3).
	if !slices.ContainsFunc(names, func(name string) bool { return strings.EqualFold(name, c.Subject) }) {
		return nil, forbidden("the token's subject (sub) isn't one of its names (sans)", "")
	}
	return hosts, nil
}

// asks compares a request with its token: a difference shows a client that means another
// one. The certificate says what the token says either way.
func asks(csr *ca.CSR, hosts []string, only *confirmation) error {
	req, err := x509.ParseCertificateRequest(csr.DER)
	if err != nil || csr.CA {
		return badRequest("the request isn't readable, or asks to be a CA's")
	}
	if only != nil {
		sum := sha256.Sum256(req.Raw)
		if only.Request != base64.RawURLEncoding.EncodeToString(sum[:]) {
			return forbidden("the token is for another request (cnf)", "")
		}
	}
	if len(req.EmailAddresses)+len(req.URIs)+len(req.IPAddresses) > 0 {
		return forbidden("the request asks for names of other kinds than the token has", "")
	}
	if !strings.EqualFold(req.Subject.CommonName, hosts[0]) {
		return forbidden("the request's common name isn't the token's subject", "")
	}
	var asked []string
	for _, name := range req.DNSNames {
		asked = append(asked, strings.ToLower(name))
	}
	slices.Sort(asked)
	if !slices.Equal(slices.Compact(asked), slices.Sorted(slices.Values(hosts))) {
		return forbidden("the request asks for other names than the token has", "")
	}
	return nil
}

// life is what a client asks for, which is never more than the profile has; 0: that.
func (d *Door) life(in *signRequest) (time.Duration, error) {
	now := d.cfg.Clock().Truncate(time.Second) // from when it counts (RFC 5280 §4.1.2.5)
	begin, err := span(in.notBefore, now)
	if err != nil || in.notBefore != "" && begin.Abs() > tokenTolerance {
		return 0, badRequest("notBefore isn't now: certificates begin when they are issued")
	}
	life, err := span(in.notAfter, now)
	if err != nil {
		return 0, badRequest("notAfter is neither a duration nor a time in RFC 3339's form")
	}
	if life < shortestLife && in.notAfter != "" {
		return 0, forbidden("the certificate would last for less than five minutes", "")
	}
	return life, nil
}

// span is the time from now that a client means: "24h", or a moment.
func span(text string, now time.Time) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at.Sub(now), nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, errors.New("it is neither")
	}
	return d, nil
}
