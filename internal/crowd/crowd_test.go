package crowd_test

import (
	"net"
	"testing"
	"time"

	"bollard/internal/crowd"
)

const patience = time.Minute

func TestLimit(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ perSource, all int }{
		"of one source": {2, 100},
		"of all":        {100, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bound, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			l := crowd.Limit(bound, tt.perSource, tt.all)
			in := make(chan net.Conn, 8)
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				for {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					in <- conn
				}
			}()
			t.Cleanup(func() { _ = l.Close(); <-ended })
			dial := func() net.Conn {
				conn, err := net.Dial("tcp", bound.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = conn.Close() })
				return conn
			}
			dial()
			dial()
			first := <-in
			defer (<-in).Close()
			surplus := dial()
			_ = surplus.SetReadDeadline(time.Now().Add(patience))
			if _, err := surplus.Read(make([]byte, 1)); err == nil || isTimeout(err) {
				t.Errorf("a third connection was kept: %v", err)
			}
			// Whoever leaves, even twice, makes room for one.
			_ = first.Close()
			_ = first.Close()
			dial()
			select {
			case conn := <-in:
				_ = conn.Close()
			case <-time.After(patience):
				t.Error("no room was made")
			}
		})
	}
}

func isTimeout(err error) bool {
	timeout, ok := err.(net.Error)
	return ok && timeout.Timeout()
}
