package ws_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"bollard/internal/ws"
)

// pipe is a TCP connection on loopback, its one end read and written directly.
func pipe(t *testing.T) (near *ws.Direct, conn, far *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dialled, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dialled.Close() })
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { accepted.Close() })
	near = ws.NewDirect(accepted)
	if near == nil {
		t.Fatal("a TCP connection can't be read directly")
	}
	return near, accepted.(*net.TCPConn), dialled.(*net.TCPConn)
}

func TestDirectMovesBytes(t *testing.T) {
	t.Parallel()
	near, _, far := pipe(t)
	sent := bytes.Repeat([]byte("0123456789"), 400_000) // more than any socket holds
	wrote := make(chan error, 1)
	go func() {
		n, err := near.Write(sent)
		if err == nil && n != len(sent) {
			err = io.ErrShortWrite
		}
		wrote <- err
	}()
	got := make([]byte, len(sent))
	if _, err := io.ReadFull(far, got); err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("read something else than was written: %v", err)
	}
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
	go far.Write(sent)
	if _, err := io.ReadFull(near, got); err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("read something else than was written: %v", err)
	}
	far.CloseWrite()
	if n, err := near.Read(got); n != 0 || err != io.EOF {
		t.Fatalf("at the end: %d bytes, %v", n, err)
	}
}

func TestDirectEndsAsConnectionsDo(t *testing.T) {
	t.Parallel()
	buf := make([]byte, 10)
	t.Run("deadline", func(t *testing.T) {
		t.Parallel()
		near, conn, far := pipe(t)
		conn.SetDeadline(time.Now().Add(10 * time.Millisecond))
		_, err := near.Read(buf)
		var network net.Error
		if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &network) || !network.Timeout() {
			t.Errorf("read past its deadline: %v", err)
		}
		for err = nil; err == nil; {
			_, err = near.Write(make([]byte, 1<<20))
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("written past its deadline: %v", err)
		}
		conn.SetDeadline(time.Time{})
		far.Write([]byte("late"))
		if n, err := near.Read(buf); err != nil || string(buf[:n]) != "late" {
			t.Errorf("after a deadline: %q, %v", buf[:n], err)
		}
	})
	t.Run("closed", func(t *testing.T) {
		t.Parallel()
		near, conn, _ := pipe(t)
		failed := make(chan error)
		go func() { _, err := near.Read(make([]byte, 1)); failed <- err }()
		conn.Close()
		if err := <-failed; !errors.Is(err, net.ErrClosed) {
			t.Errorf("read of a closed connection: %v", err)
		}
		if _, err := near.Write(buf); !errors.Is(err, net.ErrClosed) {
			t.Errorf("write to a closed connection: %v", err)
		}
	})
	t.Run("reset", func(t *testing.T) {
		t.Parallel()
		near, _, far := pipe(t)
		far.SetLinger(0)
		far.Close()
		var op *net.OpError
		if _, err := near.Read(buf); !errors.Is(err, syscall.ECONNRESET) || !errors.As(err, &op) || op.Op != "read" {
			t.Errorf("read of a reset connection: %v", err)
		}
		if _, err := near.Write(buf); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("write to a reset connection: %v", err)
		}
	})
}

func TestOnlySocketsAreDirect(t *testing.T) {
	t.Parallel()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if ws.NewDirect(a) != nil {
		t.Error("a pipe in memory is read by system calls")
	}
}
