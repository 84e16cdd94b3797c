package approval

import (
	"strings"
	"time"

	"bollard/ledger"
)

// KindUsed is the kind of the ledger entry that uses an approval up; its subject
// is the nonce. A store takes one for each nonce, in the write of what was
// approved, and refuses that write otherwise.
const KindUsed = "approval.used"

// Grant says that enough people agreed to a request. It is worth one use.
type Grant struct {
	Request Request
	By      []string
}

// Used is the entry to write together with what was approved.
func (g *Grant) Used(actor string) ledger.Event {
	return ledger.Event{Kind: KindUsed, Subject: g.Request.Nonce, Actor: actor, Data: map[string]string{
		"action": g.Request.Action, "scope": g.Request.Scope, "sha256": g.Request.Digest, "author": g.Request.Author,
		"by": strings.Join(g.By, ","), "expires": g.Request.Expires.UTC().Format(time.RFC3339),
	}, People: []string{"author", "by"}}
}
