package ca

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"bollard/ca/quality"
	"bollard/keys"
)

// Config of an Authority.
type Config struct {
	Store        Store
	Organisation string // O of every certificate (A00.FR.509)
	Country      string // C of CA certificates, ISO 3166 alpha-2; may be ""
	Keys         KeyOpener
	// Assurance grades station certificates; the zero value: not.
	Assurance Assurance
	// Curves20 are curves of ISO 15118-20 beside P-521 that count here.
	Curves20 []KeyClass
	// Blocked holds keys that are never certified; nil for none.
	Blocked *quality.Blocklist
	// Keeper makes and keeps the keys of server certificates, OCSP signers and
	// new CAs. Reading, issuing to others and revoking work without.
	Keeper *keys.Keeper
	// Mounts opens the PKI mount behind a URI; nil: the Keeper's.
	Mounts func(uri string) (Mount, error)
	// Alarm is told of a CA whose mount issued what it wasn't asked for; nil: nobody.
	Alarm   func(ctx context.Context, issuer string) error
	KeyBase string // URI base of the keys of new CAs and OCSP signers; "": softkms:
	// StatusURL is the base of the URLs in certificates, such as
	// http://HOST:8080; "": certificates name neither CRL nor responder.
	StatusURL string
	Clock     func() time.Time // nil: time.Now
	Log       *slog.Logger     // nil: discarded
}

// KeyOpener opens the private key behind a URI for CA use.
type KeyOpener func(ctx context.Context, uri string) (crypto.Signer, error)

func (c Config) complete() (Config, error) {
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Keys == nil && c.Keeper != nil {
		c.Keys = func(ctx context.Context, uri string) (crypto.Signer, error) {
			return c.Keeper.Open(ctx, uri, keys.RoleCA)
		}
	}
	if c.Mounts == nil && c.Keeper != nil {
		c.Mounts = func(uri string) (Mount, error) { return c.Keeper.Mount(uri) }
	}
	if c.KeyBase == "" {
		c.KeyBase = keys.SchemeSoft + ":"
	}
	if err := CheckStatusURL(c.StatusURL); err != nil {
		return c, err
	}
	c.StatusURL = strings.TrimSuffix(c.StatusURL, "/")
	switch {
	case c.Store == nil:
		return c, errors.New("internal error: ca.Config.Store is missing")
	case c.Keys == nil:
		return c, errors.New("internal error: ca.Config.Keys is missing")
	}
	if err := checkText("organisation", c.Organisation); err != nil {
		return c, fmt.Errorf("%w; set organisation in bollard.yaml", err)
	}
	return c, CheckCountry(c.Country)
}

// CheckStatusURL refuses what can't be the base of a certificate's pointers to its status;
// "" is none.
func CheckStatusURL(url string) error {
	if url != "" && !strings.HasPrefix(url, "http://") {
		return fmt.Errorf("%q isn't plain http, which revocation lists and OCSP are read over (RFC 5280 §8)", url)
	}
	return nil
}

// CheckCountry refuses what can't be the C of a name; "" is none.
func CheckCountry(s string) error {
	if s != "" && (len(s) != 2 || strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "") {
		return fmt.Errorf("country %q isn't two capital letters (ISO 3166 alpha-2, such as NL)", s)
	}
	return nil
}

// Authority issues certificates of its hierarchies. It is safe for concurrent use.
type Authority struct {
	cfg      Config
	random   io.Reader
	template func(plan) (*x509.Certificate, error)
	shapes   *shapes
	frames   *frames
	errands  chan struct{} // there is something to tell a mount
	building sync.Mutex    // held while a hierarchy is made or its root changed

	catching sync.Mutex // held while unfinished becomes nil
	// unfinished is before when an earlier run made what it left between the two phases;
	// nil: that is given up.
	unfinished atomic.Pointer[time.Time]

	hierarchies sync.RWMutex
	loaded      map[Kind]*loadedHierarchy // each replaced whole, then only read

	mu      sync.Mutex
	watch   []Watcher
	claimed map[string]*claim        // by key hash: keys of intents not recorded yet
	servers map[string]bool          // names of own servers, lower case: no station may have one
	pools   *cachedPools             // of StationPools
	signers map[string]*officeKeeper // by office and issuer
}

func newAuthority(cfg Config) *Authority {
	return &Authority{
		cfg: cfg, random: rand.Reader, template: template, shapes: newShapes(), frames: newFrames(),
		loaded: map[Kind]*loadedHierarchy{}, claimed: map[string]*claim{}, servers: map[string]bool{},
		signers: map[string]*officeKeeper{}, errands: make(chan struct{}, 1),
	}
}

