package tiles

import (
	"errors"
	"io/fs"
	"net/http"
	"os"
	"regexp"
)

// servedForm are the paths of c2sp.org/tlog-tiles: the checkpoint, tiles and entries,
// whole ones and those of a width.
var servedForm = regexp.MustCompile(`^(checkpoint|tile/([0-5]?[0-9]|6[0-3]|entries)/(x[0-9]{3}/)*[0-9]{3}(\.p/[1-9][0-9]{0,2})?)$`)

// Handler serves a log read-only to monitors and witnesses: its files and nothing else
// of the directory. Tiles never change, the checkpoint may with each entry. A log that
// isn't there yet is a 404.
func Handler(dir string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "read-only", http.StatusMethodNotAllowed)
			return
		}
		name := r.URL.Path
		if len(name) > 0 && name[0] == '/' {
			name = name[1:]
		}
		f, err := open(dir, name)
		if errors.Is(err, fs.ErrNotExist) {
			http.NotFound(w, r)
			return
		}
		if err != nil {
			http.Error(w, "the log can't be read", http.StatusInternalServerError)
			return
		}
		defer func() { _ = f.Close() }() // it was only read
		info, err := f.Stat()
		if err != nil || !info.Mode().IsRegular() {
			http.NotFound(w, r)
			return
		}
		if name == checkpointName {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			w.Header().Set("Cache-Control", "no-cache")
		} else {
			w.Header().Set("Content-Type", "application/octet-stream")
			w.Header().Set("Cache-Control", "max-age=604800, immutable")
		}
		http.ServeContent(w, r, "", info.ModTime(), f)
	})
}

// open opens a file of a log, if it is one.
func open(dir, name string) (*os.File, error) {
	if !servedForm.MatchString(name) {
		return nil, fs.ErrNotExist
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }() // the file stays open
	return root.Open(name)
}
