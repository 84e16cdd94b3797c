package bundle

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"bollard/firmware/release"
	"bollard/ledger"
)

// LogEntry is what a transparency log has of a release: the SHA-256 of its record,
// which says nothing to whoever doesn't have that.
func LogEntry(r *release.Release) ([]byte, error) {
	digest, err := r.Digest()
	if err != nil {
		return nil, err
	}
	return hex.DecodeString(digest)
}

// logged checks that the release is in the log it names.
func (c *checker) logged() {
	r := c.b.Release
	if r == nil {
		return
	}
	c.add(FileProof, func() (string, error) {
		if r.Log == release.NoLog {
			if c.trust.Log != nil {
				return "", errors.New("log: none, so it is in no transparency log")
			}
			return "log: none", nil
		}
		text, err := c.b.read(FileProof)
		if err != nil {
			return "", err
		}
		if c.trust.Log != nil {
			return Log{c.trust.Log, c.trust.Witnesses, c.trust.Needed}.Check(r, text)
		}
		proof, err := ledger.ParseInclusion(string(text))
		if err != nil {
			return "", err
		}
		where, err := included(r, proof)
		return where + "; nobody vouches for the log: no key was given", err
	})
}

// Log is a transparency log as somebody trusts it.
type Log struct {
	Key note.Verifier
	// Witnesses are those whose cosignatures count, and Needed how many of them a
	// checkpoint has to have; 0: all.
	Witnesses []note.Verifier
	Needed    int
}

// Check says of a release's proof (c2sp.org/tlog-proof) where the release stands in
// the log, or why that isn't proven.
func (l Log) Check(r *release.Release, text []byte) (where string, err error) {
	proof, err := ledger.ParseInclusion(string(text))
	if err != nil {
		return "", err
	}
	if where, err = included(r, proof); err != nil {
		return "", err
	}
	return where, l.vouches(proof)
}

// vouches: who stands there twice counts once.
func (l Log) vouches(proof ledger.Inclusion) error {
	if !proof.Note.SignedBy(l.Key) {
		return errors.New("its checkpoint isn't signed by the log's key")
	}
	all, missing := map[uint32]bool{}, []string{}
	for _, w := range l.Witnesses {
		if !all[w.KeyHash()] && !proof.Note.SignedBy(w) {
			missing = append(missing, w.Name())
		}
		all[w.KeyHash()] = true
	}
	needed := l.Needed
	if needed == 0 {
		needed = len(all)
	}
	if have := len(all) - len(missing); have < needed {
		return fmt.Errorf("its checkpoint is cosigned by %d of the %d witnesses it needs, and not by %s", have, needed, strings.Join(missing, ", "))
	}
	return nil
}

// included proves that a release is in the tree of a proof's checkpoint.
func included(r *release.Release, proof ledger.Inclusion) (where string, err error) {
	entry, err := LogEntry(r)
	if err != nil {
		return "", err
	}
	if proof.Note.Origin != r.Log {
		return "", fmt.Errorf("it is of the log %.100q, the release names %s", proof.Note.Origin, r.Log)
	}
	if err := proof.Check(tlog.RecordHash(entry)); err != nil {
		return "", err
	}
	return fmt.Sprintf("entry %d of %s", proof.Index, r.Log), nil
}
