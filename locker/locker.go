// Package locker serves SFTP to stations that know nothing else: each login opens
// one locker with one file, to fetch or to bring.
//
// It promises that a stranger gets no further than a password, that a login sees its
// one file and no other path, runs nothing and goes nowhere from here, and that
// connections are bounded: how many, how long they may be silent, and how much they
// may ask for.
package locker

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"

	"bollard/internal/crowd"
)

const (
	// handshake bounds the time until a password was good.
	handshake = 20 * time.Second
	// silence is how long a connection may be without a byte either way.
	silence = 2 * time.Minute
	// tries of a password in one connection.
	tries = 2
	// longest password that is looked at; a ticket is shorter.
	longest = 512
	// calls of one connection that open or name something.
	calls = 200
)

// Box is what one login opens: Fetch or Bring.
type Box struct {
	Name string // of the file to fetch
	Size int64
	// Fetch opens it; closing says that it was enough.
	Fetch func(ctx context.Context) (File, error)
	// Bring takes what is brought, whatever it is called.
	Bring func(ctx context.Context) (Parcel, error)
}

// File is to fetch.
type File interface {
	io.ReaderAt
	io.Closer
}

// Parcel is brought in pieces of any order. Close says that it is whole, and that it
// is kept when it returns nil; Drop that it isn't.
type Parcel interface {
	io.WriterAt
	io.Closer
	Drop()
}

// Config of a Server.
type Config struct {
	// Keys are the host's, of one each kind: a station takes the one it knows.
	Keys []crypto.Signer
	// Login says what a user and a password open; every error is the same to who
	// tries.
	Login func(ctx context.Context, user, password string) (Box, error)
	// PerSource and All bound the open connections, of an address and together.
	PerSource, All int
	Log            *slog.Logger
}

// Server of lockers.
type Server struct {
	cfg  Config
	keys []ssh.Signer
}

// New needs all of Config but Log.
func New(cfg Config) (*Server, error) {
	if len(cfg.Keys) == 0 || cfg.Login == nil || cfg.PerSource <= 0 || cfg.All <= 0 {
		return nil, errors.New("lockers need Keys, Login, PerSource and All")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: cfg}
	for _, key := range cfg.Keys {
		signer, err := ssh.NewSignerFromSigner(key)
		if err == nil && signer.PublicKey().Type() == ssh.KeyAlgoRSA {
			// Without ssh-rsa, which is SHA-1 (RFC 8332 §3).
			signer, err = ssh.NewSignerWithAlgorithms(signer.(ssh.AlgorithmSigner), []string{ssh.KeyAlgoRSASHA256, ssh.KeyAlgoRSASHA512})
		}
		if err != nil {
			return nil, fmt.Errorf("couldn't use a host key of SFTP: %w", err)
		}
		s.keys = append(s.keys, signer)
	}
	return s, nil
}

// HostKeys are lines of known_hosts without the host: what a station may be told.
func (s *Server) HostKeys() []string {
	var lines []string
	for _, key := range s.keys {
		lines = append(lines, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key.PublicKey()))))
	}
	return lines
}

// Serve lets stations in until ctx ends, then cuts them off: what was fetched in part
// is fetched on, what was brought in part is brought again.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	limited := crowd.Limit(l, s.cfg.PerSource, s.cfg.All)
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	var guests sync.WaitGroup
	defer guests.Wait()
	for {
		conn, err := limited.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("couldn't serve SFTP on %s: %w", l.Addr(), err)
		}
		guests.Go(func() { s.serve(ctx, conn) })
	}
}

// serve is one connection.
func (s *Server) serve(ctx context.Context, plain net.Conn) {
	var parts sync.WaitGroup // each ends with the connection
	defer parts.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	conn := &watched{Conn: plain}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	_ = plain.SetDeadline(time.Now().Add(handshake)) // fails only on what is closed
	var box Box
	cfg := &ssh.ServerConfig{MaxAuthTries: tries, ServerVersion: "SSH-2.0-Bollard", PasswordCallback: func(who ssh.ConnMetadata, password []byte) (*ssh.Permissions, error) {
		if len(password) > longest || len(who.User()) > longest {
			return nil, errRefused
		}
		opened, err := s.cfg.Login(ctx, who.User(), string(password))
		if err != nil {
			s.cfg.Log.Debug("an SFTP login was refused", slog.String("remote", plain.RemoteAddr().String()))
			return nil, errRefused
		}
		box = opened
		return &ssh.Permissions{}, nil
	}}
	for _, key := range s.keys {
		cfg.AddHostKey(key)
	}
	session, channels, requests, err := ssh.NewServerConn(conn, cfg)
	if err != nil {
		return
	}
	defer func() { _ = session.Close() }() // the connection ends with it
	_ = plain.SetDeadline(time.Time{})
	conn.awake()
	parts.Go(func() { ssh.DiscardRequests(requests) }) // nothing is forwarded
	served := false
	for channel := range channels {
		if channel.ChannelType() != "session" || served {
			_ = channel.Reject(ssh.Prohibited, "files only")
			continue
		}
		served = true
		one, asked, err := channel.Accept()
		if err != nil {
			return
		}
		parts.Go(func() {
			defer cancel()
			if subsystem(asked) {
				parts.Go(func() { refuseAll(asked) })
				s.files(ctx, one, box)
			}
		})
	}
}

var errRefused = errors.New("refused")

// subsystem waits for the one request that is granted; commands, shells and terminals
// are refused.
func subsystem(requests <-chan *ssh.Request) bool {
	for r := range requests {
		var what struct{ Name string }
		good := r.Type == "subsystem" && ssh.Unmarshal(r.Payload, &what) == nil && what.Name == "sftp"
		if r.WantReply {
			_ = r.Reply(good, nil)
		}
		if good {
			return true
		}
	}
	return false
}

func refuseAll(requests <-chan *ssh.Request) {
	for r := range requests {
		if r.WantReply {
			_ = r.Reply(false, nil)
		}
	}
}

// files speaks SFTP over a channel.
func (s *Server) files(ctx context.Context, channel ssh.Channel, box Box) {
	defer func() { _ = channel.Close() }()
	shelf := &shelf{ctx: ctx, box: box, left: calls}
	server := sftp.NewRequestServer(channel, sftp.Handlers{FileGet: shelf, FilePut: shelf, FileCmd: shelf, FileList: shelf})
	err := server.Serve()
	if errors.Is(err, io.EOF) {
		_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{0}))
		return
	}
	s.cfg.Log.Debug("an SFTP connection broke off", slog.Any("err", err))
}

// watched is a connection that ends when nothing comes and goes for too long.
type watched struct {
	net.Conn
	mu   sync.Mutex
	live bool
}

// awake begins the watch: until then the deadline is the handshake's.
func (w *watched) awake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.live = true
	_ = w.SetDeadline(time.Now().Add(silence))
}

func (w *watched) moved() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.live {
		_ = w.SetDeadline(time.Now().Add(silence))
	}
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if n > 0 {
		w.moved()
	}
	return n, err
}

func (w *watched) Write(p []byte) (int, error) {
	n, err := w.Conn.Write(p)
	if n > 0 {
		w.moved()
	}
	return n, err
}
