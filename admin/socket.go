package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// SocketName is the socket's file in the data directory.
const SocketName = "bollard.sock"

// maxRequest bounds one request: an import of some 100,000 stations fits.
const maxRequest = 64 << 20

// ListenSocket opens DIR/bollard.sock, 0600. The caller holds the data
// directory's lock, so a socket found there is what a killed server left.
func ListenSocket(dir string) (net.Listener, error) {
	path := filepath.Join(dir, SocketName)
	switch info, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("couldn't look at the admin socket: %w", err)
	case info.Mode().Type() != fs.ModeSocket:
		return nil, fmt.Errorf("couldn't open the admin socket: %s exists and is no socket; move it away", path)
	default:
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("couldn't remove the stale admin socket: %w", err)
		}
	}
	var l *net.UnixListener
	err := withShortPath(dir, func(short string) error {
		bound, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: short})
		l = bound
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("couldn't open the admin socket %s: %w", path, err)
	}
	l.SetUnlinkOnClose(false) // its name may be the short one, which is gone by then
	// Until here the directory's 0700 keeps others out.
	if err := os.Chmod(path, 0o600); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("couldn't protect the admin socket: %w", err)
	}
	return &socket{UnixListener: l, path: path}, nil
}

type socket struct {
	*net.UnixListener
	path string
}

// Close closes the socket and removes its file.
func (s *socket) Close() error {
	return errors.Join(s.UnixListener.Close(), removeIfThere(s.path))
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// withShortPath calls f with a name of the socket that fits sockaddr_un's 108
// bytes however deep the data directory lies.
func withShortPath(dir string, f func(short string) error) error {
	path := filepath.Join(dir, SocketName)
	if len(path) < 100 {
		return f(path)
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return f("/proc/self/fd/" + strconv.Itoa(int(d.Fd())) + "/" + SocketName)
}

// ServeSocket answers operations until ctx ends, then lets running ones finish
// for at most the drain time.
func ServeSocket(ctx context.Context, l net.Listener, r *Registry, drain time.Duration, log *slog.Logger) error {
	server := &http.Server{
		Handler:           socketHandler(r),
		ConnContext:       withPeer,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       time.Minute,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	return serveHTTP(ctx, server, l, drain)
}

// serveHTTP runs a server until ctx ends and waits for it.
func serveHTTP(ctx context.Context, server *http.Server, l net.Listener, drain time.Duration) error {
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	select {
	case err := <-failed:
		return fmt.Errorf("couldn't serve on %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
	defer cancel()
	if err := server.Shutdown(patience); err != nil {
		_ = server.Close() // the drain time is over: cut what still runs
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("couldn't serve on %s: %w", l.Addr(), err)
	}
	return nil
}

type peerKey struct{}

// withPeer keeps who connected: what SO_PEERCRED says, not what the peer says.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	s, ok := c.(*net.UnixConn)
	if !ok {
		return ctx
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return ctx
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil || credErr != nil {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, cred.Uid)
}

// OperatorName names a unix user as an actor.
func OperatorName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return "operator:" + u.Username
	}
	return "operator:" + strconv.Itoa(uid)
}

func socketHandler(r *Registry) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		// The file mode keeps others out already; this holds if somebody widens it.
		uid, ok := req.Context().Value(peerKey{}).(uint32)
		if !ok || (uid != 0 && int(uid) != os.Geteuid()) {
			writeError(w, http.StatusForbidden, Refusedf("run the command as the server's user", "the admin socket is for the server's own user"))
			return
		}
		name, found := strings.CutPrefix(req.URL.Path, "/v1/")
		if !found || req.Method != http.MethodPost {
			writeError(w, http.StatusNotFound, Usagef("", "operations are POST /v1/<name>"))
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxRequest))
		if err != nil {
			writeError(w, http.StatusBadRequest, Usagef("split it into smaller ones", "couldn't read the request: %w", err))
			return
		}
		out, err := r.Invoke(WithActor(req.Context(), OperatorName(int(uid))), name, body)
		if err != nil {
			writeError(w, http.StatusUnprocessableEntity, Explain(err))
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(out) // a peer that left has no use for an error
	})
}

type errorBody struct {
	Error *Error `json:"error"`
}

func writeError(w http.ResponseWriter, status int, e *Error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(errorBody{e}) // as above
}
