package ws

import (
	"net"
	"testing"
)

// What follows the head of an answer is kept, wherever the network cuts it.
func TestAnswerInPieces(t *testing.T) {
	t.Parallel()
	const head, rest = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n", "\r\n\r\nframe"
	const all = head + rest
	for first := range len(all) + 1 {
		for second := first; second <= len(all); second++ {
			s := newSocket(nil)
			s.hold = true
			s.Conn = &pieces{left: []string{all[:first], all[first:second], all[second:]}}
			got, buf := "", make([]byte, len(all))
			for len(got) < len(head) {
				n, err := s.Read(buf)
				if err != nil {
					t.Fatal(err)
				}
				got += string(buf[:n])
			}
			for _, piece := range s.Conn.(*pieces).left {
				s.early = append(s.early, piece...)
			}
			if got != head || string(s.early) != rest {
				t.Fatalf("cut at %d and %d: read %q and kept %q", first, second, got, s.early)
			}
		}
	}
}

// pieces is read one by one.
type pieces struct {
	net.Conn
	left []string
}

func (p *pieces) Read(b []byte) (int, error) {
	n := copy(b, p.left[0])
	p.left = p.left[1:]
	return n, nil
}
