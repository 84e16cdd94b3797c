package detect

import (
	"fmt"
	"slices"
	"time"
)

// Kind of a sign.
type Kind string

// Signs. Those of the door come from claims and handshakes that were refused,
// the others from messages that are looked at anyway.
const (
	RefusedProof   Kind = "refused-proof"     // wrong password or certificate
	RefusedUnknown Kind = "refused-unknown"   // identity nobody enrolled
	RefusedProfile Kind = "refused-profile"   // lower security profile than seen before
	RefusedTLS     Kind = "refused-tls"       // version, cipher suite or certificate; Detail says which
	RefusedLive    Kind = "refused-live"      // proven, but the older connection is alive (profile 1)
	Displaced      Kind = "displaced"         // a proven connection replaced the live one
	Flapped        Kind = "flapped"           // and was refused for doing so too often
	BootMismatch   Kind = "boot-mismatch"     // BootNotification's serial number is another's
	CSRMismatch    Kind = "csr-mismatch"      // a CSR for somebody else, or with a bad key
	Version        Kind = "firmware-version"  // boot with another firmware than before, unannounced
	FirmwareStatus Kind = "firmware-status"   // Detail: the status
	Outside        Kind = "firmware-outside"  // a station is sent elsewhere than here for an image
	Swapped        Kind = "firmware-swapped"  // where a station downloaded its image another one is now
	Unseen         Kind = "firmware-unseen"   // where a station downloaded its image nothing can be looked at
	Excepted       Kind = "firmware-excepted" // a station is given firmware that an exception lets it have
	Event          Kind = "event"             // security event; Detail: its name in 2.x
	ClockAhead     Kind = "clock-ahead"       // a timestamp of the station's is in the future
	ClockUnset     Kind = "clock-unset"       // or long before the station can have sent it
	BadMessage     Kind = "bad-message"       // of the station, refused by a rule
	Overruled      Kind = "overruled"         // message of the back end, answered by Bollard against it or refused by a rule
	BadFrame       Kind = "bad-frame"         // no OCPP message
	Replay         Kind = "replay"            // an answer nobody waits for, or a reserved id
	RolloutHalted  Kind = "rollout-halted"    // by the failure of this station, one too many
	FirmwareHalted Kind = "firmware-halted"   // a rollout of firmware, by this station
	Quarantined    Kind = "quarantined"       // it installs firmware that it didn't verify
	QuoteWrong     Kind = "quote-wrong"       // its TPM shows something else than what was delivered; Detail: what is wrong
	QuoteOverdue   Kind = "quote-overdue"     // or shows nothing for too long
	ContractsEnd   Kind = "contracts-end"     // contract certificates end soon, and their cars don't come
	AuthorityEnds  Kind = "authority-ends"    // a CA or a trusted root ends soon; Detail: which
	MakerFlood     Kind = "maker-flood"       // too many certificates for cars that have one; Detail: whose
	MountAnswer    Kind = "mount-answer"      // a PKI mount issued what it wasn't asked for; Detail: which CA it is
)

// rule makes a finding of signs: so many within a time, of which the pace is
// what counts, not where the time begins.
type rule struct {
	name        string
	criticality Criticality
	kinds       []Kind
	details     []string // those that count; nil: all
	live        bool     // only while the station has a live session
	bySource    bool     // counted by source, not by station
	own         bool     // about Bollard itself: counted without station and source
	apart       bool     // each detail counts for itself
	signs       int
	within      time.Duration
	reason      string // %s: the detail
}

