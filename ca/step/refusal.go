package step

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"bollard/ca"
	"bollard/ca/quality"
)

// Refusal is what a client is told: step-ca's shape of errors. It holds nothing the client
// mustn't see; Reason, if set, is for the operator.
type Refusal struct {
	Status     int
	Message    string
	Reason     string
	RetryAfter time.Duration
}

// Error is for the operator.
func (r *Refusal) Error() string {
	if r.Reason != "" {
		return r.Reason
	}
	return r.Message
}

func badRequest(format string, args ...any) *Refusal {
	return &Refusal{Status: http.StatusBadRequest, Message: fmt.Sprintf(format, args...)}
}

func unauthorized(message, reason string) *Refusal {
	return &Refusal{Status: http.StatusUnauthorized, Message: message, Reason: reason}
}

func forbidden(message, reason string) *Refusal {
	return &Refusal{Status: http.StatusForbidden, Message: message, Reason: reason}
}

func busy(reason string, retry time.Duration) *Refusal {
	return &Refusal{Status: http.StatusTooManyRequests, Message: "too many requests: try again later", Reason: reason, RetryAfter: retry}
}

// unissued tells what will never be issued from what may be later.
func unissued(err error) error {
	var request *ca.CSRError
	var lint *ca.LintError
	var weak *quality.Error
	switch {
	case errors.Is(err, ErrTokenUsed):
		return unauthorized("the token was used already: make another", "")
	case errors.Is(err, ErrUnknownProvisioner):
		return unauthorized("the token isn't by a provisioner that may sign for this", "provisioner was removed meanwhile")
	case errors.Is(err, ca.ErrKeyInUse):
		return forbidden("the key is in use already: make a new key pair", err.Error())
	case errors.Is(err, ca.ErrKeyClass):
		return badRequest("the request's key is of a kind that isn't certified")
	case errors.As(err, &request):
		return badRequest("%s", request.Error())
	case errors.As(err, &weak):
		return badRequest("the request's key isn't taken: %s", weak.Text)
	case errors.As(err, &lint):
		return forbidden("no such certificate is issued here", lint.Error())
	}
	return err
}

// fail answers an error. What isn't a Refusal stays here; the client is told to come back.
func fail(w http.ResponseWriter, err error) {
	var refused *Refusal
	if !errors.As(err, &refused) {
		refused = &Refusal{Status: http.StatusServiceUnavailable, Message: "this can't be done now: try again later, with a new token", RetryAfter: time.Minute}
	}
	if refused.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(max(1, int(refused.RetryAfter.Seconds()))))
	}
	send(w, refused.Status, struct {
		Status  int    `json:"status"`
		Message string `json:"message"`
	}{refused.Status, refused.Message})
}

func send(w http.ResponseWriter, status int, value any) {
	body, err := json.Marshal(value)
	if err != nil {
		panic("internal error: couldn't encode an answer: " + err.Error())
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body) // who is gone asks again
}

// maxReason bounds what others wrote, in logs and the ledger.
const maxReason = 256

// clip bounds what others wrote.
func clip(text string, most int) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "")
	}
	return text
}
