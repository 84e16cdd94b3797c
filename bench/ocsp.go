package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"text/template"
	"time"

	"golang.org/x/crypto/ocsp"
	"golang.org/x/sys/unix"
)

//go:embed nginx-ocsp.conf.tmpl
var nginxOCSPConf string

// query is one OCSP GET (RFC 6960 appendix A.1) and the only right answer.
type query struct {
	path string // in base64url, so that it is a file name too
	body []byte
}

// queries asks a responder about certificates and keeps what it says, if that
// is a valid response that calls each of them good.
func queries(ctx context.Context, address string, certs []*x509.Certificate, issuing *x509.Certificate) ([]query, error) {
	list := make([]query, len(certs))
	asked := make([]*http.Request, len(certs))
	for i, cert := range certs {
		der, err := ocsp.CreateRequest(cert, issuing, nil) // SHA-1, as RFC 5019 has it
		if err != nil {
			return nil, fmt.Errorf("couldn't make an OCSP request: %w", err)
		}
		list[i].path = "/ocsp/" + base64.RawURLEncoding.EncodeToString(der)
		asked[i], err = http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+list[i].path, nil)
		if err != nil {
			return nil, err
		}
	}
	client := newClient(nil, 8)
	defer client.CloseIdleConnections()
	bodies, err := fetch(ctx, client, asked, 8)
	if err != nil {
		return nil, err
	}
	for i, body := range bodies {
		said, err := ocsp.ParseResponseForCert(body, certs[i], issuing)
		switch {
		case err != nil:
			return nil, fmt.Errorf("OCSP of %s: %w", certs[i].SerialNumber, err)
		case said.Status != ocsp.Good || time.Now().After(said.NextUpdate):
			return nil, fmt.Errorf("OCSP doesn't call %s good", certs[i].SerialNumber)
		}
		list[i].body = body
	}
	return list, nil
}

// nginxOCSP serves the same answers under the same paths, as files.
type nginxOCSP struct {
	*confProxy
	root string
}

func newNginxOCSP(dir string, list []query) (*nginxOCSP, error) {
	n := &nginxOCSP{confProxy: &confProxy{program: "nginx", versionArg: "-v"}, root: dir}
	err := os.MkdirAll(filepath.Join(dir, "ocsp"), 0o755)
	if err != nil {
		return nil, err
	}
	for _, q := range list {
		err = os.WriteFile(filepath.Join(dir, filepath.FromSlash(q.path)), q.body, 0o644)
		if err != nil {
			return nil, err
		}
	}
	return n, nil
}

func (n *nginxOCSP) command(ctx context.Context, listen, _ string) (*exec.Cmd, error) {
	path, err := n.path()
	if err != nil {
		return nil, err
	}
	tmpl, err := template.New("nginx").Parse(nginxOCSPConf)
	if err != nil {
		return nil, err
	}
	var conf bytes.Buffer
	err = tmpl.Execute(&conf, map[string]string{"Dir": n.root, "Listen": listen})
	if err != nil {
		return nil, err
	}
	file := filepath.Join(n.root, "nginx.conf")
	err = writePrivate(file, conf.Bytes())
	if err != nil {
		return nil, err
	}
	return exec.CommandContext(ctx, path, "-p", n.root, "-e", "stderr", "-c", file), nil
}

// conn is one keep-alive connection of the load.
type conn struct {
	fd   int // its own, not Go's
	next int // query
	got  int // bytes of the answer so far
	buf  []byte
}

// expected is what a query is answered with, byte for byte but for the date in
// its head. Its length is the same every time.
type expected struct {
	request []byte
	length  int
	body    []byte
}

// load is a client for short answers that costs less than any server under
// test: one thread, non-blocking sockets and epoll. Every answer's length,
// status and body are compared.
type load struct {
	epoll   int
	conns   map[int32]*conn
	answers []expected
}

var statusOK = []byte("HTTP/1.1 200 ")

// newLoad opens the connections and learns what each query's answer looks like.
func newLoad(ctx context.Context, address string, list []query, connections int) (*load, error) {
	l := &load{conns: map[int32]*conn{}}
	var err error
	l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("couldn't make an epoll: %w", err)
	}
	for i := range connections {
		err = l.dial(ctx, address, i*len(list)/connections)
		if err != nil {
			return nil, errors.Join(err, l.close())
		}
	}
	l.answers, err = learn(ctx, address, list)
	if err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, nil
}

func (l *load) dial(ctx context.Context, address string, from int) error {
	var d net.Dialer
	dialled, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer dialled.Close()
	tcp, ok := dialled.(*net.TCPConn)
	if !ok {
		return errors.New("internal error: no TCP connection")
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return err
	}
	// A duplicate of its own, since TCPConn.File's would stay in Go's poller,
	// which another thread would ask for each answer.
	var fd int
	var refused error
	err = raw.Control(func(own uintptr) { fd, refused = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0) })
	if err = errors.Join(err, refused); err != nil {
		return err
	}
	l.conns[int32(fd)] = &conn{fd: fd, next: from, buf: make([]byte, 16<<10)}
	return unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
}

