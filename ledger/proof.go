package ledger

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// Proof shows that an entry is in the tree of a checkpoint.
type Proof struct {
	Entry  Entry // without Hashes, which it doesn't show
	Hashes tlog.RecordProof
	Note   Note
}

// String is the proof in the form of c2sp.org/tlog-proof, the entry as an
// export writes it in the extra line.
func (p Proof) String() string {
	extra, err := p.Entry.MarshalJSON()
	if err != nil {
		panic("internal error: " + err.Error()) // strings and numbers can be encoded
	}
	return Inclusion{Extra: extra, Index: p.Entry.Seq - 1, Hashes: p.Hashes, Note: p.Note}.String()
}

func writeHashes(b *strings.Builder, list []tlog.Hash) {
	for _, h := range list {
		b.WriteString(base64.StdEncoding.EncodeToString(h[:]) + "\n")
	}
}

// ParseProof reads what String writes. Nothing is proven before Check, and
// before somebody trusted has signed its Note.
func ParseProof(text string) (Proof, error) {
	read, err := ParseInclusion(text)
	if err != nil {
		return Proof{}, err
	}
	if read.Extra == nil {
		return Proof{}, errors.New("couldn't read the proof: its second line isn't the entry")
	}
	p := Proof{Hashes: read.Hashes, Note: read.Note}
	if err := p.Entry.UnmarshalJSON(read.Extra); err != nil {
		return Proof{}, err
	}
	if len(p.Entry.Hashes) > 0 {
		return Proof{}, errors.New("couldn't read the proof: its entry has hashes, which it doesn't show")
	}
	if read.Index != p.Entry.Seq-1 {
		return Proof{}, errors.New("couldn't read the proof: its index isn't that of its entry")
	}
	return p, nil
}

// Check says whether the entry is in the tree of the checkpoint.
func (p Proof) Check() error {
	err := tlog.CheckRecord(p.Hashes, int64(p.Note.Size), p.Note.Root, int64(p.Entry.Seq-1), p.Entry.LeafHash())
	if err != nil {
		return fmt.Errorf("the proof doesn't show that entry %d is in the ledger of %d entries: the entry, the hashes or the checkpoint was altered", p.Entry.Seq, p.Note.Size)
	}
	return nil
}

// Growth shows that the tree of a checkpoint continues an older one.
type Growth struct {
	Old    uint64 // size of the older tree; 0: nothing is to be shown
	Hashes tlog.TreeProof
	Note   Note
}

// String is what a witness is asked with (c2sp.org/tlog-witness, add-checkpoint).
func (g Growth) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "old %d\n", g.Old)
	writeHashes(&b, g.Hashes)
	b.WriteString("\n" + g.Note.Signed)
	return b.String()
}

// ProveGrowth reads what shows that the tree of a checkpoint continues that of
// its first old entries.
func ProveGrowth(old uint64, n Note, r tlog.HashReader) (Growth, error) {
	g := Growth{Old: old, Note: n}
	if old == 0 {
		return g, nil
	}
	var err error
	if g.Hashes, err = tlog.ProveTree(int64(n.Size), int64(old), r); err != nil {
		return g, fmt.Errorf("couldn't prove that the ledger of %d entries continues that of %d: %w", n.Size, old, err)
	}
	return g, nil
}

// Prove reads what shows that an entry is in the tree of a checkpoint.
func Prove(e Entry, n Note, r tlog.HashReader) (Proof, error) {
	hashes, err := tlog.ProveRecord(int64(n.Size), int64(e.Seq-1), r)
	if err != nil {
		return Proof{}, fmt.Errorf("couldn't prove that entry %d is in the ledger of %d entries: %w", e.Seq, n.Size, err)
	}
	e.Hashes = nil
	return Proof{e, hashes, n}, nil
}
