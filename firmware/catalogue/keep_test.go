package catalogue_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"bollard/firmware/catalogue"
)

// An image goes when its release is over and its time is too; what it was stays.
func TestImagesAreKept(t *testing.T) { // CRA article 13(9)
	t.Parallel()
	s := newShelf(t)
	const actor = "operator:root"
	never, r, twin := s.add(6), s.publish(7), s.publish(8)
	there := func(sha256 string) bool { _, err := s.files.Has(sha256); return err == nil }
	refused := func(what, id string) {
		t.Helper()
		if _, err := s.Remove(t.Context(), actor, id, "room"); err == nil {
			t.Errorf("%s was removed", what)
		}
	}
	refused("one that may still be published", never.ID)
	if _, err := s.Withdraw(t.Context(), actor, never.ID, "a mistake"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Remove(t.Context(), actor, never.ID, ""); err == nil {
		t.Error("without a reason")
	}
	if e, err := s.Remove(t.Context(), actor, never.ID, "room"); err != nil || e.RemovedAt.IsZero() || there(never.SHA256) {
		t.Errorf("one that nobody was offered: %+v, %v", e, err)
	}
	if last := s.events[len(s.events)-1]; last.Kind != "firmware.removed" || last.Data["reason"] != "room" {
		t.Errorf("%+v", last)
	}
	refused("one that is offered", r.ID)
	if _, err := s.Revoke(t.Context(), actor, r.ID, "it bricks stations"); err != nil {
		t.Fatal(err)
	}
	s.now = s.now.AddDate(10, 0, -1)
	if _, err := s.Remove(t.Context(), actor, r.ID, "room"); err == nil || !strings.Contains(err.Error(), "2036-06-01") {
		t.Errorf("a day before its time: %v", err)
	}
	s.now = s.now.AddDate(0, 0, 1)
	s.keep = 11 * 365 * 24 * time.Hour // a longer support period
	s.trust()
	refused("one in its support period", r.ID)
	s.keep = time.Hour // and a shorter one shortens nothing
	s.trust()
	for range 2 { // the file may have been left by a crash
		if _, err := s.Remove(t.Context(), actor, r.ID, "room"); err != nil || there(r.SHA256) {
			t.Errorf("after ten years: %v", err)
		}
	}
	if e, err := s.Find(t.Context(), r.ID); err != nil || e.State != catalogue.Revoked || e.Digest == "" {
		t.Errorf("its record: %+v, %v", e, err)
	}
	if !there(twin.SHA256) {
		t.Error("another release's image is gone")
	}
}

// An image that a release is being added with isn't removed, and of two releases of a
// sequence that come at once one is refused, and its image goes.
func TestReleasesThatComeAtOnce(t *testing.T) { // promise 10
	t.Parallel()
	s := newShelf(t)
	const actor = "operator:root"
	there := func(sha256 string) bool { _, err := s.files.Has(sha256); return err == nil }
	meanwhile := func(b catalogue.Bundle, f func()) catalogue.Bundle {
		image := b.Image
		b.Image = func(to io.Writer) error { f(); return image(to) }
		return b
	}
	old, first := s.sign(7, "one image")
	if _, _, err := s.Add(t.Context(), actor, first); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Withdraw(t.Context(), actor, old.ID, "a mistake"); err != nil {
		t.Fatal(err)
	}
	r, next := s.sign(8, "one image")
	if _, _, err := s.Add(t.Context(), actor, meanwhile(next, func() {
		if _, err := s.Remove(t.Context(), actor, old.ID, "room"); !errors.Is(err, catalogue.ErrState) {
			t.Errorf("the image was removed: %v", err)
		}
	})); err != nil || !there(r.SHA256) {
		t.Fatal(err)
	}

	one, slow := s.sign(9, "the slow one")
	two, quick := s.sign(9, "the quick one")
	_, _, err := s.Add(t.Context(), actor, meanwhile(slow, func() {
		if _, _, err := s.Add(t.Context(), actor, quick); err != nil {
			t.Fatal(err)
		}
	}))
	if err == nil || !strings.Contains(err.Error(), "has sequence 9") || there(one.SHA256) || !there(two.SHA256) {
		t.Errorf("two of a sequence: %v", err)
	}
	_, same := s.sign(10, "twice")
	_, again, err := s.Add(t.Context(), actor, meanwhile(same, func() {
		if _, _, err := s.Add(t.Context(), actor, same); err != nil {
			t.Fatal(err)
		}
	}))
	if err != nil || !again {
		t.Errorf("the same one twice: %t, %v", again, err)
	}
}

// An image that a kill, or a full disk, left without its record takes no room for ever.
func TestImageOfNoReleaseGoes(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	there := func(sha256 string) bool { _, err := s.files.Has(sha256); return err == nil }
	kept := s.add(6)
	r, in := s.sign(7, "orphan")
	s.full = errors.New("no room for the record")
	if _, _, err := s.Add(t.Context(), "operator:root", in); !errors.Is(err, s.full) || !there(r.SHA256) {
		t.Fatalf("%v, there %v", err, there(r.SHA256))
	}
	s.full = nil
	other, in := s.sign(8, "another one")
	image := in.Image
	in.Image = func(to io.Writer) error {
		s.add(9) // while it comes, nor does that take it for one of no release
		return image(to)
	}
	if _, _, err := s.Add(t.Context(), "operator:root", in); err != nil || there(r.SHA256) || !there(kept.SHA256) || !there(other.SHA256) {
		t.Errorf("%v; orphan there %v, others %v and %v", err, there(r.SHA256), there(kept.SHA256), there(other.SHA256))
	}
}
