package ceremony

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"bollard/ca"
	"bollard/internal/curve448"
	"bollard/ledger"
)

// Kinds of a ceremony's own entries.
const (
	kindBegan     = "ceremony.began"
	kindResumed   = "ceremony.resumed"
	kindAbandoned = "ceremony.abandoned"
	kindKey       = "ceremony.key"
	kindOutput    = "ceremony.output"
	kindEnded     = "ceremony.ended"
)

// statementWords stand before the entries of a transcript where it is signed.
const statementWords = "bollard key ceremony transcript v1\n"

// maxTranscript bounds one: a root's ledger has some dozen entries a ceremony.
const maxTranscript = 4 << 20

// Transcript is what a root's ledger says of its newest ceremony, verified.
type Transcript struct {
	Title      string            `json:"title"`
	Script     string            `json:"script"` // SHA-256
	Hierarchy  string            `json:"hierarchy"`
	Rehearsal  bool              `json:"rehearsal"`
	Roles      string            `json:"present"`
	Holder     string            `json:"holder"`     // of the root's key
	Exportable string            `json:"exportable"` // what is known of that
	Began      time.Time         `json:"began"`
	Ended      time.Time         `json:"ended"`
	Outputs    []Output          `json:"outputs"`
	Digest     string            `json:"sha256"` // of all lines but the last: signed anew, they are the same
	Root       *x509.Certificate `json:"-"`
}

// Output is a file that the ceremony made.
type Output struct {
	File   string `json:"file"`
	What   string `json:"what"`
	SHA256 string `json:"sha256"`
}

// seal is the last line of a transcript.
type seal struct {
	Root      []byte `json:"root"` // DER
	Signature []byte `json:"signature"`
}

// write signs the ledger of a root as it stood at the end of a ceremony.
func write(entries []ledger.Entry, root *x509.Certificate, sign func(statement []byte) ([]byte, error)) ([]byte, error) {
	text, err := linesOf(entries)
	if err != nil {
		return nil, err
	}
	signature, err := sign(append([]byte(statementWords), text...))
	if err != nil {
		return nil, fmt.Errorf("couldn't sign the transcript: %w", err)
	}
	last, err := json.Marshal(seal{Root: root.Raw, Signature: signature})
	if err != nil {
		return nil, err
	}
	return append(append(text, last...), '\n'), nil
}

// linesOf is a ledger as a transcript has it.
func linesOf(entries []ledger.Entry) ([]byte, error) {
	var text []byte
	for _, e := range entries {
		line, err := json.Marshal(e)
		if err != nil {
			return nil, err
		}
		text = append(append(text, line...), '\n')
	}
	return text, nil
}

// ReadTranscript verifies a transcript: the signature of the root that it tells of, over
// all of it, and that the ledger in it is whole. Whether the root is one to believe is
// the caller's to know.
func ReadTranscript(data []byte) (*Transcript, error) {
	if len(data) > maxTranscript {
		return nil, fmt.Errorf("the transcript is longer than %d bytes", maxTranscript)
	}
	whole, ok := bytes.CutSuffix(data, []byte("\n"))
	i := bytes.LastIndexByte(whole, '\n') + 1
	if !ok || i == 0 {
		return nil, errors.New("it isn't a transcript, or was cut off")
	}
	root, err := checkSeal(whole[i:], data[:i])
	if err != nil {
		return nil, err
	}
	var entries []ledger.Entry
	sum, err := ledger.Verify(func(yield func(ledger.Entry, error) bool) {
		for line := range bytes.Lines(data[:i]) {
			var e ledger.Entry
			err := e.UnmarshalJSON(bytes.TrimSuffix(line, []byte("\n")))
			entries = append(entries, e)
			if !yield(e, err) {
				return
			}
		}
	})
	if err != nil {
		return nil, fmt.Errorf("the ledger in the transcript: %w", err)
	}
	t := &Transcript{Root: root, Ended: sum.LastTime, Digest: hashOf(data[:i])}
	return t, t.interpret(entries)
}

// checkSeal verifies the last line of a transcript over those before it.
func checkSeal(line, entries []byte) (*x509.Certificate, error) {
	var s seal
	if err := json.Unmarshal(line, &s); err != nil {
		return nil, errors.New("it isn't a transcript, or was cut off: its last line isn't a signature")
	}
	if again, err := json.Marshal(s); err != nil || !bytes.Equal(again, line) {
		return nil, errors.New("the signature of the transcript isn't spelled as it was written")
	}
	root, err := curve448.ParseCertificate(s.Root)
	if err != nil {
		return nil, fmt.Errorf("couldn't read the root in the transcript: %w", err)
	}
	if err := ca.CheckStatement(root, append([]byte(statementWords), entries...), s.Signature); err != nil {
		return nil, fmt.Errorf("the transcript was altered, or is another root's: %w", err)
	}
	return root, nil
}

// interpret reads the newest ceremony of a ledger, which is over with its last entry.
func (t *Transcript) interpret(entries []ledger.Entry) error {
	last := entries[len(entries)-1]
	if last.Kind != kindEnded || last.Data["root"] != fingerprint(t.Root) {
		return errors.New("the transcript doesn't tell of a ceremony of this root that ended")
	}
	t.Script = last.Subject
	began := false
	for _, e := range entries {
		switch {
		case e.Kind == kindKey:
			t.Holder, t.Exportable = e.Data["holder"], e.Data["exportable"]
		case e.Kind == kindBegan && e.Subject == t.Script:
			began = true
			t.Title, t.Hierarchy, t.Rehearsal, t.Roles, t.Began = e.Data["title"], e.Data["hierarchy"], e.Data["rehearsal"] != "no", e.Data["present"], e.Time
		case e.Kind == kindOutput && began:
			t.Outputs = append(t.Outputs, Output{File: e.Subject, What: e.Data["what"], SHA256: e.Data["sha256"]})
		}
	}
	if !began {
		return errors.New("the transcript doesn't tell of the ceremony's beginning")
	}
	return nil
}

// CheckOutput holds a file against what the transcript says of it.
func (t *Transcript) CheckOutput(name string, data []byte) error {
	sum := sha256.Sum256(data)
	for i := len(t.Outputs) - 1; i >= 0; i-- { // one that was made again counts
		if t.Outputs[i].File != name {
			continue
		}
		if t.Outputs[i].SHA256 != hex.EncodeToString(sum[:]) {
			return fmt.Errorf("%s isn't the file that the ceremony made", name)
		}
		return nil
	}
	return fmt.Errorf("the ceremony made no file %s", strings.ToValidUTF8(name, "?"))
}

func fingerprint(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return hex.EncodeToString(sum[:])
}