// New loads the hierarchies of a store. Intents an earlier run left behind are
// marked orphaned first; where that can't be written, such as on a full disk, it is
// before anything is issued. ErrNoHierarchy before Init.
func New(ctx context.Context, cfg Config) (*Authority, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	a := newAuthority(cfg)
	before, err := a.lastRun(ctx)
	if err != nil {
		return nil, err
	}
	a.unfinished.Store(&before)
	if err := a.catchUp(ctx); err != nil {
		a.cfg.Log.Error("nothing is issued until what an earlier run left unfinished can be given up", "err", err)
	}
	loaded := 0
	for _, h := range hierarchies {
		if err := a.load(ctx, h); errors.Is(err, ErrNoHierarchy) {
			continue
		} else if err != nil {
			return nil, err
		}
		loaded++
	}
	if loaded == 0 {
		return nil, fmt.Errorf("%w; run bollard init", ErrNoHierarchy)
	}
	return a, nil
}

// orphan gives up what a crash left between the two phases. Nothing is being
// issued yet, so every intent there is belongs to a run that ended.
func (a *Authority) orphan(ctx context.Context) error {
	before, err := a.lastRun(ctx)
	if err != nil {
		return err
	}
	return a.orphanBefore(ctx, before)
}

// lastRun is when the last intent of an earlier run was made at the latest: a clock
// that went back must not hide one.
func (a *Authority) lastRun(ctx context.Context) (time.Time, error) {
	newest, err := a.cfg.Store.NewestTime(ctx)
	if err != nil {
		return time.Time{}, fmt.Errorf("couldn't read the newest record: %w", err)
	}
	if now := a.cfg.Clock(); newest.Before(now) {
		newest = now
	}
	return newest.Add(time.Second), nil
}

func (a *Authority) orphanBefore(ctx context.Context, before time.Time) error {
	orphans, err := a.cfg.Store.OrphanIntents(ctx, before)
	if err != nil {
		return fmt.Errorf("couldn't give up unfinished certificates: %w", err)
	}
	for _, o := range orphans {
		a.cfg.Log.Warn("unfinished certificate given up", "serial", o.Serial, "profile", o.Profile, "station", o.Station)
	}
	return nil
}

// catchUp does once what orphan does, before anything is issued.
func (a *Authority) catchUp(ctx context.Context) error {
	if a.unfinished.Load() == nil {
		return nil
	}
	a.catching.Lock()
	defer a.catching.Unlock()
	before := a.unfinished.Load()
	if before == nil {
		return nil
	}
	if err := a.orphanBefore(ctx, *before); err != nil {
		return err
	}
	a.unfinished.Store(nil)
	return nil
}

// CheckKeys opens every CA key, also those not needed every day, and checks it
// against its certificate.
func (a *Authority) CheckKeys(ctx context.Context) error {
	var errs []error
	for _, h := range hierarchies {
		for _, ca := range a.hierarchy(h.kind).cas {
			if ca.profile == profileOutside || ca.keyURI == "" {
				continue
			}
			signer, err := a.openCA(ctx, ca)
			if m, ok := signer.(mountSigner); ok && err == nil {
				err = checkMount(ctx, m.at, ca.name, ca.cert)
			}
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// openCA opens a CA's key and checks that it is the one of its certificate.
func (a *Authority) openCA(ctx context.Context, ca caRecord) (crypto.Signer, error) {
	if ca.keyURI == "" {
		return nil, fmt.Errorf("couldn't open the key of %s: %w", ca.name, ErrOffline)
	}
	if keys.IsMount(ca.keyURI) {
		at, err := a.mountAt(ca.keyURI)
		if err != nil {
			return nil, fmt.Errorf("couldn't open the mount of %s: %w", ca.name, err)
		}
		return mountSigner{at, ca.cert.PublicKey}, nil
	}
	signer, err := a.cfg.Keys(ctx, ca.keyURI)
	if errors.Is(err, keys.ErrNotFound) {
		return nil, fmt.Errorf("couldn't open the key of %s: %w; bring it back from a backup, with the database of the same one", ca.name, err)
	}
	if err != nil {
		return nil, fmt.Errorf("couldn't open the key of %s: %w", ca.name, err)
	}
	if bound, ok := signer.(keys.Signer); ok && bound.Role() != keys.RoleCA {
		return nil, fmt.Errorf("couldn't open the key of %s: %w", ca.name, keys.ErrRole)
	}
	public, ok := signer.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(ca.cert.PublicKey) {
		return nil, fmt.Errorf("key %s isn't the one of certificate %s (%s); restore both from one backup", ca.keyURI, SerialOf(ca.cert), ca.name)
	}
	return signer, nil
}

func (a *Authority) isServerName(name string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.servers[strings.ToLower(name)]
}
