// Package config reads bollard.yaml strictly: unknown keys, wrong types and
// values out of range are refused with the key and the line.
//
// The doc tags of File are the operator's reference: Render writes them beside
// each key.
package config

import (
	"net/netip"
	"time"
)

// File is bollard.yaml. No secret stands in it, only names of files.
type File struct {
	Organisation string `yaml:"organisation" show:"always" doc:"O of every certificate (A00.FR.509)"`
	Country      string `yaml:"country" show:"always" doc:"ISO 3166, two letters: C of CA certificates"`
	// Host is the CN and SAN of the server certificate and the base of every
	// URL written into a certificate or sent to a station. Default localhost.
	Host   string `yaml:"host" show:"always" doc:"name stations dial: CN and SAN of the server certificate, base of every URL"`
	Public Public `yaml:"public" doc:"URLs as stations see them, if a load balancer changes them"`
	Listen Listen `yaml:"listen" show:"always" doc:"addresses; a listener without one is not opened"`
	// Backends: the first whose match fits a station is its back end.
	Backends []Backend `yaml:"backends" show:"always" doc:"the CSMS; of several, the first whose match fits a station"`
	// UnknownIdentity: the HTTP status for an identity nobody enrolled, 401
	// (as for a wrong password) or 404 (OCPP-J 1.6 errata 3.4).
	UnknownIdentity int        `yaml:"unknown_identity" doc:"HTTP status for an identity nobody enrolled: 401 as for a wrong password, or 404"`
	Keys            Keys       `yaml:"keys" doc:"where private keys are made"`
	Server          ServerCert `yaml:"server_certificate" doc:"server certificates from files; what is missing comes from the own CA"`
	Compression     bool       `yaml:"compression" doc:"permessage-deflate (RFC 7692) with stations and back ends"`
	Limits          Limits     `yaml:"limits" doc:"of one station and of all"`
	Renewal         Renewal    `yaml:"renewal" doc:"of station certificates"`
	// SecurityLog is only asked for where listen.firmware has a place for it.
	SecurityLog SecurityLog `yaml:"security_log" doc:"the security logs stations are asked to upload to listen.firmware (GetLog)"`
	Contracts   Contracts   `yaml:"contracts" doc:"contract certificates for cars (ISO 15118): docs/contracts.md"`
	Firmware    Firmware    `yaml:"firmware" doc:"firmware updates of stations, which download from listen.firmware: docs/firmware-updates.md"`
	Alerts      Alerts      `yaml:"alerts" doc:"who is told of what looks like an attack or a fault: docs/alerts.md"`
	Policy      Policy      `yaml:"policy" doc:"rules about messages, which stand in DIR/policy/*.yaml"`
	Ledger      Ledger      `yaml:"ledger" doc:"where checkpoints of the ledger are kept, so that a cut tail is seen: docs/ledger.md"`
	Retention   Retention   `yaml:"retention" doc:"how old records may grow, beside their bounds by number; what isn't here stays"`
	ACME        ACME        `yaml:"acme" doc:"server certificates over ACME on listen.pki; nothing listed, none issued: docs/acme.md"`
	// OCSPHosts are the names of safehttp: exact, or *.example.com, and HOST:PORT.
	OCSPHosts []string `yaml:"ocsp_hosts" doc:"OCSP responders and CRL servers of others that a station's question or a certificate may lead to, with a port other than the scheme's as HOST:PORT; none: only own certificates are answered for"`
	// Guard changes, model by model, what back ends may not write to stations
	// beside what the standard names: those settings are guarded in any case.
	Guard []Guard `yaml:"guard" doc:"settings and transfers of station models that a back end may not send, or may"`
	// Approvers are people; one key stands for one of them.
	Approvers []Approver `yaml:"approvers" doc:"people who approve what takes several: docs/approvals.md"`
	Approvals []Approval `yaml:"approvals" doc:"how many people an action takes: docs/approvals.md"`
	// P224 lets models have keys on that curve (A00.FR.503), which TLS 1.3 can't
	// use: their stations come over TLS 1.2.
	P224 []Model `yaml:"p224" doc:"station models that may have keys on P-224, over TLS 1.2 only; none: refused"`
	// Assurance: relying parties of station certificates may look for it.
	Assurance Assurance `yaml:"assurance" doc:"certificate policies by which station certificates say whether their key was attested: docs/tpm.md"`
	// Stations are per-station options that are no part of the station's record.
	Stations []StationHint `yaml:"stations" doc:"options of single stations"`
	Log      Log           `yaml:"log" doc:"of the server"`
}

