package tiles

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
)

// appendPath is where a log takes entries: c2sp.org/tlog-tiles has no way to write.
const appendPath = "/add"

// ReceiverConfig of a log that takes entries over HTTP.
type ReceiverConfig struct {
	Dir   string
	Token string // of who may append; RFC 6750 carries it
	Size  int    // of an entry, in bytes: nothing else is taken
	Open  func(ctx context.Context) (*Log, error)
	Log   *slog.Logger // nil: discarded
}

// MinToken is how short a token may be, in characters.
const MinToken = 16

// Receiver serves a log as Handler does, and takes entries: a POST of one to /add, by who
// has the token, is answered with its proof (c2sp.org/tlog-proof) once it is in the log.
// It opens the log for each, so that others may append between.
func Receiver(cfg ReceiverConfig) (http.Handler, error) {
	if len(cfg.Token) < MinToken || cfg.Size < 1 || cfg.Size > maxEntry || cfg.Open == nil {
		return nil, fmt.Errorf("a log that takes entries needs Open, their size, and a token of %d characters at least", MinToken)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	read, known := Handler(cfg.Dir), sha256.Sum256([]byte(cfg.Token))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != appendPath {
			read.ServeHTTP(w, r)
			return
		}
		token, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		given := sha256.Sum256([]byte(token))
		switch {
		case r.Method != http.MethodPost:
			w.Header().Set("Allow", "POST")
			http.Error(w, "use POST", http.StatusMethodNotAllowed)
			return
		case !bearer || subtle.ConstantTimeCompare(given[:], known[:]) != 1:
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, "who may append has a token", http.StatusUnauthorized)
			return
		}
		entry, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(cfg.Size)))
		if err != nil || len(entry) != cfg.Size {
			http.Error(w, fmt.Sprintf("an entry has %d bytes", cfg.Size), http.StatusBadRequest)
			return
		}
		proof, err := cfg.append(r.Context(), entry)
		if err != nil {
			cfg.Log.Error("couldn't append to the log", slog.Any("err", err))
			http.Error(w, "the log takes nothing now", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, proof) // who lost it finds it in the log
	}), nil
}

func (cfg *ReceiverConfig) append(ctx context.Context, entry []byte) (string, error) {
	l, err := cfg.Open(ctx)
	if err != nil {
		return "", err
	}
	proof, err := l.Append(ctx, entry)
	if err = errors.Join(err, l.Close()); err != nil {
		return "", err
	}
	cfg.Log.Info("an entry was appended to the log", slog.Uint64("index", proof.Index))
	return proof.String(), nil
}
