package exi_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bollard/iso15118/exi"
)

// vector is one entry of the files in testdata: bytes on which EXIficient and
// OpenEXI agree.
type vector struct {
	Name, Schema, Grammar, EXI, Why string
	Root                            struct{ NS, Name string }
	Content                         json.RawMessage
}

func vectors(t testing.TB, file string) []vector {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", file+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var in struct{ Vectors []vector }
	if err := json.Unmarshal(raw, &in); err != nil {
		t.Fatal(err)
	}
	if len(in.Vectors) == 0 {
		t.Fatalf("%s has no vectors", file)
	}
	return in.Vectors
}

func setOf(t testing.TB, v vector) (*exi.Set, exi.Grammar) {
	t.Helper()
	s, err := exi.SetNamed(v.Schema)
	if err != nil {
		t.Fatal(err)
	}
	g, err := exi.ParseGrammar(v.Grammar)
	if err != nil {
		t.Fatal(err)
	}
	return s, g
}

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// plain decodes JSON with numbers as they are written.
func plain(t testing.TB, raw []byte) any {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(string(raw)))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestVectorsBothWays(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"iso15118-2-documents", "iso15118-2-fragments", "iso15118-20-documents", "iso15118-20-fragments", "xmldsig-signedinfo"} {
		for _, v := range vectors(t, file) {
			t.Run(v.Name, func(t *testing.T) {
				t.Parallel()
				s, g := setOf(t, v)
				el, err := s.Decode(g, unhex(t, v.EXI))
				if err != nil {
					t.Fatal(err)
				}
				if el.Space != v.Root.NS || el.Local != v.Root.Name {
					t.Errorf("root %s of %s", el.Local, el.Space)
				}
				got, err := s.ElementJSON(g, el)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(plain(t, v.Content), plain(t, got)); diff != "" {
					t.Error(diff)
				}
				from, err := s.ParseElement(g, exi.Name{Space: v.Root.NS, Local: v.Root.Name}, v.Content)
				if err != nil {
					t.Fatal(err)
				}
				out, err := s.Encode(g, from)
				if err != nil {
					t.Fatal(err)
				}
				if hex.EncodeToString(out) != v.EXI {
					t.Errorf("encoded to\n%x, want\n%s", out, v.EXI)
				}
			})
		}
	}
}

// What others published decodes, and so encodes to the same bytes; the elements
// of an empty namespace don't: they aren't declared.
func TestPublishedBytes(t *testing.T) {
	t.Parallel()
	for _, v := range vectors(t, "published") {
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			s, g := setOf(t, v)
			_, err := s.Decode(g, unhex(t, v.EXI))
			if wrong := strings.Contains(v.Name, "wrong"); (err != nil) != wrong {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestRejects(t *testing.T) {
	t.Parallel()
	for _, v := range vectors(t, "reject") {
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			s, g := setOf(t, v)
			if _, err := s.Decode(g, unhex(t, v.EXI)); err == nil {
				t.Errorf("decoded, though %s", v.Why)
			}
		})
	}
}

// Every byte counts: no change of any bit, and no cut, decodes to the same element.
func TestOneSpelling(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"iso15118-2-fragments", "iso15118-20-fragments", "xmldsig-signedinfo"} {
		for _, v := range vectors(t, file) {
			if len(v.EXI) > 800 {
				continue
			}
			t.Run(v.Name, func(t *testing.T) {
				t.Parallel()
				s, g := setOf(t, v)
				data := unhex(t, v.EXI)
				want, err := s.Decode(g, data)
				if err != nil {
					t.Fatal(err)
				}
				for n := range len(data) {
					if _, err := s.Decode(g, data[:n]); err == nil {
						t.Fatalf("decoded after %d bytes of %d", n, len(data))
					}
				}
				for bit := range len(data) * 8 {
					data[bit/8] ^= 0x80 >> (bit % 8)
					if got, err := s.Decode(g, data); err == nil && reflect.DeepEqual(got, want) {
						t.Errorf("bit %d changes nothing", bit)
					}
					data[bit/8] ^= 0x80 >> (bit % 8)
				}
				if _, err := s.Decode(g, append(data, 0)); err == nil {
					t.Error("a byte may follow")
				}
			})
		}
	}
}