// Assurance are object identifiers of certificate policies.
type Assurance struct {
	Attested string `yaml:"attested" number:"ok" doc:"of certificates whose key the station's TPM made, such as 1.3.6.1.4.1.99999.1.1; none: no policy"`
	Other    string `yaml:"other" number:"ok" doc:"of all other station certificates; none: no policy"`
}

// Public overrides the URLs derived from Host and Listen, behind a load
// balancer. Parse fills what the file leaves out.
type Public struct {
	OCPP     string `yaml:"ocpp" doc:"such as wss://HOST:8443/ocpp, without the identity"`
	Status   string `yaml:"status" doc:"such as http://HOST:8080"`
	Firmware string `yaml:"firmware" doc:"such as https://HOST:8445"`
	SFTP     string `yaml:"sftp" doc:"of listen.sftp, such as sftp://HOST:2022"`
	Rollover string `yaml:"rollover" doc:"of the rollover listener, such as wss://HOST:8453/ocpp"`
}

// Listen names every address; an empty one is not opened.
type Listen struct {
	OCPP     []OCPPListener `yaml:"ocpp" show:"always" doc:"doors for stations"`
	PKI      string         `yaml:"pki" show:"always" doc:"EST, ACME, step, attestation and the pool over TLS"`
	Status   string         `yaml:"status" show:"always" doc:"OCSP and CRL, plain HTTP"`
	Firmware string         `yaml:"firmware" show:"always" doc:"files for and from stations over TLS: downloads of firmware, uploads of logs"`
	SFTP     string         `yaml:"sftp" show:"always" doc:"the same over SFTP, for the models of firmware.models that know nothing else; none: not served"`
	ACME     string         `yaml:"acme" doc:"proofs for the CA of server_certificate.acme, plain HTTP: what it finds at port 80 of host"`
	Admin    string         `yaml:"admin" show:"always" doc:"/healthz, /readyz, /metrics; commands go through DIR/bollard.sock"`
}

// OCPPListener is one front door for stations.
type OCPPListener struct {
	Address  string   `yaml:"address" show:"always" doc:"IP:PORT"`
	Profiles []int    `yaml:"profiles" show:"always" doc:"security profiles let in: [2, 3], [2], [3], or [1] alone for plain ws"`
	Allow    []string `yaml:"allow" number:"ok" doc:"identities let in; required with legacy_tls or cn_only"`
	// LegacyTLS lets TLS 1.0 and 1.1 in (1.6 only, A00.FR.324).
	LegacyTLS    bool `yaml:"legacy_tls" doc:"TLS 1.0 and 1.1, for old 1.6 stations"`
	CNOnly       bool `yaml:"cn_only" doc:"server certificate without SAN"`
	RefuseOrigin bool `yaml:"refuse_origin" doc:"refuse handshakes with an Origin header"`
	// Rollover serves the chain under the next CSMS root while it is changed: who
	// connects here has shown that it trusts the new root (docs/rollover.md).
	Rollover bool `yaml:"rollover" doc:"serve the chain of the next CSMS root, for stations that are to prove they have it"`
	// ProxyProtocol names the only peers whose PROXY header (version 2) counts;
	// they must send one with each connection.
	ProxyProtocol []string `yaml:"proxy_protocol" doc:"load balancers that send PROXY protocol v2: addresses or networks such as 10.0.0.0/24; others are taken for stations"`
	// Trust limits the station roots of this listener: hashes of anchors
	// (`ca trust list`) and "own". Empty: own and all of use "station".
	Trust []string `yaml:"trust" doc:"station roots: own, and hashes that ca trust list shows; none: all of them"`
}

