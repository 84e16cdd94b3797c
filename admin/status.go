package admin

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"bollard/ledger"
)

// Server describes a running server.
type Server struct {
	Version   string    `json:"version"`
	StartedAt time.Time `json:"started_at"`
	OCPP      []string  `json:"ocpp"` // addresses
	PKI       string    `json:"pki,omitempty"`
	Status    string    `json:"status,omitempty"`
	Admin     string    `json:"admin,omitempty"`
	// OpenFiles is the limit of its open files; 0: unknown.
	OpenFiles uint64 `json:"open_files,omitempty"`
}

// Status is how the server, or the data directory without one, stands.
type Status struct {
	Server   *Server   `json:"server,omitempty"` // nil: none runs
	Stations int       `json:"stations"`
	Sessions []Session `json:"sessions"`
	// Newest is the latest time anything recorded carries; a clock behind it
	// stops issuing.
	Newest *time.Time `json:"newest_record,omitempty"`
}

// VerifyLedger checks the chain, and that it contains a checkpoint kept elsewhere.
type VerifyLedger struct {
	Checkpoint string `json:"checkpoint,omitempty"` // SEQ:HASH
}

// LedgerState is what was verified.
type LedgerState struct {
	Entries    uint64     `json:"entries"`
	Newest     *time.Time `json:"newest,omitempty"`
	Checkpoint string     `json:"checkpoint,omitempty"` // to be kept elsewhere
	// Against is the checkpoint given; without one a cut tail can't be seen.
	Against string `json:"against,omitempty"`
}

// PageLedger asks for entries from a sequence number on.
type PageLedger struct {
	From  uint64 `json:"from"`
	Limit int    `json:"limit"` // 1 to MaxLedgerPage
}

// MaxLedgerPage bounds one answer.
const MaxLedgerPage = 1000

// LedgerPage is a run of entries; an empty one is behind the end.
type LedgerPage struct {
	Entries []ledger.Entry `json:"entries"`
}

func (o *operations) registerStatus(r *Registry) {
	Register(r, "server.status", o.serverStatus)
	Register(r, "ledger.verify", o.ledgerVerify)
	Register(r, "ledger.page", o.ledgerPage)
}

func (o *operations) serverStatus(ctx context.Context, _ None) (Status, error) {
	stations, err := o.cfg.Fleet.Stations(ctx)
	if err != nil {
		return Status{}, err
	}
	newest, err := o.cfg.Store.NewestTime(ctx)
	if err != nil {
		return Status{}, err
	}
	out := Status{Stations: len(stations), Sessions: []Session{}, Newest: instant(newest)}
	if o.cfg.Server != nil {
		server := o.cfg.Server()
		out.Server = &server
	}
	if o.cfg.Live != nil {
		for _, live := range o.cfg.Live.Sessions() {
			out.Sessions = append(out.Sessions, session(live))
		}
		slices.SortFunc(out.Sessions, func(a, b Session) int { return cmp.Compare(a.Station, b.Station) })
	}
	return out, nil
}

func (o *operations) ledgerVerify(ctx context.Context, in VerifyLedger) (LedgerState, error) {
	kept, err := ParseCheckpoint(in.Checkpoint)
	if err != nil {
		return LedgerState{}, err
	}
	return VerifyEntries(func(yield func(ledger.Entry, error) bool) {
		for e, err := range o.cfg.Store.Entries(ctx, 1) {
			if !yield(e, err) {
				return
			}
		}
	}, kept)
}

// VerifyEntries verifies a whole chain and that it contains the checkpoint.
func VerifyEntries(entries func(yield func(ledger.Entry, error) bool), kept Checkpoint) (LedgerState, error) {
	const hint = "keep a copy of the data directory as it is, and compare with exports and checkpoints kept elsewhere"
	found := kept.Seq == 0
	sum, err := ledger.Verify(func(yield func(ledger.Entry, error) bool) {
		for e, err := range entries {
			if err == nil && e.Seq == kept.Seq && e.Hash == kept.Hash {
				found = true
			}
			if !yield(e, err) {
				return
			}
		}
	})
	switch {
	case err != nil:
		return LedgerState{}, Failedf(hint, "%w", err)
	case !found && sum.LastSeq < kept.Seq:
		return LedgerState{}, Failedf(hint, "the ledger ends at entry %d, before the checkpoint %d: its tail was cut off", sum.LastSeq, kept.Seq)
	case !found:
		return LedgerState{}, Failedf(hint, "ledger entry %d isn't the one of the checkpoint: the ledger was written anew", kept.Seq)
	}
	out := LedgerState{Entries: sum.Count, Newest: instant(sum.LastTime), Against: kept.String()}
	if sum.Count > 0 {
		out.Checkpoint = Checkpoint{sum.LastSeq, sum.LastHash}.String()
	}
	return out, nil
}

// Checkpoint names the newest entry at some time: what somebody else keeps.
type Checkpoint struct {
	Seq  uint64
	Hash [32]byte
}

// String is "" for the zero Checkpoint.
func (c Checkpoint) String() string {
	if c.Seq == 0 {
		return ""
	}
	return fmt.Sprintf("%d:%x", c.Seq, c.Hash)
}

// ParseCheckpoint reads SEQ:HASH; empty text is the zero Checkpoint.
func ParseCheckpoint(text string) (Checkpoint, error) {
	var c Checkpoint
	if text == "" {
		return c, nil
	}
	seq, digits, _ := strings.Cut(text, ":")
	n, err := strconv.ParseUint(seq, 10, 64)
	raw, hexErr := hex.DecodeString(digits)
	if err != nil || hexErr != nil || n == 0 || len(raw) != len(c.Hash) {
		return c, Usagef("give what an earlier `bollard ledger verify` printed", "%q is no checkpoint", text)
	}
	c.Seq = n
	copy(c.Hash[:], raw)
	return c, nil
}

func (o *operations) ledgerPage(ctx context.Context, in PageLedger) (LedgerPage, error) {
	if in.Limit < 1 || in.Limit > MaxLedgerPage {
		return LedgerPage{}, Usagef("", "a page has 1 to %d entries", MaxLedgerPage)
	}
	out := LedgerPage{Entries: make([]ledger.Entry, 0, in.Limit)}
	for e, err := range o.cfg.Store.Entries(ctx, in.From) {
		if err != nil {
			return LedgerPage{}, err
		}
		out.Entries = append(out.Entries, e)
		if len(out.Entries) == in.Limit {
			break
		}
	}
	return out, nil
}
