// Package station is a simulated charging station that speaks the real wire:
// OCPP 1.6J, 2.0.1 and 2.1 over WebSocket and TLS, with a key store, a trust
// store, security profiles and a charging session.
//
// It promises to do what a careful real station does and to refuse what that
// one refuses; a test that wants something else says so in Deviations. It
// shares nothing with the gateway but frames and the WebSocket layer, so that
// a mistake of the gateway is not repeated on the other end of the wire.
package station

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"bollard/ocpp"
	"bollard/tpm/device"
)

// Config of a Station.
type Config struct {
	Identity string // OCPP identity, the last segment of the connection URL
	Serial   string // serial number: CN of its certificates; "": Identity
	Vendor   string // "": "Bollard"
	Model    string // "": "Simulated"
	Firmware string // firmware version in BootNotification; "": "1.0.0"

	Version ocpp.Version // zero: OCPP 2.0.1
	// URL is the CSMS endpoint without the identity, such as wss://host:8443/ocpp.
	URL string
	// ProfileURL overrides URL for single security profiles of a 1.6 station:
	// 1.6 has no network profiles, so the new address is set on site.
	ProfileURL map[int]string
	ServerName string // name to expect in the server certificate; "": the URL's host

	Profile      int    // security profile to start with, 1 to 3; 0: 2
	Password     []byte // Basic password as bytes (1.6) or UTF-8 text (2.x)
	Organisation string // CpoName or SecurityCtrlr.OrganizationName
	// Roots are the CSMS root certificates installed at the factory.
	Roots []*x509.Certificate
	// ManufacturerRoots are the maker's roots, which vouch for firmware.
	ManufacturerRoots []*x509.Certificate
	// V2GRoots are those of its certificates toward cars, which it asks for if SECCs
	// says who it is to them.
	V2GRoots []*x509.Certificate
	SECCs    []SECC
	// Certificate is a client certificate to start with, such as the maker's.
	Certificate *tls.Certificate
	KeyDir      string  // directory of the key store; "": in memory
	Key         KeyType // of new keys; "": P-256

	// TPM is its TPM 2.0, into which it measures at each boot what it runs; nil: it has
	// none. With PKI, the URL of the server's PKI listener, it has the attestation key
	// certified and quotes after each boot, as EnrolSecret proves it to be, or else its
	// certificate.
	TPM         *device.Device
	PKI         string
	EnrolSecret []byte

	MinTLS, MaxTLS uint16   // 0: TLS 1.2 and the newest
	CipherSuites   []uint16 // TLS 1.2 suites; nil: the four of OCPP and ECDHE_RSA

	// AdditionalRootCheck is the variable AdditionalRootCertificateCheck: a new
	// CSMS root must be signed by the old one (M05).
	AdditionalRootCheck bool
	// AllowDowngrade is the variable AllowSecurityProfileDowngrade (2.x): from
	// security profile 3 to 2, and no lower (A05.FR.08, .09). Without it the
	// station doesn't know the variable.
	AllowDowngrade bool
	// Verify is how it verifies firmware; "": as the standard has it.
	Verify         Verifier
	MaxChainSize   int           // CertificateSignedMaxChainSize; 0: 10000
	SigningWait    time.Duration // CertSigningWaitMinimum; 0: 30 s (2.x only)
	SigningRepeats int           // CertSigningRepeatTimes; 0: 3
	Attempts       int           // NetworkProfileConnectionAttempts; 0: 3
	BackOff        BackOff       // of reconnects
	CallTimeout    time.Duration // 0: 30 s
	// Transfer fetches an image into a file by what the station doesn't know itself,
	// such as SFTP. nil: it knows HTTPS alone.
	Transfer func(ctx context.Context, location, file string) error
	// Controller is where it offers images to others by plain HTTP: it is a local
	// controller then (OCPP 2.x L03), and closes it. nil: it is none.
	Controller    net.Listener
	DialTimeout   time.Duration // 0: 10 s
	Compression   bool          // offer permessage-deflate
	MeterInterval time.Duration // pause between two meter values; 0: none

	Deviations Deviations
	// Trace sees every frame in the order of the wire, before it is written or
	// after it was read. It must not block and must not keep Bytes.
	Trace func(Frame)
	// NoRecord switches Frames off, for benchmarks.
	NoRecord bool
	Clock    func() time.Time // nil: time.Now
	Log      *slog.Logger     // nil: discarded
}