// Proxies are the networks of ProxyProtocol; ok is false if one can't be read.
func (o *OCPPListener) Proxies() (list []netip.Prefix, ok bool) {
	for _, text := range o.ProxyProtocol {
		p, err := netip.ParsePrefix(text)
		if a, failed := netip.ParseAddr(text); failed == nil {
			p, err = a.Prefix(a.BitLen())
		}
		if err != nil || p != p.Masked() || p.Addr().Is4In6() {
			return nil, false
		}
		list = append(list, p)
	}
	return list, true
}

// Backend is one CSMS.
type Backend struct {
	URL      string `yaml:"url" show:"always" doc:"ws:// or wss://; /IDENTITY is appended"`
	Name     string `yaml:"name" doc:"for logs and metrics"`
	Security string `yaml:"security" show:"always" doc:"who answers certificate messages: bollard, backend, or observe"`
	Auth     string `yaml:"auth" show:"always" doc:"how Bollard proves itself: none, basic-shared, basic-per-station, mtls"`
	// PasswordFile holds the shared secret of basic-shared, one line, 0600.
	PasswordFile string `yaml:"password_file" doc:"basic-shared: file with the secret, one line, mode 0600"`
	Trust        string `yaml:"trust" doc:"PEM file of roots for wss; none: the system's"`
	Certificate  string `yaml:"certificate" doc:"mtls: PEM chain"`
	Key          string `yaml:"key" doc:"mtls: PEM key, mode 0600"`
	CNOnly       bool   `yaml:"cn_only" doc:"accept a certificate with only a CN (A00.FR.510)"`
	Adopt        Adopt  `yaml:"adopt" doc:"take over passwords of stations that have none here, by this back end's own 101"`
	Match        Match  `yaml:"match" doc:"stations of this back end; what is left out matches all"`
}

// Adopt lets a listed station without a stored password in once the back end
// took what it presented; that becomes its password. Time-limited and recorded.
type Adopt struct {
	Until string `yaml:"until" number:"ok" doc:"last day, such as 2027-01-31, in UTC"`
}

// Guard is about the stations of one model, or of all.
type Guard struct {
	Vendor    string   `yaml:"vendor" doc:"as in the station's record, with * and ?; none: all"`
	Model     string   `yaml:"model" number:"ok" doc:"as in the station's record, with * and ?; none: all"`
	Keys      []string `yaml:"keys" doc:"1.6 keys and 2.x variables (or COMPONENT.VARIABLE) kept from the back end, with * and ?"`
	Transfers []string `yaml:"transfers" doc:"DataTransfer kept from the station: VENDOR or VENDOR/MESSAGE, with * and ?"`
	Allow     []string `yaml:"allow" doc:"keys and transfers let through although the defaults keep them back"`
}

// Model names station models.
type Model struct {
	Vendor string `yaml:"vendor" doc:"as in the station's record, with * and ?; none: all"`
	Model  string `yaml:"model" number:"ok" doc:"as in the station's record, with * and ?; none: all"`
}

// Renewal paces the renewals of the fleet.
type Renewal struct {
	PerMinute int `yaml:"per_minute" doc:"stations asked to renew in a minute because their certificates are due"`
	// RevokeSuperseded: stations can't fall back to the older one then (A02.FR.28).
	RevokeSuperseded bool `yaml:"revoke_superseded" doc:"revoke a certificate as superseded once the station was seen with its next one"`
}

// SecurityLog is the schedule of security logs.
type SecurityLog struct {
	Off        bool          `yaml:"off" doc:"ask no station by itself; station log --fetch asks one"`
	Every      time.Duration `yaml:"every" doc:"between two logs of one station"`
	Keep       time.Duration `yaml:"keep" doc:"how long a log is kept; of one station the newest ten"`
	MaxBytes   int           `yaml:"max_bytes" doc:"longest log"`
	TotalBytes int           `yaml:"total_bytes" doc:"all logs together"`
	// BackEnds: see docs/security-log.md.
	BackEnds bool `yaml:"back_ends" doc:"have what back ends ask for (GetLog, GetDiagnostics) uploaded here too, instead of where they say"`
	HandOn   bool `yaml:"hand_on" doc:"bring that on to where they said, over https"`
}

