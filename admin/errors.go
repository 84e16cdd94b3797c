package admin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"bollard/approval/docket"
	"bollard/ca"
	"bollard/contract"
	"bollard/contract/pool"
	"bollard/firmware/campaign"
	"bollard/firmware/catalogue"
	"bollard/firmware/depot"
	"bollard/firmware/gate"
	"bollard/fleet"
	"bollard/keys"
	"bollard/ledger"
)

// ErrorKind says whose fault an error is; the exit code follows from it.
type ErrorKind string

// A usage error is the caller's (exit code 2); a refusal is a decision, a
// failure is circumstances (exit code 1).
const (
	KindUsage   ErrorKind = "usage"
	KindRefused ErrorKind = "refused"
	KindFailed  ErrorKind = "failed"
)

// Error is what every operation fails with; it crosses the socket whole.
type Error struct {
	Kind ErrorKind `json:"kind"`
	Text string    `json:"text"`
	Hint string    `json:"hint,omitempty"` // what to do next, or ""
	err  error
}

// Error returns the text without the hint.
func (e *Error) Error() string { return e.Text }

// Unwrap returns the cause, which does not cross the socket.
func (e *Error) Unwrap() error { return e.err }

// Usagef is the caller's fault; the hint says what to do next.
func Usagef(hint, format string, args ...any) *Error {
	return newError(KindUsage, hint, format, args...)
}

// Refusedf is a decision against the request.
func Refusedf(hint, format string, args ...any) *Error {
	return newError(KindRefused, hint, format, args...)
}

// Failedf is a failure of circumstances.
func Failedf(hint, format string, args ...any) *Error {
	return newError(KindFailed, hint, format, args...)
}

func newError(kind ErrorKind, hint, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Kind: kind, Text: err.Error(), Hint: hint, err: err}
}