func TestNotCarriedIsNamed(t *testing.T) {
	t.Parallel()
	s := exi.ISO2()
	// SessionSetupReq: document code 68 of 7 bits.
	code, err := s.Lookup(exi.Document, "", "SessionSetupReq")
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Encode(exi.Document, exi.Element{Name: code})
	if !errors.Is(err, exi.ErrNotCarried) || !strings.Contains(err.Error(), "SessionSetupReq") {
		t.Errorf("encode: %v", err)
	}
	body := exi.Element{Name: exi.Name{Space: "urn:iso:15118:2:2013:MsgDef", Local: "V2G_Message"}, Children: []exi.Element{
		{Name: exi.Name{Local: "Header"}, Children: []exi.Element{{Name: exi.Name{Local: "SessionID"}, Value: []byte{1}}}},
		{Name: exi.Name{Local: "Body"}, Children: []exi.Element{{Name: exi.Name{Local: "SessionStopReq"}}}},
	}}
	if _, err := s.Encode(exi.Document, body); !errors.Is(err, exi.ErrNotCarried) || !strings.Contains(err.Error(), "SessionStopReq") {
		t.Errorf("encode in a body: %v", err)
	}
}

// The set of names and their codes are those of the schemas.
func TestCodesOfTheSchemas(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile(filepath.Join("..", "..", "..", "shared", "iso15118-xsd", "element-codes.json"))
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("the code tables are not beside this checkout")
	}
	if err != nil {
		t.Fatal(err)
	}
	var want map[string]struct {
		DocumentElements, FragmentElements []struct {
			Code     int
			Name, NS string
		}
	}
	if err := json.Unmarshal(raw, &want); err != nil {
		t.Fatal(err)
	}
	for name, w := range want {
		s, err := exi.SetNamed(name)
		if err != nil {
			t.Fatal(err)
		}
		for g, list := range map[exi.Grammar][]struct {
			Code     int
			Name, NS string
		}{exi.Document: w.DocumentElements, exi.Fragment: w.FragmentElements} {
			all := exi.AllRoots(s, g)
			if len(all) != len(list) {
				t.Errorf("%s %s: %d elements, want %d", name, g, len(all), len(list))
				continue
			}
			for _, e := range list {
				if got := all[e.Code]; got.Local != e.Name || got.Space != e.NS {
					t.Errorf("%s %s: code %d is %v, want %s of %s", name, g, e.Code, got, e.Name, e.NS)
				}
			}
		}
	}
}

// Some peers sign the eMAID as it is declared in answers: event codes of one bit
// around Id and text, where the standard wants the relaxed grammar.
func TestDeclaredEMAID(t *testing.T) {
	t.Parallel()
	el := exi.Element{Name: exi.Name{Space: "urn:iso:15118:2:2013:MsgBody", Local: "eMAID"},
		Attributes: []exi.Attribute{{Name: "Id", Value: "id1"}}, Value: "DE8AACA2B3C4D5"}
	bits := "10000000" + "11101100" + "0" // header, SE(eMAID) 236, AT(Id)
	text := func(s string) {
		bits += fmt.Sprintf("%08b", len(s)+2)
		for _, c := range []byte(s) {
			bits += fmt.Sprintf("%08b", c)
		}
	}
	text("id1")
	bits += "0" // CH
	text("DE8AACA2B3C4D5")
	bits += "0" + "11110100" // EE, ED 244
	var want []byte
	for i := 0; i < len(bits); i += 8 {
		b, err := strconv.ParseUint((bits + "0000000")[i:i+8], 2, 8)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, byte(b))
	}
	got, err := exi.ISO2().EncodeDeclared(el)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%x, %v, want %x", got, err, want)
	}
	if relaxed, err := exi.ISO2().Encode(exi.Fragment, el); err != nil || bytes.Equal(relaxed, got) {
		t.Errorf("Encode wrote the same (%v)", err)
	}
	if _, err := exi.ISO2().Decode(exi.Fragment, got); err == nil {
		t.Error("decoded, though it isn't the standard's form")
	}
}
