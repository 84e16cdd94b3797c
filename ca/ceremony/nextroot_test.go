package ceremony_test

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bollard/ca/ceremony"
)

// A kept root certifies the next one, by its certificate and digest, once; no other, not
// itself, and nothing that isn't a root of its hierarchy and organisation.
func TestNextRoot(t *testing.T) {
	t.Parallel()
	_, tb := held(t)
	root := func(edit func(tb *table, script string) string) []byte {
		t.Helper()
		other := newTable(t)
		made, err := other.run(t, edit(other, other.lay(t, "csms.csr", request(t, "Example CPO"))))
		if err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(filepath.Join(other.dir, made.Folder, ceremony.RootFile))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	next := root(func(_ *table, script string) string {
		return strings.Replace(script, "keys:", "name: csms-root-3\nalgorithm: p384\nkeys:", 1)
	})
	rehearsed := root(func(tb *table, script string) string { tb.rehearsal = true; return script })
	foreign := root(func(tb *table, script string) string {
		return strings.Replace(strings.Replace(script, "Example CPO", "Another CPO", 1), script[strings.Index(script, "certify:"):], "", 1)
	})
	folders, err := filepath.Glob(filepath.Join(tb.dir, "*", ceremony.RootFile))
	if err != nil || len(folders) != 1 {
		t.Fatalf("%v: %v", folders, err)
	}
	own, err := os.ReadFile(folders[0])
	if err != nil {
		t.Fatal(err)
	}
	kept, _, _ := strings.Cut(strings.Replace(good, "keys:", "root: kept\nkeys:", 1), "certify:")
	with := func(data []byte, to string) string {
		if err := os.WriteFile(filepath.Join(tb.beside, "next.pem"), data, 0o600); err != nil {
			t.Fatal(err)
		}
		return kept + fmt.Sprintf("next_root: {certificate: next.pem, sha256: %x, to: %s}\n", sha256.Sum256(data), to)
	}
	for name, tt := range map[string]struct {
		data []byte
		to   string
		want string
	}{
		"itself":               {own, "cross.pem", "it is this root"},
		"a rehearsal":          {rehearsed, "cross.pem", "it no rehearsal"},
		"of others":            {foreign, "cross.pem", "isn't one of Example CPO"},
		"a request":            {request(t, "Example CPO"), "cross.pem", "it isn't PEM certificates"},
		"two":                  {slices.Concat(next, own), "cross.pem", "two roots"},
		"over another":         {next, "root.pem", "is made already"},
		"into another folder":  {next, "../cross.pem", "next_root.to"},
		"nothing of this kind": {nil, "cross.pem", "isn't the certificate of a root"},
	} {
		if _, err := tb.run(t, with(tt.data, tt.to)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want one with %q", name, err, tt.want)
		}
	}
	text := with(next, "cross.pem")
	with(own, "cross.pem") // in its place
	if _, err := tb.run(t, text); err == nil || !strings.Contains(err.Error(), "next.pem is another file") {
		t.Errorf("another file in its place: %v", err)
	}
	with(next, "cross.pem")
	if n := tb.began(t); n != 1 {
		t.Fatalf("%d ceremonies began", n)
	}
	folder := tb.cutOff(t, text)
	before, err := os.ReadFile(filepath.Join(folder, "cross.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(folder, "cross.pem")); err != nil {
		t.Fatal(err)
	}
	made, err := tb.run(t, text)
	if err != nil || !slices.Contains(made.Files, "cross.pem") {
		t.Fatalf("%+v: %v", made, err)
	}
	after, err := os.ReadFile(filepath.Join(folder, "cross.pem"))
	if err != nil || string(after) != string(before) {
		t.Errorf("it was certified once more: %v", err)
	}
	var certs []*x509.Certificate
	for _, data := range [][]byte{after, own, next} {
		block, _ := pem.Decode(data)
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		certs = append(certs, cert)
	}
	cross, by, of := certs[0], certs[1], certs[2]
	if cross.CheckSignatureFrom(by) != nil || string(cross.RawSubject) != string(of.RawSubject) || string(cross.RawSubjectPublicKeyInfo) != string(of.RawSubjectPublicKeyInfo) {
		t.Errorf("%s, of %s, isn't the next root", cross.Subject, cross.Issuer)
	}
	// What became of it can be taken back.
	serial := fmt.Sprintf("%x", cross.SerialNumber)
	if _, err := tb.run(t, kept+"revoke: [{serial: '"+serial+"', reason: cessationOfOperation}]\n"); err != nil {
		t.Error(err)
	}
}