// Retention has an age for each kind of record that may go; 0: none.
type Retention struct {
	SecurityEvents time.Duration `yaml:"security_events" doc:"of stations; of each the newest 500 of either criticality"`
	Findings       time.Duration `yaml:"findings" doc:"the newest 10,000, of each station 200"`
	Orders         time.Duration `yaml:"orders" doc:"of certificates, once they are closed; each station's newest stays"`
	Rollouts       time.Duration `yaml:"rollouts" doc:"once they are over"`
	Approvals      time.Duration `yaml:"approvals" doc:"since they began to be for nothing"`
	Checkpoints    time.Duration `yaml:"checkpoints" doc:"of the ledger, kept beside it; the newest stays"`
	People         time.Duration `yaml:"people" doc:"what ties operators and approvers to their pseudonyms in the ledger, since they stood in it last"`
}

// Firmware says which updates go to stations, and how fast.
type Firmware struct {
	// Level of models that Models doesn't name.
	Level   string          `yaml:"level" doc:"enforce: stations get published releases only; strict: which are in a log; observe: record what would be refused"`
	Models  []FirmwareModel `yaml:"models" doc:"what differs for single models; the first that fits counts"`
	Makers  []FirmwareMaker `yaml:"makers" doc:"manufacturers and for whom they sign; a trusted root that isn't here signs for the vendor its subject's O names"`
	Revoked []string        `yaml:"revoked" number:"ok" doc:"SHA-256 of signers' and CAs' certificates that count no more: an outside manufacturer's are revoked by nobody else"`
	Keep    time.Duration   `yaml:"keep" doc:"how long images are kept from their publication: the support period, if it is longer than ten years"`
	Log     string          `yaml:"log" doc:"directory of an own log of releases, served read-only under /log/ of listen.status"`
	Logs    []FirmwareLog   `yaml:"logs" doc:"transparency logs that count for the level strict"`
	// Rates in bytes a second.
	Rate        int `yaml:"rate" doc:"bytes a second for all downloads together; none: as fast as it goes"`
	SiteRate    int `yaml:"site_rate" doc:"bytes a second for the stations of one site"`
	StationRate int `yaml:"station_rate" doc:"bytes a second for one station"`
	MaxBytes    int `yaml:"max_bytes" doc:"longest image"`
	TotalBytes  int `yaml:"total_bytes" doc:"all images together"`
	// Networks: safehttp keeps to public addresses but for these.
	Networks []string `yaml:"networks" doc:"private networks an image may be fetched from, such as 10.0.0.0/8"`
	Trust    string   `yaml:"trust" doc:"PEM file of roots for fetching images over https; none: the system's"`
	// Windows are for the rollouts Bollard does; a back end gives times of its own.
	Windows      []FirmwareWindow `yaml:"windows" doc:"when rollouts may update stations; the first that fits counts; none: at any time"`
	TellBackends bool             `yaml:"tell_backends" doc:"let back ends see the statuses of updates that a rollout started"`
}

// FirmwareWindow is when the stations of a site or a group may be updated.
type FirmwareWindow struct {
	Site  string   `yaml:"site" number:"ok" doc:"as in the station's record, with * and ?; none: all"`
	Group string   `yaml:"group" number:"ok" doc:"with * and ?; none: all"`
	Open  []string `yaml:"open" doc:"such as mon-fri 22:00-05:00 Europe/Amsterdam; none: at any time"`
}

// Who answers cars that ask for a contract certificate.
const (
	AnswerOwn     = "own"
	AnswerBackend = "backend"
)

// What a certificate of another CA counts for whose status can't be learned.
const (
	RevocationSoft = "soft"
	RevocationHard = "hard"
)

// How much certificates of cars and contracts need of what their profiles demand.
const (
	LeavesLenient = "lenient"
	LeavesStrict  = "strict"
)

// Curves of ISO 15118-20 beside P-521.
const (
	CurveP256  = "P-256"
	CurveEd448 = "Ed448"
)

