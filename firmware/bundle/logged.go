package bundle

import (
	"encoding/hex"
	"errors"
	"fmt"

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
		proof, err := ledger.ParseInclusion(string(text))
		if err != nil {
			return "", err
		}
		return c.proven(r, proof)
	})
}

func (c *checker) proven(r *release.Release, proof ledger.Inclusion) (string, error) {
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
	where := fmt.Sprintf("entry %d of %s", proof.Index, r.Log)
	if c.trust.Log == nil {
		return where + "; nobody vouches for the log: no key was given", nil
	}
	if !proof.Note.SignedBy(c.trust.Log) {
		return "", errors.New("its checkpoint isn't signed by the log's key")
	}
	for _, w := range c.trust.Witnesses {
		if !proof.Note.SignedBy(w) {
			return "", fmt.Errorf("its checkpoint isn't cosigned by %s", w.Name())
		}
	}
	return where, nil
}
