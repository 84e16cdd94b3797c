package witness

import (
	"context"
	"encoding/base64"
	"strconv"

	"bollard/internal/syslog"
	"bollard/ledger"
)

// Syslog sends checkpoints to a syslog receiver. It has no receipt.
type Syslog struct {
	name   string
	sender *syslog.Sender
}

// NewSyslog names a sender, whose facility should be syslog.Audit.
func NewSyslog(name string, sender *syslog.Sender) *Syslog { return &Syslog{name, sender} }

// Name implements Place.
func (s *Syslog) Name() string { return s.name }

// Keep implements Place. The parameter note is the whole signed checkpoint in
// Base64, since its lines don't survive.
func (s *Syslog) Keep(ctx context.Context, n ledger.Note) (ledger.Note, error) {
	return n, s.sender.Send(ctx, syslog.Message{
		Severity: syslog.Notice, ID: "ledger.checkpoint",
		Data: []syslog.Param{
			{Name: "origin", Value: n.Origin},
			{Name: "size", Value: strconv.FormatUint(n.Size, 10)},
			{Name: "root", Value: n.Root.String()},
			{Name: "note", Value: base64.StdEncoding.EncodeToString([]byte(n.Signed))},
		},
		Text: "checkpoint of " + strconv.FormatUint(n.Size, 10) + " ledger entries",
	})
}
