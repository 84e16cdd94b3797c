package step

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"

	"bollard/ca"
	"bollard/internal/httpdoor"
	"bollard/internal/pace"
	"bollard/ledger"
)

// authoriser says who may ask for a resource.
type authoriser string

// Who: everybody, a provisioner's token, whoever has a certificate's key, or either.
const (
	byAnyone             authoriser = "anyone"
	byToken              authoriser = "a provisioner, with a token"
	byCertificate        authoriser = "the certificate's key"
	byTokenOrCertificate authoriser = "a provisioner, with a token, or the certificate's key"
)

// operation is one thing a client may ask for.
type operation struct {
	by    authoriser
	named bool // an identifier follows in the path
	serve func(w http.ResponseWriter, r *http.Request, id string) error
}

// Door serves the operations. What isn't in the list doesn't exist.
type Door struct {
	cfg          Config
	operations   map[string]operation
	sources      *pace.Limiter
	provisioners *pace.Limiter
	holders      *pace.Limiter
	log          *pace.Log
}

// How often one address, a provisioner, and the holder of a certificate's key may ask for
// what costs something.
var (
	perSource      = pace.Allowance{Burst: 300, Every: time.Second} // good and bad: an office behind one address
	perProvisioner = pace.Allowance{Burst: 60, Every: 10 * time.Second}
	perHolder      = pace.Allowance{Burst: 10, Every: 10 * time.Minute}
)

// maxBody bounds a request's body: a token with a chain, and the longest CSR.
const maxBody = 64 << 10

// New returns the handler of Paths. It serves requests that came over TLS only.
func New(cfg Config) (*Door, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	d := &Door{cfg: cfg, sources: pace.New(perSource, cfg.Clock), provisioners: pace.New(perProvisioner, cfg.Clock), holders: pace.New(perHolder, cfg.Clock), log: pace.NewLog(cfg.Log, cfg.Clock)}
	d.operations = map[string]operation{
		"health":       {byAnyone, false, d.health},
		"version":      {byAnyone, false, d.version},
		"root":         {byAnyone, true, d.root},
		"roots":        {byAnyone, false, d.roots},
		"provisioners": {byAnyone, false, d.listProvisioners},
		"sign":         {byToken, false, d.sign},
		"renew":        {byCertificate, false, d.renew},
		"revoke":       {byTokenOrCertificate, false, d.revoke},
	}
	return d, nil
}

// Paths are where step asks, as patterns of http.ServeMux: what is served, and what is
// refused in its own words.
func Paths() []string {
	paths := []string{"/1.0/"}
	for _, name := range []string{
		"health", "version", "root/", "roots", "provisioners", "sign", "renew", "revoke",
		"provisioners/", "rekey", "re-sign", "crl", "roots.pem", "intermediates", "intermediates.pem", "federation", "ssh/", "sign-ssh",
	} {
		paths = append(paths, "/"+name)
	}
	return paths
}

func (d *Door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	counted := httpdoor.NewAnswer(w)
	name, id, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, "/1.0"), "/"), "/")
	op, known := d.operations[name]
	if !known || op.named != (id != "") {
		name, known = "", false
	}
	defer func() { d.cfg.Served(name, counted.Status) }()
	counted.Header().Set("Cache-Control", "no-store")
	if err := d.serve(counted, r, op, known, id); err != nil {
		var refused *Refusal
		switch {
		case !errors.As(err, &refused):
			d.log.Tell(r, slog.LevelError, "couldn't serve a request of step", slog.String("operation", name), slog.Any("err", err))
		case known:
			d.log.Tell(r, slog.LevelWarn, "request of step refused", slog.String("operation", name), slog.String("why", refused.Error()))
		}
		fail(counted, err)
	}
}

func (d *Door) serve(w http.ResponseWriter, r *http.Request, op operation, known bool, id string) error {
	method := http.MethodPost
	if op.by == byAnyone {
		method = http.MethodGet
	}
	if !d.sources.Allow(pace.Source(r)) { // first: whatever becomes of it
		return busy("one address asks too often", perSource.Every)
	}
	open, err := d.open(r.Context())
	switch {
	case err != nil:
		return err
	case !known || !open:
		return &Refusal{Status: http.StatusNotFound, Message: "there is no such resource here"}
	case r.TLS == nil:
		return forbidden("this is served over TLS only", "")
	case !httpdoor.Names(r, d.cfg.Host):
		return &Refusal{Status: http.StatusMisdirectedRequest, Message: "this server has another name"}
	case r.Method != method:
		w.Header().Set("Allow", method)
		return &Refusal{Status: http.StatusMethodNotAllowed, Message: "this takes " + method}
	}
	return op.serve(w, r, id)
}

