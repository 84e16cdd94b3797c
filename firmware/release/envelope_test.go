package release_test

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"

	"bollard/firmware/release"
)

func seal(t testing.TB, m maker) []byte {
	t.Helper()
	text, err := full().Canonical()
	must(t, err)
	envelope, err := release.Seal(t.Context(), release.PayloadType, text, m.cert, m.key, rand.Reader)
	must(t, err)
	return envelope
}

func TestEnvelope(t *testing.T) {
	t.Parallel()
	for name, m := range map[string]maker{"ECDSA": ecMaker(t), "RSA": rsaMaker(t)} {
		r, err := release.Open(t.Context(), seal(t, m), m.cert)
		must(t, err)
		if diff := cmp.Diff(full(), r); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestEnvelopeIsRefused(t *testing.T) {
	t.Parallel()
	m := ecMaker(t)
	envelope := string(seal(t, m))
	replace := func(old, to string) string {
		if !strings.Contains(envelope, old) {
			t.Fatalf("%s isn't in %s", old, envelope)
		}
		return strings.Replace(envelope, old, to, 1)
	}
	statement, err := release.Seal(t.Context(), "application/vnd.in-toto+json", []byte("{}"), m.cert, m.key, rand.Reader)
	must(t, err)
	changed := full()
	changed.Sequence++
	text, err := changed.Canonical()
	must(t, err)
	_, payload, _ := strings.Cut(envelope, `"payload":"`)
	payload, _, _ = strings.Cut(payload, `"`)
	for name, wrong := range map[string]string{
		"another type, signed so": string(statement),
		"another type":            replace(release.PayloadType, "application/json"),
		"another payload":         replace(payload, base64.StdEncoding.EncodeToString(text)),
		"no signatures":           envelope[:strings.Index(envelope, `"signatures"`)] + `"signatures":[]}`,
		"signatures twice":        replace(`"signatures":`, `"signatures":[],"signatures":`),
		"payload in two cases":    replace(`"payload":`, `"Payload":"","payload":`),
		"not JSON":                "x",
		"empty":                   "",
		"too large":               envelope + strings.Repeat(" ", 1<<20),
	} {
		if _, err := release.Open(t.Context(), []byte(wrong), m.cert); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	for name, other := range map[string]maker{"another key": ecMaker(t), "another algorithm": rsaMaker(t)} {
		if _, err := release.Open(t.Context(), []byte(envelope), other.cert); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// What is signed is the pre-authentication encoding of DSSE 1.0, worked out here
// by hand, so that others' programs verify it.
func TestEnvelopeIsDSSE(t *testing.T) {
	t.Parallel()
	m := ecMaker(t)
	text, err := full().Canonical()
	must(t, err)
	message := fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(release.PayloadType), release.PayloadType, len(text), text)
	sig := base64.StdEncoding.EncodeToString(sign(t, m, release.ECDSAP256, message))
	envelope := fmt.Sprintf(`{"payloadType":%q,"payload":%q,"signatures":[{"sig":%q}]}`, release.PayloadType, base64.StdEncoding.EncodeToString(text), sig)
	if _, err := release.Open(t.Context(), []byte(envelope), m.cert); err != nil {
		t.Error(err)
	}
	if !bytes.Equal(message, dsse.PAE(release.PayloadType, text)) {
		t.Error("the library encodes otherwise")
	}
}

func FuzzOpen(f *testing.F) {
	m := ecMaker(f)
	envelope := seal(f, m)
	f.Add(envelope)
	f.Add([]byte(`{"payloadType":"application/vnd.bollard.release.v1+json","payload":"e30=","signatures":[{"sig":""}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := release.Open(t.Context(), text, m.cert)
		if err == nil && !cmp.Equal(r, full()) {
			t.Fatalf("%q opened to what was never signed", text)
		}
	})
}
