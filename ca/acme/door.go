package acme

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"path"
	"strings"
	"sync"

	jose "github.com/go-jose/go-jose/v4"

	"bollard/internal/httpdoor"
	"bollard/internal/pace"
)

// authoriser says who may send a message type.
type authoriser string

// Who: everybody, whoever has the key in the message, the account that the message
// names by kid, or either of the two.
const (
	byAnyone       authoriser = "anyone"
	byNewKey       authoriser = "the key in the message"
	byAccount      authoriser = "the account"
	byAccountOrKey authoriser = "the account, or the certificate's key"
)

// operation is one message type.
type operation struct {
	by    authoriser
	named bool // an identifier follows in the path
	serve func(w http.ResponseWriter, m *message) error
}

// message is a request on its way. What is in it is proven as far as its
// operation's authoriser says.
type message struct {
	*http.Request
	id      string // from the path
	signed  *signed
	key     *jose.JSONWebKey // that signed it
	account *Account         // nil if the key isn't an account's
	payload []byte           // empty: POST-as-GET
}

// Door serves the operations. What isn't in the list doesn't exist.
type Door struct {
	cfg        Config
	name       string
	operations map[string]operation
	nonces     *nonces
	sources    *pace.Limiter
	newcomers  *pace.Limiter
	accounts   *pace.Limiter
	strangers  *pace.Limiter
	failures   *pace.Limiter
	log        *pace.Log
	attempts   chan struct{} // answers under judgement

	mu      sync.Mutex
	working map[string]bool // orders whose certificate is made just now
}

// maxAttempts bounds the answers to challenges that are judged at the same time.
const maxAttempts = 16

// New returns the handler of everything below Prefix. It serves requests that came
// over TLS only.
func New(cfg Config) (*Door, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	d := &Door{
		cfg: cfg, name: path.Base(cfg.Prefix), nonces: newNonces(), attempts: make(chan struct{}, maxAttempts), working: map[string]bool{},
		sources: pace.New(perSource, cfg.Clock), newcomers: pace.New(perNewcomer, cfg.Clock), accounts: pace.New(perAccount, cfg.Clock),
		strangers: pace.New(perStranger, cfg.Clock), failures: pace.New(perFailure, cfg.Clock), log: pace.NewLog(cfg.Log, cfg.Clock),
	}
	d.operations = map[string]operation{
		"directory":   {byAnyone, false, d.directory},
		"new-nonce":   {byAnyone, false, d.newNonce},
		"new-account": {byNewKey, false, d.newAccount},
		"account":     {byAccount, true, d.account},
		"key-change":  {byAccount, false, d.keyChange},
		"new-order":   {byAccount, false, d.newOrder},
		"orders":      {byAccount, true, d.orders},
		"order":       {byAccount, true, d.order},
		"authz":       {byAccount, true, d.authorization},
		"challenge":   {byAccount, true, d.challenge},
		"finalize":    {byAccount, true, d.finalize},
		"certificate": {byAccount, true, d.certificate},
		"revoke-cert": {byAccountOrKey, false, d.revoke},
	}
	return d, nil
}

// Directory is the path of the door's directory.
func (d *Door) Directory() string { return d.cfg.Prefix + "/directory" }

func (d *Door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	counted := httpdoor.NewAnswer(w)
	name, id, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, d.cfg.Prefix+"/"), "/")
	op, known := d.operations[name]
	if !known || op.named != (id != "") || !strings.HasPrefix(r.URL.Path, d.cfg.Prefix+"/") {
		name, known = "", false
	}
	defer func() { d.cfg.Served(name, counted.Status) }()
	h := counted.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Link", "<"+d.link(r, "directory", "")+`>;rel="index"`)
	var m *message
	var err error
	switch {
	case !d.sources.Allow(pace.Source(r)): // first: whatever becomes of it
		err = Busy("one address asks too often", perSource.Every)
	case !known:
		err = &Problem{Type: malformed, Detail: "there is no such resource: see " + d.Directory(), Status: http.StatusNotFound}
	case r.TLS == nil:
		err = Unauthorized("ACME is served over TLS only", "")
	case !httpdoor.Names(r, d.cfg.Host):
		err = &Problem{Type: malformed, Detail: "this server has another name", Status: http.StatusMisdirectedRequest}
	case op.by == byAnyone && r.Method != http.MethodGet && r.Method != http.MethodHead:
		h.Set("Allow", "GET, HEAD")
		err = &Problem{Type: malformed, Detail: name + " takes GET", Status: http.StatusMethodNotAllowed}
	case op.by == byAnyone:
		err = op.serve(counted, &message{Request: r})
	case r.Method != http.MethodPost:
		h.Set("Allow", "POST")
		err = &Problem{Type: malformed, Detail: name + " takes POST", Status: http.StatusMethodNotAllowed}
	default:
		h.Set("Replay-Nonce", d.nonces.make())
		if m, err = d.authorise(counted, r, op, id); err == nil {
			err = op.serve(counted, m)
		}
	}
	if err != nil {
		d.tell(r, name, m, err)
		fail(counted, err)
	}
}

