package ws

import "bytes"

// NewLoop is NewLoops with one loop, which all pairs share.
func NewLoop() (*Loops, error) {
	one, err := newLoop()
	if err != nil {
		return nil, err
	}
	return &Loops{loops: []*Loop{one}}, nil
}

// Direct reads and writes a connection directly, in race builds too.
type Direct = direct

var NewDirect = newDirect

func (d *direct) Read(p []byte) (int, error)  { return d.read(p) }
func (d *direct) Write(p []byte) (int, error) { return d.write(p) }

// Lends reports whether buffers are lent with this release of Go.
func Lends(release string) bool { return newRecords(release).spare != nil }

// KeptByTLS is the size of the buffers that crypto/tls keeps for the stream.
func (s *Stream) KeptByTLS() int {
	s.reading.Lock()
	defer s.reading.Unlock()
	r := &s.loop.records
	return at[bytes.Buffer](s.secure, r.raw).Cap() + at[bytes.Buffer](s.secure, r.hand).Cap() + int(at[bytes.Reader](s.secure, r.input).Size())
}
