package ledger

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
)

// maxLine bounds one line of an export: Event's limits and JSON's escapes.
const maxLine = 1 << 20

// end is an export's last line: without it the file was cut off.
type end struct {
	Checkpoint string `json:"checkpoint"`
}

// WriteEnd writes the last line of an export of all entries of the note's tree.
func WriteEnd(w io.Writer, n Note) error {
	raw, err := json.Marshal(end{n.Signed})
	if err == nil {
		_, err = w.Write(append(raw, '\n'))
	}
	return err
}

// VerifyExport is Verify for an export, which also has to be what its own last
// line, the checkpoint, was made of. That checkpoint is returned.
func VerifyExport(r io.Reader, kept ...Note) (Summary, Note, error) {
	var last Note
	sum, err := Verify(ReadExport(r, func(n Note) { last = n }), kept...)
	switch {
	case err != nil:
		return sum, last, err
	case last.Size < sum.Count:
		return sum, last, &BrokenError{Seq: sum.Count, Want: last.Size + 1, Problem: Reordered}
	case last.Size > sum.Count:
		return sum, last, last.beyond(sum.Count, sum.Epochs)
	}
	return sum, last, last.fits(sum.Root, 0, sum.Epochs)
}

// ReadExport reads an export: an entry a line, then the checkpoint. Entries are
// for Verify, which judges them; final hears the checkpoint before the sequence
// ends. A file that isn't byte for byte one that was written is an error.
func ReadExport(r io.Reader, final func(Note)) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		fail := func(number int, format string, args ...any) {
			yield(Entry{}, fmt.Errorf("line %d of the export: %w", number, fmt.Errorf(format, args...)))
		}
		lines := bufio.NewReaderSize(r, 1<<16)
		ended := false
		for number := 1; ; number++ {
			text, err := readLine(lines)
			switch {
			case errors.Is(err, io.EOF) && len(text) == 0 && ended:
				return
			case errors.Is(err, io.EOF):
				fail(number, "it was cut off: the checkpoint that ends an export is missing")
				return
			case err != nil:
				fail(number, "%w", err)
				return
			case ended:
				fail(number, "there is more after the checkpoint that ends an export")
				return
			case bytes.HasPrefix(text, []byte(`{"checkpoint":`)):
				n, err := readEnd(text)
				if err != nil {
					fail(number, "the checkpoint: %w", err)
					return
				}
				final(n)
				ended = true
				continue
			}
			var e Entry
			if err := e.UnmarshalJSON(text); err != nil {
				fail(number, "%w", err)
				return
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

// readLine returns a line without its end; io.EOF for one that has none.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case err == nil:
			return line[:len(line)-1], nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return line, err
		case len(line) > maxLine:
			return nil, fmt.Errorf("it is longer than %d bytes", maxLine)
		}
	}
}

func readEnd(text []byte) (Note, error) {
	var e end
	if err := json.Unmarshal(text, &e); err != nil {
		return Note{}, err
	}
	n, err := ParseNote(e.Checkpoint)
	if err != nil {
		return Note{}, err
	}
	again, err := json.Marshal(end{n.Signed})
	if err != nil || !bytes.Equal(again, text) {
		return Note{}, errors.New("it isn't spelled as an export spells it: it was altered")
	}
	return n, nil
}