// Station is one charging station. Its methods are safe for concurrent use.
type Station struct {
	cfg   Config
	keys  *keyStore
	trust *trustStore
	rec   *recorder

	ctx    context.Context // ends with Close or the context given to New
	cancel context.CancelFunc
	wg     sync.WaitGroup // goroutines of links

	connecting sync.Mutex // one connection attempt at a time
	charging   sync.Mutex // one charging session at a time (one EVSE)
	flushing   sync.Mutex // security events leave in order

	booted chan struct{} // has one after a boot, until it was quoted

	mu        sync.Mutex // guards everything below
	changed   chan struct{}
	dev       Deviations
	link      *link
	state     State
	set       settings
	net       network
	events    []securityEvent
	orders    []*csrOrder
	seccs     map[purpose]tls.Certificate // toward cars
	nextID    int                         // requestId of OCPP 2.1 and number ids
	busy      *charge                     // nil without a transaction
	log       []string
	uploading *upload             // nil without one
	firmware  string              // version that runs
	image     [sha256.Size]byte   // digest of what it was installed from
	measured  [sha256.Size]byte   // by its TPM at the newest boot
	attested  []*x509.Certificate // of the TPM's attestation key; nil without
	updating  *update             // nil without one
	told      firmwareWord
	offered   publishWord
	shelf     *shelf // nil until it offers an image
	reset     bool   // a Reset waits for the end of the transaction
	reboot    bool   // the next connection starts with the first slot
	boot      string // reason of the BootNotification still to be accepted, or ""
	why       string // why the station itself closed the last link, or ""
}

// State is what can be seen of a station from outside.
type State struct {
	Connected    bool
	Connections  int // successful ones so far
	Version      ocpp.Version
	Profile      int    // security profile in use
	Slot         int    // active network profile (2.x), 1 before any change
	TLSVersion   uint16 // of the live or last connection; 0: plain
	CipherSuite  uint16
	Presented    string // serial (lower-case hex) of the client certificate of the live or last connection, or ""
	Certificate  string // serial of the newest certificate in the key store, or ""
	Registration string // "", Accepted, Pending or Rejected (BootNotification)
	Installed    int    // CertificateSigned accepted so far
	Refused      int    // CertificateSigned refused so far
	LateAnswers  int    // answers no CALL was waiting for
	LastError    string // of the newest failed connection attempt, or ""
	Firmware     string // version that runs
	Update       string // newest firmware status, or ""
	Publishing   string // newest status of firmware it offers to others, or ""
	Quotes       int    // of its TPM so far, taken or not
	Quoted       string // what came of the newest: its outcome, or the error
}

// New prepares a station; it is silent until Connect or Run.
func New(ctx context.Context, cfg Config) (*Station, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	keys, err := openKeyStore(cfg.KeyDir)
	if err != nil {
		return nil, err
	}
	if cfg.Certificate != nil {
		if err := keys.adopt(*cfg.Certificate); err != nil {
			return nil, err
		}
	}
	s := &Station{
		cfg:     cfg,
		keys:    keys,
		trust:   newTrustStore(map[string][]*x509.Certificate{csmsRoot: cfg.Roots, manufacturerRoot: cfg.ManufacturerRoots, v2gRoot: cfg.V2GRoots}),
		seccs:   map[purpose]tls.Certificate{},
		rec:     &recorder{off: cfg.NoRecord, trace: cfg.Trace, clock: cfg.Clock},
		changed: make(chan struct{}),
		dev:     cfg.Deviations,
		reboot:  true,
		boot:    "PowerUp",

		firmware: cfg.Firmware, image: sha256.Sum256(Image(cfg.Firmware, 0)), booted: make(chan struct{}, 1),
	}
	if err := s.measure(); err != nil {
		return nil, err
	}
	s.ctx, s.cancel = context.WithCancel(ctx)
	if cfg.Controller != nil {
		context.AfterFunc(s.ctx, func() { _ = cfg.Controller.Close() })
	}
	s.set = newSettings(cfg)
	s.net = newNetwork(cfg)
	s.state = State{Version: cfg.Version, Profile: cfg.Profile, Slot: 1, Certificate: keys.newest(), Firmware: cfg.Firmware}
	return s, nil
}