// open says whether the door is there: somebody may use it.
func (d *Door) open(ctx context.Context) (bool, error) {
	if len(d.cfg.ACME) > 0 {
		return true, nil
	}
	list, err := d.cfg.Store.StepProvisioners(ctx)
	return len(list) > 0, err
}

// body reads what a client posts.
func body(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return nil, &Refusal{Status: http.StatusUnsupportedMediaType, Message: "the Content-Type of a request is application/json"}
	}
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, &Refusal{Status: http.StatusRequestEntityTooLarge, Message: "the request is too large"}
	case err != nil:
		return nil, badRequest("the body ended early")
	}
	return data, nil
}

func (d *Door) health(w http.ResponseWriter, _ *http.Request, _ string) error {
	send(w, http.StatusOK, map[string]string{"status": "ok"})
	return nil
}

func (d *Door) version(w http.ResponseWriter, _ *http.Request, _ string) error {
	send(w, http.StatusOK, map[string]string{"version": d.cfg.Version})
	return nil
}

// root gives the root that a client knows by its fingerprint (step ca bootstrap).
func (d *Door) root(w http.ResponseWriter, _ *http.Request, id string) error {
	sum := strings.ToLower(strings.ReplaceAll(id, "-", ""))
	for _, root := range d.cfg.Authority.Roots(ca.KindCSMS) {
		if fingerprint(root) == sum {
			send(w, http.StatusOK, map[string]string{"ca": text(root)})
			return nil
		}
	}
	return &Refusal{Status: http.StatusNotFound, Message: "there is no root with this fingerprint here"}
}

// roots answers 201, as step-ca does.
func (d *Door) roots(w http.ResponseWriter, _ *http.Request, _ string) error {
	send(w, http.StatusCreated, map[string]any{"crts": texts(d.cfg.Authority.Roots(ca.KindCSMS))})
	return nil
}

// listProvisioners says what tokens may be made for: public keys and roots, nobody's
// encrypted private key.
func (d *Door) listProvisioners(w http.ResponseWriter, r *http.Request, _ string) error {
	list, err := d.cfg.Store.StepProvisioners(r.Context())
	if err != nil {
		return err
	}
	shown := []map[string]any{}
	for _, p := range list {
		one := map[string]any{"type": p.Type, "name": p.Name}
		if p.Type == TypeJWK {
			one["key"] = p.Key
		} else {
			var roots []byte
			for _, der := range p.Roots {
				roots = append(roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
			}
			one["roots"] = roots
		}
		shown = append(shown, one)
	}
	for _, name := range d.cfg.ACME {
		shown = append(shown, map[string]any{"type": "ACME", "name": name})
	}
	send(w, http.StatusOK, map[string]any{"provisioners": shown, "nextCursor": ""})
	return nil
}

// sendChain answers with a certificate, 201 as step-ca does.
func sendChain(w http.ResponseWriter, issued *ca.Issued) {
	chain := append([]*x509.Certificate{issued.Certificate}, issued.Chain...)
	out := map[string]any{"crt": text(chain[0]), "certChain": texts(chain)}
	if len(chain) > 1 {
		out["ca"] = text(chain[1])
	}
	send(w, http.StatusCreated, out)
}

func text(cert *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
}

func texts(certs []*x509.Certificate) []string {
	list := []string{}
	for _, cert := range certs {
		list = append(list, text(cert))
	}
	return list
}

// admissible refuses names that aren't a provisioner's to have certificates for.
func (d *Door) admissible(ctx context.Context, p *Provisioner, names []string) error {
	for _, name := range names {
		switch {
		case slices.Contains(d.cfg.Own, name):
			return forbidden("no certificates for "+name+" here", name+" is Bollard's own")
		case !ca.HostListed(p.Names, name):
			return forbidden("no certificates for "+name+" here", name+" isn't a name of provisioner "+p.Name)
		}
		taken, err := d.cfg.Taken(ctx, name)
		if err != nil {
			return err
		}
		if taken {
			return forbidden("no certificates for "+name+" here", name+" is what a station is known by")
		}
	}
	return nil
}

// recorded keeps a decision against somebody who is proven: a provisioner, or whoever has a
// key. It cost them one of their requests, so that there are so many and no more.
func (d *Door) recorded(ctx context.Context, by, what string, err error) error {
	var refused *Refusal
	if !errors.As(err, &refused) || refused.Status == http.StatusTooManyRequests {
		return err
	}
	event := eventOf(by, "step.refused", map[string]string{"what": what, "why": clip(refused.Error(), maxReason)})
	if failed := d.cfg.Store.Record(ctx, event); failed != nil {
		d.cfg.Log.Error("couldn't record a refusal", slog.String("by", by), slog.Any("err", failed))
	}
	return err
}

func eventOf(by, kind string, data map[string]string) ledger.Event {
	return ledger.Event{Kind: kind, Subject: by, Actor: by, Data: data}
}
