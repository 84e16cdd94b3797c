package exi_test

import (
	"crypto/rand"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"bollard/iso15118/exi"
)

// cost of one decoding: bytes allocated, and the least time of three.
func cost(s *exi.Set, g exi.Grammar, data []byte) (bytes uint64, least time.Duration) {
	for i := range 3 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		start := time.Now()
		_, _ = s.Decode(g, data)
		if took := time.Since(start); i == 0 || took < least {
			least = took
		}
		runtime.ReadMemStats(&after)
		bytes = max(bytes, after.TotalAlloc-before.TotalAlloc)
	}
	return bytes, least
}

// Ten kilobytes cost at most ten megabytes, whatever they say. Not parallel:
// the allocations counted are the process's.
func TestHostileInputIsBounded(t *testing.T) {
	sets := []*exi.Set{exi.ISO2(), exi.ISO20Common(), exi.Signature()}
	inputs := map[string][]byte{}
	for _, file := range []string{"iso15118-2-fragments", "iso15118-20-fragments", "iso15118-2-documents", "iso15118-20-documents"} {
		for _, v := range vectors(t, file) {
			for _, fill := range []byte{0x00, 0xff, 0x55} {
				data := unhex(t, v.EXI)
				data = data[:min(len(data), 30)]
				inputs[v.Name+"/"+string('0'+fill%10)] = append(data, []byte(strings.Repeat(string(rune(fill&0x7f)), 10<<10))...)
			}
		}
	}
	noise := make([]byte, 10<<10)
	_, _ = rand.Read(noise)
	noise[0] = 0x80
	inputs["noise"] = noise
	inputs["many short entries"] = manyEntries(t)
	for name, data := range inputs {
		for _, s := range sets {
			for _, g := range []exi.Grammar{exi.Document, exi.Fragment} {
				if bytes, took := cost(s, g, data); bytes > 10<<20 || took > 50*time.Millisecond*raceFactor {
					t.Errorf("%s as %s %s: %d bytes allocated, %s", name, s, g, bytes, took)
				}
			}
		}
	}
}

// manyEntries is a tariff of as many elements as fit 10 KB.
func manyEntries(t *testing.T) []byte {
	t.Helper()
	s := exi.ISO20Common()
	number := func(name string, v int64) exi.Element { return exi.Element{Name: exi.Name{Local: name}, Value: v} }
	list := exi.Element{Name: exi.Name{Local: "PriceLevelScheduleEntries"}}
	for range 1024 {
		list.Children = append(list.Children, exi.Element{Name: exi.Name{Local: "PriceLevelScheduleEntry"},
			Children: []exi.Element{number("Duration", 1), number("PriceLevel", 1)}})
	}
	name, err := s.Lookup(exi.Fragment, "", "PriceLevelSchedule")
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.Encode(exi.Fragment, exi.Element{Name: name,
		Children: []exi.Element{number("TimeAnchor", 1), number("PriceScheduleID", 1), number("NumberOfPriceLevels", 1), list}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Decode(exi.Fragment, out); err != nil {
		t.Fatal(err)
	}
	return out
}

// A length far beyond the input fails before anything of its size is reserved.
func TestDeclaredLengthReservesNothing(t *testing.T) {
	data := unhex(t, "8021015a59ffffffffffffffffff7f")
	for _, g := range []exi.Grammar{exi.Document, exi.Fragment} {
		if bytes, _ := cost(exi.ISO2(), g, data); bytes > 64<<10 {
			t.Errorf("%s: %d bytes allocated", g, bytes)
		}
	}
	if _, err := exi.ISO2().Decode(exi.Document, make([]byte, exi.MaxInput+1)); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("too long an input: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	for i, file := range []string{"iso15118-2-documents", "iso15118-2-fragments", "iso15118-20-documents", "iso15118-20-fragments", "xmldsig-signedinfo", "reject"} {
		for _, v := range vectors(f, file) {
			f.Add(uint8(i), unhex(f, v.EXI))
		}
	}
	sets := []*exi.Set{exi.ISO2(), exi.ISO20Common(), exi.Signature()}
	f.Fuzz(func(t *testing.T, pick uint8, data []byte) {
		s, g := sets[int(pick/2)%len(sets)], exi.Grammar(pick%2)
		el, err := s.Decode(g, data)
		if err != nil {
			return
		}
		text, err := s.ElementJSON(g, el)
		if err != nil {
			t.Fatal(err)
		}
		again, err := s.ParseElement(g, el.Name, text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		out, err := s.Encode(g, again)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(out, data) {
			t.Fatalf("%x came back as %x", data, out)
		}
	})
}
