package fleet

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"net/netip"
	"time"

	"bollard/ca"
	"bollard/internal/redact"
	"bollard/ocpp"
)

// Claim is what a connecting station says of itself and what TLS has shown.
// Nothing in it is proven yet but the possession of the leaf's private key.
type Claim struct {
	Identity     ocpp.Identity
	Source       netip.Addr
	Listener     string              // name of the listener, for the record
	Profiles     []int               // security profiles the listener accepts
	Allow        []string            // identities a legacy listener is limited to; empty: all
	TLS          bool                // the connection is encrypted
	TLS13        bool                // by TLS 1.3
	Certificates []*x509.Certificate // as presented, leaf first, chain not verified
	Untrusted    string              // why Judge didn't trust Certificates, if it was asked and didn't
	Basic        *Basic              // nil without an Authorization header
	Offered      []string            // subprotocols in the station's order
	// Trust limits the roots a chain may end in on this listener: SHA-256 hashes
	// of anchors and "own". Empty: own and all anchors of use "station".
	Trust []string
	// NewChain says that the listener's certificate leads to the CSMS root that
	// follows (M05): who connects there trusts it.
	NewChain bool
	// Adopts says whether the station's back end, at this time, is trusted to
	// tell by its own 101 that a password is the station's; nil: it isn't.
	Adopts func(Admission) bool
}

// Basic is the HTTP Basic header of a claim. The password is bytes: OCPP 1.6
// allows any value (OCPP-J 1.6 §6.2.2).
type Basic struct {
	User     string
	Password redact.Secret
}

// Admission says who a station was proven to be.
type Admission struct {
	Station Proven
	Profile int      // security profile of this connection, 1 to 3
	Leaf    *ca.Leaf // what proved profile 3
	// Factory is set when the leaf is the maker's and not Bollard's: the
	// station is let in to renew it (A00.FR.406).
	Factory bool
	Notes   []string // checks that failed but are set to warn
	TLS13   bool     // the connection's TLS is 1.3
	// Listener is the claim's.
	Listener string
	// NewChain is the claim's: the station followed the chain of the next CSMS root.
	NewChain bool
	// NewPassword is set when the proof was the pending password of Station (A01).
	NewPassword bool
	// Adopting is set when nothing is proven yet: the back end's own answer to
	// the password decides, and Adopted takes it.
	Adopting bool
}

// Proven is what a session keeps of its station's record, as it was at the moment of
// proof: what names the station and what proved it. An idle session is little more
// than this; all else is read from the record.
type Proven struct {
	Identity      string
	Serial        string
	Aliases       []string
	Vendor, Model string
	Backend       string
	FloorProfile  int
	Password      *Credential // nil where a certificate proved it, and so is Pending
	Pending       *PendingPassword
}

// Proven is of the record as it is now.
func (st *Station) Proven() Proven {
	return Proven{
		Identity: st.Identity, Serial: st.Serial, Aliases: st.Aliases, Vendor: st.Vendor, Model: st.Model,
		Backend: st.Backend, FloorProfile: st.FloorProfile, Password: st.Password, Pending: st.Pending,
	}
}

// Key is the primary key of the station's record.
func (p *Proven) Key() string { return ocpp.Identity{Name: p.Identity}.Key() }

// Refusal is why a claim was not admitted. Status goes to the station, Reason
// to the operator only: what the peer learns is no more than the standard says.
type Refusal struct {
	Status     int // HTTP status, such as 401
	Reason     string
	RetryAfter time.Duration // 0: no Retry-After header
}

// Error returns the operator's reason.
func (r *Refusal) Error() string { return r.Reason }

// Session is a proven station's live connection as services see it. The
// gateway implements it; all methods are safe for concurrent use.
type Session interface {
	// ID names the session in logs; it is unique over restarts.
	ID() string
	Admission() Admission
	Version() ocpp.Version
	// Security says who answers certificate messages for this session's back
	// end: bollard, backend or observe.
	Security() SecurityMode
	// Call sends a CALL of Bollard's own through the one slot it shares with
	// the back end and returns the CALLRESULT's payload. A CALLERROR comes back
	// as *ocpp.CallFailure; a lost session or a late answer as another error.
	Call(ctx context.Context, action string, payload any) (json.RawMessage, error)
	// Upstream sends a CALL of Bollard's own to the back end, in a gap between
	// the station's CALLs, and returns as Call does.
	Upstream(ctx context.Context, action string, payload any) (json.RawMessage, error)
	// Backend names the session's back end, as configured.
	Backend() string
	// Go runs f beside the session, which waits for it when it ends; f's
	// context ends with the session.
	Go(f func(ctx context.Context))
	// End closes the station's socket and its upstream. The reason is the
	// operator's; the station sees a plain policy-violation close.
	End(reason string)
}

// SecurityMode says who answers certificate messages.
type SecurityMode string

// In SecurityBollard Bollard answers; in SecurityBackend the back end does and
// what comes back is checked and recorded; in SecurityObserve it is recorded only.
const (
	SecurityBollard SecurityMode = "bollard"
	SecurityBackend SecurityMode = "backend"
	SecurityObserve SecurityMode = "observe"
)

// Act is what the gateway does with a message a service has looked at.
type Act uint8

// Pass hands the frame on as it came. Answer answers the CALL with Verdict.Payload
// and hands nothing on. Refuse answers it with a CALLERROR. Drop discards an
// answer. End closes the session.
const (
	Pass Act = iota
	Answer
	Refuse
	Drop
	End
)

// Verdict is a service's decision on one message, with the reason for the record.
type Verdict struct {
	Act     Act
	Payload any            // Answer: marshalled as the CALLRESULT's payload
	Code    ocpp.ErrorCode // Refuse
	Reason  string         // for the operator; a CALLERROR's description stays general
	// Watch asks, with Pass, for Answered to be called with the CALL's answer.
	Watch bool
	// Rewrite, if set with Pass, is the payload handed on in place of the
	// message's. A signed message has none.
	Rewrite json.RawMessage
	// Merge, if set with Pass, makes the payload that the CALL's sender is answered
	// with from the CALLRESULT's. An error leaves the answer as it came.
	Merge func(result json.RawMessage) (any, error)
	// Later, if set, works the verdict out beside the frames that follow, within
	// Limits.CallTimeout; the other fields count for nothing then. It may answer,
	// refuse, drop or end, not pass.
	Later func(ctx context.Context) Verdict
	// After, if set, runs in the session's care once the answer is written.
	After func(ctx context.Context)
}

// Message is one judged frame that a service has shown interest in.
type Message struct {
	Direction ocpp.Direction
	Head      ocpp.Head
	Action    string          // base action, "-Signed" taken off
	Payload   json.RawMessage // what Head.Payload says; for -Signed, the decoded JWS payload
}

// String names the message: what it says may be a secret or about a person.
func (m Message) String() string { return "[" + m.Direction.String() + " " + m.Head.String() + "]" }

// GoString is String, for %#v.
func (m Message) GoString() string { return m.String() }
