package ca

import (
	"bytes"
	"crypto/x509/pkix"
	"encoding/asn1"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// A name is spelled as encoding/asn1 does, by whichever way.
func TestNamesAreSpelledAsASN1Does(t *testing.T) {
	t.Parallel()
	texts := rapid.OneOf(rapid.StringMatching(`[ -~]{0,20}`), rapid.String(), rapid.SampledFrom([]string{"", "\xff", strings.Repeat("x", 100), strings.Repeat("x", 101), "Müller & Söhne"}))
	lists := rapid.SliceOfN(texts, 0, 2)
	for c := range 128 {
		n := pkix.Name{CommonName: "A" + string(rune(c))}
		want, err := asn1.Marshal(n.ToRDNSequence())
		if got, ours := appendName(nil, &n); err != nil || ours != nil || !bytes.Equal(got, want) {
			t.Errorf("%q: %x, %v; want %x, %v", n.CommonName, got, ours, want, err)
		}
	}
	plain, others := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		n := pkix.Name{Country: lists.Draw(t, "country"), Organization: lists.Draw(t, "organization"), CommonName: texts.Draw(t, "common name")}
		switch rapid.IntRange(0, 9).Draw(t, "more") {
		case 0:
			n.SerialNumber = "7"
		case 1:
			n.OrganizationalUnit = []string{"unit"}
		case 2:
			n.ExtraNames = []pkix.AttributeTypeAndValue{{Type: oidDomain, Value: "CPO"}}
		case 3:
			n.Names = []pkix.AttributeTypeAndValue{{Type: oidDomain, Value: "CPO"}}
		}
		if _, ok := plainName(&n); ok {
			plain++
		} else {
			others++
		}
		want, wrong := asn1.Marshal(n.ToRDNSequence())
		got, err := appendName(nil, &n)
		if (err == nil) != (wrong == nil) || !bytes.Equal(got, want) {
			t.Errorf("%+v: %x, %v; want %x, %v", n, got, err, want, wrong)
		}
	})
	if plain == 0 || others == 0 {
		t.Errorf("%d names are plain, %d aren't", plain, others)
	}
}