// explanations is the one mapping of inner errors to kinds and hints.
func explanations() []explanation {
	return []explanation{
		{fleet.ErrUnknownStation, KindRefused, "`bollard station list` shows the enrolled stations"},
		{fleet.ErrStationExists, KindRefused, "identity and serial must both be new; `bollard station list` shows who has them"},
		{fleet.ErrRetired, KindRefused, "take another identity; --reuse enrols it all the same, which is recorded"},
		{fleet.ErrUnknownGroup, KindRefused, "`bollard fleet groups` lists the groups, `bollard fleet want --group NAME …` makes one"},
		{fleet.ErrUnknownRollout, KindRefused, "`bollard fleet list` shows the rollouts, `bollard fleet run` begins one"},
		{fleet.ErrRolloutState, KindRefused, "`bollard fleet status` shows how far it is"},
		{fleet.ErrNothingToDo, KindRefused, "`bollard fleet plan` shows what differs from what is wanted"},
		{fleet.ErrInput, KindUsage, ""},
		{ledger.ErrReason, KindUsage, "--reason TEXT says it"},
		{docket.ErrAsk, KindUsage, "docs/approvals.md has the actions and who may ask"},
		{docket.ErrUnknown, KindRefused, "`bollard approval list` shows them"},
		{docket.ErrNotGranted, KindRefused, "`bollard approval request` asks people to approve it, `bollard approval list` shows who has"},
		{docket.ErrUsed, KindRefused, "one approval is for one use: `bollard approval request` asks again"},
		{contract.ErrUnknown, KindRefused, "`bollard contract list` shows them"},
		{pool.ErrUnknownToken, KindRefused, "`bollard pool token list` shows them"},
		{pool.ErrTokenExists, KindRefused, "`bollard pool token revoke` ends it; take another name to have both"},
		{contract.ErrExists, KindRefused, "`bollard contract list` shows it"},
		{contract.ErrTooMany, KindRefused, "`bollard contract revoke EMAID --pcid PCID` ends one"},
		{catalogue.ErrUnknown, KindRefused, "`bollard firmware list` shows the releases"},
		{catalogue.ErrExists, KindRefused, "`bollard firmware show` shows it; a release that is changed gets another ID"},
		{catalogue.ErrState, KindRefused, "`bollard firmware list` shows where each is"},
		{depot.ErrDigest, KindRefused, "give the image as its manufacturer made it; nothing was kept"},
		{depot.ErrSize, KindRefused, "firmware.max_bytes and firmware.total_bytes in bollard.yaml bound what is kept"},
		{campaign.ErrUnknown, KindRefused, "`bollard firmware rollouts` lists them, `bollard firmware rollout RELEASE` begins one"},
		{campaign.ErrState, KindRefused, "`bollard firmware rollouts RELEASE` shows how far it is"},
		{campaign.ErrNobody, KindRefused, "`bollard firmware rollout RELEASE --dry-run` says why of each station"},
		{gate.ErrUnknown, KindRefused, "`bollard firmware updates` lists them"},
		{ca.ErrUnknownKind, KindUsage, "`bollard ca show` lists the hierarchies there are here"},
		{ca.ErrLevel, KindUsage, "--level is 1 for sub-CA 1, 2 for sub-CA 2, which issues"},
		{ca.ErrUnknownReason, KindUsage, "--reason has one of RFC 5280 §5.3.1, such as keyCompromise, superseded, cessationOfOperation"},
		{ca.ErrUnknownSerial, KindRefused, "`bollard cert list` shows the serials, in lower-case hex"},
		{ca.ErrUnknownAnchor, KindRefused, "`bollard ca trust list` shows the hashes"},
		{keys.ErrURI, KindUsage, "docs/keys.md says how each is written, docs/vault-ca.md that of a PKI mount"},
		{keys.ErrExists, KindRefused, "give another name, or take the key that is there"},
		{keys.ErrUnavailable, KindFailed, "see that the token or TPM is there and answers, or that Vault is unsealed or the cloud is within reach, then repeat: no restart is needed, and traffic goes on meanwhile"},
		{keys.ErrPIN, KindFailed, "put the right PIN into the file that pin-source in keys.uri names (mode 0600), or into BOLLARD_HSM_PIN (of keys in a TPM, the one they were made with); a token that locked itself is unlocked with its own tools"},
		{keys.ErrLogin, KindFailed, "put the right credential into the file that keys.uri names; the same one is shown again after a while only (docs/keys.md)"},
		{keys.ErrDenied, KindFailed, "give the login of this role the policy of docs/keys.md; it is right that those of other roles are refused"},
		{keys.ErrUnfit, KindRefused, "keys of Bollard's are made by Bollard (`bollard init --keys`), and can't be exported; a PKI mount of a Vault says itself why it refuses (docs/vault-ca.md)"},
		{ca.ErrMounted, KindRefused, "docs/vault-ca.md says what a mount issues, and what not"},
		{ca.ErrMountAnswer, KindFailed, "see who changed the mount, its role or its URLs in Vault (docs/vault-ca.md); what it issued is revoked there"},
		{ca.ErrClock, KindFailed, "correct this machine's clock, then repeat; nothing was signed. Was it ahead before, `bollard ca accept-clock` lets it sign again"},
		{fs.ErrPermission, KindFailed, "run it as the user whom the file or directory belongs to, who has to be the server's"},
		{context.DeadlineExceeded, KindFailed, "it took too long; look with `bollard doctor`"},
		{context.Canceled, KindFailed, "it was interrupted; look whether it was done before repeating"},
	}
}

type explanation struct {
	is   error
	kind ErrorKind
	hint string
}

// Explain makes an *Error of any error.
func Explain(err error) *Error {
	var known *Error
	if errors.As(err, &known) {
		return known
	}
	for _, x := range explanations() {
		if errors.Is(err, x.is) {
			return &Error{Kind: x.kind, Text: err.Error(), Hint: x.hint, err: err}
		}
	}
	return &Error{Kind: KindFailed, Text: err.Error(), err: err}
}

// aboutFile says which file an error is about, by the name it has where the command was
// given. What has an explanation of its own isn't about the file.
func aboutFile(name string, err error) error {
	if name == "" || err == nil {
		return err
	}
	for _, x := range explanations() {
		if errors.Is(err, x.is) {
			return err
		}
	}
	return fmt.Errorf("%s: %w", name, err)
}

// tokenAway says that a key is where it should be and can't be reached.
func tokenAway(err error) bool {
	return errors.Is(err, keys.ErrUnavailable) || errors.Is(err, keys.ErrPIN) || errors.Is(err, keys.ErrLogin) || errors.Is(err, keys.ErrDenied)
}
