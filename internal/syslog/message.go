package syslog

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Facility of a message (RFC 5424 §6.2.1, table 1).
type Facility int

// Facilities that suit what Bollard has to say.
const (
	Auth  Facility = 4  // security and authorization messages
	Audit Facility = 13 // log audit
)

// Severity of a message (RFC 5424 §6.2.1, table 2).
type Severity int

// Severities.
const (
	Emergency Severity = iota
	Alert
	Critical
	Error
	Warning
	Notice
	Informational
	Debug
)

// What every receiver should take: RFC 5425 §4.3.1 asks for 8192 octets over
// TLS, RFC 5424 §6.1 for 2048 in general.
const (
	streamLimit   = 8192
	datagramLimit = 2048
)

// DataID is the SD-ID of Bollard's own elements (RFC 5424 §6.3.2). 32473 is
// the enterprise number reserved for examples (RFC 5612): the project has none.
const DataID = "bollard@32473"

// Message is one event.
type Message struct {
	Time     time.Time // zero: now
	Severity Severity
	ID       string // MSGID, what kind of message: at most 32 printable ASCII characters; "": none
	// Data are the parameters of the one structured element DataID, in order.
	// Names are 1 to 32 printable ASCII characters without = ] and ".
	Data []Param
	// Text is for people. It is cut where the message would be too long; Data
	// never is.
	Text string
}

// Param is one named value.
type Param struct{ Name, Value string }

// header is what all messages of a sender share.
type header struct {
	facility           Facility
	host, app, process string
}

// encode writes the message in RFC 5424 §6's form. Header fields and names are
// the program's own: wrong ones are an error. Values and text may be anybody's:
// what isn't printable becomes U+FFFD.
func (m Message) encode(h header, limit int) ([]byte, error) {
	if m.Severity < Emergency || m.Severity > Debug {
		return nil, fmt.Errorf("syslog severity %d isn't 0 to 7", m.Severity)
	}
	id := m.ID
	if id == "" {
		id = "-"
	}
	if !printable(id, 32) {
		return nil, fmt.Errorf("syslog message id %q isn't 1 to 32 printable ASCII characters", id)
	}
	b := make([]byte, 0, 512)
	b = append(b, '<')
	b = strconv.AppendInt(b, int64(h.facility)*8+int64(m.Severity), 10)
	b = append(b, ">1 "...)
	b = m.Time.UTC().AppendFormat(b, "2006-01-02T15:04:05.000000Z07:00")
	for _, field := range []string{h.host, h.app, h.process, id} {
		b = append(b, ' ')
		b = append(b, field...)
	}
	b = append(b, ' ')
	if len(m.Data) == 0 {
		b = append(b, '-')
	} else {
		var err error
		if b, err = appendElement(b, m.Data); err != nil {
			return nil, err
		}
	}
	if len(b) > limit {
		return nil, fmt.Errorf("the data of the syslog message %s has %d bytes, of which the receiver takes %d", id, len(b), limit)
	}
	// §6.4: the byte order mark says that what follows is UTF-8.
	const begin = " \xef\xbb\xbf"
	if text := clean(m.Text); text != "" && len(b)+len(begin) < limit {
		b = append(b, begin...)
		b = append(b, cut(text, limit-len(b))...)
	}
	return b, nil
}

// escaper is §6.3.3's: nothing else may be escaped.
var escaper = strings.NewReplacer(`\`, `\\`, `"`, `\"`, `]`, `\]`)

func appendElement(b []byte, params []Param) ([]byte, error) {
	b = append(b, '[')
	b = append(b, DataID...)
	for _, p := range params {
		if !printable(p.Name, 32) || strings.ContainsAny(p.Name, `=]"`) {
			return nil, fmt.Errorf("%q is no name of a syslog parameter", p.Name)
		}
		b = append(b, ' ')
		b = append(b, p.Name...)
		b = append(b, `="`...)
		b = append(b, escaper.Replace(clean(p.Value))...)
		b = append(b, '"')
	}
	return append(b, ']'), nil
}

// printable says whether s has 1 to limit characters from ! to ~ (PRINTUSASCII).
func printable(s string, limit int) bool {
	for i := range len(s) {
		if s[i] < '!' || s[i] > '~' {
			return false
		}
	}
	return s != "" && len(s) <= limit
}

// clean replaces what could move a reader's cursor, begin a line, or hide: all
// that isn't printable, and what isn't UTF-8.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return utf8.RuneError
		}
		return r
	}, s)
}

// cut shortens UTF-8 text to at most limit bytes, at a character's end.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}
