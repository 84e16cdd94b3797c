// Package config reads bollard.yaml strictly: unknown keys, wrong types and
// values out of range are refused with the key and the line.
//
// The comments of File are the operator's reference.
package config

import (
	"fmt"
	"time"
)

// File is bollard.yaml.
type File struct {
	Organisation string `yaml:"organisation"` // O of every certificate (A00.FR.509)
	Country      string `yaml:"country"`      // ISO 3166 alpha-2, C of CA certificates
	// Host is the CN and SAN of the server certificate and the base of every
	// URL written into a certificate or sent to a station. Default localhost.
	Host   string `yaml:"host"`
	Public Public `yaml:"public"`
	Listen Listen `yaml:"listen"`
	// Backends: the first whose match fits a station is its back end.
	Backends []Backend `yaml:"backends"`
	// UnknownIdentity: the HTTP status for an identity nobody enrolled, 401
	// (as for a wrong password) or 404 (OCPP-J 1.6 errata 3.4).
	UnknownIdentity int           `yaml:"unknown_identity"`
	Keys            Keys          `yaml:"keys"`
	Server          ServerCert    `yaml:"server_certificate"`
	Compression     bool          `yaml:"compression"` // permessage-deflate (RFC 7692), off by default
	Limits          Limits        `yaml:"limits"`
	Stations        []StationHint `yaml:"stations"` // per-station options that are no part of its record
	Log             Log           `yaml:"log"`
}

// Public overrides the URLs derived from Host, behind a load balancer.
type Public struct {
	OCPP     string `yaml:"ocpp"`     // wss://HOST:8443/ocpp
	Status   string `yaml:"status"`   // http://HOST:8080
	Firmware string `yaml:"firmware"` // https://HOST:8445
}

// Listen names every address; an empty one is not opened.
type Listen struct {
	OCPP     []OCPPListener `yaml:"ocpp"`
	PKI      string         `yaml:"pki"`
	Status   string         `yaml:"status"`
	Firmware string         `yaml:"firmware"`
	Admin    string         `yaml:"admin"`
}

// OCPPListener is one front door for stations.
type OCPPListener struct {
	Address      string   `yaml:"address"`
	Profiles     []int    `yaml:"profiles"`      // [2, 3], or [1] alone: plain ws
	Allow        []string `yaml:"allow"`         // identities; required with legacy_tls or cn_only
	LegacyTLS    bool     `yaml:"legacy_tls"`    // TLS 1.0 and 1.1 (1.6 only, A00.FR.324)
	CNOnly       bool     `yaml:"cn_only"`       // server certificate without SAN
	RefuseOrigin bool     `yaml:"refuse_origin"` // refuse handshakes with an Origin header
	// Trust limits the station roots of this listener: hashes of anchors
	// (`ca trust list`) and "own". Empty: own and all of use "station".
	Trust []string `yaml:"trust"`
}

// Backend is one CSMS.
type Backend struct {
	Name     string `yaml:"name"`
	URL      string `yaml:"url"`      // ws:// or wss://; "/<identity>" is appended
	Security string `yaml:"security"` // bollard (default), backend, observe
	Auth     string `yaml:"auth"`     // none (default), basic-shared, basic-per-station, mtls
	// PasswordFile holds the shared secret of basic-shared, one line, 0600.
	PasswordFile string `yaml:"password_file"`
	Trust        string `yaml:"trust"`       // PEM file of roots; empty: the system's
	Certificate  string `yaml:"certificate"` // mtls: PEM chain and key files
	Key          string `yaml:"key"`
	CNOnly       bool   `yaml:"cn_only"` // accept a certificate with only a CN (A00.FR.510)
	Match        Match  `yaml:"match"`
}

// Match selects stations; empty fields match all.
type Match struct {
	Identity string `yaml:"identity"` // pattern with * and ?, without case
	Vendor   string `yaml:"vendor"`
	Model    string `yaml:"model"`
	Profile  int    `yaml:"profile"`
}

// Keys says where private keys are made.
type Keys struct {
	URI            string `yaml:"uri"`             // softkms: (default)
	PassphraseFile string `yaml:"passphrase_file"` // or environment BOLLARD_KEY_PASSPHRASE
}

// ServerCert takes server certificates from files instead of the own CA. Both
// pairs may be given; what is missing comes from the own CA.
type ServerCert struct {
	ECDSA CertFiles `yaml:"ecdsa"`
	RSA   CertFiles `yaml:"rsa"`
}

// CertFiles is one PEM chain and its key.
type CertFiles struct {
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
}

// Limits of one station and of all.
type Limits struct {
	MessageBytes     int           `yaml:"message_bytes"`     // 1048576
	CallTimeout      time.Duration `yaml:"call_timeout"`      // 30s
	Handshake        time.Duration `yaml:"handshake"`         // 10s
	Header           time.Duration `yaml:"header"`            // 5s
	HandshakesAtOnce int           `yaml:"handshakes"`        // 64
	PerSource        int           `yaml:"per_source"`        // 256
	Write            time.Duration `yaml:"write"`             // 10s
	Ping             time.Duration `yaml:"ping"`              // 45s
	QueuedCalls      int           `yaml:"queued_calls"`      // 16
	Outstanding      int           `yaml:"outstanding_calls"` // 64
	Takeovers        int           `yaml:"takeovers"`         // 6 a minute
	RetryAfter       time.Duration `yaml:"retry_after"`       // 10s
	Drain            time.Duration `yaml:"drain"`             // 10s
}

// StationHint is an option of one station.
type StationHint struct {
	Identity string `yaml:"identity"`
	Version  string `yaml:"version"` // OCPP version if it offers no subprotocol: 1.6, 2.0.1, 2.1
}

// Log of the server.
type Log struct {
	Level  string `yaml:"level"`  // debug, info (default), warn, error
	Format string `yaml:"format"` // text (default), json
}

// Error names the place of a fault.
type Error struct {
	Path string // file
	Line int    // 0: unknown
	Key  string // dotted, such as listen.ocpp[0].address
	Text string // what is wrong and what to do
}

// Error returns "bollard.yaml:7: listen.ocpp[0].address: …".
func (e *Error) Error() string {
	return fmt.Sprintf("%s:%d: %s: %s", e.Path, e.Line, e.Key, e.Text)
}

// Load reads, checks and completes a file with defaults; the error is an *Error.
func Load(path string) (*File, error) { panic("internal error: contract only") }

// Parse is Load for bytes already read; path is for errors.
func Parse(path string, data []byte) (*File, error) { panic("internal error: contract only") }

// Render writes what init puts into a new data directory: every listener and
// the back end explicit, each line with its comment.
func Render(f *File) ([]byte, error) { panic("internal error: contract only") }
