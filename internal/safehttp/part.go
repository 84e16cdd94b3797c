package safehttp

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
)

// Mark is how far a download came that broke off: the bytes before At, of the file
// that has the strong ETag. The zero value is the beginning of any file.
type Mark struct {
	At   int64
	ETag string
}

// Begin is told where in the file a body begins before it comes, and how long the
// file is, -1 if nobody says. It gives the body's writer; its error ends the fetch.
type Begin func(at Mark, size int64) (io.Writer, error)

// GetOn gives the body of a 200 to a writer as it comes, whole when it returns nil. Every
// other status is an *Error; so is a writer that takes no more. It may go on from a mark:
// a server that has another file by now, or knows no ranges, sends the file from its
// beginning, and begin is told so; one that sends another part than it was asked for is
// refused.
func (c *Client) GetOn(ctx context.Context, rawURL string, from Mark, begin Begin) error {
	var header http.Header
	if from.At > 0 && from.ETag != "" {
		header = http.Header{"Range": {fmt.Sprintf("bytes=%d-", from.At)}, "If-Range": {from.ETag}} // RFC 9110 §13.1.5
	} else {
		from = Mark{}
	}
	_, err := c.fetch(ctx, http.MethodGet, rawURL, header, content{}, func(t *target, answer *http.Response) error {
		return c.pour(t, answer, from, begin)
	})
	return err
}

// pour writes the body of a 200, or of the 206 that was asked for, as it comes.
func (c *Client) pour(t *target, answer *http.Response, from Mark, begin Begin) error {
	if err := c.fits(t, answer); err != nil {
		return err
	}
	at, size := Mark{ETag: strong(answer.Header.Get("ETag"))}, answer.ContentLength
	switch {
	case answer.StatusCode == http.StatusOK:
	case answer.StatusCode == http.StatusPartialContent && from.At > 0:
		total, ok := part(answer, from)
		if !ok {
			return refuse(RuleRange, t.where(), "the answer is a part that wasn't asked for")
		}
		at, size = from, total
	default:
		return refuse(RuleHTTP, t.where(), "the answer has status "+strconv.Itoa(answer.StatusCode)+", not 200")
	}
	left := c.cfg.MaxBytes - at.At
	if size > c.cfg.MaxBytes || left < 0 {
		return refuse(RuleSize, t.where(), "the answer is too large")
	}
	w, err := begin(at, size)
	if err != nil {
		return err
	}
	n, err := io.Copy(w, io.LimitReader(answer.Body, left+1))
	switch {
	case err != nil:
		return &Error{Rule: RuleHTTP, Where: t.where(), Reason: "the answer broke off", Err: err}
	case n > left:
		return refuse(RuleSize, t.where(), "the answer is too large")
	case size >= 0 && at.At+n != size:
		return refuse(RuleRange, t.where(), "the answer isn't as long as it says")
	}
	return nil
}

// strong is an ETag that names bytes, or "" (RFC 9110 §8.8.1).
func strong(etag string) string {
	if len(etag) < 2 || len(etag) > 200 || !strings.HasPrefix(etag, `"`) || !strings.HasSuffix(etag, `"`) {
		return ""
	}
	return etag
}

var partForm = regexp.MustCompile(`^bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})$`)

// part is the length of the file whose rest, from the mark on, an answer is.
func part(answer *http.Response, from Mark) (total int64, ok bool) {
	m := partForm.FindStringSubmatch(answer.Header.Get("Content-Range"))
	if m == nil || answer.Header.Get("ETag") != from.ETag {
		return 0, false
	}
	var n [3]int64
	for i := range n {
		n[i], _ = strconv.ParseInt(m[i+1], 10, 64) // 18 digits always fit
	}
	first, last, total := n[0], n[1], n[2]
	length := answer.ContentLength
	return total, first == from.At && last == total-1 && last >= first && (length < 0 || length == last-first+1)
}
