package ws

import (
	"bytes"
	"crypto/tls"
	"reflect"
	"runtime"
	"strings"
	"unsafe"
)

// readGo is the release of Go whose crypto/tls was read for what records relies
// on: between two calls of Read, rawInput holds what came of a record that isn't
// whole yet and nothing else refers to its bytes, unless input has some left;
// hand holds what came of a handshake message; and an empty value of each is what
// a connection begins with.
const readGo = "go1.26"

// recordBytes is how much crypto/tls wants room for when it reads one record: the
// longest of TLS 1.2 (RFC 5246 §6.2.3), its header, and what bytes.Buffer wants
// beyond.
const recordBytes = recordHeader + 16<<10 + 2048 + bytes.MinRead

// records lends crypto/tls the buffer that records are read into, as long as a
// loop is at one stream. crypto/tls keeps one for each connection, as long as its
// longest record so far, and one for handshake messages: between 2.5 KB and 20 KB
// of a station that says nothing.
//
// They can be had by unexported fields alone. With another release of Go, or
// other fields, nothing is lent, and a station just costs more.
type records struct {
	raw, input, hand uintptr // offsets of the fields in tls.Conn
	spare            []byte  // nil: nothing is lent
	lent             bool
}

func newRecords(release string) records {
	if release != readGo && !strings.HasPrefix(release, readGo+".") {
		return records{}
	}
	var r records
	conn := reflect.TypeFor[tls.Conn]()
	for name, f := range map[string]struct {
		kind   reflect.Type
		offset *uintptr
	}{
		"rawInput": {reflect.TypeFor[bytes.Buffer](), &r.raw},
		"input":    {reflect.TypeFor[bytes.Reader](), &r.input},
		"hand":     {reflect.TypeFor[bytes.Buffer](), &r.hand},
	} {
		field, ok := conn.FieldByName(name)
		if !ok || field.Type != f.kind {
			return records{}
		}
		*f.offset = field.Offset
	}
	r.spare = make([]byte, 0, recordBytes)
	return r
}

func runningRecords() records { return newRecords(runtime.Version()) }

// lend is called before crypto/tls reads, takeBack after it; between them no other
// connection of the loop may be read. more is how many bytes of a record are
// still to come.
func (r *records) lend(c *tls.Conn) {
	if r.spare == nil {
		return
	}
	if raw := at[bytes.Buffer](c, r.raw); raw.Len() == 0 {
		*raw = *bytes.NewBuffer(r.spare)
		r.lent = true
	}
}

func (r *records) takeBack(c *tls.Conn, more int) {
	if r.spare == nil {
		return
	}
	raw, input, hand := at[bytes.Buffer](c, r.raw), at[bytes.Reader](c, r.input), at[bytes.Buffer](c, r.hand)
	if hand.Len() == 0 {
		*hand = bytes.Buffer{}
	}
	switch {
	case input.Len() > 0: // whoever reads it next will find it there
		if r.lent {
			r.spare = make([]byte, 0, recordBytes)
		}
	case raw.Len() == 0:
		*raw, *input = bytes.Buffer{}, bytes.Reader{}
	case r.lent: // a record in parts: room for all of it, however many there will be
		part := make([]byte, raw.Len(), raw.Len()+more+bytes.MinRead)
		copy(part, raw.Bytes())
		*raw, *input = *bytes.NewBuffer(part), bytes.Reader{}
	}
	r.lent = false
}

// at is the field of c at this offset, which records has looked up with its type.
func at[T any](c *tls.Conn, offset uintptr) *T {
	return (*T)(unsafe.Add(unsafe.Pointer(c), offset))
}
