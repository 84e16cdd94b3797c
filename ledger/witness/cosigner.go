package witness

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"bollard/internal/safehttp"
	"bollard/ledger"
)

// Cosigner is a witness: it signs a checkpoint only if it continues the last
// one it signed (c2sp.org/tlog-witness).
type Cosigner struct {
	cfg    HTTPConfig
	client *safehttp.Client
	key    note.Verifier
	hashes func(ctx context.Context) tlog.HashReader
	last   uint64 // size of the checkpoint it signed last, as far as is known
}

// NewCosigner takes the witness's submission prefix as URL, its verifier key,
// and what reads the ledger's tree.
func NewCosigner(cfg HTTPConfig, vkey string, hashes func(ctx context.Context) tlog.HashReader) (*Cosigner, error) {
	client, err := cfg.client()
	if err != nil {
		return nil, err
	}
	key, err := ledger.NewVerifier(vkey)
	if err != nil {
		return nil, err
	}
	return &Cosigner{cfg: cfg, client: client, key: key, hashes: hashes}, nil
}

// Name implements Place.
func (c *Cosigner) Name() string { return c.cfg.Name }

// Keep implements Place: the note comes back with the witness's signature.
func (c *Cosigner) Keep(ctx context.Context, n ledger.Note) (ledger.Note, error) {
	answer, err := c.ask(ctx, n)
	if err != nil {
		return n, err
	}
	// It is somewhere else than we thought, as after a start: ask again from there.
	if seen, told := conflict(answer); told {
		if seen > n.Size || seen == c.last {
			return n, fmt.Errorf("the witness has signed %d entries: %w", seen, ErrSetBack)
		}
		c.last = seen
		if answer, err = c.ask(ctx, n); err != nil {
			return n, err
		}
	}
	switch answer.Status {
	case http.StatusOK:
	case http.StatusConflict, http.StatusUnprocessableEntity:
		return n, fmt.Errorf("the witness refused the checkpoint of %d entries (HTTP status %d): %w", n.Size, answer.Status, ErrSetBack)
	case http.StatusNotFound:
		return n, fmt.Errorf("the witness doesn't know the ledger %s: give its operator the key that `bollard ledger verify` prints", n.Origin)
	case http.StatusForbidden:
		return n, errors.New("the witness has another key for this ledger: give its operator the one that `bollard ledger verify` prints")
	default:
		return n, fmt.Errorf("the witness answered with HTTP status %d", answer.Status)
	}
	signed, ok := n.Merge(string(answer.Body), c.key)
	if !ok {
		return n, fmt.Errorf("the witness's answer has no good signature of %s", c.key.Name())
	}
	c.last = n.Size
	return signed, nil
}

func (c *Cosigner) ask(ctx context.Context, n ledger.Note) (*safehttp.Response, error) {
	if c.last > n.Size {
		return nil, fmt.Errorf("the witness has signed %d entries: %w", c.last, ErrSetBack)
	}
	g, err := ledger.ProveGrowth(c.last, n, c.hashes(ctx))
	if err != nil {
		return nil, err
	}
	return c.client.Post(ctx, c.cfg.URL+"/add-checkpoint", "text/plain; charset=utf-8", []byte(g.String()))
}

// conflict reads the size a witness says it has instead.
func conflict(answer *safehttp.Response) (uint64, bool) {
	if answer.Status != http.StatusConflict || answer.Header.Get("Content-Type") != "text/x.tlog.size" {
		return 0, false
	}
	size, err := strconv.ParseUint(strings.TrimSuffix(string(answer.Body), "\n"), 10, 63)
	return size, err == nil
}
