package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// suites are what the standard demands for TLS 1.2, and ECDHE_RSA, which many
// stations offer alone (A00.FR.318 [2.x]; OCPP 2.0.1 part 2 §A 1.3). TLS 1.3 has
// its own. RSA key exchange has no forward secrecy; it is mandatory all the same.
func suites() []uint16 {
	return []uint16{
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_RSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_RSA_WITH_AES_256_GCM_SHA384,
	}
}

// subjectsFor is how long the CA names of a CertificateRequest may be old.
const subjectsFor = 5 * time.Second

// tlsSettings makes the configuration of each handshake of one listener.
//
// Session tickets stay on: a resumed session brings its certificate along, and
// identity, chain and revocation are judged by the Door for each connection.
// Their keys come from the gateway's secrets, or live and rotate in base, and
// differ from listener to listener.
type tlsSettings struct {
	base     *tls.Config
	legacy   bool
	mutual   bool // profile 3 is accepted
	door     Door
	log      *slog.Logger
	listener string
	tickets  *atomic.Pointer[[][]byte]
	mu       sync.Mutex // guards the rest
	sealedBy *[][]byte  // what of tickets base has the keys of
	fresh    time.Time
	above    map[*x509.Certificate]struct{} // CAs of resumed sessions; see judge
	current  *tls.Config                    // for TLS 1.2 and newer
	old      *tls.Config                    // for TLS 1.0 and 1.1; nil unless legacy
}

func newTLSSettings(l *Listener, g *Gateway) *tlsSettings {
	t := &tlsSettings{legacy: l.Legacy, mutual: slices.Contains(l.Profiles, 3), door: g.cfg.Door, log: g.log, listener: l.Name, tickets: &g.tickets}
	t.base = &tls.Config{
		MinVersion:     tls.VersionTLS12,
		CipherSuites:   suites(),
		GetCertificate: l.Certificate,
		NextProtos:     []string{"http/1.1"},
		// One record a message, one system call a record.
		DynamicRecordSizingDisabled: true,
	}
	if t.legacy {
		t.base.MinVersion = tls.VersionTLS10
	}
	if t.mutual {
		// The Door judges the chain: what it refuses gets a reason and a 401,
		// which a failed handshake couldn't tell.
		t.base.ClientAuth = tls.RequestClientCert
	}
	t.base.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		return t.choose(hello.Context(), hello), nil
	}
	return t
}

// maxAbove is how many CAs of stations are kept parsed.
const maxAbove = 64

// judge has the Door look at the chain of a finished handshake, resumed or not.
//
// crypto/tls parses the certificates in a ticket unless somebody still holds them:
// that pays for the few CAs all stations share.
func (t *tlsSettings) judge(ctx context.Context, state tls.ConnectionState, trust []string) (untrusted string) {
	chain := state.PeerCertificates
	if !t.mutual || len(chain) == 0 {
		return ""
	}
	if state.DidResume {
		t.hold(chain[1:])
	}
	if door, ok := t.door.(Judge); ok {
		return door.Judge(ctx, chain, trust)
	}
	return ""
}

func (t *tlsSettings) hold(above []*x509.Certificate) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range above {
		if _, held := t.above[c]; held {
			continue
		}
		if t.above == nil || len(t.above) >= maxAbove {
			t.above = make(map[*x509.Certificate]struct{})
		}
		t.above[c] = struct{}{}
	}
}

// choose looks at a ClientHello: it notes what is wrong with it, for the
// operator, and picks the configuration.
func (t *tlsSettings) choose(ctx context.Context, hello *tls.ClientHelloInfo) *tls.Config {
	current, old := t.refreshed(ctx)
	cfg := current
	newest := slices.Max(append([]uint16{0}, hello.SupportedVersions...))
	if old != nil && newest < tls.VersionTLS12 {
		// The CBC suite is for these versions alone (A00.FR.324, .428 [1.6]).
		cfg = old
	}
	if g, ok := hello.Conn.(*guest); ok {
		g.hello = faultOf(hello, newest, cfg)
	}
	return cfg
}

