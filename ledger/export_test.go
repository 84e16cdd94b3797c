package ledger_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"bollard/ledger"
)

// export is what `ledger export` prints.
func export(t *testing.T, list []ledger.Entry, n ledger.Note) []byte {
	t.Helper()
	var b bytes.Buffer
	for _, e := range list {
		line, err := e.MarshalJSON()
		must(t, err)
		b.Write(append(line, '\n'))
	}
	must(t, ledger.WriteEnd(&b, n))
	return b.Bytes()
}

func small(t *testing.T) *book {
	b := newBook(t).grow(3)
	b.add(ledger.Event{Kind: "station.added", Subject: "cs-1", Actor: "operator:a<b>", Data: map[string]string{"serial": "SN-1", "note": "über\u2028"}})
	return b.grow(6)
}

// Promise 15, on a file: cut or changed at any byte it is refused, and so is
// any other order of its lines.
func TestExportTornAtEveryByte(t *testing.T) {
	t.Parallel()
	b := small(t)
	file := export(t, b.entries, b.checkpoint(t))
	if sum, last, err := ledger.VerifyExport(bytes.NewReader(file)); err != nil || sum.Count != 6 || last.Size != 6 {
		t.Fatalf("as it is: %+v, %v", sum, err)
	}
	sound := func(file []byte) bool {
		_, _, err := ledger.VerifyExport(bytes.NewReader(file))
		return err == nil
	}
	for i := range file {
		if sound(file[:i]) {
			t.Fatalf("cut at byte %d it is sound", i)
		}
		for _, bit := range []byte{0x01, 0x20} {
			torn := bytes.Clone(file)
			torn[i] ^= bit
			if sound(torn) {
				t.Fatalf("byte %d changed by %x it is sound: %q", i, bit, torn[max(0, i-20):i+1])
			}
		}
		if sound(slices.Insert(bytes.Clone(file), i, ' ')) || sound(slices.Delete(bytes.Clone(file), i, i+1)) {
			t.Fatalf("with a byte more or less at %d it is sound", i)
		}
	}
	lines := bytes.SplitAfter(file, []byte("\n"))
	lines = lines[:len(lines)-1]
	for i := range lines {
		if sound(bytes.Join(slices.Delete(slices.Clone(lines), i, i+1), nil)) {
			t.Errorf("without line %d it is sound", i+1)
		}
		if sound(bytes.Join(slices.Insert(slices.Clone(lines), i, lines[i]), nil)) {
			t.Errorf("with line %d twice it is sound", i+1)
		}
		for j := range i {
			swapped := slices.Clone(lines)
			swapped[i], swapped[j] = swapped[j], swapped[i]
			if sound(bytes.Join(swapped, nil)) {
				t.Errorf("with lines %d and %d swapped it is sound", j+1, i+1)
			}
		}
	}
	if sound(append(bytes.Clone(file), '\n')) {
		t.Error("with more after its end it is sound")
	}
}

// An export cut together with its last line's checkpoint is an older export,
// and sound: only a checkpoint kept elsewhere tells.
func TestOlderExportNeedsACheckpointKeptElsewhere(t *testing.T) {
	t.Parallel()
	b := small(t)
	older := export(t, b.entries, b.checkpoint(t))
	newest := b.grow(9).checkpoint(t)
	_, _, err := ledger.VerifyExport(bytes.NewReader(older))
	must(t, err)
	var lost *ledger.CheckpointError
	if _, _, err = ledger.VerifyExport(bytes.NewReader(older), newest); !errors.As(err, &lost) || lost.Problem != ledger.Cut {
		t.Errorf("got %v", err)
	}
}

func TestExportNamesTheLine(t *testing.T) {
	t.Parallel()
	b := small(t)
	file := string(export(t, b.entries, b.checkpoint(t)))
	for name, tt := range map[string]struct{ file, want string }{
		"changed":       {strings.Replace(file, "SN-1", "SN-2", 1), "ledger entry 4 was altered"},
		"spelled":       {strings.Replace(file, `"seq":4,`, `"seq": 4,`, 1), "line 4 of the export: ledger entry 4 isn't spelled"},
		"unknown field": {strings.Replace(file, `"seq":4,`, `"seq":4,"x":1,`, 1), "line 4"},
		"cut":           {file[:len(file)-20], "line 7 of the export: it was cut off"},
		"entry cut":     {file[:strings.Index(file, `"seq":3`)-1], "line 3 of the export: it was cut off"},
		"empty":         {"", "line 1 of the export: it was cut off"},
		"long line":     {strings.Repeat("x", 2<<20), "longer than"},
	} {
		if _, _, err := ledger.VerifyExport(strings.NewReader(tt.file)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

// Whatever is read: an error, or the very bytes that an export writes.
func FuzzExport(f *testing.F) {
	b := newBook(f).grow(3)
	var file bytes.Buffer
	for _, e := range b.entries {
		line, err := e.MarshalJSON()
		if err != nil {
			f.Fatal(err)
		}
		file.Write(append(line, '\n'))
	}
	if err := ledger.WriteEnd(&file, b.checkpoint(f)); err != nil {
		f.Fatal(err)
	}
	f.Add(file.Bytes())
	f.Add([]byte("{}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var again bytes.Buffer
		var last ledger.Note
		for e, err := range ledger.ReadExport(bytes.NewReader(data), func(n ledger.Note) { last = n }) {
			if err != nil {
				return
			}
			line, err := e.MarshalJSON()
			must(t, err)
			again.Write(append(line, '\n'))
		}
		must(t, ledger.WriteEnd(&again, last))
		if !bytes.Equal(again.Bytes(), data) {
			t.Fatalf("%q was read as %q", data, again.Bytes())
		}
	})
}

// Proofs and checkpoints come from anybody.
func FuzzNotes(f *testing.F) {
	b := newBook(f).grow(5)
	n := b.checkpoint(f)
	p, err := ledger.Prove(b.entries[2], n, b.hashes())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(n.Signed)
	f.Add(p.String())
	f.Fuzz(func(t *testing.T, text string) {
		if n, err := ledger.ParseNote(text); err == nil {
			if again, err := ledger.ParseNote(n.Signed); err != nil || again != n {
				t.Fatalf("%q isn't read as it was written: %v", n.Signed, err)
			}
		}
		p, err := ledger.ParseProof(text)
		if err != nil {
			return
		}
		if p.String() != strings.ReplaceAll(text, "\r\n", "\n") {
			t.Fatalf("%q was read as %q", text, p.String())
		}
		_ = p.Check()
	})
}
