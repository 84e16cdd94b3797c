package pool

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"bollard/ca"
	"bollard/contract"
	"bollard/internal/tally"
	"bollard/ledger"
	"bollard/ocpp"
)

// Authority is what root pools are made of. *ca.Authority is one.
type Authority interface {
	Roots(kind ca.Kind) []*x509.Certificate
	Anchors(ctx context.Context, use string) ([]ca.TrustAnchor, error)
}

// DoorConfig of a pool that others ask.
type DoorConfig struct {
	Tokens    *Tokens
	Contracts *contract.Service
	Authority Authority
	// Served, if set, hears of each answer: the operation ("" for none of them) and its
	// HTTP status.
	Served func(operation string, status int)
	Clock  func() time.Time // nil: time.Now
	Log    *slog.Logger     // nil: discarded
}

// Bounds of what one request and one token may cost.
const (
	maxBody = 64 << 10 // three certificates, or a car's request, in base64
	burst   = 200      // requests of one token at once, and then
	refill  = 20 * time.Millisecond
	// maxHeard bounds the wrong secrets that get into the log in a minute: anybody may
	// send any number, from many addresses.
	maxHeard = 64
	// flushEvery is how often counts of refusals are looked at.
	flushEvery = 10 * time.Second
)

// Door serves the operations of OPCP that a pool has, each for the roles it is for.
type Door struct {
	cfg    DoorConfig
	access access
	mux    *http.ServeMux
	// refused are the decisions against clients that aren't on record yet: one who goes
	// on and on doesn't fill the ledger.
	refused *tally.Tally[refusedKey]

	mu    sync.Mutex // guards what follows
	spent map[string]allowance
	heard map[netip.Addr]bool // sources of wrong secrets in the log since
	since time.Time
	// enrolled are the certificates tokens had over EST on a day since 1970.
	enrolled map[string]int
	enrolDay int64
}

// refusedKey is one kind of refusal.
type refusedKey struct {
	token, operation string
	status           int
}

type allowance struct {
	left float64
	at   time.Time
}

// operation is one thing a client may ask for. What it returns is the answer's status
// and body; a *refusal is an error.
type operation struct {
	roles []Role
	serve func(ctx context.Context, t *Token, r *http.Request) (status int, body any, err error)
}

// refusal is a decision against a request. Its text is for the client, and holds
// nothing of the request.
type refusal struct {
	status int
	text   string
}

func (r *refusal) Error() string { return r.text }

func refuse(status int, format string, args ...any) error {
	return &refusal{status, fmt.Sprintf(format, args...)}
}

// NewDoor returns the handler of /v1/ and /oauth/token. It serves requests that came
// over TLS only.
func NewDoor(cfg DoorConfig) (*Door, error) {
	if cfg.Tokens == nil || cfg.Contracts == nil || cfg.Authority == nil {
		return nil, errors.New("internal error: pool.DoorConfig needs Tokens, Contracts and Authority")
	}
	if cfg.Served == nil {
		cfg.Served = func(string, int) {}
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	d := &Door{cfg: cfg, refused: tally.New[refusedKey](), access: access{tokens: cfg.Tokens, clock: cfg.Clock, given: map[string][]pass{}}, mux: http.NewServeMux(), spent: map[string]allowance{}, heard: map[netip.Addr]bool{}, enrolled: map[string]int{}}
	everybody := []Role{RoleOEM, RoleMO, RoleCPO}
	for pattern, op := range map[string]operation{
		"POST /v1/ccp/signedContractData":           {[]Role{RoleCPO}, d.signedData},
		"GET /v1/ccp/signedContractData/{pcid}":     {[]Role{RoleOEM}, d.contractsOf},
		"PUT /v1/ccp/signedContractData":            {[]Role{RoleMO}, d.keep},
		"DELETE /v1/ccp/signedContractData/{emaid}": {[]Role{RoleMO}, d.endContract},
		"GET /v1/ccp/lookupContract/{emaid}":        {[]Role{RoleMO}, d.lookupContract},
		"PUT /v1/cps/generate/signedContractData":   {[]Role{RoleMO}, d.makeContract},
		"PUT " + signPath:                           {[]Role{RoleMO}, d.sign},
		"PUT /v1/oem/provCerts":                     {[]Role{RoleOEM}, d.putCar},
		"GET /v1/oem/provCerts/{pcid}":              {[]Role{RoleOEM, RoleMO}, d.car},
		"DELETE /v1/oem/provCerts/{pcid}":           {[]Role{RoleOEM}, d.removeCar},
		"GET /v1/oem/lookupVehicle/{pcid}":          {[]Role{RoleOEM, RoleMO}, d.lookupCar},
		"GET /v1/root/rootCerts":                    {everybody, d.roots},
		"GET /v1/root/rootCerts/{id}":               {everybody, d.root},
	} {
		d.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { d.serve(w, r, pattern, op) })
	}
	d.mux.HandleFunc("POST "+tokenPath, d.token)
	return d, nil
}