// authorise proves who sent a message, as its type demands.
func (d *Door) authorise(w http.ResponseWriter, r *http.Request, op operation, id string) (*message, error) {
	data, err := readMessage(w, r)
	if err != nil {
		return nil, err
	}
	s, err := parseSigned(data)
	if err != nil {
		return nil, err
	}
	m := &message{Request: r, id: id, signed: s, key: s.jwk}
	switch {
	case s.url != "https://"+r.Host+r.URL.EscapedPath():
		return nil, Unauthorized("url in the protected header isn't the request's (RFC 8555 §6.4)", "")
	case s.kid != "" && op.by == byNewKey:
		return nil, problem(malformed, "this takes jwk, not kid (RFC 8555 §6.2)")
	case s.kid == "" && op.by == byAccount:
		return nil, problem(malformed, "this takes kid, not jwk (RFC 8555 §6.2)")
	case s.kid != "":
		if err := d.lookup(m); err != nil {
			return nil, err
		}
	}
	if m.payload, err = s.verify(m.key); err != nil {
		return nil, err
	}
	// Last: who can't sign uses up no nonce of somebody else's.
	if !d.nonces.take(s.nonce) {
		return nil, problem(badNonce, "the nonce isn't good: take the one in Replay-Nonce")
	}
	if m.account != nil {
		if m.account.State != AccountValid {
			return nil, Unauthorized("the account is "+string(m.account.State), "")
		}
		if len(m.payload) > 0 {
			if err := d.count(m); err != nil {
				return m, err
			}
		}
	}
	return m, nil
}

// count refuses what writes or connects to who asks for too much of it.
func (d *Door) count(m *message) error {
	if !d.accounts.Allow(m.account.ID) {
		return Busy("account asks too often", perAccount.Every)
	}
	if m.account.stranger() && !d.strangers.Allow(pace.Source(m.Request)) {
		return Busy("accounts of one address that got nothing yet ask too often", perStranger.Every)
	}
	return nil
}

// lookup finds the account that a message names by its URL.
func (d *Door) lookup(m *message) error {
	id, ok := strings.CutPrefix(m.signed.kid, d.link(m.Request, "account", ""))
	if !ok || id == "" {
		return problem(accountDoesNotExist, "kid isn't the URL of an account here")
	}
	a, ok, err := d.cfg.Store.ACMEAccount(m.Context(), id)
	switch {
	case err != nil:
		return err
	case !ok || a.Door != d.name:
		return problem(accountDoesNotExist, "there is no such account")
	}
	if m.key, err = decodeKey(a.Key); err != nil {
		return err
	}
	m.account = &a
	return nil
}

// tell tells the operator what a request came to that wasn't served. Decisions against an
// account are recorded where they are made.
func (d *Door) tell(r *http.Request, name string, m *message, err error) {
	attrs := []slog.Attr{slog.String("operation", name)}
	if m != nil && m.account != nil {
		attrs = append(attrs, slog.String("account", m.account.ID))
	}
	var p *Problem
	switch {
	case !errors.As(err, &p):
		d.log.Tell(r, slog.LevelError, "couldn't serve an ACME request", append(attrs, slog.Any("err", err))...)
	case name != "" && p.Type != badNonce:
		d.log.Tell(r, slog.LevelWarn, "ACME request refused", append(attrs, slog.String("why", p.Error()))...)
	}
}

// link is the URL of a resource, or, without an id, what such URLs begin with.
func (d *Door) link(r *http.Request, name, id string) string {
	base := "https://" + r.Host + d.cfg.Prefix + "/" + name
	if d.operations[name].named {
		return base + "/" + id
	}
	return base
}

func (d *Door) directory(w http.ResponseWriter, m *message) error {
	out := map[string]any{
		"newNonce": d.link(m.Request, "new-nonce", ""), "newAccount": d.link(m.Request, "new-account", ""), "newOrder": d.link(m.Request, "new-order", ""),
		"revokeCert": d.link(m.Request, "revoke-cert", ""), "keyChange": d.link(m.Request, "key-change", ""),
	}
	if d.cfg.Open != nil {
		out["meta"] = map[string]any{"externalAccountRequired": true}
	}
	return send(w, http.StatusOK, out)
}

// newNonce answers HEAD with 200 and GET with 204 (RFC 8555 §7.2).
func (d *Door) newNonce(w http.ResponseWriter, m *message) error {
	w.Header().Set("Replay-Nonce", d.nonces.make())
	if m.Method == http.MethodGet {
		w.WriteHeader(http.StatusNoContent)
	}
	return nil
}

func send(w http.ResponseWriter, status int, value any) error {
	body, err := json.Marshal(value)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body) // who is gone asks again
	return nil
}