// Contracts says who answers cars that ask for a contract certificate.
type Contracts struct {
	Answer string `yaml:"answer" doc:"own: Bollard, from its contracts; backend: the request is passed on; none: own where there is a hierarchy mo or mo-20, or a pool"`
	// Otherwise is for cars without a contract here, and no pool to ask.
	Otherwise string         `yaml:"otherwise" doc:"backend: requests of cars without a contract here, and no pool to ask, are passed on; none: they are refused"`
	CPS       string         `yaml:"cps" number:"ok" doc:"name of a pool whose CPS signs own contracts of ISO 15118-2 for cars; none: the own hierarchy cps"`
	Pools     []ContractPool `yaml:"pools" doc:"providers elsewhere, asked in this order for cars without a contract here"`
	// Revocation: docs/contracts.md says what is asked, and how long.
	Revocation string          `yaml:"revocation" doc:"a car's or a contract's certificate of another CA whose status can't be learned in 2 s: soft: it counts, hard: it doesn't; none: soft"`
	Leaves     string          `yaml:"leaves" doc:"certificates of cars, contracts and who signs for cars: lenient: what is in them has to fit, strict: they have all that ISO 15118 demands; none: lenient"`
	Curves20   []string        `yaml:"curves_20" doc:"curves of ISO 15118-20 that count beside P-521: Ed448, the standard's alternative; P-256, as test stacks have it; none: P-521 alone"`
	Models     []ContractModel `yaml:"models" doc:"what differs for single models; the first that fits counts"`
}

// ContractModel is what the stations of one model carry to cars.
type ContractModel struct {
	Vendor      string `yaml:"vendor" doc:"as in the station's record, with * and ?; none: all"`
	Model       string `yaml:"model" number:"ok" doc:"as in the station's record, with * and ?; none: all"`
	MaxResponse int    `yaml:"max_response" doc:"longest exiResponse in characters; none: 5600, in OCPP 2.1 17000"`
}

// FirmwareModel is how the stations of one model are updated.
type FirmwareModel struct {
	Vendor    string `yaml:"vendor" doc:"as in the station's record, with * and ?; none: all"`
	Model     string `yaml:"model" number:"ok" doc:"as in the station's record, with * and ?; none: all"`
	Level     string `yaml:"level" doc:"strict, enforce or observe; none: that of all"`
	Signature string `yaml:"signature" doc:"what they verify: ecdsa-p256-sha256, rsa-pss-sha256 or rsa-pkcs1v15-sha256; none: the release's first"`
	SignFill  bool   `yaml:"sign_fill" doc:"complete an UpdateFirmware of 2.x without signature from the release"`
	Upgrade   bool   `yaml:"upgrade" doc:"send an UpdateFirmware of 1.6 on as SignedUpdateFirmware"`
	Location  string `yaml:"location" doc:"where they download: ours (which is what none means), sftp, or origin: where the back end has it, if that is the release's image"`
	Chain     bool   `yaml:"chain" doc:"send the CAs above the signing certificate with it, as far as they fit: many stations take one certificate only"`
	Refusal   string `yaml:"refusal" doc:"error code that refuses an UpdateFirmware of 1.6: SecurityError, or NotSupported as of stations with signed firmware; none: SecurityError"`
}

// Alerts says who is told of findings.
type Alerts struct {
	Minimum  string    `yaml:"minimum" doc:"the least that receivers are told: info, warning or critical; all findings are kept"`
	Webhooks []Webhook `yaml:"webhooks" doc:"HTTPS receivers; each alert is signed with a shared secret"`
	Syslog   []Syslog  `yaml:"syslog" doc:"syslog receivers (RFC 5424)"`
}

// Webhook is one HTTPS receiver of alerts.
type Webhook struct {
	Name       string `yaml:"name" show:"always" doc:"for logs and metrics"`
	URL        string `yaml:"url" show:"always" doc:"https://…; http:// only on this machine"`
	SecretFile string `yaml:"secret_file" show:"always" doc:"file with the secret shared with the receiver, one line, mode 0600"`
	Trust      string `yaml:"trust" doc:"PEM file of roots; none: the system's"`
	// Networks: safehttp keeps to public addresses but for these.
	Networks []string `yaml:"networks" doc:"private networks the receiver may be in, such as 10.0.0.0/8"`
}

