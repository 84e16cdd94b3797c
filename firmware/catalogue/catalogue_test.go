package catalogue_test

import (
	"strings"
	"testing"

	"bollard/firmware/catalogue"
)

// What is kept beside an envelope is worth nothing if it says other than what was
// signed.
func TestKeptRecordIsTheSignedOne(t *testing.T) { // promise 10
	t.Parallel()
	s := newShelf(t)
	r, in := s.sign(1, "image")
	digest, err := r.Digest()
	if err != nil {
		t.Fatal(err)
	}
	e := catalogue.Entry{Release: r, Digest: digest, Envelope: in.Envelope, Certificate: s.cert.Raw}
	if err := s.Verify(t.Context(), &e); err != nil {
		t.Fatal(err)
	}
	// A device's certificate, under the same root and good for anything, signs none.
	if err := s.Trusted(t.Context(), s.certificate(nil)); err == nil || !strings.Contains(err.Error(), "codeSigning") {
		t.Errorf("a certificate without extended key usage: %v", err)
	}
	other := *r
	other.Sequence = 9
	e.Release = &other
	if err := s.Verify(t.Context(), &e); err == nil {
		t.Error("a record that was changed where it is kept is good")
	}
}