// rules is constant. Nothing here is refused for a finding: what lets nobody in
// is decided elsewhere, and a stranger must not be able to lock a station out.
var rules = [...]rule{
	// threats A2: a clone, or a thief with half of what it takes.
	{name: "shadowing", criticality: Critical, kinds: []Kind{RefusedProof, RefusedLive}, live: true, signs: 2, within: 10 * time.Minute,
		reason: "somebody else tries to connect as this station while it is connected"},
	{name: "flapping", criticality: Warning, kinds: []Kind{Flapped}, signs: 1, within: 10 * time.Minute,
		reason: "sessions of this identity replace each other or end at once too often: is there a second station with it?"},
	{name: "displacing", criticality: Warning, kinds: []Kind{Displaced}, signs: 12, within: time.Hour,
		reason: "this station's sessions are replaced by newer ones again and again"},
	// threats A3, CVE-2026-24445.
	{name: "brute-force", criticality: Warning, kinds: []Kind{RefusedProof}, signs: 10, within: 5 * time.Minute,
		reason: "wrong passwords or certificates are tried for this station"},
	{name: "brute-force-source", criticality: Warning, kinds: []Kind{RefusedProof, RefusedUnknown}, bySource: true, signs: 30, within: 5 * time.Minute,
		reason: "one address tries passwords, certificates or identities"},
	// OCPP 2.0.1 A00.FR.323, .408: events the gateway notes itself.
	{name: "tls-refused", criticality: Warning, kinds: []Kind{RefusedTLS}, bySource: true, signs: 10, within: time.Hour,
		reason: "TLS handshakes of one address fail for their version, cipher suite or certificate"},
	{name: "profile-downgrade", criticality: Warning, kinds: []Kind{RefusedProfile}, signs: 3, within: 10 * time.Minute,
		reason: "somebody connects as this station on a lower security profile than it has reached"},
	{name: "serial-mismatch", criticality: Critical, kinds: []Kind{BootMismatch}, signs: 1, within: time.Hour,
		reason: "the serial number in BootNotification isn't the registered one: is the board another's?"},
	{name: "csr-mismatch", criticality: Critical, kinds: []Kind{CSRMismatch}, signs: 1, within: time.Hour,
		reason: "the station asks for a certificate that isn't for it, or with a key that must not be used"},
	{name: "firmware-mismatch", criticality: Critical, kinds: []Kind{Version}, signs: 1, within: time.Hour,
		reason: "the station booted with another firmware version, and nothing had told of an update"},
	{name: "firmware-outside", criticality: Warning, kinds: []Kind{Outside}, signs: 1, within: time.Hour,
		reason: "the station is sent to where its back end has the firmware: it was the release's when Bollard looked, and may be another when the station comes"},
	{name: "firmware-swapped", criticality: Critical, kinds: []Kind{Swapped}, signs: 1, within: time.Hour,
		reason: "where the station was sent for its firmware another image is now: it may have been given that, which its own check of the signature has to notice"},
	{name: "firmware-unseen", criticality: Warning, kinds: []Kind{Unseen}, signs: 1, within: time.Hour,
		reason: "where the station was sent for its firmware nothing can be looked at since: whether it was given the release only its own check of the signature says"},
	{name: "firmware-exception", criticality: Warning, kinds: []Kind{Excepted}, signs: 1, within: time.Hour,
		reason: "the station is given firmware by an exception that people made: older, out of its turn, or without a signature"},
	{name: "firmware-refused", criticality: Critical, kinds: []Kind{FirmwareStatus, Event}, apart: true, signs: 1, within: time.Hour,
		details: []string{"InvalidSignature", "InstallVerificationFailed", "InvalidFirmwareSignature", "InvalidFirmwareSigningCertificate"},
		reason:  "the station was given firmware that isn't genuine (%s)"},
	{name: "tampering", criticality: Critical, kinds: []Kind{Event}, apart: true, signs: 1, within: time.Hour,
		details: []string{"TamperDetectionActivated", "SecurityLogWasCleared", "AttemptedReplayAttacks"},
		reason:  "the station reports %s"},
	{name: "station-distrusts", criticality: Warning, kinds: []Kind{Event}, apart: true, signs: 1, within: time.Hour,
		details: []string{"InvalidCsmsCertificate", "InvalidTLSVersion", "InvalidTLSCipherSuite", "FailedToAuthenticateAtCsms", "CsmsFailedToAuthenticate"},
		reason:  "the station met a server that isn't ours, or can't agree with ours (%s)"},
	{name: "maintenance", criticality: Warning, kinds: []Kind{Event}, apart: true, signs: 1, within: time.Hour,
		details: []string{"MaintenanceLoginAccepted", "MaintenanceLoginFailed"},
		reason:  "somebody logs in at the station itself (%s)"},
	{name: "restarts", criticality: Warning, kinds: []Kind{Event}, signs: 6, within: time.Hour,
		details: []string{"StartupOfTheDevice", "ResetOrReboot", "MemoryExhaustion"},
		reason:  "the station starts again and again or runs out of memory"},
	{name: "clock-drift", criticality: Warning, kinds: []Kind{ClockAhead, ClockUnset}, apart: true, signs: 1, within: 6 * time.Hour,
		reason: "the station's clock is wrong (%s): certificates and times of transactions depend on it"},
	{name: "refused-messages", criticality: Warning, kinds: []Kind{BadMessage, BadFrame}, signs: 10, within: 10 * time.Minute,
		reason: "the station sends messages that are refused or aren't OCPP"},
	{name: "backend-overruled", criticality: Warning, kinds: []Kind{Overruled}, signs: 5, within: 10 * time.Minute,
		reason: "the back end tries what would lower this station's security, lock it out, or is against a rule"},
	{name: "rollout-halted", criticality: Critical, kinds: []Kind{RolloutHalted}, signs: 1, within: time.Hour,
		reason: "a rollout halted by itself when this station failed, one too many: `bollard fleet status` names all that did"},
	{name: "firmware-halted", criticality: Critical, kinds: []Kind{FirmwareHalted}, signs: 1, within: time.Hour,
		reason: "a rollout of firmware halted by itself when this station failed: `bollard firmware rollouts` says why"},
	{name: "firmware-quarantined", criticality: Critical, kinds: []Kind{Quarantined}, signs: 1, within: time.Hour,
		reason: "the station installed firmware without verifying it, and gets none until `bollard firmware clear`"},
	{name: "quote-wrong", criticality: Critical, kinds: []Kind{QuoteWrong}, apart: true, signs: 1, within: time.Hour,
		reason: "the station's TPM doesn't show that it runs what was delivered (%s): `bollard station show` has what it quoted"},
	{name: "quote-overdue", criticality: Warning, kinds: []Kind{QuoteOverdue}, signs: 1, within: 72 * time.Hour,
		reason: "for longer than is wanted of it the station hasn't shown by a quote of its TPM that it runs what was delivered"},
	{name: "replay", criticality: Warning, kinds: []Kind{Replay}, signs: 5, within: 10 * time.Minute,
		reason: "answers come that nobody waits for, or with ids that are reserved"},
	// Looked at once a day: the finding goes on while it is so.
	{name: "contracts-expire", criticality: Warning, kinds: []Kind{ContractsEnd}, own: true, signs: 1, within: 72 * time.Hour,
		reason: "contract certificates end within three weeks and their cars haven't fetched the next: `bollard contract list --expiring 21d` names them"},
	{name: "maker-flood", criticality: Critical, kinds: []Kind{MakerFlood}, own: true, apart: true, signs: 1, within: 6 * time.Hour,
		reason: "%s makes certificates for cars that have one, each of which costs a contract certificate; no more are made today: is that CA in other hands?"},
	{name: "mount-answer", criticality: Critical, kinds: []Kind{MountAnswer}, own: true, apart: true, signs: 1, within: 6 * time.Hour,
		reason: "the PKI mount of %s issued something else than it was asked for, which was refused and is revoked there: the log says what; did somebody change the mount, its role or its URLs?"},
	{name: "ca-expires", criticality: Warning, kinds: []Kind{AuthorityEnds}, own: true, apart: true, signs: 1, within: 72 * time.Hour,
		reason: "%s ends soon, and what it issued with it: `bollard doctor` and `bollard ca trust list` have the dates"},
}

func (r *rule) concerns(s *Sign) bool {
	return slices.Contains(r.kinds, s.Kind) && (!r.live || s.Live) && (r.details == nil || slices.Contains(r.details, s.Detail))
}

func (r *rule) finding(e *episode, s *Sign) Finding {
	f := Finding{Name: r.name, Criticality: r.criticality, Source: s.Source, Count: e.count, Again: e.told > 1, First: e.first, Last: e.last, Reason: r.reason}
	if !r.bySource && !r.own {
		f.Station = s.Station
	}
	if r.apart {
		f.Reason = fmt.Sprintf(r.reason, s.Detail)
	}
	return f
}

// Names lists the findings there can be, with how critical they are, for
// metrics and documents.
func Names() map[string]Criticality {
	names := map[string]Criticality{}
	for _, r := range rules {
		names[r.name] = r.criticality
	}
	return names
}
