package locker

import (
	"context"
	"io"
	"io/fs"
	"os"
	"path"
	"sync"
	"time"

	"github.com/pkg/sftp"
)

// shelf is the tree of one login: a root with one file in it. Paths come clean and
// absolute, whatever the peer wrote.
type shelf struct {
	ctx context.Context
	box Box

	mu      sync.Mutex
	left    int  // calls
	reading bool // the file is open: each that is open costs a descriptor
	brought bool // one file is, or was: it can be looked at, and nothing more
}

// call counts what opens or names something.
func (s *shelf) call() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left--; s.left < 0 {
		return sftp.ErrSSHFxFailure
	}
	return nil
}

// Fileread opens the file to fetch.
func (s *shelf) Fileread(r *sftp.Request) (io.ReaderAt, error) {
	if err := s.call(); err != nil {
		return nil, err
	}
	switch {
	case s.box.Fetch == nil:
		return nil, sftp.ErrSSHFxPermissionDenied
	case r.Filepath != "/"+s.box.Name:
		return nil, sftp.ErrSSHFxNoSuchFile
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reading {
		return nil, sftp.ErrSSHFxFailure
	}
	file, err := s.box.Fetch(s.ctx)
	if err != nil {
		return nil, sftp.ErrSSHFxPermissionDenied // why is no peer's business
	}
	s.reading = true
	return &fetching{file, s}, nil
}

// fetching is the one file of a login that is open.
type fetching struct {
	File
	shelf *shelf
}

// Close lets it be opened again.
func (f *fetching) Close() error {
	f.shelf.mu.Lock()
	f.shelf.reading = false
	f.shelf.mu.Unlock()
	return f.File.Close()
}

// Filewrite takes what is brought, once.
func (s *shelf) Filewrite(r *sftp.Request) (io.WriterAt, error) {
	if err := s.call(); err != nil {
		return nil, err
	}
	if s.box.Bring == nil || path.Dir(r.Filepath) != "/" || r.Filepath == "/" || r.Pflags().Append {
		return nil, sftp.ErrSSHFxPermissionDenied
	}
	parcel, err := s.box.Bring(s.ctx)
	if err != nil {
		return nil, sftp.ErrSSHFxPermissionDenied
	}
	s.mu.Lock()
	s.brought = true
	s.mu.Unlock()
	return &bringing{Parcel: parcel}, nil
}

// Filecmd changes nothing. Clients that set times and modes of what they brought are
// told that they did.
func (s *shelf) Filecmd(r *sftp.Request) error {
	if err := s.call(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Method == "Setstat" && s.brought {
		return nil
	}
	return sftp.ErrSSHFxPermissionDenied
}

// Filelist knows the root and the file to fetch.
func (s *shelf) Filelist(r *sftp.Request) (sftp.ListerAt, error) {
	if err := s.call(); err != nil {
		return nil, err
	}
	file := entry{name: s.box.Name, size: s.box.Size}
	switch {
	case r.Method == "List" && r.Filepath == "/" && s.box.Fetch != nil:
		return entries{file}, nil
	case r.Method == "List" && r.Filepath == "/":
		return entries{}, nil
	case r.Method == "List":
		return nil, sftp.ErrSSHFxNoSuchFile
	case r.Filepath == "/":
		return entries{entry{name: "/", dir: true}}, nil
	case s.box.Fetch != nil && r.Filepath == "/"+s.box.Name:
		return entries{file}, nil
	}
	return nil, sftp.ErrSSHFxNoSuchFile
}

// bringing tells a connection that broke from a file that was closed.
type bringing struct {
	Parcel
	broken bool
}

// TransferError comes before Close where the connection broke (sftp.TransferError).
func (b *bringing) TransferError(error) { b.broken = true }

// Close keeps what came whole.
func (b *bringing) Close() error {
	if b.broken {
		b.Drop()
		return nil
	}
	if err := b.Parcel.Close(); err != nil {
		return sftp.ErrSSHFxFailure
	}
	return nil
}

// entries are a list that is short.
type entries []entry

// ListAt copies them (sftp.ListerAt).
func (e entries) ListAt(into []os.FileInfo, from int64) (int, error) {
	n := 0
	for ; n < len(into) && from+int64(n) < int64(len(e)); n++ {
		into[n] = e[from+int64(n)]
	}
	if n < len(into) {
		return n, io.EOF
	}
	return n, nil
}

// entry is what a peer sees of a file: its name and size.
type entry struct {
	name string
	size int64
	dir  bool
}

func (e entry) Name() string       { return e.name }
func (e entry) Size() int64        { return e.size }
func (e entry) ModTime() time.Time { return time.Unix(0, 0) }
func (e entry) IsDir() bool        { return e.dir }
func (e entry) Sys() any           { return nil }

// Mode is read-only.
func (e entry) Mode() fs.FileMode {
	if e.dir {
		return fs.ModeDir | 0o555
	}
	return 0o444
}