// Syslog is one syslog receiver of alerts.
type Syslog struct {
	Name        string `yaml:"name" show:"always" doc:"for logs and metrics"`
	URL         string `yaml:"url" show:"always" doc:"tls://HOST:6514 (RFC 5425); tcp:// and udp:// in networks that are trusted"`
	Trust       string `yaml:"trust" doc:"PEM file of roots; none: the system's"`
	Certificate string `yaml:"certificate" doc:"PEM chain Bollard shows, if the receiver asks for one"`
	Key         string `yaml:"key" doc:"its PEM key, mode 0600"`
}

// Policy says what rules about messages go by.
type Policy struct {
	TimeZone string `yaml:"time_zone" doc:"zone in which rules tell hours, such as Europe/Amsterdam; none: UTC"`
	RecordMB int    `yaml:"record_mb" doc:"record traffic, without personal data, up to this many MB in DIR/policy for policy replay; none: don't"`
}

// Ledger says where its checkpoints go: with none elsewhere, what is cut off
// together with the ones beside it is never missed.
type Ledger struct {
	Every     time.Duration `yaml:"every" doc:"between checkpoints; one more at the stop"`
	File      string        `yaml:"file" doc:"file for the newest checkpoint, on another machine's disk; start is refused if the ledger doesn't continue it"`
	Syslog    []Syslog      `yaml:"syslog" doc:"syslog receivers (RFC 5424)"`
	Webhooks  []Place       `yaml:"webhooks" doc:"HTTPS receivers; a checkpoint carries its own signature"`
	Witnesses []Witness     `yaml:"witnesses" doc:"witnesses, which sign what they saw (c2sp.org/tlog-witness)"`
}

// Place is one HTTPS receiver of checkpoints.
type Place struct {
	Name     string   `yaml:"name" show:"always" doc:"for logs and metrics"`
	URL      string   `yaml:"url" show:"always" doc:"https://…; http:// only on this machine"`
	Trust    string   `yaml:"trust" doc:"PEM file of roots; none: the system's"`
	Networks []string `yaml:"networks" doc:"private networks the receiver may be in, such as 10.0.0.0/8"`
}

// Witness is one witness.
type Witness struct {
	Name     string   `yaml:"name" show:"always" doc:"for logs and metrics"`
	URL      string   `yaml:"url" show:"always" doc:"its submission prefix, https://…; /add-checkpoint is appended"`
	Key      string   `yaml:"key" show:"always" number:"ok" doc:"its verifier key, NAME+HASH+KEY"`
	Trust    string   `yaml:"trust" doc:"PEM file of roots; none: the system's"`
	Networks []string `yaml:"networks" doc:"private networks the witness may be in, such as 10.0.0.0/8"`
}

// FirmwareMaker is a manufacturer and for whom it may sign firmware.
type FirmwareMaker struct {
	Name     string   `yaml:"name" number:"ok" show:"always" doc:"for people"`
	Roots    []string `yaml:"roots" number:"ok" show:"always" doc:"SHA-256 of its roots, as bollard ca trust list shows them"`
	Vendors  []string `yaml:"vendors" number:"ok" show:"always" doc:"to the letter as in BootNotification"`
	Models   []string `yaml:"models" number:"ok" doc:"of those vendors, with * at the end for any that begin so; none: all"`
	Metadata string   `yaml:"metadata" doc:"file with the first root.json of its metadata; none: its releases come without"`
}

// FirmwareLog is a transparency log of releases.
type FirmwareLog struct {
	Key       string   `yaml:"key" number:"ok" show:"always" doc:"its verifier key, NAME+HASH+KEY"`
	Witnesses []string `yaml:"witnesses" number:"ok" doc:"verifier keys of witnesses whose cosignatures count"`
	Needed    int      `yaml:"needed" doc:"how many of them; none: all"`
}

// Approver is a person with the public halves of their own keys.
type Approver struct {
	Name         string   `yaml:"name" number:"ok" show:"always" doc:"lower-case letters, digits and . _ @ -"`
	SSH          []string `yaml:"ssh" doc:"SSH public keys, each the line of its .pub file"`
	Certificates []string `yaml:"certificates" doc:"PEM files of certificates whose keys sign by CMS"`
}