func (d *Door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.TLS == nil {
		d.answer(w, "", http.StatusForbidden, problem("pools are served over TLS only", ""))
		return
	}
	if _, pattern := d.mux.Handler(r); pattern == "" {
		d.answer(w, "", http.StatusNotFound, problem("there is no such operation here", ""))
		return
	}
	d.mux.ServeHTTP(w, r)
}

// serve finds out who asks before anything of the request is read.
func (d *Door) serve(w http.ResponseWriter, r *http.Request, pattern string, op operation) {
	scheme, bearer, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	t, ok, err := d.access.who(r.Context(), bearer)
	switch {
	case err != nil:
		d.cfg.Log.Error("couldn't judge who asks the pool", slog.Any("err", err))
		d.answer(w, pattern, http.StatusServiceUnavailable, problem("try again later", ""))
		return
	case !ok || !strings.EqualFold(scheme, "Bearer"):
		w.Header().Set("WWW-Authenticate", "Bearer")
		d.answer(w, pattern, http.StatusUnauthorized, problem("no access token in force: POST "+tokenPath+" gives one", ""))
		return
	case !d.spend(t.Name):
		w.Header().Set("Retry-After", "1")
		d.answer(w, pattern, http.StatusTooManyRequests, problem("too many requests", ""))
		return
	}
	var status int
	var body any
	if err = refuse(http.StatusForbidden, "the token's role is %s, which isn't for this", t.Role); slices.Contains(op.roles, t.Role) {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		status, body, err = op.serve(r.Context(), &t, r)
	}
	if err == nil {
		d.answer(w, pattern, status, body)
		return
	}
	d.fail(w, r, pattern, &t, err)
}

// fail tells a client why not. Decisions against it are on record.
func (d *Door) fail(w http.ResponseWriter, r *http.Request, pattern string, t *Token, err error) {
	trace := newTrace()
	log := d.cfg.Log.With(slog.String("token", t.Name), slog.String("operation", pattern), slog.String("trace", trace))
	refused, ok := errors.AsType[*refusal](err)
	if !ok {
		log.Error("couldn't serve a client of the pool", slog.Any("err", err))
		d.answer(w, pattern, http.StatusServiceUnavailable, problem("try again later", trace))
		return
	}
	log.Warn("a client of the pool is refused", slog.Int("status", refused.status), slog.String("reason", refused.text))
	d.refused.Tell(refusedKey{t.Name, pattern, refused.status}, "", d.cfg.Clock(), d.record(r.Context()))
	d.answer(w, pattern, refused.status, problem(refused.text, trace))
}

// record writes down refusals of one kind.
func (d *Door) record(ctx context.Context) func(refusedKey, tally.Count) error {
	return func(key refusedKey, n tally.Count) error {
		err := d.cfg.Tokens.Store.Record(ctx, ledger.Event{Kind: "pool.refused", Subject: key.token, Actor: actorOf(key.token), Data: map[string]string{
			"operation": key.operation, "status": strconv.Itoa(key.status), "count": strconv.Itoa(n.Count),
		}})
		if err != nil {
			d.cfg.Log.Error("couldn't record refusals; it is tried again", slog.String("token", key.token), slog.Int("count", n.Count), slog.Any("err", err))
		}
		return err
	}
}

// Run writes down refusals that repeated themselves until ctx ends.
func (d *Door) Run(ctx context.Context) {
	tally.Run(ctx, flushEvery, d.Flush)
}

// Flush writes down the counts whose time has come, or all.
func (d *Door) Flush(ctx context.Context, all bool) {
	d.refused.Flush(d.cfg.Clock(), all, d.record(ctx))
}

