package ledger

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Checkpoint says what the tree is at one size (c2sp.org/tlog-checkpoint).
type Checkpoint struct {
	Origin string // names the ledger: no other has it
	Size   uint64
	Root   tlog.Hash
}

// Text is what is signed.
func (c Checkpoint) Text() string {
	return fmt.Sprintf("%s\n%d\n%s\n", c.Origin, c.Size, base64.StdEncoding.EncodeToString(c.Root[:]))
}

// ParseCheckpoint reads what Text writes, and nothing else.
func ParseCheckpoint(text string) (Checkpoint, error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 4 || lines[0] == "" {
		return Checkpoint{}, errors.New("a checkpoint is an origin, a size and a root, a line each")
	}
	size, err := strconv.ParseUint(lines[1], 10, 63)
	if err != nil {
		return Checkpoint{}, errors.New("the second line of the checkpoint isn't a size")
	}
	root, err := tlog.ParseHash(lines[2])
	if err != nil {
		return Checkpoint{}, errors.New("the third line of the checkpoint isn't a root hash")
	}
	c := Checkpoint{Origin: lines[0], Size: size, Root: root}
	if c.Text() != text {
		return Checkpoint{}, errors.New("the checkpoint isn't spelled as one")
	}
	return c, nil
}

// Sign returns the checkpoint as a signed note (c2sp.org/signed-note).
func (c Checkpoint) Sign(s note.Signer) (Note, error) {
	raw, err := note.Sign(&note.Note{Text: c.Text()}, s)
	if err != nil {
		return Note{}, fmt.Errorf("couldn't sign the checkpoint of %d entries: %w", c.Size, err)
	}
	return Note{c, string(raw)}, nil
}

// Note is a checkpoint with its signatures. Nothing is known of those before
// SignedBy.
type Note struct {
	Checkpoint
	Signed string // the whole signed note
}

// maxNote bounds a note: three lines and some signatures.
const maxNote = 64 << 10

// ParseNote reads a signed checkpoint, the last one in a text that may have
// other lines before it, as a command's output has. Extension lines, which the
// ledger never writes, aren't read.
func ParseNote(text string) (Note, error) {
	text = strings.ReplaceAll(text, "\r\n", "\n") // it may have come by mail
	body, signatures, found := cutLast(text, "\n\n\u2014 ")
	lines := strings.Split(body, "\n")
	if !found || len(text) > maxNote || len(lines) < 3 {
		return Note{}, errors.New("it isn't a signed checkpoint: an origin, a size, a root, an empty line, signatures")
	}
	c, err := ParseCheckpoint(strings.Join(lines[len(lines)-3:], "\n") + "\n")
	if err != nil {
		return Note{}, err
	}
	signed := c.Text() + "\n\u2014 " + strings.TrimRight(signatures, "\n") + "\n"
	n := Note{c, signed}
	opened, err := n.open()
	if err != nil {
		return Note{}, fmt.Errorf("its signatures aren't readable: %w", err)
	}
	for _, s := range opened.UnverifiedSigs {
		// Base64 has several spellings of one signature; one is the right one.
		if _, err := base64.StdEncoding.Strict().DecodeString(s.Base64); err != nil {
			return Note{}, fmt.Errorf("the signature of %s isn't readable: %w", s.Name, err)
		}
	}
	return n, nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// open verifies what the verifiers know and leaves the rest.
func (n Note) open(by ...note.Verifier) (*note.Note, error) {
	opened, err := note.Open([]byte(n.Signed), note.VerifierList(by...))
	var unverified *note.UnverifiedNoteError
	if errors.As(err, &unverified) {
		return unverified.Note, nil
	}
	return opened, err
}

// SignedBy says whether a verifier's signature is on the note and good.
func (n Note) SignedBy(v note.Verifier) bool {
	opened, err := n.open(v)
	return err == nil && len(opened.Sigs) > 0 && opened.Text == n.Text()
}

// Merge adds the signatures of the keys given that stand in signature lines,
// such as a witness's answer; false if none does.
func (n Note) Merge(lines string, by ...note.Verifier) (Note, bool) {
	added, err := Note{n.Checkpoint, n.Text() + "\n" + lines}.open(by...)
	if err != nil || len(added.Sigs) == 0 {
		return n, false
	}
	return n.join(added.Sigs), true
}

// With adds the signatures of another note of the same checkpoint, whose
// signatures were judged when they came.
func (n Note) With(other Note) Note {
	opened, err := other.open()
	if err != nil || opened.Text != n.Text() {
		return n
	}
	return n.join(opened.UnverifiedSigs)
}

// join puts signatures behind those the note has. A newer one of the same key
// takes the place of the older.
func (n Note) join(added []note.Signature) Note {
	have, err := n.open()
	if err != nil {
		return n
	}
	list := slices.DeleteFunc(have.UnverifiedSigs, func(old note.Signature) bool {
		return slices.ContainsFunc(added, func(s note.Signature) bool { return s.Name == old.Name && s.Hash == old.Hash })
	})
	raw, err := note.Sign(&note.Note{Text: n.Text(), Sigs: append(list, added...)})
	if err != nil {
		return n
	}
	return Note{n.Checkpoint, string(raw)}
}
