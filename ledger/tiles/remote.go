package tiles

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"bollard/internal/safehttp"
	"bollard/ledger"
)

// RemoteConfig of a log that is elsewhere.
type RemoteConfig struct {
	URL    string // of a Receiver
	Token  string
	Key    note.Verifier // the log's: what it says counts by it alone
	Client *safehttp.Client
}

// Remote is a log that is appended to over HTTP, by one who trusts its key and nobody
// between.
type Remote struct {
	cfg  RemoteConfig
	head ledger.Note // of the newest proof
}

// NewRemote needs all of cfg.
func NewRemote(cfg RemoteConfig) (*Remote, error) {
	cfg.URL = strings.TrimSuffix(cfg.URL, "/")
	if cfg.URL == "" || cfg.Token == "" || cfg.Key == nil || cfg.Client == nil {
		return nil, errors.New("a log over HTTP needs its URL, a token and its key")
	}
	return &Remote{cfg: cfg}, nil
}

// Origin names the log.
func (r *Remote) Origin() string { return r.cfg.Key.Name() }

// Append makes an entry public, and checks the proof that it is in the log.
func (r *Remote) Append(ctx context.Context, entry []byte) (ledger.Inclusion, error) {
	var none ledger.Inclusion
	answer, err := r.cfg.Client.PostWith(ctx, r.cfg.URL+appendPath, http.Header{"Content-Type": {"application/octet-stream"}, "Authorization": {"Bearer " + r.cfg.Token}}, entry)
	switch {
	case err != nil:
		return none, fmt.Errorf("couldn't append to the log: %w", err)
	case answer.Status == http.StatusUnauthorized:
		return none, errors.New("couldn't append to the log: it doesn't know the token")
	case answer.Status != http.StatusOK:
		return none, fmt.Errorf("couldn't append to the log: it answered with HTTP status %d", answer.Status)
	}
	proof, err := ledger.ParseInclusion(string(answer.Body))
	if err == nil {
		err = proof.Check(tlog.RecordHash(entry))
	}
	if err == nil && (proof.Note.Origin != r.Origin() || !proof.Note.SignedBy(r.cfg.Key)) {
		err = errors.New("its checkpoint isn't signed by the log's key")
	}
	if err != nil {
		return none, fmt.Errorf("what the log answered proves nothing: %w", err)
	}
	r.head = proof.Note
	return proof, nil
}

// Hashes reads the tree of the newest proof, each tile proven against that: for
// witnesses, who want to see that it continues what they signed.
func (r *Remote) Hashes(ctx context.Context) tlog.HashReader {
	return tlog.TileHashReader(tlog.Tree{N: int64(r.head.Size), Hash: r.head.Root}, remoteReader(func(path string) (*safehttp.Response, error) {
		return r.cfg.Client.Get(ctx, r.cfg.URL+"/"+path)
	})) //nolint:gosec // it was an int64
}

// remoteReader reads tiles by their paths.
type remoteReader func(path string) (*safehttp.Response, error)

func (t remoteReader) Height() int                     { return height }
func (t remoteReader) SaveTiles([]tlog.Tile, [][]byte) {}

func (t remoteReader) ReadTiles(list []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range list {
		answer, err := t(tilePath(tile))
		if err == nil && answer.Status != http.StatusOK {
			err = fmt.Errorf("the log answered with HTTP status %d", answer.Status)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, answer.Body)
	}
	return all, nil
}