func (l *load) close() error {
	errs := []error{unix.Close(l.epoll)}
	for _, c := range l.conns {
		errs = append(errs, unix.Close(c.fd))
	}
	return errors.Join(errs...)
}

// learn sends each query once.
func learn(ctx context.Context, address string, list []query) ([]expected, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	answers := make([]expected, len(list))
	reader := bufio.NewReader(c)
	for i, q := range list {
		_ = c.SetDeadline(time.Now().Add(ioTimeout))
		answers[i] = expected{request: []byte("GET " + q.path + " HTTP/1.1\r\nHost: localhost\r\n\r\n"), body: q.body}
		_, err = c.Write(answers[i].request)
		if err != nil {
			return nil, err
		}
		var head int
		head, err = readHead(reader, len(q.body))
		if err != nil {
			return nil, err
		}
		body := make([]byte, len(q.body))
		_, err = io.ReadFull(reader, body)
		if err != nil || !bytes.Equal(body, q.body) {
			return nil, errors.Join(err, errors.New("the answer isn't the one that was signed"))
		}
		answers[i].length = head + len(body)
	}
	return answers, nil
}

// readHead reads the head of a 200 answer, which must announce so many bytes,
// and returns its own length.
func readHead(r *bufio.Reader, length int) (int, error) {
	n, announced := 0, -1
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return 0, err
		}
		if n == 0 && !strings.HasPrefix(line, string(statusOK)) {
			return 0, fmt.Errorf("status line %.100q", line)
		}
		n += len(line)
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if strings.EqualFold(name, "Content-Length") {
			_, err = fmt.Sscan(value, &announced)
			if err != nil {
				return 0, fmt.Errorf("couldn't read Content-Length: %w", err)
			}
		}
		if line == "\r\n" {
			break
		}
	}
	if announced != length {
		return 0, fmt.Errorf("%d bytes were announced, %d expected", announced, length)
	}
	return n, nil
}

// run keeps one query per connection under way for so long, but rests where
// that would take it more than busiest of its core, and returns how many were
// answered rightly. One wrong answer ends it.
func (l *load) run(ctx context.Context, long time.Duration) (int, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	rest := rester()
	for _, c := range l.conns {
		err := l.send(c)
		if err != nil {
			return 0, err
		}
	}
	end := time.Now().Add(long)
	events := make([]unix.EpollEvent, len(l.conns))
	count, open, last := 0, len(l.conns), time.Now()
	for open > 0 {
		n, err := rawWait(l.epoll, events, 5*time.Millisecond)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return count, fmt.Errorf("couldn't wait for answers: %w", err)
		}
		now := time.Now()
		if n > 0 {
			last = now
		} else {
			runtime.Gosched() // whoever is to answer may be in this process
		}
		if ctx.Err() != nil || now.Sub(last) > ioTimeout {
			return count, errors.Join(context.Cause(ctx), errors.New("answers are lost"))
		}
		for _, e := range events[:max(n, 0)] {
			c := l.conns[e.Fd]
			whole, err := l.receive(c)
			if err != nil {
				return count, err
			}
			if !whole {
				continue
			}
			count++
			if now.After(end) {
				open--
			} else if err = l.send(c); err != nil {
				return count, err
			}
		}
		rest()
	}
	return count, nil
}

// busiest is what a load takes of its core: so much less than fullest as the
// rest of this process takes meanwhile.
const busiest = 0.75

// rester returns a function for the thread it was made on, which sleeps until
// that thread has had no more than busiest of a core since.
func rester() func() {
	began, before := time.Now(), threadCPU()
	return func() {
		due := time.Duration(float64(threadCPU()-before) / busiest)
		if early := due - time.Since(began); early > 0 {
			rawSleep(early)
		}
	}
}

func (l *load) send(c *conn) error {
	c.next = (c.next + 1) % len(l.answers)
	c.got = 0
	q := l.answers[c.next].request
	n, err := rawWrite(c.fd, q)
	if err != nil || n != len(q) {
		return fmt.Errorf("couldn't send a request: %d bytes, %w", n, err)
	}
	return nil
}

func (l *load) receive(c *conn) (bool, error) {
	a := &l.answers[c.next]
	n, err := rawRead(c.fd, c.buf[c.got:])
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("an answer is lost: %w", err)
	case n == 0:
		return false, errors.New("an answer is lost: the server closed the connection")
	}
	c.got += n
	if c.got < a.length {
		return false, nil
	}
	got := c.buf[:c.got]
	if c.got > a.length || !bytes.HasPrefix(got, statusOK) || !bytes.HasSuffix(got, a.body) {
		return false, fmt.Errorf("wrong bytes: %d, want %d, beginning with %.60q", c.got, a.length, got)
	}
	return true, nil
}