// actorOf is a client in the ledger.
func actorOf(token string) string { return "pool:" + token }

// spend takes one request from a token's allowance.
func (d *Door) spend(name string) bool {
	now := d.cfg.Clock()
	d.mu.Lock()
	defer d.mu.Unlock()
	a, ok := d.spent[name]
	if !ok {
		a = allowance{burst, now}
	}
	a.left = min(burst, a.left+max(0, now.Sub(a.at).Seconds())/refill.Seconds())
	a.at = now
	if a.left < 1 {
		d.spent[name] = a
		return false
	}
	a.left--
	d.spent[name] = a
	return true
}

// token gives an access token to who knows a token's secret. Its refusals tell nothing,
// and aren't recorded one by one: anybody can make them.
func (d *Door) token(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	var in tokenQuestion
	if err := read(r, &in); err != nil || in.Grant != grantType {
		d.answer(w, tokenPath, http.StatusBadRequest, map[string]string{"error": "invalid_request", "error_description": "give client_id, client_secret, audience and grant_type client_credentials as JSON"})
		return
	}
	t, ok, err := d.cfg.Tokens.prove(r.Context(), in.ID, in.Secret)
	switch {
	case err != nil:
		d.cfg.Log.Error("couldn't judge who asks the pool", slog.Any("err", err))
		d.answer(w, tokenPath, http.StatusServiceUnavailable, map[string]string{"error": "temporarily_unavailable", "error_description": "try again later"})
	case !ok:
		if source, ok := d.unheard(r); ok {
			d.cfg.Log.Warn("no access token for a wrong secret; more from there within a minute aren't logged", slog.String("source", source.String()))
		}
		d.answer(w, tokenPath, http.StatusUnauthorized, map[string]string{"error": "invalid_client", "error_description": "no such client, or another secret"})
	default:
		d.answer(w, tokenPath, http.StatusOK, tokenAnswer{Token: d.access.give(&t), Type: "Bearer", Seconds: accessTime.Seconds(), Scope: string(t.Role)})
	}
}

// unheard tells the source of a wrong secret, once a minute: an IPv6 host has its
// whole /64.
func (d *Door) unheard(r *http.Request) (netip.Addr, bool) {
	at, _ := netip.ParseAddrPort(r.RemoteAddr) // what can't be read is one source
	source := at.Addr().Unmap().WithZone("")
	if source.Is6() {
		net, _ := source.Prefix(64) // never fails: it has 128 bits
		source = net.Addr()
	}
	now := d.cfg.Clock()
	d.mu.Lock()
	defer d.mu.Unlock()
	if now.Sub(d.since) >= time.Minute || now.Before(d.since) {
		clear(d.heard)
		d.since = now
	}
	if d.heard[source] || len(d.heard) >= maxHeard {
		return source, false
	}
	d.heard[source] = true
	return source, true
}

// read reads a request's JSON as every reader would.
func read(r *http.Request, into any) error {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != jsonType {
		return refuse(http.StatusUnsupportedMediaType, "the Content-Type is "+jsonType)
	}
	body, err := io.ReadAll(r.Body)
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return refuse(http.StatusRequestEntityTooLarge, "the body has more than 64 KB")
	}
	if err != nil {
		return refuse(http.StatusBadRequest, "the body ended early")
	}
	if err := ocpp.DecodeStrict(body, into); err != nil {
		return refuse(http.StatusBadRequest, "the body isn't the JSON object this takes")
	}
	return nil
}

// answer writes an answer; nil is none.
func (d *Door) answer(w http.ResponseWriter, operation string, status int, body any) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	defer d.cfg.Served(operation, status)
	if body == nil {
		w.WriteHeader(status)
		return
	}
	text, err := json.Marshal(body)
	if err != nil {
		panic("internal error: an answer can't be encoded: " + err.Error())
	}
	h.Set("Content-Type", jsonType)
	w.WriteHeader(status)
	_, _ = w.Write(text) // a peer that left asks again
}

// problem is OPCP's Error.
func problem(text, trace string) any {
	return struct {
		Messages []string `json:"errorMessages"`
		Trace    string   `json:"traceId,omitempty"`
	}{[]string{text}, trace}
}

// newTrace is a random UUID (RFC 9562 §5.4), by which an answer is found in the log.
func newTrace() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
