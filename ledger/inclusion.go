package ledger

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// Inclusion shows that a leaf is in the tree of a checkpoint, whatever the leaves
// of that tree are (c2sp.org/tlog-proof).
type Inclusion struct {
	Extra  []byte // what the log's entries need beside; nil: nothing
	Index  uint64
	Hashes tlog.RecordProof
	Note   Note
}

const proofHeader = "c2sp.org/tlog-proof@v1"

// String is the proof as a file.
func (p Inclusion) String() string {
	var b strings.Builder
	b.WriteString(proofHeader + "\n")
	if p.Extra != nil {
		b.WriteString("extra " + base64.StdEncoding.EncodeToString(p.Extra) + "\n")
	}
	fmt.Fprintf(&b, "index %d\n", p.Index)
	writeHashes(&b, p.Hashes)
	b.WriteString("\n" + p.Note.Signed)
	return b.String()
}

// ParseInclusion reads what String writes. Nothing is proven before Check, and
// before somebody trusted has signed its Note.
func ParseInclusion(text string) (Inclusion, error) {
	wrong := func(what string) (Inclusion, error) {
		return Inclusion{}, fmt.Errorf("couldn't read the proof: %s", what)
	}
	head, signed, found := strings.Cut(strings.ReplaceAll(text, "\r\n", "\n"), "\n\n")
	lines := strings.Split(head, "\n")
	if !found || len(text) > maxNote || lines[0] != proofHeader {
		return wrong("it doesn't begin with " + proofHeader)
	}
	lines = lines[1:]
	p := Inclusion{}
	var err error
	if len(lines) > 0 && strings.HasPrefix(lines[0], "extra ") {
		encoded := strings.TrimPrefix(lines[0], "extra ")
		p.Extra, err = base64.StdEncoding.Strict().DecodeString(encoded)
		if err != nil || base64.StdEncoding.EncodeToString(p.Extra) != encoded {
			return wrong("its extra line is damaged")
		}
		lines = lines[1:]
	}
	if len(lines) == 0 {
		return wrong("it has no index")
	}
	p.Index, err = strconv.ParseUint(strings.TrimPrefix(lines[0], "index "), 10, 63)
	if err != nil || lines[0] != "index "+strconv.FormatUint(p.Index, 10) {
		return wrong("its index is damaged")
	}
	for _, line := range lines[1:] {
		h, err := tlog.ParseHash(line)
		if err != nil || h.String() != line { // Base64 has several spellings of one hash
			return wrong("one of its hashes is damaged")
		}
		p.Hashes = append(p.Hashes, h)
	}
	p.Note, err = ParseNote(signed)
	if err == nil && p.Note.Signed != signed {
		err = errors.New("there is more than the checkpoint")
	}
	if err != nil {
		return wrong("its checkpoint: " + err.Error())
	}
	return p, nil
}

// Check says whether the leaf is in the tree of the checkpoint, at the index.
func (p Inclusion) Check(leaf tlog.Hash) error {
	if p.Index >= p.Note.Size || tlog.CheckRecord(p.Hashes, int64(p.Note.Size), p.Note.Root, int64(p.Index), leaf) != nil {
		return fmt.Errorf("the proof doesn't show that it is entry %d of a log of %d: it, the hashes or the checkpoint was altered", p.Index, p.Note.Size)
	}
	return nil
}