// Approval is how many people an action takes, none of them who asked for it.
type Approval struct {
	Action string   `yaml:"action" show:"always" doc:"such as firmware.publish: docs/approvals.md"`
	Needed int      `yaml:"needed" show:"always" doc:"people whose signatures it takes"`
	Of     []string `yaml:"of" number:"ok" doc:"names of approvers; none: all of them"`
	With   []string `yaml:"with" number:"ok" doc:"names of whom one has to be among them, such as the manufacturer's people; none: anybody"`
}

// Match selects stations; empty fields match all.
type Match struct {
	Identity string `yaml:"identity" number:"ok" doc:"pattern with * and ?, without case"`
	Vendor   string `yaml:"vendor" doc:"as in the station's record"`
	Model    string `yaml:"model" number:"ok" doc:"as in the station's record"`
	Profile  int    `yaml:"profile" doc:"security profile 1, 2 or 3"`
}

// Keys says where private keys are made.
type Keys struct {
	URI string `yaml:"uri" doc:"softkms: are files below the data directory; pkcs11:module-path=…;token=…?pin-source=FILE is an HSM, tpmkms:device=…?pin-source=FILE the TPM of this machine, vault:address=…?secret-id-source=FILE… a Vault, awskms:region=…?credentials-source=FILE the KMS of AWS (not for TLS, SSH and the ledger): docs/keys.md"`
	// PassphraseFile has one line; the environment variable
	// BOLLARD_KEY_PASSPHRASE serves as well.
	PassphraseFile string `yaml:"passphrase_file" doc:"file with the passphrase of key files, mode 0600; or environment BOLLARD_KEY_PASSPHRASE"`
}

// ServerCert takes server certificates from files instead of the own CA. Both
// pairs may be given; what is missing comes from the own CA.
type ServerCert struct {
	ECDSA CertFiles `yaml:"ecdsa" doc:"pair with a P-256 or P-384 key"`
	RSA   CertFiles `yaml:"rsa" doc:"pair with an RSA key"`
	ACME  Outside   `yaml:"acme" doc:"or from a CA of others over ACME, which asks for proofs on listen.acme: docs/server-certificate.md"`
}

// CertFiles is one PEM chain and its key.
type CertFiles struct {
	Certificate string `yaml:"certificate" doc:"PEM chain"`
	Key         string `yaml:"key" doc:"PEM key, mode 0600"`
}

// Limits of one station and of all.
type Limits struct {
	MessageBytes     int           `yaml:"message_bytes" doc:"longest message, after inflation"`
	CallTimeout      time.Duration `yaml:"call_timeout" doc:"a CALL without answer is given up after this"`
	Handshake        time.Duration `yaml:"handshake" doc:"TLS handshake of a station; dial of a back end"`
	Header           time.Duration `yaml:"header" doc:"HTTP head of a station"`
	HandshakesAtOnce int           `yaml:"handshakes" doc:"handshakes that compute at the same time; more than processors take time from live sessions"`
	PerSource        int           `yaml:"per_source" doc:"unproven connections of one address"`
	Write            time.Duration `yaml:"write" doc:"a peer that takes nothing for so long is cut off"`
	Ping             time.Duration `yaml:"ping" doc:"between pings of a station"`
	QueuedCalls      int           `yaml:"queued_calls" doc:"CALLs waiting for one station"`
	Outstanding      int           `yaml:"outstanding_calls" doc:"unanswered CALLs of one station that are remembered"`
	Takeovers        int           `yaml:"takeovers" doc:"new connections of one identity a minute"`
	RetryAfter       time.Duration `yaml:"retry_after" doc:"told to stations while their back end is away"`
	Drain            time.Duration `yaml:"drain" doc:"for open work when the server stops"`
}

// StationHint is an option of one station.
type StationHint struct {
	Identity string `yaml:"identity" number:"ok" show:"always" doc:"of the station"`
	Version  string `yaml:"version" number:"ok" show:"always" doc:"OCPP version if it offers no subprotocol: 1.6, 2.0.1 or 2.1"`
}

// Log of the server.
type Log struct {
	Level  string `yaml:"level" doc:"debug, info, warn or error"`
	Format string `yaml:"format" doc:"text or json"`
}
