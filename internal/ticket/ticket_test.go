package ticket_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"bollard/internal/ticket"
)

var noon = time.Unix(1780315200, 0)

func keeper(t testing.TB, b byte) *ticket.Keeper {
	k, err := ticket.New(bytes.Repeat([]byte{b}, ticket.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// What was issued is read as it was, within its time and for its purpose only.
func TestTicketSaysWhatWasIssued(t *testing.T) {
	t.Parallel()
	k, other := keeper(t, 1), keeper(t, 2)
	rapid.Check(t, func(t *rapid.T) {
		in := ticket.Ticket{
			Purpose: rapid.StringMatching(`[a-z-]{1,32}`).Draw(t, "purpose"), Station: rapid.StringN(0, 48, 200).Draw(t, "station"),
			Request: rapid.Int64().Draw(t, "request"), Expires: noon,
		}
		text, err := k.Issue(in)
		if err != nil || strings.Trim(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") != "" || len(text) > 400 {
			t.Fatalf("issued %q, %v", text, err)
		}
		if out, err := k.Read(text, in.Purpose, noon.Add(-time.Second)); err != nil || out != in {
			t.Fatalf("read %+v, %v; want %+v", out, err, in)
		}
		for name, err := range map[string]error{
			"too late":     second(k.Read(text, in.Purpose, noon)),
			"for another":  second(k.Read(text, in.Purpose+"x", noon.Add(-time.Second))),
			"another key":  second(other.Read(text, in.Purpose, noon.Add(-time.Second))),
			"cut":          second(k.Read(text[:len(text)-1], in.Purpose, noon.Add(-time.Second))),
			"longer":       second(k.Read(text+"A", in.Purpose, noon.Add(-time.Second))),
			"not a ticket": second(k.Read("", in.Purpose, noon)),
		} {
			if !errors.Is(err, ticket.ErrInvalid) {
				t.Fatalf("%s: %v", name, err)
			}
		}
	})
}

func second(_ ticket.Ticket, err error) error { return err }

// Every changed character makes it invalid.
func TestChangedTicketIsNone(t *testing.T) {
	t.Parallel()
	k := keeper(t, 1)
	text, err := k.Issue(ticket.Ticket{Purpose: "security-log", Station: "cs-1", Request: 7, Expires: noon})
	if err != nil {
		t.Fatal(err)
	}
	for i := range text {
		for _, c := range "AZaz09-_" {
			changed := text[:i] + string(c) + text[i+1:]
			if changed == text {
				continue
			}
			if out, err := k.Read(changed, "security-log", noon.Add(-time.Hour)); err == nil {
				t.Errorf("changed at %d it reads %+v", i, out)
			}
		}
	}
}

func TestTicketsWithoutPurposeAreRefused(t *testing.T) {
	t.Parallel()
	k := keeper(t, 1)
	for _, bad := range []ticket.Ticket{{}, {Purpose: strings.Repeat("p", 33)}, {Purpose: "p", Station: strings.Repeat("s", 201)}} {
		if text, err := k.Issue(bad); err == nil {
			t.Errorf("issued %q for %+v", text, bad)
		}
	}
	if _, err := ticket.New([]byte("short")); err == nil {
		t.Error("a short key was taken")
	}
}

func FuzzRead(f *testing.F) {
	k := keeper(f, 1)
	text, err := k.Issue(ticket.Ticket{Purpose: "p", Station: "cs-1", Request: 7, Expires: noon})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add("")
	f.Add(text[:12] + "\n" + text[12:])
	f.Add(text + "\r\n")
	f.Fuzz(func(t *testing.T, in string) {
		if out, err := k.Read(in, "p", noon.Add(-time.Hour)); err == nil && in != text {
			t.Errorf("%q reads %+v", in, out)
		}
	})
}

// A ticket for one thing is none for another, nor one without a thing.
func TestTicketForOneThing(t *testing.T) {
	t.Parallel()
	k := keeper(t, 1)
	text, err := k.For("a").Issue(ticket.Ticket{Purpose: "firmware", Station: "cs-1", Request: 7, Expires: noon})
	if err != nil {
		t.Fatal(err)
	}
	before := noon.Add(-time.Second)
	if got, err := k.For("a").Read(text, "firmware", before); err != nil || got.Request != 7 {
		t.Errorf("its own: %+v, %v", got, err)
	}
	for name, other := range map[string]*ticket.Keeper{"another thing": k.For("b"), "no thing": k, "twice": k.For("a").For("a"), "another key": keeper(t, 2).For("a")} {
		if _, err := other.Read(text, "firmware", before); !errors.Is(err, ticket.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