// complete fills defaults and names the first field that can't be used.
func (c *Config) complete() error {
	if c.Identity == "" {
		return errors.New("station config: Identity is empty")
	}
	if c.URL == "" {
		return errors.New("station config: URL is empty")
	}
	if c.Profile < 0 || c.Profile > 3 {
		return fmt.Errorf("station config: Profile %d is none of 1, 2, 3", c.Profile)
	}
	if c.Key == TPMKey && (c.TPM == nil || c.KeyDir != "") {
		return errors.New("station config: Key tpm needs a TPM, and KeyDir keeps none of its keys")
	}
	text := func(field *string, fallback string) {
		if *field == "" {
			*field = fallback
		}
	}
	text(&c.Serial, c.Identity)
	text(&c.Vendor, "Bollard")
	text(&c.Model, "Simulated")
	text(&c.Firmware, "1.0.0")
	text((*string)(&c.Key), string(P256))
	number := func(field *int, fallback int) {
		if *field == 0 {
			*field = fallback
		}
	}
	number(&c.Profile, 2)
	number(&c.MaxChainSize, 10000)
	number(&c.SigningRepeats, 3)
	number(&c.Attempts, 3)
	span := func(field *time.Duration, fallback time.Duration) {
		if *field == 0 {
			*field = fallback
		}
	}
	span(&c.SigningWait, 30*time.Second)
	span(&c.CallTimeout, 30*time.Second)
	span(&c.DialTimeout, 10*time.Second)
	if c.Version == 0 {
		c.Version = ocpp.V201
	}
	if c.BackOff == (BackOff{}) {
		c.BackOff = BackOff{Minimum: 3 * time.Second, Random: 2 * time.Second, Repeats: 5}
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

// Close ends the connection and waits for everything the station started but
// Run, which ends by itself and belongs to its caller.
func (s *Station) Close() {
	s.cancel()
	s.connecting.Lock() // an attempt under way ends with s.ctx
	s.drop("closed")
	s.connecting.Unlock()
	s.wg.Wait()
}

// State returns the present state.
func (s *Station) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// Await returns once ok holds of the state, or with the context's error. ok is
// asked at every change.
func (s *Station) Await(ctx context.Context, ok func(State) bool) error {
	for {
		s.mu.Lock()
		state, changed := s.state, s.changed
		s.mu.Unlock()
		if ok(state) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("station %s: %w while in state %+v", s.cfg.Identity, context.Cause(ctx), state)
		case <-s.ctx.Done():
			return fmt.Errorf("station %s: closed while in state %+v", s.cfg.Identity, state)
		}
	}
}

// update changes what mu guards and wakes whoever awaits.
func (s *Station) update(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	close(s.changed)
	s.changed = make(chan struct{})
}

// Deviate changes the station's deviations from now on.
func (s *Station) Deviate(f func(*Deviations)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.dev)
}

func (s *Station) deviations() Deviations {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dev
}

// Retarget changes the CSMS address of the endpoint in use, as a technician on
// site does; it counts from the next connection.
func (s *Station) Retarget(url string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cfg.URL = url
	e := s.net.slots[s.net.active]
	e.URL = url
	s.net.slots[s.net.active] = e
}

// Enrol gives it another one-time secret, as a technician on site does; nil: its
// certificate proves it at the PKI listener.
func (s *Station) Enrol(secret []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cfg.EnrolSecret = secret
}

// Identity is the station's OCPP identity.
func (s *Station) Identity() string { return s.cfg.Identity }

// Certificate returns the newest client certificate with its key, as a thief
// with access to the key store would take it; ok is false without one.
func (s *Station) Certificate() (cert tls.Certificate, ok bool) {
	list := s.keys.candidates()
	if len(list) == 0 {
		return tls.Certificate{}, false
	}
	return list[0], true
}

func (s *Station) now() time.Time { return s.cfg.Clock() }

// stamp is the present time as OCPP writes it (RFC 3339, UTC).
func (s *Station) stamp() string { return s.now().UTC().Format("2006-01-02T15:04:05.000Z") }