// refreshed returns the configurations with CA names not older than subjectsFor.
// If the Door can't tell, the old names serve: they are a hint to the station.
func (t *tlsSettings) refreshed(ctx context.Context) (current, old *tls.Config) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if rekeyed := t.rekey(); !rekeyed && t.current != nil && (!t.mutual || time.Since(t.fresh) < subjectsFor) {
		return t.current, t.old
	}
	next := t.base.Clone()
	next.GetConfigForClient = nil
	next.MinVersion = tls.VersionTLS12
	if t.mutual {
		pool, err := t.door.Subjects(ctx)
		if err != nil {
			t.log.Error("couldn't read the CA names for TLS handshakes", "err", err)
			if t.current != nil {
				pool = t.current.ClientCAs
			}
		}
		next.ClientCAs = pool
	}
	t.current, t.fresh = next, time.Now()
	if t.legacy {
		t.old = next.Clone()
		t.old.MinVersion, t.old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
		t.old.CipherSuites = []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA}
	}
	return t.current, t.old
}

// helloFault is what a ClientHello lacks.
type helloFault uint8

const (
	helloUnseen  helloFault = iota // none came
	helloGood                      // nothing
	helloVersion                   // no version we accept
	helloSuite                     // no suite we accept
)

func faultOf(hello *tls.ClientHelloInfo, newest uint16, cfg *tls.Config) helloFault {
	if newest < cfg.MinVersion {
		return helloVersion
	}
	if newest >= tls.VersionTLS13 {
		return helloGood // all suites of TLS 1.3 are accepted
	}
	for _, suite := range hello.CipherSuites {
		if slices.Contains(cfg.CipherSuites, suite) {
			return helloGood
		}
	}
	return helloSuite
}

// The classes of failed connections, for metrics and log.
const (
	classVersion     = "version"       // TLS version too low
	classSuite       = "suite"         // no shared cipher suite
	classCertificate = "certificate"   // the station's certificate or its proof is bad
	classRefused     = "peer-refused"  // the station sent an alert: it doesn't trust us
	classTimeout     = "timeout"       // the handshake took too long
	classNotTLS      = "not-tls"       // the first bytes are no TLS
	classClosed      = "closed"        // the peer went away
	classProtocol    = "protocol"      // anything else
	classCrowd       = "too-many-open" // pushed out, half-open, by newer ones
	classProxy       = "proxy-header"  // a balancer didn't say whom it brings
)

// securityEvent is the OCPP name of what a failure means (OCPP 2.0.1 part 2
// appendix 1), "" if it has none.
func securityEvent(class string) string {
	switch class {
	case classVersion:
		return "InvalidTLSVersion"
	case classSuite:
		return "InvalidTLSCipherSuite"
	case classCertificate:
		return "InvalidChargingStationCertificate"
	}
	return ""
}

// classify names why a handshake failed. It goes by what was seen and by the
// types of errors; the peer's bytes reach nobody.
func (g *guest) classify(err error) string {
	var record tls.RecordHeaderError
	var op *net.OpError
	switch {
	case g.hello == helloVersion:
		return classVersion
	case g.hello == helloSuite:
		return classSuite
	case errors.Is(err, os.ErrDeadlineExceeded):
		return classTimeout
	case g.hello == helloUnseen && errors.As(err, &record):
		return classNotTLS
	case errors.As(err, &op) && op.Op == "remote error":
		return classRefused
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET),
		errors.Is(err, syscall.EPIPE), errors.Is(err, net.ErrClosed):
		return classClosed
	case badCertificate(err):
		return classCertificate
	}
	return classProtocol
}

// badCertificate: crypto/tls has no type for a client certificate it couldn't
// parse or whose signature over the handshake is wrong, only these texts of its own.
func badCertificate(err error) bool {
	var invalid *tls.CertificateVerificationError
	var unknown x509.UnknownAuthorityError
	return errors.As(err, &invalid) || errors.As(err, &unknown) ||
		strings.Contains(err.Error(), "client certificate") || strings.Contains(err.Error(), "client's certificate")
}
