package acme_test

import (
	"io"
	"net"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	client "golang.org/x/crypto/acme"

	"bollard/ca/acme"
)

// later is a port where nothing listens until open is called, and then what listens at to.
func (r *rig) later(to int) (port int, open func()) {
	r.t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		r.t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), "later")
	r.t.Cleanup(func() { _ = file.Close() })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		r.t.Fatal(err)
	}
	bound, err := syscall.Getsockname(fd)
	if err != nil {
		r.t.Fatal(err)
	}
	return bound.(*syscall.SockaddrInet4).Port, func() {
		if err := syscall.Listen(fd, 8); err != nil {
			r.t.Error(err)
			return
		}
		listener, err := net.FileListener(file)
		if err != nil {
			r.t.Error(err)
			return
		}
		r.t.Cleanup(func() { _ = listener.Close() })
		go func() {
			for {
				near, err := listener.Accept()
				if err != nil {
					return
				}
				far, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(to)))
				if err != nil {
					_ = near.Close()
					continue
				}
				go func() { _, _ = io.Copy(far, near); _ = far.Close() }()
				go func() { _, _ = io.Copy(near, far); _ = near.Close() }()
			}
		}()
	}
}

// A client's own server may start as it answers the challenge; one that never does costs the
// client its order.
func TestListensLater(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		kind  string
		opens bool
		want  string
	}{
		"http-01":            {"http-01", true, client.StatusValid},
		"tls-alpn-01":        {"tls-alpn-01", true, client.StatusValid},
		"http-01, never":     {"http-01", false, client.StatusInvalid},
		"tls-alpn-01, never": {"tls-alpn-01", false, client.StatusInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var open func()
			r := newRig(t, func(r *rig) {
				port := &r.probing.HTTPPort
				if tt.kind == "tls-alpn-01" {
					port = &r.probing.TLSPort
				}
				*port, open = r.later(*port)
				var err error
				if r.names.Prober, err = acme.NewProber(r.probing); err != nil {
					r.t.Fatal(err)
				}
			})
			c := r.registered()
			_, challenge := r.offered(c, tt.kind)
			if tt.opens {
				time.AfterFunc(300*time.Millisecond, open)
			}
			answered, err := c.Accept(t.Context(), challenge)
			if err != nil || answered.Status != tt.want {
				t.Fatalf("%+v, %v", answered, err)
			}
			if tt.want == client.StatusInvalid && kindOf(answered.Error) != "connection" {
				t.Error(answered.Error)
			}
		})
	}
}
